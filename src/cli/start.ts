/** `start`: run the program of a created container. */
import { startContainer } from "../container/start.ts";
import { containerId, maybeTraced, zero } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { startContainer };

export function command(context: CommandContext<"start", "startContainer">): number | Promise<number> {
  const { args, global, containers } = context;
  return zero(maybeTraced("start", context, () => containers.startContainer(global.root, containerId(args))));
}
