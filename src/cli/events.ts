/** `events`: what a container uses, and that it ran out of memory, as lines of JSON. */
import { eventData, statsJson } from "../cgroup/stats.ts";
import { containerStats, watchContainer } from "../container/events.ts";
import { containerId } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { containerStats, watchContainer };

export async function command(
  context: CommandContext<"events", "containerStats" | "watchContainer">,
): Promise<number> {
  const { args, flags, global, containers, output } = context;
  const id = containerId(args);
  const show = (event: { type: string; data?: object }) =>
    output.stdout(`${statsJson({ type: event.type, id, data: event.data })}\n`);
  // An interval that is not positive is refused even where it is not used, as in runc.
  if (flags.stats && flags.interval > 0) {
    await show({ type: "stats", data: eventData(await containers.containerStats(global.root, id)) });
    return 0;
  }
  await containers.watchContainer(global.root, id, {
    milliseconds: flags.interval,
    stats: (found) => show({ type: "stats", data: eventData(found) }),
    oom: () => show({ type: "oom" }),
  });
  return 0;
}
