/**
 * Arguments of operations in words: strings, structures field by field, arrays, slots and descriptors by name. What
 * an operation's numbers mean is in explain-calls.ts; this file knows what lies in the program's data.
 */
import { abi, bunc_hook_, stat_, statfs_ } from "../linux/abi.gen.ts";
import { capabilityNames } from "./capabilities.ts";
import type { InheritedFd } from "./context.ts";
import * as flags from "./flag-names.ts";
import { type Arg, type DataArg, Field, type Op, Slot, Struct } from "./program.ts";

/** What is known while a program is read from its beginning: names of descriptors, and what slots and buffers hold. */
export class Names {
  /** What the slot of this index was last loaded with: "st_rdev", "st_mode", "f_type". */
  readonly loaded = new Map<number, string>();
  /** Buffers that an operation fills, in words. */
  readonly buffers = new Map<DataArg, string>();

  constructor(
    private readonly fds: readonly InheritedFd[] = [],
    private readonly firstFd = 3,
  ) {}

  /** A descriptor: "@sync" for an inherited one, "stdout", "AT_FDCWD", or its number. */
  fd(number: number | bigint): string {
    const n = Number(BigInt.asIntN(32, BigInt(number)));
    if (n === abi.AT_FDCWD) return "AT_FDCWD";
    if (n >= 0 && n <= 2) return ["stdin", "stdout", "stderr"][n]!;
    const inherited = this.fds[n - this.firstFd];
    return inherited ? `@${inherited.name}` : String(n);
  }
}

/** Shows one argument; undefined leaves it out, because it means nothing in this call. */
export type Show = (arg: Arg, op: Op, names: Names) => string | undefined;

/** The arguments of a call: name, and how to show it (as argText does where nothing is said). */
export type Signature = readonly (readonly [name: string, show?: Show])[];

/** How one kind of composite operation is told. */
export interface Composite {
  args: Signature;
  /** A sentence without a full stop; the slot its result goes to is added by the caller. */
  words: (op: Op, names: Names) => string;
}

/**
 * Text in double quotes, on one line, as JSON has it. Characters that a terminal would act on or not show (C1 controls,
 * bidirectional marks, separators, lone surrogates) are escaped too: strings of a bundle may be hostile.
 */
export function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A slot as text: "$mount_target". */
export function slotName(slot: Slot): string {
  return `$${slot.name.replace(/[^A-Za-z0-9]+/g, "_").replace(/^_+|_+$/g, "")}`;
}

/** The UTF-8 text in some bytes, or undefined when they are something else. */
function printable(bytes: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return /^[^\0-\x08\x0b-\x1f\x7f]*$/.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

/** The strings in an array of pointers (argv, envp), in their order. */
export function arrayItems(array: Struct, names: Names): string[] {
  return pointers(array).map(({ to }) => (typeof to === "string" ? quote(to) : dataText(to, names)));
}

function pointers(struct: Struct): { offset: number; to: DataArg }[] {
  return [...struct.pointers].sort((a, b) => a.offset - b.offset);
}

/** The argument whose address lies at an offset of a structure. */
export function pointerAt(struct: Struct, offset: number): DataArg | undefined {
  return struct.pointers.find((pointer) => pointer.offset === offset)?.to;
}

type Fields = [name: string, text: string][];

function u16(struct: Struct, at: number): number {
  return struct.view.getUint16(at, true);
}

function u32(struct: Struct, at: number): number {
  return struct.view.getUint32(at, true);
}

function u64(struct: Struct, at: number): bigint {
  return struct.view.getBigUint64(at, true);
}

function limit(value: bigint): string {
  return value === 0xffffffffffffffffn ? "unlimited" : String(value);
}

function resourceLimits(struct: Struct): Fields {
  return [
    ["soft", limit(u64(struct, 0))],
    ["hard", limit(u64(struct, 8))],
  ];
}

/** Fields of the structures that go into the kernel, by the name that program code gives them. */
const STRUCTS: Readonly<Record<string, (struct: Struct, names: Names) => Fields>> = {
  open_how: (s) => [
    ["flags", flags.openFlags(u64(s, 0))],
    ...(flags.opensNew(u64(s, 0)) ? ([["mode", flags.octal(u64(s, 8))]] as Fields) : []),
    ["resolve", flags.resolveFlags(u64(s, 16))],
  ],
  mount_attr: (s) => {
    const fields: Fields = [];
    if (u64(s, 0)) fields.push(["attr_set", flags.mountAttributes(u64(s, 0))]);
    if (u64(s, 8)) fields.push(["attr_clr", flags.mountAttributes(u64(s, 8))]);
    if (u64(s, 16)) fields.push(["propagation", flags.mountFlags(u64(s, 16))]);
    if (u64(s, 24)) fields.push(["userns_fd", String(u64(s, 24))]);
    return fields;
  },
  rlimit: resourceLimits,
  rlimit64: resourceLimits,
  sched_attr: (s) => [
    ["policy", flags.schedulerPolicy(u32(s, 4))],
    ["flags", flags.schedulerFlags(u64(s, 8))],
    ["nice", String(s.view.getInt32(16, true))],
    ["priority", String(u32(s, 20))],
    ["runtime", String(u64(s, 24))],
    ["deadline", String(u64(s, 32))],
    ["period", String(u64(s, 40))],
  ],
  sock_fprog: (s) => [["filter", `${u16(s, 0)} instructions`]],
  ifreq: (s) => [
    ["name", quote(cString(s, 0, abi.IFNAMSIZ))],
    ["flags", flags.interfaceFlags(u16(s, abi.IFNAMSIZ))],
  ],
  winsize: (s) => [
    ["rows", String(u16(s, 0))],
    ["columns", String(u16(s, 2))],
  ],
  int: (s) => [["value", String(s.view.getInt32(0, true))]],
  mode: (s) => [["value", flags.fileMode(u32(s, 0))]],
  hook: (s, names) => [
    ["path", dataText(pointerAt(s, bunc_hook_.path) ?? "", names)],
    ["argv", dataText(pointerAt(s, bunc_hook_.argv) ?? "", names)],
    ["envp", dataText(pointerAt(s, bunc_hook_.envp) ?? "", names)],
    ["input", dataText(pointerAt(s, bunc_hook_.input) ?? "", names)],
    ["timeout_ms", String(BigInt.asIntN(64, u64(s, bunc_hook_.timeout_ms)))],
    ["stdout", names.fd(s.view.getInt32(bunc_hook_.stdio, true))],
    ["stderr", names.fd(s.view.getInt32(bunc_hook_.stdio + 4, true))],
  ],
};

function cString(struct: Struct, at: number, size: number): string {
  const bytes = new Uint8Array(struct.view.buffer, at, size);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Where the fields of structures lie that the kernel fills and operations read from. */
const OUTPUTS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  stat: stat_,
  statfs: statfs_,
  termios: { c_iflag: 0, c_oflag: 4, c_cflag: 8, c_lflag: 12 },
};

/** The field of a structure at an offset: "st_mode"; "" when it has no name here. */
export function fieldName(struct: Struct, offset: number): string {
  for (const [name, at] of Object.entries(OUTPUTS[struct.name] ?? {})) if (at === offset) return name;
  return "";
}

/** The fields of a structure by name, or undefined when what is in it does not matter (an output) or is not known. */
export function structFields(struct: Struct, names: Names): Fields | undefined {
  return STRUCTS[struct.name]?.(struct, names);
}

function isArray(struct: Struct): boolean {
  return struct.name === "argv" || struct.name === "envp";
}

function structName(struct: Struct): string {
  return struct.name.replace(/[^A-Za-z0-9.]+/g, "_");
}

/** Something in a program's data as text. */
export function dataText(arg: DataArg, names: Names): string {
  const filled = names.buffers.get(arg);
  if (filled !== undefined) return filled;
  if (typeof arg === "string") return quote(arg);
  if (arg instanceof Uint8Array) {
    const text = printable(arg);
    return text === undefined ? `<${arg.length} bytes>` : quote(text);
  }
  if (isArray(arg)) return `[${arrayItems(arg, names).join(", ")}]`;
  const fields = structFields(arg, names);
  if (!fields) return `&${structName(arg)}`;
  return `{${fields.map(([name, text]) => `${name}: ${text}`).join(", ")}}`;
}

/** Any argument as text; numbers in decimal. */
export function argText(arg: Arg, names: Names): string {
  if (typeof arg === "number" || typeof arg === "bigint") return String(arg);
  if (arg instanceof Slot) return slotName(arg);
  if (arg instanceof Field) {
    const name = fieldName(arg.struct, arg.offset);
    return `&${structName(arg.struct)}${name ? `.${name}` : `+${arg.offset}`}`;
  }
  return dataText(arg, names);
}

/** The three sets in the data of capset(2), as "effective {...}". */
export function capabilitySets(data: Uint8Array): string {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const set = (i: number) =>
    BigInt(view.getUint32(i * 4, true)) | (BigInt(view.getUint32(i * 4 + 12, true)) << 32n);
  return ["effective", "permitted", "inheritable"]
    .map((name, i) => `${name}: ${capabilityList(set(i))}`)
    .join(", ");
}

/** A mask of capabilities: "CAP_KILL|CAP_CHOWN", "none", or "all". */
export function capabilityList(mask: number | bigint): string {
  const names = flags.capabilities(mask);
  if (names.length === 0) return "none";
  return names.length === capabilityNames().length ? "all" : names.join("|");
}

/** Notes what an operation leaves in slots and buffers, for the operations after it. */
export function learn(op: Op, names: Names): void {
  const { slot } = op.options;
  const [a, , c] = op.args;
  if (op.call === abi.BUNC_OP_HOME && c instanceof Uint8Array) {
    names.buffers.set(c, `HOME=<from passwd>`);
  }
  if (!slot) return;
  names.loaded.delete(slot.index);
  if (op.call !== abi.BUNC_OP_LOAD) return;
  if (a instanceof Field) names.loaded.set(slot.index, fieldName(a.struct, a.offset));
  else if (a instanceof Struct) names.loaded.set(slot.index, fieldName(a, 0));
}
