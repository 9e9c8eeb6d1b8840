/** linux.seccomp as libcontainer keeps it (runc's specconv SetupSeccomp); runc's exec makes its filter from this. */
import type { LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator } from "../oci/config.ts";
import type { LibcontainerSeccomp } from "./libcontainer.ts";

/** libcontainer/configs Action. */
const ACTIONS: Readonly<Record<LinuxSeccompAction, number>> = {
  SCMP_ACT_KILL: 1,
  SCMP_ACT_ERRNO: 2,
  SCMP_ACT_TRAP: 3,
  SCMP_ACT_ALLOW: 4,
  SCMP_ACT_TRACE: 5,
  SCMP_ACT_LOG: 6,
  SCMP_ACT_NOTIFY: 7,
  SCMP_ACT_KILL_THREAD: 8,
  SCMP_ACT_KILL_PROCESS: 9,
};

/** libcontainer/configs Operator. */
const OPERATORS: Readonly<Record<LinuxSeccompOperator, number>> = {
  SCMP_CMP_EQ: 1,
  SCMP_CMP_NE: 2,
  SCMP_CMP_GT: 3,
  SCMP_CMP_GE: 4,
  SCMP_CMP_LT: 5,
  SCMP_CMP_LE: 6,
  SCMP_CMP_MASKED_EQ: 7,
};

/** The architectures whose names in libseccomp's Go binding are not those of the runtime-spec in lower case. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  SCMP_ARCH_X86_64: "amd64",
  SCMP_ARCH_AARCH64: "arm64",
  SCMP_ARCH_LOONGARCH64: "loong64",
};

const ARCH_PREFIX = "SCMP_ARCH_".length;

/** The profile, or undefined for one that asks for nothing. */
export function buildSeccomp(profile: LinuxSeccomp): LibcontainerSeccomp | undefined {
  const { defaultAction, syscalls = [], architectures } = profile;
  if (!defaultAction && syscalls.length === 0) return undefined;
  const built: LibcontainerSeccomp = {
    default_action: ACTIONS[defaultAction],
    architectures: architectures?.length
      ? architectures.map((arch) => ARCHITECTURES[arch] ?? arch.slice(ARCH_PREFIX).toLowerCase())
      : null,
    // Without a list runc sets this one, if kernel and libseccomp know it: all that bunc runs on do.
    flags: profile.flags ?? ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    syscalls: [],
    default_errno_ret: profile.defaultErrnoRet ?? null,
  };
  if (profile.listenerPath) built.listener_path = profile.listenerPath;
  if (profile.listenerMetadata) built.listener_metadata = profile.listenerMetadata;
  for (const entry of syscalls) {
    const action = ACTIONS[entry.action];
    const errnoRet = entry.errnoRet ?? null;
    const args = (entry.args ?? []).map((arg) => ({
      index: arg.index,
      value: arg.value,
      value_two: arg.valueTwo ?? 0,
      op: OPERATORS[arg.op],
    }));
    for (const name of entry.names) built.syscalls.push({ name, action, errnoRet, args });
  }
  return built;
}
