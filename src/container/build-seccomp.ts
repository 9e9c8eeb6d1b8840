/** linux.seccomp as libcontainer keeps it (runc's specconv SetupSeccomp); runc's exec makes its filter from this. */
import type {
  Arch,
  LinuxSeccomp,
  LinuxSeccompAction,
  LinuxSeccompArg,
  LinuxSeccompOperator,
} from "../oci/config.ts";
import type { LibcontainerSeccomp } from "./libcontainer.ts";

/** libcontainer/configs Action: the place in the list is the number. */
export const ACTIONS: readonly (LinuxSeccompAction | undefined)[] = [
  undefined,
  "SCMP_ACT_KILL",
  "SCMP_ACT_ERRNO",
  "SCMP_ACT_TRAP",
  "SCMP_ACT_ALLOW",
  "SCMP_ACT_TRACE",
  "SCMP_ACT_LOG",
  "SCMP_ACT_NOTIFY",
  "SCMP_ACT_KILL_THREAD",
  "SCMP_ACT_KILL_PROCESS",
];

/** libcontainer/configs Operator. */
export const OPERATORS: readonly (LinuxSeccompOperator | undefined)[] = [
  undefined,
  "SCMP_CMP_EQ",
  "SCMP_CMP_NE",
  "SCMP_CMP_GT",
  "SCMP_CMP_GE",
  "SCMP_CMP_LT",
  "SCMP_CMP_LE",
  "SCMP_CMP_MASKED_EQ",
];

/** Architectures that libseccomp's Go binding names otherwise than the runtime-spec, in lower case. */
export const GO_NAMES: readonly (readonly [Arch, string])[] = [
  ["SCMP_ARCH_X86_64", "amd64"],
  ["SCMP_ARCH_AARCH64", "arm64"],
  ["SCMP_ARCH_LOONGARCH64", "loong64"],
];

function architectureOf(arch: Arch): string {
  for (const [name, own] of GO_NAMES) if (name === arch) return own;
  return arch.slice("SCMP_ARCH_".length).toLowerCase();
}

/** What an entry without arguments has. */
const NO_ARGS: never[] = [];

/** The profile, or undefined for one that asks for nothing. */
export function buildSeccomp(profile: LinuxSeccomp): LibcontainerSeccomp | undefined {
  const { defaultAction, syscalls = [], architectures } = profile;
  if (!defaultAction && syscalls.length === 0) return undefined;
  const built: LibcontainerSeccomp = {
    default_action: ACTIONS.indexOf(defaultAction),
    architectures: architectures?.length ? architectures.map(architectureOf) : null,
    // Without a list runc sets this one, if kernel and libseccomp know it: all that bunc runs on do.
    flags: profile.flags ?? ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    syscalls: [],
    default_errno_ret: profile.defaultErrnoRet ?? null,
  };
  if (profile.listenerPath) built.listener_path = profile.listenerPath;
  if (profile.listenerMetadata) built.listener_metadata = profile.listenerMetadata;
  for (let i = 0; i < syscalls.length; i++) {
    const entry = syscalls[i]!;
    const action = ACTIONS.indexOf(entry.action);
    const errnoRet = entry.errnoRet ?? null;
    const args = entry.args?.length ? entry.args.map(argOf) : NO_ARGS;
    for (let j = 0; j < entry.names.length; j++) {
      built.syscalls.push({ name: entry.names[j]!, action, errnoRet, args });
    }
  }
  return built;
}

function argOf(arg: LinuxSeccompArg): LibcontainerSeccomp["syscalls"][number]["args"][number] {
  return { index: arg.index, value: arg.value, value_two: arg.valueTwo ?? 0, op: OPERATORS.indexOf(arg.op) };
}
