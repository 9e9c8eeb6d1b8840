/** Capabilities: names of config.json to the masks and structures of the kernel (capabilities(7), capset(2)). */

/** Version 3 of the structures: two words of 32 bits for each set. */
const VERSION_3 = 0x20080522;

/** A set of capabilities as two words: bits 0-31 and 32-63. */
export interface CapSet {
  low: number;
  high: number;
}

/** In the order of their numbers, which are the same everywhere (capabilities.test.ts compares them with the headers). */
const NAMES =
  "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID " +
  "CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW " +
  "CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT " +
  "CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD " +
  "CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG " +
  "CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE";

let known: string[] | undefined;

/** All names, by number. */
export function capabilityNames(): readonly string[] {
  known ??= NAMES.split(" ");
  return known;
}

/** Number of a capability, or undefined for a name that is none. */
export function capability(name: string): number | undefined {
  const number = capabilityNames().indexOf(name);
  return number < 0 ? undefined : number;
}

/** The set of these names. A name that is no capability is left out, as runc does (it warns). */
export function capSet(names: readonly string[] | undefined): CapSet {
  const set = { low: 0, high: 0 };
  for (const name of names ?? []) {
    const cap = capability(name);
    if (cap === undefined) continue;
    if (cap < 32) set.low = (set.low | (1 << cap)) >>> 0;
    else set.high = (set.high | (1 << (cap - 32))) >>> 0;
  }
  return set;
}

/** The set as one number (all known capabilities lie below 2^53). */
export function capMask(set: CapSet): number {
  return set.high * 0x100000000 + set.low;
}

/** The two structures of capset(2): header, and data of two times (effective, permitted, inheritable). */
export function capsetArgs(
  effective: CapSet,
  permitted: CapSet,
  inheritable: CapSet,
): [Uint8Array, Uint8Array] {
  const header = new Uint32Array([VERSION_3, 0]);
  const data = new Uint32Array([
    effective.low,
    permitted.low,
    inheritable.low,
    effective.high,
    permitted.high,
    inheritable.high,
  ]);
  return [new Uint8Array(header.buffer), new Uint8Array(data.buffer)];
}
