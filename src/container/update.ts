/** `update`: other limits for a container that exists, in its cgroups and its state.json; both or neither change. */
import { explainLimit, refuseUsage } from "../cgroup/host.ts";
import type { Layout } from "../cgroup/layout.ts";
import { earlyLimitsV1, lateLimitsV1 } from "../cgroup/limits-v1.ts";
import { earlyLimitsV2, lateLimitsV2 } from "../cgroup/limits-v2.ts";
import * as live from "../cgroup/live.ts";
import type { CgroupPaths } from "../cgroup/names.ts";
import { noController, writeValue } from "../cgroup/write.ts";
import { renderError } from "../errors.ts";
import { Part, Slots } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { runPart } from "../linux/run-part.ts";
import type { LinuxResources } from "../oci/config.ts";
import { notRunning } from "./kill.ts";
import type { Summary } from "./state.ts";
import { statusOf } from "./status.ts";
import { openStateDir, readState } from "./store.ts";
import { resourcesBefore } from "./update-back.ts";
import { mergeResources, resourcesOf } from "./update-config.ts";

/** What an update may be given besides the resources. */
export interface UpdateOptions {
  /** Intel RDT: lines of a resctrl group's schemata. */
  l3CacheSchema?: string;
  memBwSchema?: string;
  /** Takes what goes wrong besides the error. */
  warn?: (message: string) => void;
}

/**
 * Changes the limits of a created, running or paused container. Devices are not touched.
 * @param resources what changes; the rest stays
 * @throws BuncError "container does not exist", "container not running", or the write that failed; what was written
 * before it is set back then
 */
export async function updateContainer(
  root: string,
  id: string,
  resources: LinuxResources,
  options: UpdateOptions = {},
): Promise<void> {
  const { l3CacheSchema, memBwSchema, warn = () => {} } = options;
  const dir = openStateDir(root, id);
  try {
    await dir.lock();
    const summary = dir.summary();
    if (statusOf(summary, dir.path, live) === "stopped") throw notRunning();
    const { memory } = resources;
    if (memory?.kernel !== undefined || memory?.kernelTCP !== undefined) {
      warn("Kernel memory settings are ignored and will be removed");
    }
    const state = readState(root, id);
    const old = state.config.cgroups ?? { devices: [] };
    const intel_rdt =
      l3CacheSchema || memBwSchema
        ? (await import("../cgroup/resctrl.ts")).updateRdt(state.config.intel_rdt, summary.rdt?.path, options)
        : state.config.intel_rdt;
    const cgroups = mergeResources(old, resources);
    const paths = summary.cgroupPaths;
    const unit = summary.systemdCgroup ? await unitSetter(summary, warn) : (all: LinuxResources) => all;
    const tried = resourcesOf(cgroups);
    const before = resourcesBefore(resourcesOf(old), tried, paths);
    try {
      runPart(compileUpdate(unit(tried), paths));
    } catch (error) {
      const explained = explainLimit(error, paths, tried);
      setBack(before, paths, unit, warn);
      throw explained;
    }
    dir.save({ ...state, config: { ...state.config, cgroups, ...(intel_rdt ? { intel_rdt } : {}) } });
  } finally {
    dir.close();
  }
}

/** Sets the properties of the container's unit; the answer is what is to be written to its cgroups. */
type UnitSetter = (resources: LinuxResources) => LinuxResources;

async function unitSetter(
  { cgroupPaths, rootlessCgroups }: Summary,
  warn: (message: string) => void,
): Promise<UnitSetter> {
  const { updateContainerUnit } = await import("../cgroup/systemd.ts");
  const v2 = cgroupPaths.devices === undefined;
  return (resources) => {
    // systemd would set a limit below what is used, and with it kill the container.
    if (v2) refuseUsage(cgroupPaths[""]!, resources);
    return updateContainerUnit(cgroupPaths, rootlessCgroups, resources, v2, warn);
  };
}

/** runc warns in the same words. */
function setBack(
  before: LinuxResources,
  paths: CgroupPaths,
  unit: UnitSetter,
  warn: (message: string) => void,
): void {
  try {
    runPart(compileUpdate(unit(before), paths));
  } catch (error) {
    warn(
      `Setting back cgroup configs failed due to error: ${renderError(error)}, ` +
        "your state.json and actual configs might be inconsistent.",
    );
  }
}

/**
 * The writes of an update, by the container's own directories alone: no hierarchy is looked for.
 * @throws BuncError for what cannot be: a controller that the container is not in, checkBeforeUpdate on v2
 */
export function compileUpdate(resources: LinuxResources, paths: CgroupPaths): Part {
  const part = new Part();
  const slots = new Slots();
  const dir = paths[""];
  if (paths.devices === undefined && dir !== undefined) {
    refuseUsage(dir, resources);
    // What the container's own cgroup offers counts.
    const hierarchy = { controllers: [], mountPoint: dir, root: "/", noprefix: false };
    const layout: Layout = { mode: "v2", v1: [], v2: hierarchy, read: readText, known: {} };
    earlyLimitsV2(part, resources, { dir, layout });
    lateLimitsV2(part, slots, resources, { dir, layout });
  } else {
    setCpuset(part, resources, paths);
    earlyLimitsV1(part, resources, paths);
    lateLimitsV1(part, slots, resources, paths);
  }
  return part;
}

function setCpuset(part: Part, { cpu }: LinuxResources, paths: CgroupPaths): void {
  for (const name of ["cpus", "mems"] as const) {
    const value = cpu?.[name];
    if (!value) continue;
    const path = `linux.resources.cpu.${name}`;
    const dir = paths.cpuset;
    if (dir === undefined) throw noController("cpuset", path, "the container is in no cpuset cgroup");
    const hint = `must be a list such as 0-3,7 of what the cgroup above has in cpuset.${name}`;
    part.at("cgroup", path);
    // A hierarchy mounted with noprefix has short names.
    writeValue(part, `${dir}/cpuset.${name}`, value, { hint, okSkip: 1, tolerate: [[abi.ENOENT, 0]] });
    writeValue(part, `${dir}/${name}`, value, { hint });
  }
}
