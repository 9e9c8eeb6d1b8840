/** The cgroups that an exec joins: those of the container, or (--cgroup) existing ones below them. */
import { APPLY } from "../cgroup/create.ts";
import { isV1 } from "../cgroup/names.ts";
import { BuncError } from "../errors.ts";
import type { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, readText } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";

/**
 * Reads the values of --cgroup: one path (cgroup v2), or "controller[,controller...]:path" (v1).
 * @returns paths by controller
 * @throws BuncError in runc's words
 */
export function parseSubCgroups(args: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const bad = (arg: string, why: string) =>
    new BuncError(`invalid --cgroup argument: ${arg} (${why})`, { code: "usage" });
  for (const arg of args) {
    const colon = arg.indexOf(":");
    if (colon < 0) {
      if (args.length !== 1) throw bad(arg, "missing <controller>: prefix");
      found.set("", arg);
      continue;
    }
    for (const controller of arg.slice(0, colon).split(",")) {
      if (controller === "") throw bad(arg, "empty <controller> prefix");
      if (found.has(controller)) {
        throw new BuncError(
          `invalid --cgroup argument(s): controller ${controller} specified multiple times`,
          { code: "usage" },
        );
      }
      found.set(controller, arg.slice(colon + 1));
    }
  }
  return found;
}

/**
 * The directories to join, by controller. A path without a controller is below each of them in cgroup v1.
 * @param paths those of the container's state
 * @throws BuncError for a controller the container has not got, or a path that leads out
 */
export function execCgroups(
  paths: Readonly<Record<string, string>>,
  sub: ReadonlyMap<string, string>,
): Record<string, string> {
  const joined = { ...paths };
  for (const [controller, path] of sub) {
    const clean = path.split("/").filter((part) => part !== "" && part !== ".");
    if (clean.includes("..")) {
      throw new BuncError(`bad sub cgroup path: ${path}`, {
        code: "usage",
        hint: "it must lie below the container's cgroup",
      });
    }
    const all = controller === "" && isV1(paths);
    if (!all && !Object.hasOwn(paths, controller)) {
      throw new BuncError(`unknown controller ${controller || '""'} in --cgroup`, {
        code: "usage",
        hint: `this container has: ${Object.keys(paths)
          .map((name) => name || "(unified)")
          .join(", ")}`,
      });
    }
    // The cgroup2 beside v1 has no controllers, and most often no cgroups below the container's.
    const names = all ? Object.keys(paths).filter((name) => name !== "") : [controller];
    for (const name of names) joined[name] = [paths[name], ...clean].join("/");
  }
  return joined;
}

/** Operations by which a process enters the cgroups of v1. */
export function enterV1(part: Part, paths: Readonly<Record<string, string>>, optional: boolean): void {
  part.at("cgroup", "");
  const seen = new Set<string>();
  for (const name in paths) {
    const path = paths[name]!;
    if (name === "" || seen.has(path)) continue;
    seen.add(path);
    const zero = new Uint8Array([0x30]);
    part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, `${path}/tasks`, abi.O_WRONLY | abi.O_CLOEXEC, zero, 1], {
      about: `${APPLY}: join ${path}`,
      ...(optional ? { tolerate: [[abi.BUNC_ERR_ANY, 0]] as const } : {}),
    });
  }
}

/** Where a process is born in cgroup2. */
export interface Birth {
  /** The directory; undefined where the container has none. */
  path: string | undefined;
  /** Joining may fail (an ordinary user's container). */
  optional: boolean;
  /** Pid of the container's init, whose cgroup is joined where the container's cannot be; 0: it may not be. */
  otherwise: number;
}

/**
 * Starts something in a cgroup2. The container may have moved its init to a cgroup below its own and enabled
 * controllers there: then its own takes no processes (cgroups(7), "no internal processes"), or is gone.
 * @param spawn starts it; gets a descriptor of the cgroup, or nothing
 * @throws BuncError of spawn, or in runc's words
 */
export async function bornIn<T>(
  { path, optional, otherwise }: Birth,
  spawn: (cgroup: number | undefined) => T,
): Promise<T> {
  if (path === undefined) return spawn(undefined);
  try {
    return spawnIn(path, spawn);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const other = otherwise > 0 ? await cgroupOf(otherwise) : undefined;
    if (other !== undefined && other !== path) {
      try {
        return spawnIn(other, spawn);
      } catch (second) {
        if (!isRefusal(second)) throw second;
      }
    }
    if (optional) return spawn(undefined);
    if (error.fields.syscall !== "clone3") {
      throw new BuncError(`can't open cgroup: ${error.message}`, error.fields);
    }
    throw new BuncError(`error adding pid of bunc-init to cgroups: ${error.message}`, {
      ...error.fields,
      phase: "cgroup",
      hint: `${path} has controllers enabled for cgroups below it, or is threaded: --cgroup can name one of those`,
    });
  }
}

function spawnIn<T>(path: string, spawn: (cgroup: number) => T): T {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
  if (fd < 0) {
    const error = pathError("open", path, fd);
    throw new BuncError(error.message, { ...error.fields, phase: "cgroup" });
  }
  try {
    return spawn(fd);
  } finally {
    closeFd(fd);
  }
}

/** Whether it is the cgroup that did not take it. */
function isRefusal(error: unknown): error is BuncError {
  if (!(error instanceof BuncError)) return false;
  const { phase, syscall, errno = "" } = error.fields;
  if (phase === "cgroup") return true;
  return syscall === "clone3" && ["EBUSY", "EACCES", "ENODEV", "ENOENT", "EOPNOTSUPP"].includes(errno);
}

/** The directory of the cgroup2 that a process is in; undefined where it is out of sight. */
export async function cgroupOf(pid: number): Promise<string | undefined> {
  const text = readText(`/proc/${pid}/cgroup`, 65536);
  if (typeof text !== "string") return undefined;
  const line = text.split("\n").find((found) => found.startsWith("0::/"));
  const path = line?.slice("0::".length);
  if (path === undefined || path.startsWith("/..") || path.endsWith(" (deleted)")) return undefined;
  const { v2 } = (await import("../cgroup/layout.ts")).readLayout();
  if (v2?.root !== "/") return undefined;
  return path === "/" ? v2.mountPoint : v2.mountPoint + path;
}
