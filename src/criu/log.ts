/** criu's log file: the lines that say why it failed, for the one line of an error message. */
import { BuncError } from "../errors.ts";
import { readBytes } from "../linux/file.ts";
import { text } from "../linux/lib.ts";
import type { Directories } from "./directories.ts";

/** A log at criu's most talkative level is some megabytes. */
const LONGEST = 64 << 20;
/** How many lines are quoted, and how much of each. */
const LINES = 3;
const LINE_LENGTH = 240;

const MARK = "Error ";

/**
 * The same error with what criu's log says of it, and where that is.
 * @param advice what to do about a message, where that is known
 */
export function withLog(
  error: unknown,
  { logDir, logPath }: Directories,
  name: string,
  advice: (message: string) => string | undefined = () => undefined,
): unknown {
  if (!(error instanceof BuncError) || !error.message.startsWith("criu failed")) return error;
  const bytes = readBytes(name, LONGEST, logDir);
  if (typeof bytes === "number") return error;
  // criu may have told some of it in its answer.
  const said = lastErrors(text(bytes)).filter((line) => !error.message.includes(line));
  const message = said.length > 0 ? `${error.message}: ${said.join("; ")}` : error.message;
  const hint = error.fields.hint ?? advice(message) ?? `the whole log is ${logPath}/${name}`;
  return new BuncError(message, { ...error.fields, hint });
}

/**
 * The last errors of a log. A line is `(00.012345) Error (criu/sk-inet.c:191): what happened`; what is quoted begins with
 * the place. That it failed as a whole ("Dumping FAILED.") is known.
 */
export function lastErrors(log: string): string[] {
  const found: string[] = [];
  for (let end = log.length; end > 0 && found.length < LINES; ) {
    const start = log.lastIndexOf("\n", end - 1) + 1;
    const line = log.slice(start, end);
    end = start - 1;
    const at = line.indexOf(MARK);
    if (at < 0 || line.includes("FAILED")) continue;
    const said = printable(line.slice(at + MARK.length)).trim();
    if (said && !found.includes(said)) found.unshift(said);
  }
  return found;
}

/** Words of criu's, cut and without control characters: names of a container's files come to stand in them. */
export function printable(line: string): string {
  return line.slice(0, LINE_LENGTH).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "?");
}
