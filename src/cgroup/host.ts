/** What making cgroups needs to know from the host, and the taking back: the parts that are no programs. */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoText } from "../linux/errno.ts";
import { readText } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import type { LinuxResources } from "../oci/config.ts";
import type { Existing } from "./create.ts";
import type { Layout } from "./layout.ts";
import { isFrozen, killAll, removeAll } from "./live.ts";
import { type CgroupPaths, type GroupDir, parentsOf } from "./names.ts";
import { exists, pidsBelow, rmdir } from "./tree.ts";

/** The cgroups whose being there makes a difference: may be occupied or frozen, have a cpuset, have device filters. */
function isChecked({ names }: GroupDir): boolean {
  return names.includes("devices") || names.includes("freezer") || names.includes("cpuset");
}

/** Looks which directories there are. Costs nothing for what lies right below the mount point or the own cgroup. */
export function inspect(dirs: readonly GroupDir[]): Existing {
  const missing = new Map<string, readonly string[]>();
  const present = new Set<string>();
  let unset: readonly string[] = [];
  const v2 = dirs.length === 1 && dirs[0]!.names.includes("");
  for (const dir of dirs) {
    const parents = parentsOf(dir);
    let there = parents.length;
    // From below: most often the parent is there, and one look is enough.
    while (there > 0 && !exists(parents[there - 1]!)) there--;
    missing.set(dir.path, parents.slice(there));
    if (there > 0 && dir.names.includes("cpuset") && !v2) {
      let set = there;
      // One that has a list has it from those above.
      while (set > 0 && isUnset(dir, parents[set - 1]!)) set--;
      unset = parents.slice(set, there);
    }
    if (there === parents.length && (v2 || isChecked(dir)) && exists(dir.path)) present.add(dir.path);
  }
  return unset.length ? { missing, present, unset } : { missing, present };
}

/** Whether a cpuset cgroup of v1 is as mkdir(2) leaves it: nothing below it can have processes then. */
function isUnset({ hierarchy }: GroupDir, path: string): boolean {
  const prefix = `${path}/${hierarchy.noprefix ? "" : "cpuset."}`;
  return readText(`${prefix}cpus`) === "\n" || readText(`${prefix}mems`) === "\n";
}

/**
 * Refuses a cgroup in which other processes are, which is frozen, or (where the bundle says so) uses more memory than
 * it shall have. As in runc one hierarchy of v1 stands for all.
 */
export function refuseOccupied(
  paths: CgroupPaths,
  existing: Existing,
  resources: LinuxResources,
  layout: Layout,
): void {
  const v2 = layout.mode === "v2";
  const path = v2 ? paths[""]! : paths.devices;
  if (path !== undefined && existing.present.has(path)) {
    const pids = pidsBelow(path);
    if (typeof pids !== "number" && pids.length > 0) {
      throw unfit(
        `container's cgroup is not empty: ${pids.length} process(es) found`,
        `choose another linux.cgroupsPath, or end what runs in ${path}`,
      );
    }
    if (v2) refuseUsage(path, resources);
  }
  const freezer = v2 ? path : paths.freezer;
  if (freezer !== undefined && existing.present.has(freezer) && isFrozen(paths)) {
    throw unfit("container's cgroup unexpectedly frozen", `thaw or remove ${freezer}`);
  }
}

function unfit(message: string, hint: string): BuncError {
  return new BuncError(message, { code: "state", phase: "cgroup", path: "linux.cgroupsPath", hint });
}

/** linux.resources.memory.checkBeforeUpdate: v2 would kill processes where v1 refuses the limit. */
export function refuseUsage(path: string, { memory }: LinuxResources): void {
  if (!memory?.checkBeforeUpdate) return;
  const usage = numberIn(`${path}/memory.current`);
  if (usage === undefined) return;
  for (const [field, words, value] of [
    ["swap", "memory+swap", memory.swap],
    ["limit", "memory", memory.limit],
  ] as const) {
    if (value === undefined || value <= 0 || value > usage) continue;
    throw new BuncError(`rejecting ${words} limit ${value} <= usage ${usage}`, {
      code: "state",
      phase: "cgroup",
      path: `linux.resources.memory.${field}`,
    });
  }
}

function numberIn(path: string): number | undefined {
  const text = readText(path, 64);
  return typeof text === "string" ? Number(text) : undefined;
}

/** EBUSY for a memory limit of v1 says nothing about how much would be enough; these words of runc do. */
export function explainLimit(error: unknown, paths: CgroupPaths, resources: LinuxResources): unknown {
  if (!(error instanceof BuncError) || error.fields.errno !== "EBUSY" || paths.memory === undefined)
    return error;
  if (error.fields.path !== "linux.resources.memory.limit") return error;
  const usage = numberIn(`${paths.memory}/memory.usage_in_bytes`);
  const peak = numberIn(`${paths.memory}/memory.max_usage_in_bytes`);
  if (usage === undefined) return error;
  const limit = resources.memory?.limit;
  return new BuncError(
    `unable to set memory limit to ${limit} (current usage: ${usage}, peak usage: ${peak ?? "unknown"}): ` +
      errnoText(abi.EBUSY),
    error.fields,
  );
}

/** Runs something with the usual umask: cgroups that only root can look into are of no use to the container. */
export function withUmask<T>(run: () => T): T {
  const before = sys(abi.SYS_umask, 0o022);
  try {
    return run();
  } finally {
    sys(abi.SYS_umask, before);
  }
}

/** How long to wait for a cgroup to become empty, in milliseconds: init is dead by now, so it is not worth much. */
const PATIENCE = 500;

/**
 * Removes the cgroups that were made, and the directories above them. Killed is only what is in the cgroup that was
 * seen not to be there before: in others there may be somebody else's processes. What cannot be removed stays.
 */
export async function removeMade(dirs: readonly GroupDir[], existing: Existing): Promise<void> {
  const made: Record<string, string> = {};
  const ours: Record<string, string> = {};
  for (const dir of dirs) {
    if (existing.present.has(dir.path)) continue;
    for (const name of dir.names) {
      made[name] = dir.path;
      if (name === "devices" || name === "freezer" || dirs.length === 1) ours[name] = dir.path;
    }
  }
  try {
    await removeAll(made, PATIENCE, () => killAll(ours));
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
  }
  removeParents(existing);
}

/** As removeMade, before any process was in them: there is nothing to be waited for. */
export function removeEmpty(dirs: readonly GroupDir[], existing: Existing): void {
  for (const { path } of dirs) if (!existing.present.has(path)) rmdir(path);
  removeParents(existing);
}

function removeParents(existing: Existing): void {
  for (const parents of existing.missing.values()) {
    for (let i = parents.length - 1; i >= 0; i--) if (rmdir(parents[i]!) < 0) break;
  }
}

/** The files that go with a delegated cgroup (cgroups(7) "Cgroup delegation: delegating a hierarchy"). */
export function readDelegate(): string[] {
  const text = readText("/sys/kernel/cgroup/delegate", 4096);
  if (typeof text !== "string") return [...DELEGATED];
  const files: string[] = [];
  for (const name of text.split("\n")) if (name !== "" && !name.includes("/")) files.push(name);
  return files;
}

/** What the runtime-spec lists for a kernel that does not tell. */
export const DELEGATED: readonly string[] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
