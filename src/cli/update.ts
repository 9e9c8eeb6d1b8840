/** `update`: other limits for a container, from flags or from a file like linux.resources. */
import { validateResources } from "../bundle/validate.ts";
import { updateContainer } from "../container/update.ts";
import { BuncError } from "../errors.ts";
import { pathError, readInput } from "../linux/file.ts";
import type { LinuxCPU, LinuxMemory, LinuxResources } from "../oci/config.ts";
import { parseJson } from "../oci/json.ts";
import { normaliseResources } from "../oci/legacy.ts";
import { fitsResources, foldCase } from "../oci/shape.ts";
import { containerId } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";
import { parseDecimal, parseSize } from "./units.ts";

export const containers = { updateContainer };

type Flags = CommandContext<"update">["flags"];

/** A resources file is some hundred bytes long. */
const LONGEST = 16 << 20;

export async function command(context: CommandContext<"update", "updateContainer">): Promise<number> {
  const { args, flags, global, log, containers } = context;
  const id = containerId(args);
  const resources = flags.resources ? await fromFile(flags.resources) : fromFlags(flags);
  await containers.updateContainer(global.root, id, resources, {
    l3CacheSchema: flags["l3-cache-schema"],
    memBwSchema: flags["mem-bw-schema"],
    warn: (message) => log.warn(message),
  });
  return 0;
}

async function fromFile(path: string): Promise<LinuxResources> {
  const text = path === "-" ? await Bun.stdin.text() : readInput(path, LONGEST);
  if (typeof text === "number") throw pathError("open", path, text);
  const value = parseJson(text);
  foldCase("resources", value);
  normaliseResources(value);
  // Only the shape counts: what values make sense depends on those the container has.
  if (fitsResources(value)) return value;
  const first = validateResources(text).problems[0];
  throw new BuncError(
    first ? `${first.path ? `${first.path}: ` : ""}${first.message}` : "no object of resources",
    {
      code: "usage",
      hint: `in ${path === "-" ? "stdin" : path}`,
    },
  );
}

function fromFlags(flags: Flags): LinuxResources {
  const cpu: LinuxCPU = {};
  const memory: LinuxMemory = {};
  const resources: LinuxResources = { cpu, memory };
  const weight = flags["blkio-weight"];
  if (weight !== 0) {
    if (weight < 10 || weight > 1000) {
      throw new BuncError(`invalid value for blkio-weight: ${weight}`, {
        code: "usage",
        hint: "it is from 10 to 1000",
      });
    }
    resources.blockIO = { weight };
  }
  memory.checkBeforeUpdate = false;
  if (flags["cpuset-cpus"]) cpu.cpus = flags["cpuset-cpus"];
  if (flags["cpuset-mems"]) cpu.mems = flags["cpuset-mems"];
  for (const [flag, field, signed] of [
    ["cpu-idle", "idle", true],
    ["cpu-burst", "burst", false],
    ["cpu-period", "period", false],
    ["cpu-rt-period", "realtimePeriod", false],
    ["cpu-share", "shares", false],
    ["cpu-quota", "quota", true],
    ["cpu-rt-runtime", "realtimeRuntime", true],
  ] as const) {
    if (flags[flag]) cpu[field] = parseDecimal(flag, flags[flag], signed);
  }
  for (const [flag, field] of [
    ["memory", "limit"],
    ["memory-swap", "swap"],
    ["kernel-memory", "kernel"],
    ["kernel-memory-tcp", "kernelTCP"],
    ["memory-reservation", "reservation"],
  ] as const) {
    if (flags[flag]) memory[field] = parseSize(flag, flags[flag]);
  }
  if (flags["pids-limit"]) resources.pids = { limit: parseDecimal("pids-limit", flags["pids-limit"], true) };
  return resources;
}
