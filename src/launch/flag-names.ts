/**
 * The names behind the numbers of system calls: flags, commands, modes, devices, capabilities. For `explain` only;
 * the hot path never loads this. All numbers come from abi.gen.ts, so a name added there is known here.
 */
import { abi } from "../linux/abi-table.gen.ts";
import { capability, capabilityNames } from "./capabilities.ts";

type Named = readonly (readonly [name: string, value: bigint])[];

const tables = new Map<string, Named>();

/** All constants of abi.gen.ts that begin with one of the prefixes, those with the most bits first. */
function constants(prefixes: string, except: (name: string) => boolean = () => false): Named {
  const known = tables.get(prefixes);
  if (known) return known;
  const starts = prefixes.split(" ");
  const found: [string, bigint][] = [];
  for (const [name, value] of Object.entries(abi)) {
    if (typeof value !== "number" || value < 0 || except(name)) continue;
    if (starts.some((start) => name.startsWith(start))) found.push([name, BigInt(value)]);
  }
  // A name for several bits (O_TMPFILE, MOUNT_ATTR__ATIME) goes before the names of its parts.
  found.sort((a, b) => bitCount(b[1]) - bitCount(a[1]));
  tables.set(prefixes, found);
  return found;
}

function bitCount(value: bigint): number {
  let count = 0;
  for (let rest = value; rest; rest &= rest - 1n) count++;
  return count;
}

/** A number as the kernel sees it in a register of 64 bits. */
function unsigned(value: number | bigint, bits = 64): bigint {
  return BigInt.asUintN(bits, BigInt(value));
}

/** "A|B|0x8": the names of the bits, what has none in hexadecimal, and `zero` for no bits. */
function bits(value: number | bigint, table: Named, zero = "0"): string {
  let rest = unsigned(value);
  if (rest === 0n) return zero;
  const found: [string, bigint][] = [];
  for (const [name, mask] of table) {
    if (mask === 0n || (rest & mask) !== mask) continue;
    found.push([name, mask]);
    rest &= ~mask;
  }
  // The table's order is for finding; shown they are in the order of their bits.
  const names = found.sort((a, b) => (a[1] < b[1] ? -1 : 1)).map(([name]) => name);
  if (rest) names.push(`0x${rest.toString(16)}`);
  return names.join("|");
}

/** The name of a value, or the value itself. */
function one(value: number | bigint, table: Named): string {
  const wanted = unsigned(value);
  return table.find((entry) => entry[1] === wanted)?.[0] ?? String(value);
}

/** Flags of open(2); the access mode is left out where O_PATH makes it meaningless. */
export function openFlags(value: number | bigint): string {
  const access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][Number(unsigned(value) & 3n)]!;
  const table = constants("O_", (name) => /^O_(RDONLY|WRONLY|RDWR)$/.test(name));
  const rest = unsigned(value) & ~3n;
  if (rest === 0n) return access;
  const path = (rest & BigInt(abi.O_PATH)) !== 0n && access === "O_RDONLY";
  return path ? bits(rest, table) : `${access}|${bits(rest, table)}`;
}

/** Whether open(2) with these flags may make a file, so that its mode argument means something. */
export function opensNew(value: number | bigint): boolean {
  const flags = unsigned(value);
  const temporary = BigInt(abi.O_TMPFILE);
  return (flags & BigInt(abi.O_CREAT)) !== 0n || (flags & temporary) === temporary;
}

export const cloneFlags = (value: number | bigint) => bits(value, constants("CLONE_"));
export const mountFlags = (value: number | bigint) => bits(value, constants("MS_"));
export const unmountFlags = (value: number | bigint) => bits(value, constants("MNT_ UMOUNT_"));
export const resolveFlags = (value: number | bigint) => bits(value, constants("RESOLVE_"));
export const seccompFlags = (value: number | bigint) => bits(value, constants("SECCOMP_FILTER_FLAG_"));
export const schedulerFlags = (value: number | bigint) => bits(value, constants("SCHED_FLAG_"));
export const memfdFlags = (value: number | bigint) => bits(value, constants("MFD_"));
export const interfaceFlags = (value: number | bigint) => bits(value, constants("IFF_"));
export const lockFlags = (value: number | bigint) => bits(value, constants("LOCK_"));
export const messageFlags = (value: number | bigint) => bits(value, constants("MSG_"));
export const fsopenFlags = (value: number | bigint) => bits(value, constants("FSOPEN_"));
export const fsmountFlags = (value: number | bigint) => bits(value, constants("FSMOUNT_"));
export const moveMountFlags = (value: number | bigint) => bits(value, constants("MOVE_MOUNT_"));
export const sealFlags = (value: number | bigint) => bits(value, constants("F_SEAL_"));
export const outputModes = (value: number | bigint) => bits(value, constants("ONLCR OPOST"));

/** MOUNT_ATTR_*; MOUNT_ATTR_RELATIME is 0 and so never shown. */
export const mountAttributes = (value: number | bigint) => bits(value, constants("MOUNT_ATTR_"));

/** AT_*; 0x200 means AT_REMOVEDIR to unlinkat and AT_EACCESS to faccessat. */
export function atFlags(value: number | bigint, call = ""): string {
  const other = call.startsWith("faccessat") ? "AT_REMOVEDIR" : "AT_EACCESS";
  return bits(
    value,
    constants(`AT_ -${other}`, (name) => name === other || name === "AT_FDCWD"),
  );
}

/** Flags of open_tree(2): its own and those of the AT_ family. */
export function openTreeFlags(value: number | bigint): string {
  const table = constants("OPEN_TREE_ AT_", (name) => /^AT_(FDCWD|REMOVEDIR|EACCESS)$/.test(name));
  return bits(value, table);
}

/** Type of a socket with its flags. */
export function socketType(value: number | bigint): string {
  const flags = unsigned(value) & ~0xfn;
  const table = constants("SOCK_");
  const type = one(unsigned(value) & 0xfn, table);
  return flags ? `${type}|${bits(flags, table)}` : type;
}

/** Mode of set_mempolicy(2) with its flags. */
export function memoryPolicy(value: number | bigint): string {
  const flags = constants("MPOL_F_");
  const mask = flags.reduce((all, [, bit]) => all | bit, 0n);
  const modes = constants("MPOL_", (name) => name.startsWith("MPOL_F_"));
  const mode = one(unsigned(value) & ~mask, modes);
  const rest = unsigned(value) & mask;
  return rest ? `${mode}|${bits(rest, flags)}` : mode;
}

export const schedulerPolicy = (value: number | bigint) =>
  one(
    value,
    constants("SCHED_", (name) => name.startsWith("SCHED_FLAG_")),
  );
export const fsconfigCommand = (value: number | bigint) => one(value, constants("FSCONFIG_"));
export const fcntlCommand = (value: number | bigint) =>
  one(
    value,
    constants("F_", (name) => name.startsWith("F_SEAL_")),
  );
export const keyctlCommand = (value: number | bigint) => one(value, constants("KEYCTL_"));
export const resourceLimit = (value: number | bigint) => one(value, constants("RLIMIT_"));
export const addressFamily = (value: number | bigint) => one(value, constants("AF_"));
export const netlinkType = (value: number | bigint) => one(value, constants("RTM_"));
export const ioctlRequest = (value: number | bigint) =>
  one(unsigned(value, 32), constants("TIOC TCGETS TCSETS SIOC NS_GET_"));
export const seccompOperation = (value: number | bigint) =>
  one(value, constants("SECCOMP_SET_ SECCOMP_GET_"));
export const ambientCommand = (value: number | bigint) => one(value, constants("PR_CAP_AMBIENT_"));
export const prctlOption = (value: number | bigint) =>
  one(
    value,
    constants("PR_", (name) => name.startsWith("PR_CAP_AMBIENT_")),
  );
export const fileSystemMagic = (value: number | bigint) =>
  one(
    value,
    constants(
      "PROC_SUPER SYSFS_ TMPFS_ CGROUP_SUPER CGROUP2_SUPER DEVPTS_",
      (name) => !name.endsWith("_MAGIC"),
    ),
  );
export const bpfCommand = (value: number | bigint) =>
  one(
    value,
    constants("BPF_PROG_", (name) => name.startsWith("BPF_PROG_TYPE_")),
  );
export const signalName = (value: number | bigint) =>
  one(
    value,
    constants("SIG", (name) => !/^SIG[A-Z]+[12]?$/.test(name)),
  );

/** Permissions as people write them: "0755". */
export function octal(value: number | bigint): string {
  const text = unsigned(value, 32).toString(8);
  return text === "0" ? text : `0${text}`;
}

const FILE_TYPES: readonly (readonly [number, string, string])[] = [
  [abi.S_IFDIR, "S_IFDIR", "directory"],
  [abi.S_IFREG, "S_IFREG", "file"],
  [abi.S_IFCHR, "S_IFCHR", "character device"],
  [abi.S_IFBLK, "S_IFBLK", "block device"],
  [abi.S_IFIFO, "S_IFIFO", "fifo"],
  [abi.S_IFLNK, "S_IFLNK", "symbolic link"],
  [abi.S_IFSOCK, "S_IFSOCK", "socket"],
];

/** A st_mode: "S_IFCHR|0666". */
export function fileMode(value: number | bigint): string {
  const mode = Number(unsigned(value, 32));
  const type = FILE_TYPES.find((entry) => entry[0] === (mode & abi.S_IFMT));
  return type ? `${type[1]}|${octal(mode & ~abi.S_IFMT)}` : octal(mode);
}

/** The type in a st_mode in words: "character device", "file" when it says none. */
export function fileType(value: number | bigint): string {
  const mode = Number(unsigned(value, 32));
  return FILE_TYPES.find((entry) => entry[0] === (mode & abi.S_IFMT))?.[2] ?? "file";
}

/** A dev_t as "major:minor", by the kernel's encoding (new_encode_dev and its extension in glibc). */
export function device(value: number | bigint): string {
  const dev = unsigned(value);
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The capabilities of a mask by name; a bit without one as its number. */
export function capabilities(mask: number | bigint): string[] {
  const names = new Map(capabilityNames().map((name) => [capability(name)!, name]));
  const found: string[] = [];
  const set = unsigned(mask);
  for (let bit = 0; bit < 64; bit++) {
    if ((set >> BigInt(bit)) & 1n) found.push(names.get(bit) ?? `capability ${bit}`);
  }
  return found;
}

/** The name of one capability. */
export function capabilityName(number: number | bigint): string {
  return capabilities(1n << BigInt(number))[0]!;
}
