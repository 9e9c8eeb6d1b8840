/**
 * Errors of bunc as values: what failed, in which phase, at which place of config.json, in which system call
 * and with which errno, and what to do about it. `renderError` is the one place that turns them into a line.
 */

/** Coarse classes of errors that callers tell apart; everything else is in the fields of BuncError. */
export type ErrorCode =
  | "usage"
  | "config"
  | "not-found"
  | "exists"
  | "state"
  | "host"
  | "launch"
  | "hook"
  | "internal";

/** The fields of an error; only `message` is always there. */
export interface ErrorFields {
  code?: ErrorCode;
  /** What was being done when it failed, e.g. "mounts", "cgroup", "exec". */
  phase?: string;
  /** The place in config.json that asked for it, e.g. "mounts[3].source". */
  path?: string;
  /** The system call that failed, e.g. "open_tree". */
  syscall?: string;
  /** Its errno by name, e.g. "ENOENT". */
  errno?: string;
  /** What the reader can do about it, as a clause without a full stop. */
  hint?: string;
  /** The message stands alone on stderr, as if the program had said it; the rest is for --log. */
  verbatim?: boolean;
  /** Exit code where it is not the command's own default. */
  exitCode?: number;
}

/** An error of bunc. The message is in Go's style: lower case, no full stop, words that callers match kept. */
export class BuncError extends Error {
  readonly fields: ErrorFields;

  constructor(message: string, fields: ErrorFields = {}) {
    super(message);
    this.name = "BuncError";
    this.fields = fields;
  }
}

/** One thing that is wrong in a bundle: where (a path into config.json, "" for the whole) and what. */
export interface Problem {
  path: string;
  message: string;
}

/**
 * Renders any thrown value as the single line that goes to stderr and to --log.
 * Form: `message (phase; path: ...; syscall: ERRNO; hint)`, with only the parts that are known and not said yet.
 */
export function renderError(error: unknown): string {
  if (!(error instanceof BuncError)) {
    return oneLine(error instanceof Error ? `${error.message || error.name}` : String(error));
  }
  const { phase, path, syscall, errno, hint } = error.fields;
  const parts: string[] = [];
  if (phase) parts.push(`in ${phase}`);
  if (path && !error.message.includes(path)) parts.push(`at ${path}`);
  if (syscall && !error.message.includes(syscall)) parts.push(errno ? `${syscall}: ${errno}` : syscall);
  else if (errno && !error.message.includes(errno)) parts.push(errno);
  if (hint) parts.push(`hint: ${hint}`);
  return oneLine(parts.length ? `${error.message} (${parts.join("; ")})` : error.message);
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, "; ").trim();
}
