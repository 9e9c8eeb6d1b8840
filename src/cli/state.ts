/** `state`: the state of one container as JSON, indented by two spaces, without a newline at the end. */
import { loadState } from "../container/info.ts";
import { goJson } from "./go.ts";
import { containerId } from "./launch-options.ts";
import { stateJson } from "./state-json.ts";
import type { CommandContext } from "./types.ts";

export const containers = { loadState };

export async function command(context: CommandContext<"state", "loadState">): Promise<number> {
  const { args, global, containers, output } = context;
  const info = await containers.loadState(global.root, containerId(args));
  // runc looks the owner up only for `list`.
  await output.stdout(goJson(stateJson({ ...info, owner: "" }), "  "));
  return 0;
}
