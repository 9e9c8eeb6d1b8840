/** `kill`: send a signal to a container's init. */
import { killContainer } from "../container/kill.ts";
import { BuncError } from "../errors.ts";
import { parseSignal } from "../linux/signals.ts";
import { quote } from "./go.ts";
import { containerId } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { killContainer };

export async function command(context: CommandContext<"kill", "killContainer">): Promise<number> {
  const { args, flags, global, log, containers } = context;
  const id = containerId(args);
  const name = args[1] || "SIGTERM";
  const signo = parseSignal(name);
  if (signo === undefined) {
    throw new BuncError(`unknown signal ${quote(name)}`, { code: "usage" });
  }
  if (flags.regex) {
    const { forMatching } = await import("./matching.ts");
    const kill = (one: string) => containers.killContainer(global.root, one, signo);
    await forMatching(id, { root: global.root, log }, kill);
    return 0;
  }
  try {
    await containers.killContainer(global.root, id, signo);
  } catch (error) {
    // What is left of the obsolete --all: a container that has ended is no error.
    const ended = error instanceof BuncError && error.message === "container not running";
    if (!(flags.all && ended)) throw error;
  }
  return 0;
}
