/** `checkpoint`: save a running container to files, by criu. */
import { type CheckpointOptions, checkpointContainer } from "../container/checkpoint.ts";
import { BuncError } from "../errors.ts";
import { criuOptions } from "./criu-options.ts";
import { containerId } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { checkpointContainer };

export async function command(context: CommandContext<"checkpoint", "checkpointContainer">): Promise<number> {
  const { args, flags, global, log } = context;
  const options: CheckpointOptions = {
    ...criuOptions(flags),
    root: global.root,
    id: containerId(args),
    log,
    leaveRunning: flags["leave-running"],
    preDump: flags["pre-dump"],
    tcpSkipInFlight: flags["tcp-skip-in-flight"],
    linkRemap: flags["link-remap"],
    statusFd: flags["status-fd"],
  };
  if (flags["parent-path"]) options.parentPath = flags["parent-path"];
  if (flags["page-server"]) options.pageServer = pageServer(flags["page-server"]);
  await context.containers.checkpointContainer(options);
  return 0;
}

/** "ADDRESS:PORT", an address of IPv6 in brackets. */
function pageServer(text: string): { address: string; port: number } {
  const colon = text.lastIndexOf(":");
  const host = text.slice(0, Math.max(colon, 0));
  const bracketed = host.startsWith("[") && host.endsWith("]");
  const address = bracketed ? host.slice(1, -1) : host;
  const port = text.slice(colon + 1);
  if (!address || !port || (!bracketed && address.includes(":"))) {
    throw new BuncError("Use --page-server ADDRESS:PORT to specify page server", { code: "usage" });
  }
  const number = Number(port);
  if (!/^[0-9]+$/.test(port) || number < 1 || number > 65535) {
    throw new BuncError("Invalid port number", {
      code: "usage",
      hint: "--page-server takes one from 1 to 65535",
    });
  }
  return { address, port: number };
}
