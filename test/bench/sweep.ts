// Ends what a benchmark started: everything in its cgroups, whatever runtime made them. Works by the tag in the
// cgroups' names alone, because it must also clear up after a runtime that failed and after a benchmark that died.
import { readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type MountInfo, parseMountInfo } from "../rig/mountinfo.ts";

/** Mounted cgroup hierarchies, v1 and v2. */
export function cgroupMounts(): MountInfo[] {
  const mounts = parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
  return mounts.filter(({ type }) => type === "cgroup" || type === "cgroup2");
}

/** Directories at the top of the hierarchies whose name starts with the tag, and those below them, deepest first. */
export function findCgroups(tag: string): string[] {
  if (!/^bunc-bench-./.test(tag)) throw new Error(`${JSON.stringify(tag)} is no tag of a benchmark`);
  return cgroupMounts()
    .flatMap(({ point }) => directories(point).filter((dir) => dir.startsWith(join(point, tag))))
    .flatMap((dir) => [...below(dir), dir]);
}

function directories(dir: string): string[] {
  try {
    const all = readdirSync(dir, { withFileTypes: true });
    return all.filter((entry) => entry.isDirectory()).map(({ name }) => join(dir, name));
  } catch {
    return []; // gone meanwhile
  }
}

function below(dir: string): string[] {
  return directories(dir).flatMap((child) => [...below(child), child]);
}

/** Kills what is in a cgroup and removes it if that is possible already. */
function clear(cgroup: string): void {
  for (const [file, text] of [
    ["freezer.state", "THAWED"],
    ["cgroup.freeze", "0"],
  ] as const) {
    attempt(() => {
      // An interrupted `delete` may have frozen it, and what is frozen on cgroup v1 does not die.
      if (!readFileSync(join(cgroup, file), "utf8").startsWith(text)) writeFileSync(join(cgroup, file), text);
    });
  }
  attempt(() => {
    for (const pid of readFileSync(join(cgroup, "cgroup.procs"), "utf8").split("\n"))
      if (Number(pid) > 1) attempt(() => process.kill(Number(pid), "SIGKILL"));
  });
  attempt(() => rmdirSync(cgroup));
}

/** Runs what may fail because the process or cgroup is gone, or not yet. */
function attempt(action: () => void): void {
  try {
    action();
  } catch {}
}

/**
 * Kills every process in cgroups whose name starts with the tag and removes those cgroups.
 *
 * @returns what could not be removed within 10 s
 */
export function sweep(tag: string): string[] {
  const deadline = Date.now() + 10_000;
  let left = findCgroups(tag);
  while (left.length > 0 && Date.now() < deadline) {
    for (const cgroup of left) clear(cgroup);
    left = findCgroups(tag);
    if (left.length > 0) Bun.sleepSync(20);
  }
  return left;
}
