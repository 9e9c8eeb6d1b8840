/** `mounts`: more mounts in a running container, or fewer. */
import { changeMounts } from "../container/mounts.ts";
import { BuncError } from "../errors.ts";
import { absolutePath } from "./go.ts";
import { containerId } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { changeMounts };

export async function command(context: CommandContext<"mounts", "changeMounts">): Promise<number> {
  const { args, global, containers, log } = context;
  const [action, ...rest] = args;
  if (action !== "add" && action !== "remove") {
    throw new BuncError(`unknown command ${action}`, { code: "usage", hint: "it is add or remove" });
  }
  const file = absolutePath(rest[1]!);
  await containers.changeMounts(global.root, containerId(rest), { action, file }, log);
  return 0;
}
