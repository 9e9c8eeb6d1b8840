/** `delete`: remove a stopped container, or any with --force. */
import { deleteContainer } from "../container/delete.ts";
import { containerId, zero } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { deleteContainer };

export function command(context: CommandContext<"delete", "deleteContainer">): number | Promise<number> {
  const { args, flags, global, log, containers } = context;
  return zero(
    containers.deleteContainer(global.root, containerId(args), flags.force, {
      warn: (line) => log.warn(line),
    }),
  );
}
