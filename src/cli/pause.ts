/** `pause`: all processes of a container stand still. */
import { pauseContainer } from "../container/pause.ts";
import { containerId, warnOfCgroups } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { pauseContainer };

export async function command(context: CommandContext<"pause", "pauseContainer">): Promise<number> {
  const { args, global, containers, log } = context;
  await warnOfCgroups("pause", log, () => containers.pauseContainer(global.root, containerId(args)));
  return 0;
}
