/** `doctor`: what this host offers and lacks for containers of the caller, with a fix for each lack. */

import { examineHost } from "../doctor/examine.ts";
import { renderReport } from "../doctor/report.ts";
import { absolutePath } from "./go.ts";
import type { CommandContext } from "./types.ts";

export const containers = { examineHost };

export async function command(context: CommandContext<"doctor", "examineHost">): Promise<number> {
  const { flags, global, output } = context;
  const report = await context.containers.examineHost(global.root, absolutePath(""));
  await output.stdout(flags.json ? `${JSON.stringify(report, null, 2)}\n` : renderReport(report));
  return report.canRun ? 0 : 1;
}
