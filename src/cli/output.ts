/**
 * stdout and stderr. Measured on Bun 1.4.5 (1 MB to a slow pipe, a non-blocking pipe, a socket, a pty, /dev/full,
 * a closed reader): Bun.write is complete everywhere and reports EPIPE and ENOSPC; console.error is complete and
 * synchronous and hides errors; a bare write(2) stops early at EAGAIN; process.stdout adds 11 ms to a start.
 */
import { BuncError } from "../errors.ts";
import type { Output } from "./types.ts";

/** The process's own stdout and stderr. */
export const output: Output = {
  async stdout(text) {
    if (text === "") return;
    try {
      await Bun.write(Bun.stdout, text);
    } catch (error) {
      const errno = (error as { code?: string }).code ?? "";
      const reason =
        errno === "EPIPE" ? "broken pipe" : errno === "ENOSPC" ? "no space left on device" : String(error);
      throw new BuncError(`write /dev/stdout: ${reason}`, { code: "host", syscall: "write", errno });
    }
  },
  stderr(line) {
    console.error(line);
  },
};
