/** The v2 shim's command line: `start`, `delete`, `-info`, `-v`, or serving. */
import { BuncError, renderError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { writeAll } from "../../linux/file.ts";
import { bytesOf, sys } from "../../linux/lib.ts";
import { type Arguments, parseArguments } from "./arguments.ts";

/**
 * Runs one command line of the shim.
 * @param name what it was called as
 * @returns the exit code; the error has been printed
 */
export async function main(name: string, args: readonly string[]): Promise<number> {
  try {
    const given = parseArguments(args);
    await run(name, given);
    return 0;
  } catch (error) {
    const line = error instanceof BuncError || !(error instanceof Error) ? renderError(error) : error.stack;
    const base = name.slice(name.lastIndexOf("/") + 1);
    writeAll(2, bytesOf(`${base}: ${line}\n`));
    return 1;
  }
}

async function run(name: string, given: Arguments): Promise<void> {
  if (given.version) {
    const { versionLines } = await import("./info.ts");
    writeAll(1, bytesOf(versionLines(name)));
    return;
  }
  if (given.info) {
    const { runtimeInfo } = await import("./info.ts");
    writeAll(1, await runtimeInfo());
    return;
  }
  if (given.apart) return (await import("./apart-worker.ts")).work(Number(given.apart));
  switch (given.action) {
    case "start":
      return (await import("./start.ts")).start(name, given);
    case "delete":
      return (await import("./delete.ts")).deleteLeft(given);
    case "": {
      const { serve } = await import("./serve.ts");
      await serve(name, given);
      // What would end by itself at the end of a Bun program does not, as its loop was never entered.
      sys(abi.SYS_exit_group, 0);
      return;
    }
    default:
      throw new BuncError(`unknown action ${JSON.stringify(given.action)}`, {
        code: "usage",
        hint: "it is start, delete, or none",
      });
  }
}
