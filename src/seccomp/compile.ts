/**
 * linux.seccomp -> the BPF program and flags for seccomp(2). Decides what runc 1.5 decides
 * (libcontainer/seccomp/seccomp_linux.go InitSeccomp, patchbpf) and lets libseccomp generate the code.
 */
import type { BuncError } from "../errors.ts";
import type { LinuxSeccomp } from "../oci/config.ts";
import { enosysStub, type LastSyscall, wantsEnosysStub } from "./enosys.ts";
import {
  INSTRUCTION_SIZE,
  type SeccompCondition,
  type SeccompFailure,
  type SeccompLibrary,
  type SeccompRule,
} from "./native.ts";
import {
  FLAG_NEW_LISTENER,
  FLAG_WAIT_KILLABLE_RECV,
  type Profile,
  quoted,
  readProfile,
  seccompDisabled,
  seccompError,
} from "./profile.ts";

/** What seccomp(2) gets: SECCOMP_SET_MODE_FILTER with these flags and this program. */
export interface CompiledSeccomp {
  /** An array of struct sock_filter, in the byte order of the machine. */
  filter: Uint8Array;
  /** SECCOMP_FILTER_FLAG_*; FLAG_NEW_LISTENER is among them when `listener` is true. */
  flags: number;
  /** seccomp(2) returns the descriptor of a listener, which goes to linux.seccomp.listenerPath. */
  listener: boolean;
  /** For the log, at debug level: what of the profile is without effect. One line each. */
  warnings: string[];
}

/** A filter has at most BPF_MAXINSNS instructions, and each rule needs one: more rules need not be tried. */
const MAX_RULES = 4096;

/** Above this many system calls runc asks for libseccomp's binary tree. */
const BINARY_TREE_ABOVE = 32;

/** libseccomp does not know the name at all (__NR_SCMP_ERROR). */
const UNKNOWN = -1;

/** How the warning about names that libseccomp does not know begins. */
export const UNKNOWN_NAMES = "linux.seccomp.syscalls: ignored, unknown to libseccomp";

/** How many unknown names a warning lists. */
const LISTED_NAMES = 20;

/**
 * Compiles a profile.
 * @returns undefined for a profile without default action and system calls, which asks for no filter.
 * @throws BuncError, code "config", with the path of what is wrong.
 */
export function compileSeccomp(profile: LinuxSeccomp, lib: SeccompLibrary): CompiledSeccomp | undefined {
  if (seccompDisabled(profile)) return undefined;
  const read = readProfile(profile);
  const flags = supportedFlags(read, lib.info.kernelFlags);
  const archs = resolveArchs(read, lib);
  const table = new NameTable(read, archs.tokens, lib);
  const built = buildRules(read, table, lib.info.version);

  const stub = wantsEnosysStub(read.defaultAction)
    ? enosysStub(table.lastSyscalls(), lib.info)
    : new Uint8Array(0);
  const program = lib.compile({
    defaultAction: read.defaultAction,
    optimize: built.rules.length > 0 && table.listed > BINARY_TREE_ABOVE ? 2 : 1,
    archs: archs.tokens.slice(1),
    rules: built.rules,
  });
  const max = lib.info.maxInstructions;
  if (!(program instanceof Uint8Array)) {
    if (program.stage === "size") throw tooLong((program.index + stub.length) / INSTRUCTION_SIZE, max);
    throw refused(program, archs, built);
  }
  const filter = new Uint8Array(stub.length + program.length);
  filter.set(stub);
  filter.set(program, stub.length);
  if (filter.length > max * INSTRUCTION_SIZE) throw tooLong(filter.length / INSTRUCTION_SIZE, max);
  return { filter, flags, listener: read.listener, warnings: read.warnings };
}

/** The flags for seccomp(2); one that was asked for and the kernel does not take is an error. */
function supportedFlags(read: Profile, kernelFlags: number): number {
  const missing = read.flags & ~kernelFlags;
  if (missing & FLAG_WAIT_KILLABLE_RECV) {
    throw seccompError(
      "flags",
      "seccomp flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is not supported by the kernel",
      "it needs Linux 5.19",
    );
  }
  if (missing & FLAG_NEW_LISTENER) {
    throw seccompError("syscalls", "SCMP_ACT_NOTIFY is not supported by the kernel");
  }
  if (missing & ~read.impliedFlags) {
    throw seccompError(
      "flags",
      "a seccomp flag is not supported by the kernel",
      "remove linux.seccomp.flags",
    );
  }
  return read.flags & kernelFlags;
}

/** The native architecture, then the profile's others, each once; with the places they come from. */
interface Archs {
  tokens: number[];
  origins: Origin[];
}

/** Where in the profile something stands, and its name. */
interface Origin {
  path: string;
  name: string;
}

function resolveArchs(read: Profile, lib: SeccompLibrary): Archs {
  const tokens = [lib.info.native];
  const origins: Origin[] = [{ path: "architectures", name: "native" }];
  for (let i = 0; i < read.archs.length; i++) {
    const name = read.archs[i]!;
    const path = `architectures[${i}]`;
    const token = lib.arch(name);
    if (token === 0) {
      throw seccompError(path, `architecture ${name} is not supported by libseccomp ${lib.info.version}`);
    }
    if (tokens.includes(token)) continue;
    tokens.push(token);
    origins.push({ path, name });
  }
  return { tokens, origins };
}

/** All names of a profile with their numbers on all its architectures. */
class NameTable {
  /** Names in the profile, repeated ones counted as often as they stand there. */
  readonly listed: number;
  readonly #indexes = new Map<string, number>();
  readonly #archs: readonly number[];
  readonly #numbers: Int32Array;

  constructor(read: Profile, archs: readonly number[], lib: SeccompLibrary) {
    let listed = 0;
    for (const entry of read.entries) {
      listed += entry.names.length;
      for (const name of entry.names)
        if (!this.#indexes.has(name)) this.#indexes.set(name, this.#indexes.size);
    }
    this.listed = listed;
    this.#archs = archs;
    this.#numbers = lib.resolve(archs, [...this.#indexes.keys()]);
  }

  /** The native number, a negative pseudo number for a call that other architectures have, or UNKNOWN. */
  native(name: string): number {
    return this.#numbers[this.#indexes.get(name)!]!;
  }

  /** Largest number of each architecture; one where no name has a number above 0 is left out, as in runc. */
  lastSyscalls(): LastSyscall[] {
    const last: LastSyscall[] = [];
    const count = this.#indexes.size;
    for (let a = 0; a < this.#archs.length; a++) {
      let number = 0;
      for (let n = a * count; n < (a + 1) * count; n++)
        if (this.#numbers[n]! > number) number = this.#numbers[n]!;
      if (number > 0) last.push({ arch: this.#archs[a]!, number });
    }
    return last;
  }
}

interface BuiltRules {
  rules: SeccompRule[];
  /** For each rule the name it comes from. */
  origins: Origin[];
}

function buildRules(read: Profile, table: NameTable, version: string): BuiltRules {
  const rules: SeccompRule[] = [];
  const origins: Origin[] = [];
  const unknown = new Set<string>();
  const seen = new Set<string>();

  for (const entry of read.entries) {
    const { action } = entry;
    if (action === read.defaultAction) continue; // libseccomp refuses a rule that says nothing
    const alternatives = alternativesOf(entry.conditions);
    for (let n = 0; n < entry.names.length; n++) {
      const name = entry.names[n]!;
      const syscall = table.native(name);
      if (syscall === UNKNOWN) {
        unknown.add(name);
        continue;
      }
      for (const conditions of alternatives) {
        const key = ruleKey(action, syscall, conditions);
        if (seen.has(key)) continue;
        if (seen.size === MAX_RULES) {
          throw seccompError(
            `syscalls[${entry.index}]`,
            `seccomp profile has more than ${MAX_RULES} rules`,
            "the kernel takes no filter that long",
          );
        }
        seen.add(key);
        rules.push({ action, syscall, conditions });
        origins.push({ path: `syscalls[${entry.index}].names[${n}]`, name });
      }
    }
  }
  if (unknown.size > 0) read.warnings.push(unknownNames(unknown, version));
  return { rules, origins };
}

/**
 * All conditions of a rule must hold; but where two are about the same argument, which libseccomp does not take, each
 * becomes a rule of its own, so that any of them suffices (runc's "old behavior").
 */
function alternativesOf(conditions: readonly SeccompCondition[]): (readonly SeccompCondition[])[] {
  let used = 0;
  for (const condition of conditions) {
    const bit = 1 << condition.index;
    if (used & bit) return conditions.map((one) => [one]);
    used |= bit;
  }
  return [conditions];
}

function ruleKey(action: number, syscall: number, conditions: readonly SeccompCondition[]): string {
  let key = `${action} ${syscall}`;
  for (const one of conditions) key += ` ${one.index} ${one.op} ${one.value} ${one.valueTwo}`;
  return key;
}

function unknownNames(names: ReadonlySet<string>, version: string): string {
  const listed = [...names].slice(0, LISTED_NAMES).map(quoted).join(", ");
  const more = names.size > LISTED_NAMES ? ` and ${names.size - LISTED_NAMES} more` : "";
  return `${UNKNOWN_NAMES} ${version}: ${listed}${more}`;
}

function tooLong(instructions: number, max: number): BuncError {
  return seccompError(
    "syscalls",
    `seccomp filter has ${instructions} instructions, the kernel takes at most ${max}`,
    "use fewer conditions on arguments, or fewer architectures",
  );
}

/** What libseccomp refused, as an error that names the place. */
function refused({ stage, index, errno }: SeccompFailure, archs: Archs, built: BuiltRules): BuncError {
  const arch = archs.origins[index + 1]; // the request has no native one
  const rule = built.origins[index];
  if (stage === "init")
    return seccompError("defaultAction", "error creating seccomp filter", undefined, errno);
  if (stage === "arch" && arch) {
    const hint = errno === "EDOM" ? "its byte order is not that of this machine" : undefined;
    return seccompError(arch.path, `error adding architecture ${arch.name} to seccomp filter`, hint, errno);
  }
  if (stage === "rule" && rule) {
    const hint =
      errno === "EEXIST" ? "another rule has the same conditions and a different action" : undefined;
    return seccompError(rule.path, `error adding seccomp rule for syscall ${rule.name}`, hint, errno);
  }
  return seccompError("", `error compiling seccomp filter (${stage} ${index})`, undefined, errno);
}
