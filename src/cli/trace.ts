/** `--trace FILE`: keeps a trace while a command works, and writes it in the form that FILE asks for. */
import type { Log } from "../container/types.ts";
import { BuncError, renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, writeAll } from "../linux/file.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { traceWith } from "../linux/trace.ts";
import { Recorder } from "../trace/recorder.ts";
import type { Recorded } from "../trace/timeline.ts";
import { absolutePath } from "./go.ts";
import { buncVersion } from "./version.ts";

/** Numbers below are for descriptors that a caller passes on (--preserve-fds). */
const FIRST_FD = 100;

/** A command that can be traced. */
export interface Traced {
  /** As --trace has it. */
  file: string;
  /** "run web". */
  title: string;
  log: Log;
}

/**
 * Runs the body of a command with a trace, which is written whatever becomes of it.
 *
 * @throws BuncError when the file cannot be written, before anything else is done; and what the body throws
 */
export async function traced<T>({ file, title, log }: Traced, body: () => T | Promise<T>): Promise<T> {
  const fd = openFile(file);
  const recorder = new Recorder();
  let failure: unknown;
  traceWith(recorder);
  try {
    return await body();
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    const error = failure === undefined ? undefined : renderError(failure);
    const recorded = recorder.finish(title, buncVersion(), error);
    const wrong = await write(fd, file, recorded).catch((cause: unknown) => renderError(cause));
    // The container is what was asked for; without its trace it is still there.
    if (wrong) log.warn(`cannot write the trace: ${wrong}`);
    if (fd !== 2) closeFd(fd);
  }
}

/** Gives what went wrong, if anything did. */
async function write(fd: number, file: string, recorded: Recorded): Promise<string | undefined> {
  const result = writeAll(fd, bytesOf(await render(file, recorded)));
  return result < 0
    ? renderError(pathError("write", file === "-" ? "/dev/stderr" : file, result))
    : undefined;
}

/** What the container writes goes to stdout, so "-" is stderr. */
function openFile(file: string): number {
  if (file === "-") return 2;
  const flags = abi.O_WRONLY | abi.O_CREAT | abi.O_TRUNC | abi.O_CLOEXEC;
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, absolutePath(file), flags, 0o644);
  if (fd < 0) {
    const { message, fields } = pathError("open", file, fd);
    throw new BuncError(`cannot write the trace: ${message}`, {
      ...fields,
      code: "usage",
      hint: "--trace takes a file to write, or - for stderr",
    });
  }
  const high = sys(abi.SYS_fcntl, fd, abi.F_DUPFD_CLOEXEC, FIRST_FD);
  if (high < 0) return fd;
  closeFd(fd);
  return high;
}

/** What draws it is loaded now that nothing is timed any more. */
async function render(file: string, recorded: Recorded): Promise<string> {
  const drawn = (await import("../trace/timeline.ts")).timeline(recorded);
  if (file === "-") return (await import("../trace/table.ts")).traceTable(drawn);
  if (file.endsWith(".svg")) return (await import("../trace/svg.ts")).traceSvg(drawn);
  return (await import("../trace/chrome.ts")).chromeTrace(drawn);
}
