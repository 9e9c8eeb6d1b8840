/** `start`: run the program of a created container. */
import { containerId, zero } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export function command(context: CommandContext<"start", "startContainer">): number | Promise<number> {
  const { args, global, containers } = context;
  return zero(containers.startContainer(global.root, containerId(args)));
}
