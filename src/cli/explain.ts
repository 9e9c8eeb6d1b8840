/** `explain`: show what running a bundle would do, call by call. */
import { absolutePath } from "./go.ts";
import type { CommandContext } from "./types.ts";

export async function command(context: CommandContext<"explain", "explainBundle">): Promise<number> {
  const { flags, containers, output } = context;
  await output.stdout(await containers.explainBundle(absolutePath(flags.bundle), flags.json));
  return 0;
}
