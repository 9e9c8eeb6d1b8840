/** From "operation N failed with errno E" to an error that says what was tried, for which field of config.json. */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import type { Op } from "./program.ts";

/**
 * The error of a failed operation.
 * Form: `<what it was about>: <call>: <Go's words for the errno>[: <text>]`.
 *
 * @param text what the kernel (an fscontext's log) or a hook said beyond the errno
 * @param step of a composite: which call failed, and at which item << 16
 */
export function opFailure(op: Op, errno: number, text: string | Uint8Array = "", step = 0): BuncError {
  const about = op.options.about;
  if (op.call === abi.BUNC_OP_HOOK) {
    const { hookFailure, hookOfOp }: typeof import("./hook-failure.ts") = require("./hook-failure.ts");
    const hook = hookOfOp(op);
    if (hook)
      return hookFailure(
        op.path,
        hook,
        errno,
        typeof text === "string" ? new Uint8Array() : text,
        op.options.hint,
      );
  }
  if (op.call === abi.BUNC_OP_LOOKPATH) return lookFailure(op, errno);
  const number = op.call < abi.BUNC_OP_FIRST ? op.call : step & 0xffff;
  const call = number ? callName(number) : undefined;
  const detail = op.call === abi.BUNC_OP_MOUNT ? mountDetail(op, errno, number, step >>> 16) : {};
  const said = typeof text === "string" ? text : new TextDecoder().decode(text).trim();
  // `exec /x: exec format error` is Go's form, and callers match it.
  const parts =
    op.call === abi.SYS_execve
      ? [about, errnoText(errno)]
      : [
          about ?? `${op.phase}: ${callName(op.call)}`,
          detail.words,
          about && !detail.words ? call : undefined,
          errnoText(errno),
          said,
        ];
  const hint = detail.hint ?? op.options.hint;
  return new BuncError(parts.filter(Boolean).join(": "), {
    code: "launch",
    phase: op.phase,
    path: op.path + (detail.path ?? ""),
    errno: errnoName(errno),
    ...(call ? { syscall: call } : {}),
    ...(hint ? { hint } : {}),
  });
}

/** Loaded only for an error: the table of all names costs more than a good part of a start. */
function callName(call: number): string {
  const names: typeof import("../linux/names.ts") = require("../linux/names.ts");
  return names.callName(call);
}

/** What is more to say of a failing mount: which part of it, the field of the mount, and what to do. */
interface Detail {
  words?: string;
  path?: string;
  hint?: string;
}

function mountDetail(op: Op, errno: number, call: number, item: number): Detail {
  const { type, source, options = [] } = op.options.mount ?? {};
  switch (call) {
    case abi.SYS_fsopen:
      return {
        path: ".type",
        hint:
          errno === abi.EPERM
            ? foreignMount(type)
            : `this kernel must know the file system ${type}; what lies on the host needs the option "bind"`,
      };
    case abi.SYS_fsconfig: {
      const option = options[item - 1];
      if (item === 0 || !option) {
        const hint = errno === abi.EPERM ? { hint: foreignMount(type) } : {};
        return { words: "make file system", path: ".options", ...hint };
      }
      return { words: `option ${JSON.stringify(option.text)}`, path: `.options[${option.index}]` };
    }
    case abi.SYS_open_tree:
      return {
        words: `source ${source}`,
        path: ".source",
        hint: "the source of a bind mount must exist on the host",
      };
    case abi.SYS_openat2:
      if (errno !== abi.ELOOP && errno !== abi.ENOTDIR)
        return { words: "open mountpoint", path: ".destination" };
      return {
        words: `filesystem ${JSON.stringify(type)} must be mounted on ordinary directory`,
        path: ".destination",
        hint: "the image has a file or a symbolic link there",
      };
    case abi.SYS_mkdirat:
      return { words: "make mountpoint", path: ".destination" };
    case abi.SYS_fstatfs:
      return item === 1
        ? { words: '"/proc" cannot be mounted because it is not of type proc', path: ".source" }
        : {
            words: "the destination leads into /proc",
            path: ".destination",
            hint: "a symbolic link in the rootfs points there",
          };
    case abi.SYS_mount_setattr:
      return {
        words: item === 2 ? "set propagation" : "set attributes",
        path: ".options",
        ...(errno === abi.ENOSYS ? { hint: "recursive options need Linux 5.12 or newer" } : {}),
      };
    case abi.SYS_move_mount:
      return errno === abi.ENOTDIR
        ? { path: ".destination", hint: "one of source and destination is a directory, the other is not" }
        : {};
    default:
      return {};
  }
}

/** EPERM of a file system: it wants the owner of a namespace that is not the container's, or of the host's (FS_USERNS_MOUNT). */
function foreignMount(type: string | undefined): string {
  const needed: Record<string, string> = {
    sysfs: "a network namespace of the container's own",
    proc: "a pid namespace of the container's own, and a /proc of the host without mounts on it",
    mqueue: "an ipc namespace of the container's own",
    cgroup: "a cgroup namespace of the container's own",
    cgroup2: "a cgroup namespace of the container's own",
  };
  const other = "root of the host, who may mount it first, to be bound here";
  return `in a user namespace ${type} needs ${needed[type ?? ""] ?? other}`;
}

/** A program that cannot be found or executed, in the words of Go's os/exec, which callers match. */
function lookFailure(op: Op, errno: number): BuncError {
  const about = op.options.about ?? "exec";
  const name: string = JSON.parse(about.slice(about.indexOf('"')));
  let words = "executable file not found in $PATH";
  if (name.includes("/")) {
    const plain = errno === abi.EACCES || errno === abi.EISDIR || errno === abi.EPERM;
    words = plain ? errnoText(errno) : `stat ${name}: ${errnoText(errno)}`;
  }
  return new BuncError(`${about}: ${words}`, {
    code: "launch",
    path: op.path,
    errno: errnoName(errno),
    ...(op.options.hint ? { hint: op.options.hint } : {}),
  });
}
