/** The composite operations of c/bunc.h in words, and the names of their arguments for --json. */
import { abi, bunc_hook_ } from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { Stage } from "./context.ts";
import { fd, isNumber } from "./explain-calls.ts";
import { MOUNT_COMPOSITES } from "./explain-mounts.ts";
import {
  argText,
  type Composite,
  capabilityList,
  dataText,
  fieldName,
  type Names,
  pointerAt,
  type Show,
  type Signature,
} from "./explain-values.ts";
import * as flags from "./flag-names.ts";
import { type Arg, Field, type Op, Slot, Struct } from "./program.ts";

const errno: Show = (arg, _op, names) => (isNumber(arg) ? errnoName(Number(arg)) : argText(arg, names));
const octal: Show = (arg, _op, names) => (isNumber(arg) ? flags.octal(arg) : argText(arg, names));
const hex: Show = (arg, _op, names) => (isNumber(arg) ? hexadecimal(arg) : argText(arg, names));

function hexadecimal(value: number | bigint): string {
  return `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`;
}

function stageName(value: Arg | undefined): string {
  const found = Object.entries(Stage).find((entry) => entry[1] === value);
  return found ? `"${found[0]}"` : String(value);
}

const stage: Show = (arg) => stageName(arg);

function text(op: Op, index: number, names: Names): string {
  const arg = op.args[index];
  return arg === undefined ? "?" : argText(arg, names);
}

function descriptor(op: Op, index: number, names: Names): string {
  const arg = op.args[index];
  return isNumber(arg) ? names.fd(arg) : text(op, index, names);
}

/** The event's value, when there is one to tell. */
function told(op: Op, names: Names): string {
  return op.args[1] === 0 || op.args[1] === undefined ? "" : ` with ${text(op, 1, names)}`;
}

function makePath(op: Op, names: Names): string {
  const kind = op.args[2];
  const what = isNumber(kind) ? flags.fileType(kind) : `directory or file (as ${text(op, 2, names)})`;
  const mode = isNumber(op.args[3]) ? `, mode ${flags.octal(op.args[3])}` : "";
  return `make ${what} ${text(op, 1, names)} below ${descriptor(op, 0, names)}${mode}`;
}

/** What a value is compared with, in the terms of where the value was loaded from. */
function expected(op: Op, names: Names): string {
  const [value, mask, wanted] = op.args;
  const field = value instanceof Slot ? names.loaded.get(value.index) : undefined;
  const whole = isNumber(mask) && BigInt.asUintN(64, BigInt(mask)) === 0xffffffffffffffffn;
  const left = text(op, 0, names);
  if (!isNumber(wanted))
    return `${left} & ${isNumber(mask) ? hexadecimal(mask) : "?"} to be ${text(op, 2, names)}`;
  if (whole && field === "st_rdev") return `${left} to be device ${flags.device(wanted)}`;
  if (whole && field === "f_type") return `${left} to be ${flags.fileSystemMagic(wanted)}`;
  if (isNumber(mask) && Number(mask) === abi.S_IFMT) return `${left} to be a ${flags.fileType(wanted)}`;
  if (whole) return `${left} to be ${wanted}`;
  return `${left} & ${isNumber(mask) ? hexadecimal(mask) : text(op, 1, names)} to be ${hexadecimal(wanted)}`;
}

function expect(op: Op, names: Names): string {
  const [value, mask, wanted, error] = op.args;
  const name = isNumber(error) ? errnoName(Number(error)) : text(op, 3, names);
  const constant = isNumber(value) && isNumber(mask) && isNumber(wanted);
  if (constant && (BigInt(value) & BigInt(mask)) !== BigInt(wanted)) return `fail with ${name}`;
  return `expect ${expected(op, names)}, else ${name}`;
}

function patch(op: Op, names: Names): string {
  const [address, size, keep, set] = op.args;
  if (!isNumber(keep) || !isNumber(size)) return `change ${text(op, 0, names)}`;
  if (!isNumber(set)) {
    const into = `${text(op, 3, names)} into ${text(op, 0, names).replace(/^&/, "")}`;
    return Number(keep) === 0 ? `put ${into}` : `put ${into}, keeping ${hexadecimal(keep)}`;
  }
  const bits = Number(size) * 8;
  const cleared = BigInt.asUintN(bits, ~BigInt(keep));
  const added = BigInt.asUintN(bits, BigInt(set));
  const place = text(op, 0, names).replace(/^&/, "");
  const name = (value: bigint) =>
    address instanceof Field && fieldName(address.struct, address.offset) === "c_oflag"
      ? flags.outputModes(value)
      : hexadecimal(value);
  const does: string[] = [];
  if (cleared) does.push(`clear ${name(cleared)}`);
  if (added) does.push(`set ${name(added)}`);
  return `${does.join(" and ") || "change nothing"} in ${place}`;
}

function load(op: Op, names: Names): string {
  const [from, size] = op.args;
  if (from instanceof Field) {
    const name = fieldName(from.struct, from.offset);
    if (name) return `load ${name} of ${from.struct.name}`;
  } else if (from instanceof Struct) {
    const name = fieldName(from, 0);
    if (name) return `load ${name} of ${from.name}`;
    if (from.size === Number(size)) return `load ${dataText(from, names)}`;
  }
  return `load ${text(op, 1, names)} bytes at ${text(op, 0, names)}`;
}

function hook(op: Op, names: Names): string {
  const given = op.args[0];
  if (!(given instanceof Struct)) return `run a hook ${text(op, 0, names)}`;
  const at = bunc_hook_;
  const show = (offset: number) => {
    const to = pointerAt(given, offset);
    return to === undefined ? "NULL" : dataText(to, names);
  };
  const timeout = given.view.getBigInt64(at.timeout_ms, true);
  const limit = timeout < 0n ? "no timeout" : `timeout ${Number(timeout) / 1000} s`;
  const size = given.view.getBigUint64(at.input_size, true);
  const outputs = ["stdout", "stderr"].map((stream, i) => {
    const fd = given.view.getInt32(at.stdio + i * 4, true);
    return fd < 0 ? "" : `, ${stream} to ${names.fd(fd)}`;
  });
  return `run hook ${show(at.path)}, argv ${show(at.argv)}, envp ${show(at.envp)}, ${size} bytes of state on stdin${outputs.join("")}, ${limit}`;
}

/** The strings of a list in which each is ended by NUL and the last by two. */
function candidates(arg: Arg | undefined, names: Names): string {
  if (!(arg instanceof Uint8Array)) return arg === undefined ? "?" : argText(arg, names);
  const places = new TextDecoder().decode(arg).split("\0").filter(Boolean);
  return places.length ? places.map((place) => dataText(place, names)).join(", ") : "no place at all";
}

function netlinkRequest(arg: Arg | undefined): string {
  const bytes = arg instanceof Struct ? new Uint8Array(arg.view.buffer) : arg;
  if (!(bytes instanceof Uint8Array) || bytes.length < 16) return "";
  return ` ${flags.netlinkType(bytes[4]! | (bytes[5]! << 8))}`;
}

const BYTES: Signature[number] = ["bytes"];
const SIZE: Signature[number] = ["size"];

const COMPOSITES: ReadonlyMap<number, Composite> = new Map<number, Composite>([
  ...MOUNT_COMPOSITES,
  [
    abi.BUNC_OP_PART,
    {
      args: [["event", stage], ["value"]],
      words: (op, names) => {
        const tells =
          op.args[0] === Stage.none ? "" : `tell the parent ${stageName(op.args[0])}${told(op, names)}, `;
        return `${tells}wait for the next part`;
      },
    },
  ],
  [
    abi.BUNC_OP_REPORT,
    {
      args: [["event", stage], ["value"]],
      words: (op, names) => `tell the parent ${stageName(op.args[0])}${told(op, names)}`,
    },
  ],
  [
    abi.BUNC_OP_MKPATH,
    { args: [["root", fd], ["path"], ["kind", kindOf], ["mode", octal]], words: makePath },
  ],
  [
    abi.BUNC_OP_SENDFD,
    {
      args: [["socket", fd], ["fd", fd], BYTES, SIZE],
      words: (op, names) =>
        `send ${descriptor(op, 1, names)} over ${descriptor(op, 0, names)} with ${text(op, 2, names)}`,
    },
  ],
  [abi.BUNC_OP_HOOK, { args: [["hook"]], words: hook }],
  [
    abi.BUNC_OP_LOOKPATH,
    {
      args: [["candidates", (arg, _op, names) => candidates(arg, names)]],
      words: (op, names) => `find the first executable of ${candidates(op.args[0], names)}`,
    },
  ],
  [
    abi.BUNC_OP_HOME,
    {
      args: [["path"], ["uid"], ["buffer"], SIZE],
      words: (op, names) => `take HOME of uid ${text(op, 1, names)} from ${text(op, 0, names)}`,
    },
  ],
  [
    abi.BUNC_OP_COPYUP,
    {
      args: [
        ["from", fd],
        ["to", fd],
      ],
      words: (op, names) => `copy the content of ${descriptor(op, 0, names)} to ${descriptor(op, 1, names)}`,
    },
  ],
  [abi.BUNC_OP_EXPECT, { args: [["value"], ["mask", hex], ["wanted"], ["errno", errno]], words: expect }],
  [abi.BUNC_OP_PATCH, { args: [["address"], SIZE, ["keep", hex], ["set", hex]], words: patch }],
  [abi.BUNC_OP_LOAD, { args: [["address"], SIZE], words: load }],
  [
    abi.BUNC_OP_DROP_BOUNDING,
    {
      args: [["keep", (arg, _op, names) => (isNumber(arg) ? capabilityList(arg) : argText(arg, names))]],
      words: (op) => {
        const keep = isNumber(op.args[0]) ? capabilityList(op.args[0]) : "?";
        return keep === "none"
          ? "drop all capabilities from the bounding set"
          : `drop all capabilities from the bounding set but ${keep}`;
      },
    },
  ],
  [abi.BUNC_OP_CHECK_CWD, { args: [], words: () => "check that the working directory lies below the root" }],
  [
    abi.BUNC_OP_FORK,
    {
      args: [["flags", (arg) => (isNumber(arg) ? flags.cloneFlags(arg) : undefined)]],
      words: (op) => {
        const own = isNumber(op.args[0]) && Number(op.args[0]) ? flags.cloneFlags(op.args[0]) : "";
        return `fork, go on in the child${own ? ` (${own})` : ""}`;
      },
    },
  ],
  [
    abi.BUNC_OP_NETLINK,
    {
      args: [["socket", fd], ["message"], SIZE],
      words: (op, names) =>
        `send netlink request${netlinkRequest(op.args[1])} over ${descriptor(op, 0, names)}, wait for its answer`,
    },
  ],
  [
    abi.BUNC_OP_WRITE,
    {
      args: [["fd", fd], BYTES, SIZE],
      words: (op, names) => `write ${text(op, 1, names)} to ${descriptor(op, 0, names)}`,
    },
  ],
  [
    abi.BUNC_OP_WRITE_AT,
    {
      args: [["dirfd", fd], ["path"], ["flags", openFlags], BYTES, SIZE],
      words: (op, names) => {
        const dir = descriptor(op, 0, names);
        const below = dir === "AT_FDCWD" ? "" : ` below ${dir}`;
        return `write ${text(op, 3, names)} to ${text(op, 1, names)}${below} (${openFlags(op.args[2]!, op, names)})`;
      },
    },
  ],
  [
    abi.BUNC_OP_ERRORS_TO,
    { args: [["fd", fd]], words: (op, names) => `tell failures to ${descriptor(op, 0, names)} from now on` },
  ],
  [
    abi.BUNC_OP_RESET_SIGNALS,
    {
      args: [["ends", (arg) => (arg ? "1" : "0")]],
      words: (op) =>
        op.args[0]
          ? "set all signals to their default action, but let those that ask to end do so; none blocked"
          : "set all signals to their default action, none blocked",
    },
  ],
]);

function kindOf(arg: Arg, _op: Op, names: Names): string {
  return isNumber(arg) ? flags.fileType(arg) : argText(arg, names);
}

function openFlags(arg: Arg, _op: Op, names: Names): string {
  return isNumber(arg) ? flags.openFlags(arg) : argText(arg, names);
}

/** How a composite operation is told; undefined for a system call, and for a composite that this file lacks. */
export function composite(code: number): Composite | undefined {
  return COMPOSITES.get(code);
}
