/** From "operation N failed with errno E" to an error that says what was tried, for which field of config.json. */
import { BuncError } from "../errors.ts";
import { BUNC_EHOOK, BUNC_OP_FIRST, BUNC_OP_LOOKPATH, EACCES, EISDIR, EPERM, SYS_execve } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { callName } from "../linux/names.ts";
import type { Op } from "./program.ts";

/**
 * The error of a failed operation. `text` is what the kernel (an fscontext's log) or a hook said beyond the errno.
 * Form: `<what it was about>: <call>: <Go's words for the errno>[: <text>]`.
 */
export function opFailure(op: Op, errno: number, text: string | Uint8Array = ""): BuncError {
  const call = op.call >= BUNC_OP_FIRST ? undefined : callName(op.call);
  const about = op.options.about;
  if (errno === BUNC_EHOOK && typeof text !== "string") {
    return new BuncError(`${about ?? "hook"}: ${hookStatus(text)}`, {
      code: "hook",
      phase: op.phase,
      path: op.path,
    });
  }
  if (op.call === BUNC_OP_LOOKPATH) return lookFailure(op, errno);
  const said = typeof text === "string" ? text : new TextDecoder().decode(text).trim();
  const words = errnoText(errno);
  // `exec /x: exec format error` is Go's form, and callers match it.
  const parts =
    op.call === SYS_execve
      ? [about, words]
      : [about ?? `${op.phase}: ${callName(op.call)}`, about ? call : undefined, words, said];
  return new BuncError(parts.filter(Boolean).join(": "), {
    code: "launch",
    phase: op.phase,
    path: op.path,
    errno: errnoName(errno),
    ...(call ? { syscall: call } : {}),
    ...(op.options.hint ? { hint: op.options.hint } : {}),
  });
}

/** A program that cannot be found or executed, in the words of Go's os/exec, which callers match. */
function lookFailure(op: Op, errno: number): BuncError {
  const about = op.options.about ?? "exec";
  const name: string = JSON.parse(about.slice(about.indexOf('"')));
  let words = "executable file not found in $PATH";
  if (name.includes("/")) {
    const plain = errno === EACCES || errno === EISDIR || errno === EPERM;
    words = plain ? errnoText(errno) : `stat ${name}: ${errnoText(errno)}`;
  }
  return new BuncError(`${about}: ${words}`, { code: "launch", path: op.path, errno: errnoName(errno) });
}

/** The text that comes with BUNC_EHOOK: 'e' or 's', the status, stdout, NUL, stderr. */
function hookStatus(text: Uint8Array): string {
  const status = text[1] ?? 0;
  const end = text.indexOf(0, 2);
  const decoder = new TextDecoder();
  const stdout = decoder.decode(text.subarray(2, end < 0 ? text.length : end)).trim();
  const stderr = end < 0 ? "" : decoder.decode(text.subarray(end + 1)).trim();
  const how = text[0] === 0x65 ? `exit status ${status}` : `signal: ${status}`;
  return `${how}, stdout: ${stdout}, stderr: ${stderr}`;
}
