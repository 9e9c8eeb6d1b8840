/** linux.seccomp as libcontainer keeps it (runc's specconv SetupSeccomp); runc's exec makes its filter from this. */
import type {
  Arch,
  LinuxSeccomp,
  LinuxSeccompAction,
  LinuxSeccompArg,
  LinuxSeccompOperator,
} from "../oci/config.ts";
import type { LibcontainerSeccomp } from "./libcontainer.ts";

/** libcontainer/configs Action. */
function actionOf(action: LinuxSeccompAction): number {
  switch (action) {
    case "SCMP_ACT_KILL":
      return 1;
    case "SCMP_ACT_ERRNO":
      return 2;
    case "SCMP_ACT_TRAP":
      return 3;
    case "SCMP_ACT_ALLOW":
      return 4;
    case "SCMP_ACT_TRACE":
      return 5;
    case "SCMP_ACT_LOG":
      return 6;
    case "SCMP_ACT_NOTIFY":
      return 7;
    case "SCMP_ACT_KILL_THREAD":
      return 8;
    case "SCMP_ACT_KILL_PROCESS":
      return 9;
  }
}

/** libcontainer/configs Operator. */
function operatorOf(operator: LinuxSeccompOperator): number {
  switch (operator) {
    case "SCMP_CMP_EQ":
      return 1;
    case "SCMP_CMP_NE":
      return 2;
    case "SCMP_CMP_GT":
      return 3;
    case "SCMP_CMP_GE":
      return 4;
    case "SCMP_CMP_LT":
      return 5;
    case "SCMP_CMP_LE":
      return 6;
    case "SCMP_CMP_MASKED_EQ":
      return 7;
  }
}

/** Names of architectures in libseccomp's Go binding: in lower case those of the runtime-spec, but for three. */
function architectureOf(arch: Arch): string {
  switch (arch) {
    case "SCMP_ARCH_X86_64":
      return "amd64";
    case "SCMP_ARCH_AARCH64":
      return "arm64";
    case "SCMP_ARCH_LOONGARCH64":
      return "loong64";
    default:
      return arch.slice("SCMP_ARCH_".length).toLowerCase();
  }
}

/** What an entry without arguments has. */
const NO_ARGS: never[] = [];

/** The profile, or undefined for one that asks for nothing. */
export function buildSeccomp(profile: LinuxSeccomp): LibcontainerSeccomp | undefined {
  const { defaultAction, syscalls = [], architectures } = profile;
  if (!defaultAction && syscalls.length === 0) return undefined;
  const built: LibcontainerSeccomp = {
    default_action: actionOf(defaultAction),
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
    const action = actionOf(entry.action);
    const errnoRet = entry.errnoRet ?? null;
    const args = entry.args?.length ? entry.args.map(argOf) : NO_ARGS;
    for (let j = 0; j < entry.names.length; j++) {
      built.syscalls.push({ name: entry.names[j]!, action, errnoRet, args });
    }
  }
  return built;
}

function argOf(arg: LinuxSeccompArg): LibcontainerSeccomp["syscalls"][number]["args"][number] {
  return { index: arg.index, value: arg.value, value_two: arg.valueTwo ?? 0, op: operatorOf(arg.op) };
}
