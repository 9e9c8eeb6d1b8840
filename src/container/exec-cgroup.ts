/** The cgroups that an exec joins: those of the container, or (--cgroup) existing ones below them. */
import { APPLY, resetAffinity } from "../cgroup/create.ts";
import { BuncError } from "../errors.ts";
import type { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";

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
 * The directories to join, by controller.
 * @param paths those of the container's state
 * @throws BuncError for a controller the container has not got, or a path that leads out
 */
export function execCgroups(
  paths: Readonly<Record<string, string>>,
  sub: ReadonlyMap<string, string>,
): Record<string, string> {
  const joined = { ...paths };
  for (const [controller, path] of sub) {
    const base = paths[controller];
    if (base === undefined) {
      throw new BuncError(`unknown controller ${controller || '""'} in --cgroup`, {
        code: "usage",
        hint: `this container has: ${Object.keys(paths)
          .map((name) => name || "(unified)")
          .join(", ")}`,
      });
    }
    const clean = path.split("/").filter((part) => part !== "" && part !== ".");
    if (clean.includes("..")) {
      throw new BuncError(`bad sub cgroup path: ${path}`, {
        code: "usage",
        hint: "it must lie below the container's cgroup",
      });
    }
    joined[controller] = [base, ...clean].join("/");
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
  if (seen.size > 0) resetAffinity(part);
}

/** A descriptor of the cgroup2 directory to be born in, -1 for none. */
export function openUnified(paths: Readonly<Record<string, string>>, optional: boolean): number {
  const path = paths[""];
  if (path === undefined) return -1;
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
  if (fd >= 0) return fd;
  if (optional) return -1;
  throw pathError("open", path, fd);
}
