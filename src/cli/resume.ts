/** `resume`: a paused container goes on. */
import { resumeContainer } from "../container/pause.ts";
import { containerId, warnOfCgroups } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { resumeContainer };

export async function command(context: CommandContext<"resume", "resumeContainer">): Promise<number> {
  const { args, global, containers, log } = context;
  await warnOfCgroups("resume", log, () => containers.resumeContainer(global.root, containerId(args)));
  return 0;
}
