/** Names and paths of a container's cgroups: what runc's cgroupfs driver makes of linux.cgroupsPath (fs, fs2). */
import { BuncError } from "../errors.ts";
import { bytesOf } from "../linux/lib.ts";
import { type Hierarchy, type Layout, ownPath } from "./layout.ts";

/**
 * The cgroups of a container as state.json keeps them (libcontainer's `cgroup_paths`): on v1 and hybrid hosts the
 * absolute path by controller, "name=systemd" and, for the cgroup2 of a hybrid host, ""; on v2 hosts "" alone.
 */
export type CgroupPaths = Readonly<Record<string, string>>;

/** Whether they are of a host with cgroup v1, alone or beside cgroup2. */
export function isV1(paths: CgroupPaths): boolean {
  return paths.devices !== undefined || paths.freezer !== undefined;
}

/** Named hierarchies limit nothing; of them a container joins systemd's alone, as in runc. */
const NAMED = "name=";
const SYSTEMD = "name=systemd";

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
  if (!path.includes("/") && path !== ".." && path !== ".") return path;
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
  else if (inner.length * 3 > NAME_MAX) problem = tooLong(inner);
  if (problem === undefined) return inner;
  const shown = inner.length > 80 ? `${inner.slice(0, 80)}...` : inner;
  throw new BuncError(`linux.cgroupsPath ${JSON.stringify(shown)} ${problem}`, {
    code: "config",
    phase: "cgroup",
    path: "linux.cgroupsPath",
  });
}

function tooLong(inner: string): string | undefined {
  for (const part of inner.split("/")) {
    const size = bytesOf(part).length;
    if (size > NAME_MAX) return `has a component of ${size} bytes; ${NAME_MAX} are the most`;
  }
  // Room is left for the mount point in front and the name of a file behind.
  return bytesOf(inner).length > PATH_MAX - 512 ? "is too long" : undefined;
}

/** The container's directories in the hierarchies that are mounted, in the order in which they are made. */
export function groupDirs(layout: Layout, inner: string): GroupDir[] {
  if (layout.mode === "v2") return [v2Dir(layout, layout.v2!, inner)];
  const dirs: GroupDir[] = [];
  const absolute = inner.startsWith("/");
  for (const hierarchy of layout.v1) {
    const names = hierarchy.controllers;
    const first = names[0]!;
    if (first.startsWith(NAMED) && first !== SYSTEMD) continue;
    const base = absolute ? hierarchy.mountPoint : hierarchy.mountPoint + ownPath(layout, hierarchy);
    // As in runc, their absence or refusal is no failure.
    const optional = first === SYSTEMD || first === "misc";
    dirs.push({ hierarchy, names, path: join(base, inner), base, optional });
  }
  if (layout.v2) {
    // runc takes no account of the caller's cgroup here.
    const base = layout.v2.mountPoint;
    dirs.push({ hierarchy: layout.v2, names: V2_NAMES, path: join(base, inner), base, optional: true });
  }
  return dirs;
}

const V2_NAMES: readonly string[] = [""];

/**
 * A relative path lies beside the caller's own cgroup, not in it: a cgroup of v2 that has processes can give no
 * controllers to those below it.
 */
function v2Dir(layout: Layout, hierarchy: Hierarchy, inner: string): GroupDir {
  let base = hierarchy.mountPoint;
  if (!inner.startsWith("/")) {
    const own = ownPath(layout, hierarchy);
    const end = own.lastIndexOf("/");
    if (end > 0) base += own.slice(0, end);
  }
  return { hierarchy, names: V2_NAMES, path: join(base, inner), base, optional: false };
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
