/** Names and paths of a container's cgroups: what runc's cgroupfs driver makes of linux.cgroupsPath (fs, fs2). */
import { BuncError } from "../errors.ts";
import type { Hierarchy, Layout } from "./layout.ts";

/**
 * The cgroups of a container as state.json keeps them (libcontainer's `cgroup_paths`): on v1 and hybrid hosts the
 * absolute path by controller, "name=systemd" and, for the cgroup2 of a hybrid host, ""; on v2 hosts "" alone.
 */
export type CgroupPaths = Readonly<Record<string, string>>;

/** Controllers of v1 that a container joins, in the order in which runc does. */
export const V1_JOINED: readonly string[] = [
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
  "name=systemd",
  "misc",
];

/** Those whose absence or refusal is no failure, as in runc: they limit nothing. */
const OPTIONAL: ReadonlySet<string> = new Set(["name=systemd", "misc", ""]);

/** One directory of a container: its cgroup in one hierarchy. */
export interface GroupDir {
  readonly hierarchy: Hierarchy;
  /** Names in `cgroup_paths`; several where controllers are mounted together. "" is cgroup2. */
  readonly names: readonly string[];
  /** Absolute path. */
  readonly path: string;
  /** The directory above it that exists for sure: the mount point, or the caller's own cgroup. */
  readonly base: string;
  /** Failing to make or enter it is no failure. */
  readonly optional: boolean;
}

const NAME_MAX = 255;
const PATH_MAX = 4096;

/**
 * Cleans a path lexically as runc does: no "." or "..", no double slashes, and nothing above the root whether the path
 * is absolute or not. A relative path stays relative; "" when nothing is left of one.
 */
export function cleanGroupPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") out.pop();
    else out.push(part);
  }
  return path.startsWith("/") ? `/${out.join("/")}` : out.join("/");
}

/** linux.cgroupsPath, or the container's id where it names nothing; refuses what the kernel could not make. */
export function innerPath(cgroupsPath: string | undefined, id: string): string {
  const inner = cleanGroupPath(cgroupsPath ?? "") || cleanGroupPath(id);
  let problem: string | undefined;
  if (inner === "/" || inner === "")
    problem = "is the root of the cgroup hierarchies, which no container can have";
  else if (inner.includes("\n") || inner.includes("\0")) problem = "holds a newline or a NUL byte";
  else if (inner.length > NAME_MAX) problem = tooLong(inner);
  if (problem === undefined) return inner;
  const shown = inner.length > 80 ? `${inner.slice(0, 80)}...` : inner;
  throw new BuncError(`linux.cgroupsPath ${JSON.stringify(shown)} ${problem}`, {
    code: "config",
    phase: "cgroup",
    path: "linux.cgroupsPath",
  });
}

function tooLong(inner: string): string | undefined {
  const encoder = new TextEncoder();
  for (const part of inner.split("/")) {
    const size = encoder.encode(part).length;
    if (size > NAME_MAX) return `has a component of ${size} bytes; ${NAME_MAX} are the most`;
  }
  // Room is left for the mount point in front and the name of a file behind.
  return encoder.encode(inner).length > PATH_MAX - 512 ? "is too long" : undefined;
}

/** The container's directories in the hierarchies that are mounted, in the order in which they are made. */
export function groupDirs(layout: Layout, inner: string): GroupDir[] {
  if (layout.mode === "v2") return [v2Dir(layout, layout.v2!, inner)];
  const dirs: GroupDir[] = [];
  const seen = new Map<Hierarchy, string[]>();
  for (const name of V1_JOINED) {
    const hierarchy = layout.find(name);
    if (!hierarchy) continue;
    const names = seen.get(hierarchy);
    if (names) {
      names.push(name);
      continue;
    }
    const own = [name];
    seen.set(hierarchy, own);
    const base = inner.startsWith("/") ? hierarchy.mountPoint : hierarchy.mountPoint + layout.own(hierarchy);
    dirs.push({ hierarchy, names: own, path: join(base, inner), base, optional: OPTIONAL.has(name) });
  }
  if (layout.v2) {
    // runc takes no account of the caller's cgroup here.
    const base = layout.v2.mountPoint;
    dirs.push({ hierarchy: layout.v2, names: [""], path: join(base, inner), base, optional: true });
  }
  return dirs;
}

/**
 * A relative path lies beside the caller's own cgroup, not in it: a cgroup of v2 that has processes can give no
 * controllers to those below it.
 */
function v2Dir(layout: Layout, hierarchy: Hierarchy, inner: string): GroupDir {
  let base = hierarchy.mountPoint;
  if (!inner.startsWith("/")) {
    const own = layout.own(hierarchy);
    base += own.slice(0, Math.max(own.lastIndexOf("/"), 0));
  }
  return { hierarchy, names: [""], path: join(base, inner), base, optional: false };
}

function join(base: string, inner: string): string {
  const prefix = base === "/" ? "" : base;
  return inner.startsWith("/") ? prefix + inner : `${prefix}/${inner}`;
}

/** `cgroup_paths` of these directories. */
export function pathsOf(dirs: readonly GroupDir[]): CgroupPaths {
  const paths: Record<string, string> = {};
  for (const dir of dirs) for (const name of dir.names) paths[name] = dir.path;
  return paths;
}

/** The directories from below the base down to the parent of the cgroup, outermost first. */
export function parentsOf(dir: GroupDir): string[] {
  const parents: string[] = [];
  for (let at = dir.path.indexOf("/", dir.base.length + 1); at >= 0; at = dir.path.indexOf("/", at + 1)) {
    parents.push(dir.path.slice(0, at));
  }
  return parents;
}
