/**
 * Where the cgroup hierarchies of this host are: from /proc/self/mountinfo and /proc/self/cgroup alone. What lies in
 * /sys/fs/cgroup is not believed: it may hold plain directories and links.
 *
 * This runs at every start of a container, and most of its cost is that each function, and each of JavaScript's own
 * functions that is written in JavaScript (find, filter, at), is met for the first time; so there are few of them.
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

/** Reads a file of the host: its text, or -errno. */
export type ReadFile = (path: string) => string | number;

/** The hierarchies of a host. */
export interface Layout {
  readonly mode: CgroupMode;
  /** The hierarchies of cgroup v1, in the order of their mounts; also those that no container joins. */
  readonly v1: readonly Hierarchy[];
  /** The cgroup2 that containers use. */
  readonly v2: Hierarchy | undefined;
  /** For what is read only when it is asked for. */
  readonly read: ReadFile;
  /** What has been read: see ownPath and v2Controllers. */
  readonly known: { self?: Map<string, string>; controllers?: readonly string[] };
}

const DEFAULT_ROOT = "/sys/fs/cgroup";
const HYBRID_ROOT = "/sys/fs/cgroup/unified";
const MARK = " - cgroup";

/** The controllers of cgroup v1; other words among the options of a mount are flags. v1 gets no new ones. */
const V1_CONTROLLERS =
  " cpuset devices memory cpu cpuacct pids blkio hugetlb net_cls net_prio perf_event freezer rdma misc ";

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
  let whole: Hierarchy | undefined;
  let beside: Hierarchy | undefined;
  let elsewhere: Hierarchy | undefined;
  let directory = "";
  let covered = false;
  // Only the lines of cgroups are taken apart: a host with many containers has thousands of others.
  for (let at = mountinfo.indexOf(MARK); at >= 0; at = mountinfo.indexOf(MARK, at + MARK.length)) {
    const start = mountinfo.lastIndexOf("\n", at) + 1;
    const newline = mountinfo.indexOf("\n", at);
    const end = newline < 0 ? mountinfo.length : newline;
    const fields = mountinfo.slice(start, at).split(" ");
    const [type, , options] = mountinfo.slice(at + 3, end).split(" ");
    const root = fields[3];
    const point = fields[4];
    if (root === undefined || point === undefined) continue;
    // The directory of the mount points is looked at once; most often it is the same for all.
    const above = point.slice(0, point.lastIndexOf("/"));
    if (covered || above !== directory) {
      directory = above;
      covered = isCovered(mountinfo, fields, start, above);
    }
    if (covered || (mountinfo.lastIndexOf(` ${point} `) > end && isCovered(mountinfo, fields, start, point)))
      continue;
    const noprefix = options?.includes("noprefix") ?? false;
    const found = { controllers: [] as string[], mountPoint: plain(point), root: plain(root), noprefix };
    if (type === "cgroup2") {
      if (point === DEFAULT_ROOT) whole ??= found;
      else if (point === HYBRID_ROOT) beside ??= found;
      else elsewhere ??= found;
    } else if (type === "cgroup" && options) {
      for (const option of options.split(",")) {
        if (V1_CONTROLLERS.includes(` ${option} `) || option.startsWith("name="))
          found.controllers.push(option);
      }
      addV1(v1, found);
    }
  }
  const known = {};
  if (whole) return { mode: "v2", v1: [], v2: whole, read, known };
  // Others mount cgroup2 in places of their own (/run/cilium/cgroupv2): on v1 hosts those are not for containers.
  if (v1.length > 0) return { mode: beside ? "hybrid" : "v1", v1, v2: beside, read, known };
  const only = beside ?? elsewhere;
  return { mode: only ? "v2" : "none", v1, v2: only, read, known };
}

/** A hierarchy may be mounted twice; the usual place is the one that others look at, too. */
function addV1(list: Hierarchy[], found: Hierarchy): void {
  const first = found.controllers[0];
  if (first === undefined) return;
  for (let i = 0; i < list.length; i++) {
    if (list[i]!.controllers[0] !== first) continue;
    const usual = `${DEFAULT_ROOT}/`;
    if (!list[i]!.mountPoint.startsWith(usual) && found.mountPoint.startsWith(usual)) list[i] = found;
    return;
  }
  list.push(found);
}

/** Whether something mounted later lies on a path or on a directory above it, so that no path leads to the mount. */
function isCovered(mountinfo: string, fields: readonly string[], start: number, path: string): boolean {
  for (let on = path; on !== ""; on = on.slice(0, on.lastIndexOf("/"))) {
    const needle = ` ${on} `;
    for (let at = mountinfo.lastIndexOf(needle); at > start; at = mountinfo.lastIndexOf(needle, at - 1)) {
      const line = mountinfo.lastIndexOf("\n", at) + 1;
      // The fifth field is the mount point; the fourth, the root, may read the same.
      if (line <= start || mountinfo.slice(line, at).split(" ").length !== 4) continue;
      if (!isBelow(mountinfo, fields[1]!, line)) return true;
    }
  }
  return false;
}

/** Whether the mount at this line is the one with the given id or above it: after MS_MOVE it may well be listed later. */
function isBelow(mountinfo: string, id: string, line: number): boolean {
  const wanted = mountinfo.slice(line, mountinfo.indexOf(" ", line));
  const text = `\n${mountinfo}`;
  let current = id;
  for (let depth = 0; depth < 100 && current !== wanted; depth++) {
    const at = text.indexOf(`\n${current} `);
    const parent = at < 0 ? undefined : text.slice(at + 1).split(" ", 2)[1];
    if (parent === undefined || parent === current) return false;
    current = parent;
  }
  return current === wanted;
}

/** mountinfo writes space, tab, newline, backslash and # as three octal digits. */
function plain(text: string): string {
  return text.includes("\\") ? unescapeOctal(text) : text;
}

function unescapeOctal(text: string): string {
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

/** The hierarchy of a controller of cgroup v1 ("memory", "name=systemd"). */
export function findHierarchy(layout: Layout, controller: string): Hierarchy | undefined {
  for (const hierarchy of layout.v1) if (hierarchy.controllers.includes(controller)) return hierarchy;
  return undefined;
}

/**
 * The cgroup of this process as a path below the hierarchy's mount point, "" for the mount point itself. A cgroup
 * outside of what the mount shows counts as the mount point, the nearest that can be reached.
 */
export function ownPath(layout: Layout, hierarchy: Hierarchy): string {
  layout.known.self ??= parseSelf(layout.read("/proc/self/cgroup"));
  const path = layout.known.self.get(hierarchy.controllers[0] ?? "");
  if (path === undefined || path === "/" || path.startsWith("/..")) return "";
  const { root } = hierarchy;
  if (root === "/") return path;
  return path.startsWith(`${root}/`) ? path.slice(root.length) : "";
}

/** Hierarchy-ID:controller-list:path, one line each (cgroups(7)); the key of cgroup2 is "". */
function parseSelf(text: string | number): Map<string, string> {
  const paths = new Map<string, string>();
  if (typeof text !== "string") return paths;
  for (const line of text.split("\n")) {
    const first = line.indexOf(":");
    const second = line.indexOf(":", first + 1);
    if (first < 0 || second < 0) continue;
    const path = line.slice(second + 1);
    for (const name of line.slice(first + 1, second).split(",")) paths.set(name, path);
  }
  return paths;
}

/** The controllers that cgroup2 offers at its mount point (cgroup.controllers). */
export function v2Controllers(layout: Layout): readonly string[] {
  if (!layout.known.controllers) {
    const text = layout.v2 ? layout.read(`${layout.v2.mountPoint}/cgroup.controllers`) : "";
    const names: string[] = [];
    if (typeof text === "string") {
      for (const name of text.trim().split(" ")) if (name !== "") names.push(name);
    }
    layout.known.controllers = names;
  }
  return layout.known.controllers;
}
