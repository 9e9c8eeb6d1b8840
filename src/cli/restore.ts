/** `restore`: make a container again from the files of `checkpoint`, and wait for its end unless detached. */
import { type RestoreOptions, restoreContainer } from "../container/restore.ts";
import { criuOptions } from "./criu-options.ts";
import { launchOptions, maybeTraced } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { restoreContainer };

export async function command(context: CommandContext<"restore", "restoreContainer">): Promise<number> {
  const { flags } = context;
  // What a launch has and a restore has not: descriptors and a keyring come from the images.
  const launch = { ...flags, config: "", "pidfd-socket": "", "no-new-keyring": false, "preserve-fds": 0 };
  const options: RestoreOptions = {
    ...launchOptions({ ...context, flags: launch }),
    ...criuOptions(flags),
    detach: flags.detach,
  };
  if (flags["lsm-profile"]) options.lsmProfile = flags["lsm-profile"];
  if (flags["lsm-mount-context"]) options.lsmMountContext = flags["lsm-mount-context"];
  return maybeTraced("restore", context, () =>
    context.containers.restoreContainer({ ...options, noSubreaper: flags["no-subreaper"] }),
  );
}
