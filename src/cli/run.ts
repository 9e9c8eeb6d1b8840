/** `run`: create and start a container and, unless detached, wait for its end and return its exit code. */
import { runContainer } from "../container/run.ts";
import { launchOptions, maybeTraced, withPrefix } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { runContainer };

export function command(context: CommandContext<"run", "runContainer">): number | Promise<number> {
  const { flags, containers } = context;
  return withPrefix("runc run failed: ", () =>
    maybeTraced("run", context, () =>
      containers.runContainer({
        ...launchOptions(context),
        detach: flags.detach,
        keep: flags.keep,
        noSubreaper: flags["no-subreaper"],
      }),
    ),
  );
}
