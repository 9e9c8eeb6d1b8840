/** `delete`: remove a stopped container, or any with --force. */
import { deleteContainer } from "../container/delete.ts";
import { containerId, zero } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { deleteContainer };

type Context = CommandContext<"delete", "deleteContainer">;

export function command(context: Context): number | Promise<number> {
  const { args, flags, global, log, containers } = context;
  const remove = (id: string) =>
    containers.deleteContainer(global.root, id, flags.force, { warn: (line) => log.warn(line) });
  if (flags.regex) return matching(context, remove);
  return zero(remove(containerId(args)));
}

async function matching(
  { args, global, log }: Context,
  act: (id: string) => void | Promise<void>,
): Promise<number> {
  const { forMatching } = await import("./matching.ts");
  await forMatching(containerId(args), { root: global.root, log }, act);
  return 0;
}
