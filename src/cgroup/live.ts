/**
 * What is done to the cgroups of a container that exists, by the paths of its state.json alone, so that containers of
 * another runtime with the same state are served, too. No plan and no layout is needed: `state` and `list` load this.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { readText, writeExisting } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { sleep } from "../linux/wait.ts";
import { type CgroupPaths, isV1 } from "./names.ts";
import { exists, pidsBelow, removeTree, rmdir } from "./tree.ts";
import { NO_CGROUP } from "./write.ts";

/** cgroup2 alone, or (v1 and hybrid) the devices hierarchy, in which every process of a container is, as in runc. */
function mainPath(paths: CgroupPaths): string | undefined {
  return paths.devices ?? paths[""];
}

/** Pids of all processes in the cgroup and below it; empty when there is no such cgroup. */
export function processes(paths: CgroupPaths): number[] {
  const path = mainPath(paths);
  const pids = path === undefined ? [] : pidsBelow(path);
  return typeof pids === "number" ? [] : pids;
}

/** Whether the cgroup is there. */
export function groupExists(paths: CgroupPaths): boolean {
  const path = mainPath(paths);
  return path !== undefined && exists(path);
}

/**
 * Whether the cgroup itself was told to freeze, finished or not. One that stands still only because a cgroup above it
 * is frozen is not, and neither is one that is gone.
 */
export function isFrozen(paths: CgroupPaths): boolean {
  if (!isV1(paths)) return paths[""] !== undefined && readFile(`${paths[""]}/cgroup.freeze`) === "1";
  const dir = paths.freezer;
  if (dir === undefined) return false;
  const state = readFile(`${dir}/freezer.state`);
  if (state !== "FROZEN" && state !== "FREEZING") return false;
  const self = readFile(`${dir}/freezer.self_freezing`);
  return self === undefined || self === "1";
}

function readFile(path: string): string | undefined {
  const text = readText(path, 4096);
  return typeof text === "string" ? text.trim() : undefined;
}

/** How long freeze() waits for the processes to stand still, in milliseconds. */
const FREEZE_PATIENCE = 10_000;

/**
 * Freezes the cgroup and waits until all its processes stand still, at most for ten seconds; then, or when it is
 * refused, nothing is frozen.
 *
 * @throws BuncError
 */
export async function freeze(paths: CgroupPaths): Promise<void> {
  const v1 = isV1(paths);
  const dir = v1 ? paths.freezer : paths[""];
  if (dir === undefined) throw noFreezer(paths);
  if (!v1) writeState(`${dir}/cgroup.freeze`, "1");
  let waited = 0;
  for (let attempt = 0; waited < FREEZE_PATIENCE; attempt++) {
    if (
      v1 ? askV1(`${dir}/freezer.state`, attempt) : readFile(`${dir}/cgroup.events`)?.includes("frozen 1")
    ) {
      return;
    }
    // Most processes need some microseconds to get there.
    if (attempt < 5) continue;
    const wait = attempt < 20 ? 1 : 10;
    await sleep(wait);
    waited += wait;
  }
  thaw(paths);
  throw stuck(dir);
}

/**
 * v1 may stay at FREEZING for good when processes are started in it meanwhile: the state is written again, and now and
 * then after a thaw. Tells whether it is frozen.
 */
function askV1(file: string, attempt: number): boolean {
  if (attempt % 50 === 49) writeExisting(file, "THAWED");
  writeState(file, "FROZEN");
  return readFile(file) === "FROZEN";
}

/**
 * Thaws the cgroup. One that is gone needs no thawing.
 *
 * @throws BuncError when it is refused.
 */
export function thaw(paths: CgroupPaths): void {
  const v1 = isV1(paths);
  const dir = v1 ? paths.freezer : paths[""];
  if (dir === undefined) return;
  const file = v1 ? `${dir}/freezer.state` : `${dir}/cgroup.freeze`;
  const result = writeExisting(file, v1 ? "THAWED" : "0");
  if (result < 0 && result !== -abi.ENOENT && result !== -abi.ENODEV) throw fileError("thaw", file, result);
}

function writeState(file: string, value: string): void {
  const result = writeExisting(file, value);
  if (result >= 0) return;
  // Some were frozen already: leave none so.
  writeExisting(file, value === "1" ? "0" : "THAWED");
  throw fileError("freeze", file, result);
}

function fileError(verb: string, file: string, result: number): BuncError {
  return new BuncError(`unable to ${verb}: write ${file}: ${errnoText(-result)}`, {
    code: "host",
    phase: "cgroup",
    errno: errnoName(-result),
  });
}

function noFreezer(paths: CgroupPaths): BuncError {
  return new BuncError("cannot toggle freezer: cgroups not configured for container", {
    code: "host",
    phase: "cgroup",
    hint: Object.keys(paths).length > 0 ? "the freezer controller must be mounted (cgroup v1)" : NO_CGROUP,
  });
}

function stuck(dir: string): BuncError {
  return new BuncError(`unable to freeze: ${dir} has processes that cannot be stopped`, {
    code: "host",
    phase: "cgroup",
    hint: "a process waits for a device or a file server (state D)",
  });
}

/**
 * SIGKILL to all processes of the cgroup and below it, those that are started meanwhile, too; frozen ones die as well.
 * It does not wait for their end.
 *
 * @returns false where there is no cgroup, or no right to kill in it.
 */
export async function killAll(paths: CgroupPaths): Promise<boolean> {
  const unified = paths[""];
  // cgroup.kill came with Linux 5.14. On a hybrid host the processes may be in v1 alone.
  const atOnce = unified !== undefined && writeExisting(`${unified}/cgroup.kill`, "1") === 0;
  if (atOnce && !isV1(paths)) return true;
  const path = mainPath(paths);
  if (path === undefined || isRoot(path)) return false;
  const first = pidsBelow(path);
  if (typeof first === "number") return false;
  if (first.length === 0) return true;
  try {
    await freeze(paths);
  } catch (error) {
    // Without a freezer a process that forks fast may slip away; destroy() tries again.
    if (!(error instanceof BuncError)) throw error;
  }
  const killed = killPids(path);
  // A killed process of v1 ends when it is thawed; one that was paused before is, too.
  if (paths.freezer !== undefined) writeExisting(`${paths.freezer}/freezer.state`, "THAWED");
  else if (!isV1(paths)) writeExisting(`${unified}/cgroup.freeze`, "0");
  return killed;
}

/**
 * Whether a cgroup is the root of its hierarchy, where the processes are the host's: a state that names it must not end
 * the host. All others have one of two files, notify_on_release in v1 and cgroup.events in v2; the roots of v1 also
 * have a release_agent.
 */
function isRoot(path: string): boolean {
  if (exists(`${path}/release_agent`)) return true;
  return exists(path) && !exists(`${path}/cgroup.events`) && !exists(`${path}/notify_on_release`);
}

/** Kills all in one tree of cgroups; false when not a single one could be. */
function killPids(path: string): boolean {
  if (isRoot(path)) return false;
  const pids = pidsBelow(path);
  if (typeof pids === "number") return false;
  let refused = 0;
  for (const pid of pids) {
    if (pid !== process.pid && sys(abi.SYS_kill, pid, abi.SIGKILL) === -abi.EPERM) refused++;
  }
  return refused === 0 || refused < pids.length;
}

/** Waits between attempts to remove a cgroup, in milliseconds: each twice the one before. */
const FIRST_WAIT = 1;
const LONGEST_WAIT = 100;
/** How long destroy() waits for processes to end after SIGKILL. */
const PATIENCE = 5000;

/**
 * Removes the cgroups and all that the container made below them; directories above stay, as in runc. Processes that
 * are still there are killed. Cgroups that are gone already are no failure.
 *
 * @throws BuncError naming a cgroup that stays, and the processes in it.
 */
export async function destroy(paths: CgroupPaths): Promise<void> {
  let killed = false;
  await removeAll(paths, PATIENCE, async (left) => {
    if (!killed) await killAll(paths);
    else for (const path of left) killPids(path);
    killed = true;
  });
}

/**
 * Removes cgroups and what is below them, waiting for processes to end.
 *
 * @param patience how long to wait at most, in milliseconds
 * @param kill called before each wait with what is left
 * @throws BuncError naming a cgroup that stays.
 */
export async function removeAll(
  paths: CgroupPaths,
  patience: number,
  kill: (left: readonly string[]) => unknown,
): Promise<void> {
  const all = new Set<string>();
  for (const name in paths) if (paths[name] !== "") all.add(paths[name]!);
  let left: string[] = [];
  for (const path of all) if (rmdir(path) !== 0) left.push(path);
  let waited = 0;
  for (let wait = FIRST_WAIT; left.length > 0; wait = wait * 2 < LONGEST_WAIT ? wait * 2 : LONGEST_WAIT) {
    let result = 0;
    left = left.filter((path) => {
      const answer = removeTree(path);
      if (answer !== 0) result = answer;
      return answer !== 0;
    });
    if (left.length === 0) return;
    // Anything else does not change by waiting: no right to, or not a cgroup.
    if ((result !== -abi.EBUSY && result !== -abi.ENOTEMPTY) || waited >= patience)
      throw cannotRemove(left, result);
    await kill(left);
    await sleep(wait);
    waited += wait;
  }
}

function cannotRemove(left: readonly string[], result: number): BuncError {
  const path = left[0]!;
  const pids = pidsBelow(path);
  const inside = typeof pids === "number" ? [] : pids;
  const more = left.length > 1 ? ` (and ${left.length - 1} more)` : "";
  const hint =
    inside.length > 0
      ? `processes are still in it: ${inside.slice(0, 10).join(", ")}${inside.length > 10 ? ", ..." : ""}`
      : "a process of another pid namespace may be in it; the cgroup file system must be writable";
  return new BuncError(`rmdir ${path}: ${errnoText(-result)}${more}`, {
    code: "host",
    phase: "cgroup",
    errno: errnoName(-result),
    hint,
  });
}

/** How many processes of the cgroup the kernel's OOM killer has ended; 0 where nobody counts. */
export function oomKills(paths: CgroupPaths): number {
  const dir = paths.memory ?? paths[""];
  if (dir === undefined) return 0;
  const text =
    readFile(`${dir}/${paths.memory === undefined ? "memory.events" : "memory.oom_control"}`) ?? "";
  for (const line of text.split("\n")) {
    if (line.startsWith("oom_kill ")) return Number(line.slice("oom_kill ".length)) || 0;
  }
  return 0;
}

/** Whether memory was too short for a process of the cgroup. */
export function oomKilled(paths: CgroupPaths): boolean {
  return oomKills(paths) > 0;
}
