// What a container must not leave behind: finds processes, mounts, cgroups and files that belong to one rig, by its
// tag alone (other tests and people use the same machine), and removes them.

import { dlopen } from "bun:ffi";
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { cgroupMounts, cgroupPaths } from "./runtime.ts";

/** One thing left behind. */
export interface Leak {
  kind: "process" | "mount" | "cgroup" | "file";
  /** Path, or for a process its pid. */
  name: string;
  detail: string;
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

/** Entries of a directory, none when there is no such directory. */
export function entries(dir: string): string[] {
  try {
    return readdirSync(dir).sort();
  } catch {
    return [];
  }
}

/**
 * Processes of the rig: by cgroup, environment, root, and (unless it has a terminal: somebody's shell) working directory.
 * Zombies do not count.
 */
export function findProcesses(tag: string): Leak[] {
  const found: Leak[] = [];
  for (const pid of entries("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const dir = `/proc/${pid}`;
    const status = read(`${dir}/status`);
    if (status === "" || /^State:\t[ZX]/m.test(status) || /^Kthread:\t1/m.test(status)) continue;
    const command = read(`${dir}/cmdline`).replaceAll("\0", " ").trim();
    const marks = [cgroupsOf(dir), read(`${dir}/environ`), link(`${dir}/root`)];
    const stat = read(`${dir}/stat`);
    const terminal = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[4];
    if (terminal === "0") marks.push(link(`${dir}/cwd`));
    if (!marks.some((mark) => mark.includes(tag))) continue;
    const name = /^Name:\t(.*)$/m.exec(status)?.[1];
    found.push({ kind: "process", name: pid, detail: `${name}: ${command}` });
  }
  return found;
}

/**
 * The cgroups of a process, without the names of their hierarchies: every process of the machine is in every hierarchy,
 * also in one that is called after a rig.
 */
function cgroupsOf(dir: string): string {
  const lines = read(`${dir}/cgroup`).split("\n");
  return lines.map((line) => line.split(":").slice(2).join(":")).join("\n");
}

/** Mounts in this mount namespace whose mount point or whose root below its filesystem belongs to the rig. */
export function findMounts(tag: string): Leak[] {
  const found: Leak[] = [];
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    const fields = line.split(" ");
    if (line.includes(tag)) found.push({ kind: "mount", name: unescapePath(fields[4]!), detail: line });
  }
  return found.reverse(); // newest first: the order to unmount in
}

/** mountinfo writes space, tab, newline and backslash in octal. */
function unescapePath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Cgroups of the rig in every hierarchy: at the top, in system.slice, and below the cgroup this process is in. Deepest first. */
export function findCgroups(tag: string): Leak[] {
  const own = cgroupPaths(read("/proc/self/cgroup"));
  const found: Leak[] = [];
  const seen = new Set<string>();
  for (const [controller, point] of cgroupMounts()) {
    for (const parent of new Set([
      point,
      join(point, "system.slice"),
      join(point, own.get(controller) ?? "/"),
    ])) {
      for (const name of entries(parent)) {
        const dir = join(parent, name);
        if (!name.includes(tag) || seen.has(dir)) continue;
        seen.add(dir);
        for (const path of [...directoriesBelow(dir), dir]) {
          found.push({
            kind: "cgroup",
            name: path,
            detail: `processes: ${read(join(path, "cgroup.procs")).trim()}`,
          });
        }
      }
    }
  }
  return found;
}

/** Removes a cgroup at the top of every hierarchy, with those below it, as far as nothing is in them. */
export function removeCgroup(name: string): void {
  for (const point of new Set(cgroupMounts().values())) {
    const dir = join(point, name);
    for (const path of [...directoriesBelow(dir), dir]) {
      try {
        rmdirSync(path);
      } catch {
        // Not in this hierarchy, or still in use: the rig tells.
      }
    }
  }
}

function directoriesBelow(dir: string): string[] {
  const found: string[] = [];
  for (const entry of existsSync(dir) ? readdirSync(dir, { withFileTypes: true }) : []) {
    if (!entry.isDirectory()) continue;
    found.push(...directoriesBelow(join(dir, entry.name)), join(dir, entry.name));
  }
  return found;
}

/** Directories a runtime keeps its own things in by default; nothing of a rig may appear in them. */
const runtimePlaces = [
  "/run",
  "/run/bunc",
  "/run/runc",
  "/run/crun",
  "/tmp",
  "/var/tmp",
  "/dev/shm",
  "/var/run/user/0",
];

/** Entries of the given directories (all of them), and entries elsewhere that carry the tag, except `dir` itself. */
export function findFiles(tag: string, dir: string, mustBeEmpty: readonly string[]): Leak[] {
  const found: Leak[] = [];
  for (const place of mustBeEmpty) {
    for (const name of entries(place))
      found.push({ kind: "file", name: join(place, name), detail: "left there" });
  }
  for (const place of runtimePlaces) {
    for (const name of entries(place)) {
      const path = join(place, name);
      if (name.includes(tag) && path !== dir)
        found.push({ kind: "file", name: path, detail: "not below the rig" });
    }
  }
  return found;
}

const libc = dlopen("libc.so.6", { umount2: { args: ["cstring", "i32"], returns: "i32" } });
const MNT_DETACH = 2;

/** Unmounts a path lazily; false when that fails. */
export function detach(path: string): boolean {
  return libc.symbols.umount2(Buffer.from(`${path}\0`), MNT_DETACH) === 0;
}

function sleep(milliseconds: number): void {
  Bun.sleepSync(milliseconds);
}

/** Kills the rig's processes, removes its mounts and cgroups. Repeats while they come back; never throws. */
export function removeLeaks(tag: string): void {
  for (let round = 0; round < 50; round++) {
    const processes = findProcesses(tag);
    const mounts = findMounts(tag);
    const cgroups = findCgroups(tag);
    if (processes.length + mounts.length + cgroups.length === 0) return;
    for (const { name } of cgroups) thaw(name);
    for (const { name } of processes) kill(Number(name));
    for (const { name } of mounts) detach(name);
    for (const { name } of cgroups) {
      for (const pid of read(join(name, "cgroup.procs")).split("\n")) if (pid !== "") kill(Number(pid));
      try {
        rmdirSync(name);
      } catch {} // still has processes: the next round
    }
    if (round > 0) sleep(20);
  }
}

function thaw(cgroup: string): void {
  for (const [file, text] of [
    ["freezer.state", "THAWED"],
    ["cgroup.freeze", "0"],
  ] as const) {
    try {
      if (existsSync(join(cgroup, file))) writeFileSync(join(cgroup, file), text);
    } catch {}
  }
}

function kill(pid: number): void {
  try {
    if (pid > 1) process.kill(pid, "SIGKILL");
  } catch {}
}

/** Removes all a rig left, its directory included. Refuses to delete files while something is mounted there. */
export function removeEverything(tag: string, dir: string): void {
  removeLeaks(tag);
  const mounts = findMounts(tag);
  if (mounts.length > 0) throw new Error(`not removing ${dir}: still mounted: ${mounts[0]!.detail}`);
  rmSync(dir, { recursive: true, force: true });
}
