/** `features`: what this runtime can do, as the runtime-spec's features document (features.md). */
import { runtimeFeatures } from "../container/features.ts";
import { goJson } from "./go.ts";
import type { CommandContext } from "./types.ts";

export const containers = { runtimeFeatures };

export async function command(context: CommandContext<"features", "runtimeFeatures">): Promise<number> {
  const { containers, output } = context;
  await output.stdout(`${goJson(await containers.runtimeFeatures(), "    ")}\n`);
  return 0;
}
