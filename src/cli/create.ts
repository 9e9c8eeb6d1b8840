/** `create`: make a container, up to where its program would be executed. */
import { createContainer } from "../container/create.ts";
import { launchOptions, maybeTraced, withPrefix, zero } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { createContainer };

export function command(context: CommandContext<"create", "createContainer">): number | Promise<number> {
  return withPrefix("runc create failed: ", () =>
    zero(maybeTraced("create", context, () => context.containers.createContainer(launchOptions(context)))),
  );
}
