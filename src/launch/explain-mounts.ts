/** The composite operations of c/mount.c and c/cover.c in words: mounts, devices, covered paths, standard streams. */
import { abi, bunc_device_, bunc_mount_ } from "../linux/abi.gen.ts";
import { fd, isNumber } from "./explain-calls.ts";
import {
  argText,
  type Composite,
  dataText,
  type Names,
  pointerAt,
  quote,
  type Show,
} from "./explain-values.ts";
import * as flags from "./flag-names.ts";
import { type Op, Struct } from "./program.ts";

const MOUNT = bunc_mount_;
const DEVICE = bunc_device_;

/** What BUNC_MOUNT_* say besides what is mounted; the recursive bind is told with the source. */
const HOW: readonly (readonly [number, string])[] = [
  [abi.BUNC_MOUNT_COPY_UP, "copies up what it covers"],
  [abi.BUNC_MOUNT_TAKE_MODE, "takes the mode of what it covers"],
  [abi.BUNC_MOUNT_NO_LINKS, "no symbolic link in the target"],
  [abi.BUNC_MOUNT_GUARD_PROC, "target not inside a proc"],
  [abi.BUNC_MOUNT_ONLY_PROC, "source must be a proc"],
];

const attributes: Show = (arg, _op, names) =>
  isNumber(arg) ? flags.mountAttributes(arg) : argText(arg, names);

/** Where an operation works: `"/dev" below $root`. */
function below(op: Op, names: Names): string {
  const [dir, path] = op.args;
  return `${path === undefined ? "?" : argText(path, names)} below ${dir === undefined ? "?" : fd(dir, op, names)}`;
}

function changes(struct: Struct, set: number, clear: number, prefix: string): string[] {
  const found: string[] = [];
  const [add, remove] = [struct.view.getBigUint64(set, true), struct.view.getBigUint64(clear, true)];
  if (add) found.push(`${prefix}set ${flags.mountAttributes(add)}`);
  if (remove) found.push(`${prefix}clear ${flags.mountAttributes(remove)}`);
  return found;
}

/**
 * The parameters of a file system, as mount.c reads them: 'f' and a flag, or 's', a key and a value, each ended by
 * NUL; a NUL ends the list.
 */
export function fileSystemParameters(bytes: Uint8Array): { key: string; value?: string }[] {
  const words = new TextDecoder().decode(bytes).split("\0");
  const found: { key: string; value?: string }[] = [];
  for (let i = 0; i < words.length && words[i]; i++) {
    const key = words[i]!.slice(1);
    if (words[i]![0] === "s") found.push({ key, value: words[++i] ?? "" });
    else found.push({ key });
  }
  return found;
}

function parameterText(bytes: Uint8Array): string[] {
  return fileSystemParameters(bytes).map(({ key, value }) =>
    value === undefined ? quote(key) : quote(`${key}=${value}`),
  );
}

/** MS_* of an array that is ended by 0. */
function propagationTypes(struct: Struct): string[] {
  const found: string[] = [];
  for (let at = 0; at + 8 <= struct.size; at += 8) {
    const value = struct.view.getBigUint64(at, true);
    if (value) found.push(flags.mountFlags(value));
  }
  return found;
}

function mountSource(struct: Struct, names: Names): string {
  if (struct.view.getUint32(MOUNT.flags, true) & abi.BUNC_MOUNT_REMOUNT) return "change of the mount";
  const type = pointerAt(struct, MOUNT.type);
  if (type !== undefined) return `mount ${dataText(type, names)}`;
  const recursive = struct.view.getUint32(MOUNT.flags, true) & abi.BUNC_MOUNT_RECURSIVE;
  const source = pointerAt(struct, MOUNT.source);
  const tree = struct.view.getBigInt64(MOUNT.tree, true);
  const from = source === undefined ? names.fd(tree) : dataText(source, names);
  return `${recursive ? "recursive bind" : "bind"} of ${from}`;
}

/** Everything about a mount but what is mounted where. */
function mountDetails(struct: Struct): string[] {
  const params = pointerAt(struct, MOUNT.params);
  const propagation = pointerAt(struct, MOUNT.propagation);
  const how = struct.view.getUint32(MOUNT.flags, true);
  return [
    ...(params instanceof Uint8Array ? parameterText(params) : []),
    ...changes(struct, MOUNT.set, MOUNT.clear, ""),
    ...changes(struct, MOUNT.rec_set, MOUNT.rec_clear, "recursively "),
    ...(propagation instanceof Struct ? propagationTypes(propagation) : []),
    ...HOW.filter(([flag]) => how & flag).map(([, words]) => words),
  ];
}

function mount(op: Op, names: Names): string {
  const struct = op.args[2];
  if (!(struct instanceof Struct)) return `mount at ${below(op, names)}`;
  const details = mountDetails(struct);
  const what = `${mountSource(struct, names)} at ${below(op, names)}`;
  return details.length ? `${what}: ${details.join(", ")}` : what;
}

function device(op: Op, names: Names): string {
  const struct = op.args[2];
  if (!(struct instanceof Struct)) return `make device ${below(op, names)}`;
  const mode = struct.view.getUint32(DEVICE.mode, true);
  const host = pointerAt(struct, DEVICE.host);
  const bound = host === undefined ? "" : `the host's ${dataText(host, names)}`;
  if (!mode) return `bind ${bound || "nothing"} at ${below(op, names)}`;
  const type = mode & abi.S_IFMT;
  const isNode = type === abi.S_IFCHR || type === abi.S_IFBLK;
  const number = isNode ? ` ${flags.device(struct.view.getBigUint64(DEVICE.dev, true))}` : "";
  const [uid, gid] = [struct.view.getUint32(DEVICE.uid, true), struct.view.getUint32(DEVICE.gid, true)];
  const owner = uid || gid ? `, owner ${uid}:${gid}` : "";
  const permissions = flags.octal(mode & ~abi.S_IFMT);
  const strict = struct.view.getUint32(DEVICE.strict, true) ? ", nothing else may be there" : "";
  const otherwise = bound ? `, or bind ${bound}` : "";
  return `make ${flags.fileType(mode)}${number} ${below(op, names)}, mode ${permissions}${owner}${otherwise}${strict}`;
}

/** The fields of the two structures as text, for --json. */
export function mountFields(struct: Struct, names: Names): [string, string][] | undefined {
  if (struct.name === "bunc_mount") {
    return [
      ["what", mountSource(struct, names)],
      ["details", mountDetails(struct).join(", ")],
    ];
  }
  if (struct.name === "bunc_device") {
    const host = pointerAt(struct, DEVICE.host);
    return [
      ["mode", flags.fileMode(struct.view.getUint32(DEVICE.mode, true))],
      ["device", flags.device(struct.view.getBigUint64(DEVICE.dev, true))],
      ["host", host === undefined ? "NULL" : dataText(host, names)],
      ["uid", String(struct.view.getUint32(DEVICE.uid, true))],
      ["gid", String(struct.view.getUint32(DEVICE.gid, true))],
    ];
  }
  return undefined;
}

const ROOT = ["root", fd] as const;
const PATH = ["path"] as const;

/** The composites of c/mount.c and c/cover.c by their code. */
export const MOUNT_COMPOSITES: readonly (readonly [code: number, how: Composite])[] = [
  [abi.BUNC_OP_MOUNT, { args: [ROOT, PATH, ["mount"]], words: mount }],
  [
    abi.BUNC_OP_MOUNT_ATTR,
    {
      args: [ROOT, PATH, ["set", attributes], ["clear", attributes]],
      words: (op, names) => {
        const [, , set, clear] = op.args;
        const does = [];
        if (set) does.push(`set ${attributes(set, op, names)}`);
        if (clear) does.push(`clear ${attributes(clear, op, names)}`);
        return `${does.join(", ") || "change nothing"} on the mount ${below(op, names)}`;
      },
    },
  ],
  [abi.BUNC_OP_DEVICE, { args: [["dirfd", fd], ["name"], ["device"]], words: device }],
  [
    abi.BUNC_OP_MASK,
    {
      args: [ROOT, PATH, ["empty", fd], ["magic"]],
      words: (op, names) => {
        const empty = op.args[2] === undefined ? "?" : fd(op.args[2], op, names);
        return `cover ${below(op, names)}, if it is there: a directory by ${empty}, a file by /dev/null`;
      },
    },
  ],
  [
    abi.BUNC_OP_READONLY,
    {
      args: [ROOT, PATH, ["magic"]],
      words: (op, names) => `bind ${below(op, names)} over itself read-only, if it is there`,
    },
  ],
  [
    abi.BUNC_OP_NULL_STREAMS,
    {
      args: [ROOT],
      words: (op, names) => {
        const root = op.args[0] === undefined ? "?" : fd(op.args[0], op, names);
        return `replace standard streams that are the host's null device by "/dev/null" below ${root}`;
      },
    },
  ],
  [
    abi.BUNC_OP_OWN_STREAMS,
    {
      args: [["uid"]],
      words: (op, names) =>
        `give the standard streams to uid ${op.args[0] === undefined ? "?" : argText(op.args[0], names)}`,
    },
  ],
];
