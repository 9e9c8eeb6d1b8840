/**
 * Where the cgroup hierarchies of this host are: from /proc/self/mountinfo and /proc/self/cgroup alone. What lies in
 * /sys/fs/cgroup is not believed: it may hold plain directories and links.
 */
import { readText } from "../linux/file.ts";

/**
 * v2: /sys/fs/cgroup is cgroup2. v1: the controllers are in hierarchies of cgroup v1. hybrid: v1, and an empty cgroup2
 * beside it at /sys/fs/cgroup/unified. none: nothing is mounted.
 */
export type CgroupMode = "v1" | "hybrid" | "v2" | "none";

/** One mounted hierarchy. */
export interface Hierarchy {
  /** Its controllers in the order of the mount's options, or "name=..." of a named hierarchy; empty for cgroup2. */
  readonly controllers: readonly string[];
  readonly mountPoint: string;
  /** The directory of the hierarchy that the mount shows: not "/" inside of a container that has no cgroup namespace. */
  readonly root: string;
  /** Mounted with noprefix: the files of cpuset have no "cpuset." in front of their names. */
  readonly noprefix: boolean;
}

const DEFAULT_ROOT = "/sys/fs/cgroup";
const HYBRID_ROOT = "/sys/fs/cgroup/unified";

/** The controllers of cgroup v1; other words among the options of a mount are flags. v1 gets no new ones. */
const V1_CONTROLLERS: ReadonlySet<string> = new Set([
  "cpuset",
  "devices",
  "memory",
  "cpu",
  "cpuacct",
  "pids",
  "blkio",
  "hugetlb",
  "net_cls",
  "net_prio",
  "perf_event",
  "freezer",
  "rdma",
  "misc",
]);

/** Reads a file of the host: its text, or -errno. */
export type ReadFile = (path: string) => string | number;

/** The hierarchies of a host. What costs a system call is read when it is first asked for. */
export class Layout {
  private selfPaths: Map<string, string> | undefined;
  private available: readonly string[] | undefined;

  constructor(
    readonly mode: CgroupMode,
    /** The hierarchies of cgroup v1, in the order of their mounts; also those that no container joins. */
    readonly v1: readonly Hierarchy[],
    /** The cgroup2 that containers use. */
    readonly v2: Hierarchy | undefined,
    private readonly read: ReadFile = readText,
  ) {}

  /** The hierarchy of a controller of cgroup v1 ("memory", "name=systemd"). */
  find(controller: string): Hierarchy | undefined {
    return this.v1.find((hierarchy) => hierarchy.controllers.includes(controller));
  }

  /**
   * The cgroup of this process as a path below the hierarchy's mount point, "" for the mount point itself. A cgroup
   * outside of what the mount shows counts as the mount point, the nearest that can be reached.
   */
  own(hierarchy: Hierarchy): string {
    this.selfPaths ??= parseSelf(this.read("/proc/self/cgroup"));
    const path = this.selfPaths.get(hierarchy.controllers[0] ?? "");
    if (path === undefined || path.startsWith("/..")) return "";
    const { root } = hierarchy;
    if (root === "/") return path === "/" ? "" : path;
    return path.startsWith(`${root}/`) ? path.slice(root.length) : "";
  }

  /** The controllers that cgroup2 offers at its mount point (cgroup.controllers). */
  controllers(): readonly string[] {
    if (!this.available) {
      const text = this.v2 ? this.read(`${this.v2.mountPoint}/cgroup.controllers`) : "";
      this.available = typeof text === "string" ? text.split(/\s+/).filter((name) => name !== "") : [];
    }
    return this.available;
  }
}

/** Hierarchy-ID:controller-list:path, one line each (cgroups(7)); the key of cgroup2 is "". */
function parseSelf(text: string | number): Map<string, string> {
  const paths = new Map<string, string>();
  if (typeof text !== "string") return paths;
  for (const line of text.split("\n")) {
    const first = line.indexOf(":");
    const second = line.indexOf(":", first + 1);
    if (first < 0 || second < 0) continue;
    for (const name of line.slice(first + 1, second).split(",")) paths.set(name, line.slice(second + 1));
  }
  return paths;
}

/**
 * The layout of this host.
 *
 * @param mountinfo content of /proc/self/mountinfo, where the caller has read it already.
 */
export function readLayout(mountinfo?: string, read: ReadFile = readText): Layout {
  const text = mountinfo ?? read("/proc/self/mountinfo");
  return parseLayout(typeof text === "string" ? text : "", read);
}

/** Finds the hierarchies in the text of a mountinfo (proc_pid_mountinfo(5)). */
export function parseLayout(mountinfo: string, read: ReadFile = readText): Layout {
  const v1: Hierarchy[] = [];
  const unified: Hierarchy[] = [];
  const lastMounts = new Map<string, number>();
  // Only the lines of cgroups are taken apart: a host with many containers has thousands of others.
  for (let at = mountinfo.indexOf(" - cgroup"); at >= 0; at = mountinfo.indexOf(" - cgroup", at + 1)) {
    const start = mountinfo.lastIndexOf("\n", at) + 1;
    const newline = mountinfo.indexOf("\n", at);
    const end = newline < 0 ? mountinfo.length : newline;
    const left = mountinfo.slice(start, at).split(" ");
    const right = mountinfo.slice(at + 3, end).split(" ");
    const root = left[3];
    const point = left[4];
    if (root === undefined || point === undefined || isCovered(mountinfo, left, start, lastMounts)) continue;
    if (right[0] === "cgroup2") unified.push(hierarchy([], point, root, false));
    else if (right[0] === "cgroup") addV1(v1, point, root, right[2] ?? "");
  }
  return arrange(v1, unified, read);
}

function arrange(v1: Hierarchy[], unified: Hierarchy[], read: ReadFile): Layout {
  const whole = unified.find((mount) => mount.mountPoint === DEFAULT_ROOT);
  if (whole) return new Layout("v2", [], whole, read);
  if (v1.length === 0) return new Layout(unified.length ? "v2" : "none", [], unified[0], read);
  // Others mount cgroup2 in places of their own (/run/cilium/cgroupv2): those are not for containers.
  const beside = unified.find((mount) => mount.mountPoint === HYBRID_ROOT);
  return new Layout(beside ? "hybrid" : "v1", v1, beside, read);
}

function hierarchy(
  controllers: readonly string[],
  point: string,
  root: string,
  noprefix: boolean,
): Hierarchy {
  return { controllers, mountPoint: unescapePath(point), root: unescapePath(root), noprefix };
}

function addV1(list: Hierarchy[], point: string, root: string, options: string): void {
  const controllers: string[] = [];
  let noprefix = false;
  for (const option of options.split(",")) {
    if (V1_CONTROLLERS.has(option) || option.startsWith("name=")) controllers.push(option);
    else if (option === "noprefix") noprefix = true;
  }
  if (controllers.length === 0) return;
  const found = hierarchy(controllers, point, root, noprefix);
  const before = list.findIndex((other) => other.controllers[0] === controllers[0]);
  if (before < 0) list.push(found);
  // A hierarchy may be mounted twice; the usual place is the one that others look at, too.
  else if (!list[before]!.mountPoint.startsWith(`${DEFAULT_ROOT}/`)) {
    if (found.mountPoint.startsWith(`${DEFAULT_ROOT}/`)) list[before] = found;
  }
}

/** Whether something mounted later lies on the mount point or on a directory above it, so that no path leads there. */
function isCovered(
  mountinfo: string,
  fields: string[],
  start: number,
  lastMounts: Map<string, number>,
): boolean {
  for (let path = fields[4]!; path !== ""; path = path.slice(0, path.lastIndexOf("/"))) {
    let last = lastMounts.get(path);
    if (last === undefined) {
      last = lastMountAt(mountinfo, path);
      lastMounts.set(path, last);
    }
    if (last > start && !isBelow(mountinfo, fields[1]!, last)) return true;
  }
  return false;
}

/** Whether the mount at this line is the one with the given id or above it: after MS_MOVE it may well be listed later. */
function isBelow(mountinfo: string, id: string, line: number): boolean {
  const wanted = mountinfo.slice(line, mountinfo.indexOf(" ", line));
  let current = id;
  for (let depth = 0; depth < 100 && current !== wanted; depth++) {
    const at = mountinfo.startsWith(`${current} `) ? 0 : mountinfo.indexOf(`\n${current} `) + 1;
    if (at === 0 && !mountinfo.startsWith(`${current} `)) return false;
    const parent = mountinfo.slice(at).split(" ", 2)[1];
    if (parent === undefined || parent === current) return false;
    current = parent;
  }
  return current === wanted;
}

/** Where in the text the last mount on a path begins, -1 when there is none. */
function lastMountAt(mountinfo: string, path: string): number {
  const needle = ` ${path} `;
  for (let at = mountinfo.lastIndexOf(needle); at >= 0; at = mountinfo.lastIndexOf(needle, at - 1)) {
    const start = mountinfo.lastIndexOf("\n", at) + 1;
    // The fifth field is the mount point; the fourth, the root, may read the same.
    if (mountinfo.slice(start, at).split(" ").length === 4) return start;
    if (at === 0) break;
  }
  return -1;
}

/** mountinfo writes space, tab, newline, backslash and # as three octal digits. */
function unescapePath(text: string): string {
  if (!text.includes("\\")) return text;
  let out = "";
  for (let i = 0; i < text.length; i++) {
    const code = text[i] === "\\" ? Number.parseInt(text.slice(i + 1, i + 4), 8) : Number.NaN;
    if (Number.isNaN(code)) {
      out += text[i];
    } else {
      out += String.fromCharCode(code);
      i += 3;
    }
  }
  return out;
}
