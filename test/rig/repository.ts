// Where the repository lies, for what does not need a built runtime.
import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";

/** The repository's root. */
export const repository = resolve(import.meta.dir, "../..");

/** Modification time in milliseconds, 0 for a file that is not there. */
export function modified(path: string): number {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}
