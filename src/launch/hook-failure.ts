/** The errors of hooks, in runc's words; for those that init runs, and for those that run in this process. */
import { BuncError } from "../errors.ts";
import { abi, bunc_hook_ } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { text } from "../linux/lib.ts";
import { type Op, Struct } from "./program.ts";

/** What a message says of a hook. */
export interface HookFacts {
  path: string;
  /** Seconds. */
  timeout?: number | undefined;
}

/** What an operation that runs a hook (launch/hooks.ts hookStruct) says of it; undefined for any other operation. */
export function hookOfOp(op: Op): HookFacts | undefined {
  const struct = op.args[0];
  if (op.call !== abi.BUNC_OP_HOOK || !(struct instanceof Struct)) return undefined;
  const path = struct.pointers.find(({ offset }) => offset === bunc_hook_.path)?.to;
  const timeout = Number(struct.view.getBigInt64(bunc_hook_.timeout_ms, true));
  return {
    path: typeof path === "string" ? path : "",
    timeout: timeout < 0 ? undefined : timeout / 1000,
  };
}

/**
 * The error of a hook that failed.
 * @param place where it is in config.json: "hooks.createRuntime[0]"
 * @param errno BUNC_EHOOK when it ran and did not end with 0
 * @param said with BUNC_EHOOK what BUNC_OP_HOOK tells (c/hook.c)
 * @param hint where its output is, if not in `said`
 */
export function hookFailure(
  place: string,
  hook: HookFacts,
  errno: number,
  said: Uint8Array,
  hint?: string,
): BuncError {
  const fields = { code: "hook", phase: "hooks", path: place, ...(hint ? { hint } : {}) } as const;
  const parts = /^hooks\.(\w+)\[(\d+)\]$/.exec(place);
  const where = `error running ${parts?.[1] ?? ""} hook #${parts?.[2] ?? "?"}: `;
  if (errno === abi.BUNC_EHOOK) return new BuncError(where + endOf(said), fields);
  if (errno === abi.ETIMEDOUT) {
    const seconds = (hook.timeout ?? 0).toFixed(1);
    return new BuncError(`${where}hook ran past specified timeout of ${seconds}s`, fields);
  }
  return new BuncError(`${where}fork/exec ${hook.path}: ${errnoText(errno)}`, {
    ...fields,
    errno: errnoName(errno),
  });
}

/** The text that comes with BUNC_EHOOK: 'e' or 's', the status or signal, stdout, NUL, stderr. */
function endOf(said: Uint8Array): string {
  const number = said[1] ?? 0;
  const middle = said.indexOf(0, 2);
  const stdout = text(said.subarray(2, middle < 0 ? said.length : middle)).trim();
  const stderr = middle < 0 ? "" : text(said.subarray(middle + 1)).trim();
  const how = said[0] === 0x65 ? `exit status ${number}` : `signal: ${signalWords(number)}`;
  return `${how}, stdout: ${stdout}, stderr: ${stderr}`;
}

/** Go's words for the signals that end a process (syscall.Signal.String). */
const SIGNAL_WORDS: readonly (readonly [signal: number, words: string])[] = [
  [abi.SIGHUP, "hangup"],
  [abi.SIGINT, "interrupt"],
  [abi.SIGQUIT, "quit"],
  [abi.SIGILL, "illegal instruction"],
  [abi.SIGTRAP, "trace/breakpoint trap"],
  [abi.SIGABRT, "aborted"],
  [abi.SIGBUS, "bus error"],
  [abi.SIGFPE, "floating point exception"],
  [abi.SIGKILL, "killed"],
  [abi.SIGUSR1, "user defined signal 1"],
  [abi.SIGSEGV, "segmentation fault"],
  [abi.SIGUSR2, "user defined signal 2"],
  [abi.SIGPIPE, "broken pipe"],
  [abi.SIGALRM, "alarm clock"],
  [abi.SIGTERM, "terminated"],
  [abi.SIGSYS, "bad system call"],
];

function signalWords(signal: number): string {
  return SIGNAL_WORDS.find(([number]) => number === signal)?.[1] ?? `signal ${signal}`;
}
