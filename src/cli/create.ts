/** `create`: make a container, up to where its program would be executed. */
import { createContainer } from "../container/create.ts";
import { launchOptions, withPrefix, zero } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { createContainer };

export function command(context: CommandContext<"create", "createContainer">): number | Promise<number> {
  return withPrefix("runc create failed: ", () =>
    zero(context.containers.createContainer(launchOptions(context))),
  );
}
