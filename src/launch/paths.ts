/** linux.maskedPaths and linux.readonlyPaths: composites that work on descriptors below the container's root. */

import { abi } from "../linux/abi.gen.ts";
import { mountContextType } from "./annotations.ts";
import type { Context } from "./context.ts";
import { targetPath } from "./mount-sources.ts";
import type { Slot } from "./program.ts";

/** Binds each path over itself, read-only. A path that does not exist is passed over. */
export function compileReadonlyPaths(c: Context): void {
  const paths = c.spec.linux?.readonlyPaths ?? [];
  const magicOf = fileSystems(c);
  for (let i = 0; i < paths.length; i++) {
    c.part.at("paths", `linux.readonlyPaths[${i}]`);
    c.part.op(abi.BUNC_OP_READONLY, [c.root, paths[i]!, magicOf(paths[i]!)], {
      about: `can't make ${JSON.stringify(paths[i])} read-only`,
    });
  }
}

/**
 * Covers directories by one shared empty read-only tmpfs and files by /dev/null, which init checks to be the null
 * device: an image that replaced it would otherwise choose what "masked" means (CVE-2025-31133).
 */
export function compileMaskedPaths(c: Context): void {
  const paths = c.spec.linux?.maskedPaths ?? [];
  if (!paths.length) return;
  const magicOf = fileSystems(c);
  const empty = c.slots.take("empty tmpfs");
  c.part.at("paths", "linux.maskedPaths");
  makeEmpty(c, empty);
  for (let i = 0; i < paths.length; i++) {
    const path = paths[i]!;
    if (paths.indexOf(path) < i) continue;
    c.part.at("paths", `linux.maskedPaths[${i}]`);
    c.part.op(abi.BUNC_OP_MASK, [c.root, path, empty, magicOf(path)], {
      about: `can't mask path ${JSON.stringify(path)}`,
    });
  }
  c.part.op(abi.SYS_close, [empty]);
  c.slots.give(empty);
}

/**
 * The magic of the file system that a path lies in, if config.json mounts a new proc at /proc or sysfs at /sys and the path
 * is below: then that is where it is looked for. Else 0.
 */
function fileSystems(c: Context): (path: string) => number {
  let proc = 0;
  let sysfs = 0;
  for (const { destination, type, options } of c.spec.mounts ?? []) {
    const target = targetPath(c, destination);
    if ((target !== "/proc" && target !== "/sys") || options?.includes("remount")) continue;
    const bound = options?.includes("bind") || options?.includes("rbind");
    if (target === "/proc") proc = type === "proc" && !bound ? abi.PROC_SUPER_MAGIC : 0;
    else sysfs = type === "sysfs" && !bound ? abi.SYSFS_MAGIC : 0;
  }
  return (path) => (path.startsWith("/proc/") ? proc : path.startsWith("/sys/") ? sysfs : 0);
}

function makeEmpty(c: Context, empty: Slot): void {
  const { part, slots } = c;
  const fs = slots.take("file system");
  const about = "can't mask paths: empty tmpfs";
  part.op(abi.SYS_fsopen, ["tmpfs", abi.FSOPEN_CLOEXEC], { slot: fs, about });
  const options: [string, string][] = [
    ["nr_blocks", "1"],
    ["nr_inodes", "1"],
  ];
  const label = c.spec.linux?.mountLabel;
  if (label) options.push([mountContextType(c.spec), label]);
  for (const [key, value] of options) {
    part.op(abi.SYS_fsconfig, [fs, abi.FSCONFIG_SET_STRING, key, value, 0], { log: fs, about });
  }
  part.op(abi.SYS_fsconfig, [fs, abi.FSCONFIG_CMD_CREATE, 0, 0, 0], { log: fs, about });
  part.op(abi.SYS_fsmount, [fs, abi.FSMOUNT_CLOEXEC, abi.MOUNT_ATTR_RDONLY], { slot: empty, about });
  part.op(abi.SYS_close, [fs]);
  slots.give(fs);
}
