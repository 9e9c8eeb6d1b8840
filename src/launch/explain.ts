/**
 * `bunc explain`: a launch program as text for people, or as JSON. Pure, like the compiler: it shows what the compiler
 * made, operation by operation, in the order in which it would happen. Loaded by `explain` only.
 */
import { abi } from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { callName } from "../linux/names.ts";
import type { InheritedFd } from "./context.ts";
import { signature } from "./explain-calls.ts";
import { mountFields } from "./explain-mounts.ts";
import { argText, arrayItems, learn, Names, quote, slotName, structFields } from "./explain-values.ts";
import { composite } from "./explain-words.ts";
import * as flags from "./flag-names.ts";
import type { Birth } from "./namespaces.ts";
import { type Arg, Field, type Op, type Part, Slot, Struct } from "./program.ts";

/** Who executes a part: bunc itself, outside of the container, or the container's init. */
export type Side = "parent" | "init";

/** One part of a whole launch. */
export interface SidePart {
  side: Side;
  part: Part;
  /** What the parent does by calls of its own, and not as a program: its operations have no index. */
  plain?: boolean;
}

/** A whole launch: what both sides execute, in the order in which it happens. */
export interface LaunchProgram {
  birth: Birth;
  /** The descriptors that init inherits, the first with the number `firstFd`. */
  fds: readonly InheritedFd[];
  firstFd: number;
  parts: readonly SidePart[];
  /** How many of the parts come before init is born (cgroups that it is born in); 0 if not given. */
  before?: number;
  /** Init is cloned into its cgroup2 directory. */
  intoCgroup?: boolean;
  /** What the reader must know besides, one line each. */
  notes?: readonly string[];
}

/** One argument as --json has it. */
export interface ExplainedArg {
  /** Its name in the manual page, or in c/bunc.h. */
  name: string;
  /** As the text shows it. */
  text: string;
  kind: "integer" | "string" | "bytes" | "struct" | "array" | "slot" | "address";
  /**
   * integer: the number, as a string beyond 2^53; string; bytes: their number; struct: its fields as text by name;
   * array: its strings as text; slot: its index; address: offset in the structure.
   */
  value: number | string | Record<string, string> | string[];
}

/** One operation as --json has it. */
export interface ExplainedOp {
  /** In the whole program of its side; null for what bunc does by a call of its own. */
  index: number | null;
  side: Side;
  phase: string;
  /** Place in config.json, "" when no field asked for it. */
  path: string;
  /** Of an exec: the flag or the file that asked for it; absent where it is the container's config.json. */
  origin?: string;
  call: string;
  args: ExplainedArg[];
  /** The operation without its conditions, on one line. */
  text: string;
  /** Where the result is kept. */
  slot: { index: number; name: string } | null;
  /** Operations passed over after success. */
  okSkip: number;
  /** Errnos that are no failure ("any" for all), and the operations passed over then. */
  tolerate: { errno: string; skip: number }[];
  about: string | null;
  hint: string | null;
}

/** One part as --json has it. */
export interface ExplainedPart {
  side: Side;
  ops: ExplainedOp[];
}

/** Explains a whole launch. The birth of init is a part of its own, with one operation of the parent. */
export function explainProgram(program: LaunchProgram): ExplainedPart[] {
  const { fds, firstFd, before = 0 } = program;
  // Slots and descriptors are another set on each side.
  const names = { parent: new Names(), init: new Names(fds, firstFd) };
  const next = { parent: 0, init: 0 };
  const explained = program.parts.map(({ side, part, plain }) => ({
    side,
    ops: part.ops.map((op) => explainOp(op, plain ? null : next[side]++, side, names[side])),
  }));
  explained.splice(before, 0, { side: "parent", ops: [explainBirth(program)] });
  return explained;
}

/** Explains operations of one side; the first of them has the index `first` in the whole program. */
export function explainOps(
  ops: readonly Op[],
  side: Side,
  first = 0,
  fds: readonly InheritedFd[] = [],
  firstFd = 3,
): ExplainedOp[] {
  const names = new Names(fds, firstFd);
  return ops.map((op, i) => explainOp(op, first + i, side, names));
}

/** A foreign call of src/linux/lib.ts in words: a system call as an operation has it, or one of libbunc's own. */
export function explainCall(call: number, args: readonly Arg[]): { name: string; text: string } {
  const own = LIBRARY_CALLS[call];
  if (own) return { name: own(args)[0], text: own(args)[1] };
  const op: Op = { call, args, options: {}, phase: "process", path: "" };
  const told = explainOp(op, 0, "parent", new Names());
  return { name: told.call, text: told.text };
}

/** Calls that are several system calls: their name, and what they do. */
const LIBRARY_CALLS: Readonly<Record<number, (args: readonly Arg[]) => readonly [string, string]>> = {
  [abi.BUNC_CALL_RUN]: () => ["run", "execute a part of a program here"],
  [abi.BUNC_CALL_SPAWN]: () => ["clone3", "clone3, execveat(bunc-init, sealed memfd)"],
  [abi.BUNC_CALL_READ_FILE]: ([dir, path]) => [
    "read file",
    `openat(${new Names().fd(Number(dir))}, ${argText(path!, new Names())}), read, close`,
  ],
  [abi.BUNC_CALL_RECV]: ([fd]) => ["recvmsg", `recvmsg(${argText(fd!, new Names())})`],
  [abi.BUNC_CALL_SEND_FD]: ([fd, sent]) => [
    "sendmsg",
    `sendmsg(${argText(fd!, new Names())}, SCM_RIGHTS ${argText(sent!, new Names())})`,
  ],
  [abi.BUNC_CALL_SIGNALS]: () => ["rt_sigaction", "take the signals that are to be passed on"],
};

function explainBirth({ birth, fds, firstFd, intoCgroup }: LaunchProgram): ExplainedOp {
  const given = birth.flags + (intoCgroup ? abi.CLONE_INTO_CGROUP : 0);
  const own = given ? flags.cloneFlags(given) : "";
  const text = [own, "CLONE_VM|CLONE_VFORK|CLONE_PIDFD"].filter(Boolean).join("|");
  const inherited = fds.map((fd, i) => `@${fd.name}=${firstFd + i}`).join(", ");
  const inside = birth.pidns ? ` in pid namespace @${birth.pidns}` : "";
  const args: ExplainedArg[] = [
    { name: "flags", text, kind: "integer", value: given },
    {
      name: "fds",
      text: `[${fds.map((fd) => quote(fd.name)).join(", ")}]`,
      kind: "array",
      value: fds.map((fd, i) => `${firstFd + i}: ${fd.name}: ${origin(fd)}`),
    },
  ];
  return {
    index: null,
    side: "parent",
    phase: "namespaces",
    path: birth.flags || inside ? "linux.namespaces" : "",
    call: "clone3",
    args,
    text: `clone3(${text}), execveat(bunc-init, sealed memfd)${inside}, inherits ${inherited}`,
    slot: null,
    okSkip: 0,
    tolerate: [],
    about: "cannot start the container's init",
    hint: null,
  };
}

/** How the parent gets a descriptor that init inherits. */
function origin({ from }: InheritedFd): string {
  switch (from.kind) {
    case "sync":
      return "socket to the parent";
    case "state-dir":
      return "the container's state directory, read-only";
    case "console-socket":
      return "the socket that gets the terminal";
    case "pidfd-socket":
      return "the socket that gets a pidfd of init";
    case "hook-file":
      return `the file that takes the ${from.file.stream} of hooks`;
    case "namespace":
      return `${from.namespace.type} namespace ${quote(from.namespace.path ?? "")} (${from.path})`;
    case "tree":
      return `${from.recursive ? "recursive " : ""}clone of the tree ${quote(from.source)} (mounts[${from.mount}].source)`;
    default:
      // A kind that was added since: its fields say what it is.
      return JSON.stringify(from);
  }
}

function explainOp(op: Op, index: number | null, side: Side, names: Names): ExplainedOp {
  const call = callName(op.call);
  const made = op.call >= abi.BUNC_OP_FIRST ? composite(op.call) : undefined;
  const known = made?.args ?? signature(call, op);
  const args: ExplainedArg[] = [];
  const shown: string[] = [];
  for (let i = 0; i < op.args.length; i++) {
    const [name, show] = known[i] ?? [];
    const arg = op.args[i]!;
    const text = show ? show(arg, op, names) : argText(arg, names);
    // Arguments beyond those of the call are zeros that only fill registers.
    if (text !== undefined && (name || arg !== 0)) shown.push(text);
    args.push({ name: name ?? `arg${i + 1}`, text: text ?? argText(arg, names), ...value(arg, names) });
  }
  const { slot, okSkip = 0, tolerate = [], about, hint } = op.options;
  const text = made ? made.words(op, names) : `${call}(${shown.join(", ")})`;
  learn(op, names);
  return {
    index,
    side,
    phase: op.phase,
    path: op.path,
    call,
    args,
    text: slot ? `${text} -> ${slotName(slot)}` : text,
    slot: slot ? { index: slot.index, name: slot.name } : null,
    okSkip,
    tolerate: tolerate.map(([errno, skip]) => ({
      errno: errno === abi.BUNC_ERR_ANY ? "any" : errnoName(errno),
      skip,
    })),
    about: about ?? null,
    hint: hint ?? null,
  };
}

function value(arg: Arg, names: Names): Pick<ExplainedArg, "kind" | "value"> {
  if (typeof arg === "number") return { kind: "integer", value: arg };
  if (typeof arg === "bigint") {
    const safe = BigInt(Number(arg)) === arg && Number.isSafeInteger(Number(arg));
    return { kind: "integer", value: safe ? Number(arg) : String(arg) };
  }
  if (typeof arg === "string") return { kind: "string", value: arg };
  if (arg instanceof Slot) return { kind: "slot", value: arg.index };
  if (arg instanceof Field) return { kind: "address", value: arg.offset };
  if (arg instanceof Uint8Array) return { kind: "bytes", value: arg.length };
  if (arg instanceof Struct && (arg.name === "argv" || arg.name === "envp")) {
    return { kind: "array", value: arrayItems(arg, names) };
  }
  return {
    kind: "struct",
    value: Object.fromEntries(mountFields(arg, names) ?? structFields(arg, names) ?? []),
  };
}

/** The explained program as JSON: an array of parts. */
export function renderJson(parts: readonly ExplainedPart[]): string {
  return `${JSON.stringify(parts, null, 2)}\n`;
}

/** Config paths are padded to the longest of their group, but not beyond this. */
const PATH_WIDTH = 34;

const LEGEND = `# $name: the result of an earlier operation. @name: a descriptor that init inherits from bunc.
# After an operation: what happens on success or on an errno, if not "go on" and "fail".
`;

/** The explained program as text: one line for each operation, grouped by side and phase in program order. */
export function renderText(parts: readonly ExplainedPart[], notes: readonly string[] = []): string {
  const ops = parts.flatMap((part) => part.ops);
  let out = LEGEND + notes.map((note) => `# Note: ${plain(note)}.\n`).join("");
  for (let from = 0; from < ops.length; ) {
    const { side, phase } = ops[from]!;
    let to = from;
    while (to < ops.length && ops[to]!.side === side && ops[to]!.phase === phase) to++;
    out += `\n${side}: ${phase}\n${renderGroup(ops.slice(from, to))}`;
    from = to;
  }
  return out;
}

function renderGroup(ops: readonly ExplainedOp[]): string {
  const paths = ops.map((op) => plain(op.origin ?? op.path) || "-");
  const width = Math.min(PATH_WIDTH, Math.max(...paths.map((path) => path.length)));
  return ops
    .map((op, i) => {
      const index = op.index === null ? "    " : String(op.index).padStart(4);
      const conditions = conditionText(op);
      return `${index}  ${paths[i]!.padEnd(width)}  ${op.text}${conditions && `  # ${conditions}`}\n`;
    })
    .join("");
}

/** What is not plain about an operation: "ok: skips 2; ENOENT: skips 6". */
function conditionText({ okSkip, tolerate, call, about }: ExplainedOp): string {
  const notes: string[] = [];
  if (okSkip) notes.push(`ok: skips ${okSkip}`);
  for (const { errno, skip } of tolerate) {
    const name = errno === "any" ? "any error" : errno;
    notes.push(skip ? `${name}: skips ${skip}` : `${name}: goes on`);
  }
  // These fail on purpose; why is in their message.
  if (call === "expect" && about && !tolerate.length) notes.push(plain(about));
  return notes.join("; ");
}

/** Text of the bundle without quotes around it, made harmless for a terminal. */
function plain(text: string): string {
  return quote(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("\\\\", "\\");
}
