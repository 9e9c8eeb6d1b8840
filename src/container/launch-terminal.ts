/** Whether the terminal that a bundle wants and those that the caller offers go together. */
import { BuncError } from "../errors.ts";
import type { Spec } from "../oci/config.ts";
import type { LaunchOptions } from "./types.ts";

/** Refuses a terminal that nobody would get, and a socket for one where there is none. */
export function checkTerminal(
  spec: Spec,
  { consoleSocket }: Pick<LaunchOptions, "consoleSocket">,
  { detach, consoleFd }: { detach: boolean; consoleFd?: number },
): void {
  const terminal = spec.process?.terminal ?? false;
  if (detach && terminal && !consoleSocket && consoleFd === undefined) {
    throw new BuncError("cannot allocate tty if runc will detach without setting console socket", {
      code: "usage",
      path: "process.terminal",
    });
  }
  if ((!detach || !terminal) && consoleSocket) {
    throw new BuncError("cannot use console socket if runc will not detach or allocate tty", {
      code: "usage",
    });
  }
}
