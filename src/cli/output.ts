/**
 * stdout and stderr. stdout is written by write(2) until all is out: Bun.write keeps an offset of its own, which tears
 * holes into a file that several processes append to, and process.stdout adds 11 ms to a start.
 */
import { BuncError } from "../errors.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { writeAll } from "../linux/file.ts";
import { bytesOf } from "../linux/lib.ts";
import type { Output } from "./types.ts";

/** The process's own stdout and stderr. */
export const output: Output = {
  async stdout(text) {
    const result = writeAll(1, bytesOf(text));
    if (result === 0) return;
    throw new BuncError(`write /dev/stdout: ${errnoText(-result)}`, {
      code: "host",
      syscall: "write",
      errno: errnoName(-result),
    });
  },
  stderr(line) {
    // console.error would colour it on a terminal. Nobody can be told that this fails.
    writeAll(2, bytesOf(`${line}\n`));
  },
};
