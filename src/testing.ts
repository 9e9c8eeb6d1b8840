/** What the unit tests of all folders share. */
import { readdirSync, readlinkSync } from "node:fs";
import { BuncError } from "./errors.ts";

/** The error with which something must be refused; any but bunc's own is passed on. */
export function failure(run: () => unknown): BuncError {
  try {
    run();
  } catch (error) {
    if (error instanceof BuncError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

/** The same of what answers later. */
export async function laterFailure(run: Promise<unknown>): Promise<BuncError> {
  const error = await run.then(
    () => undefined,
    (reason) => reason,
  );
  return failure(() => {
    if (error !== undefined) throw error;
  });
}

/** The open descriptors of this process, and what each is. */
export function descriptors(): string[] {
  const open: string[] = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      open.push(`${fd} -> ${readlinkSync(`/proc/self/fd/${fd}`)}`);
    } catch {
      // That of the directory itself.
    }
  }
  return open;
}

/** Those that have been opened since. Others may have been closed: what other test files left is collected at any time. */
export function opened(before: readonly string[]): string[] {
  return descriptors().filter((one) => !before.includes(one));
}
