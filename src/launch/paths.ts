/** linux.maskedPaths and linux.readonlyPaths. Both work on descriptors below the container's root. */
import * as abi from "../linux/abi.gen.ts";
import type { Context } from "./context.ts";
import { makeDev } from "./devices.ts";
import { type Slot, Struct } from "./program.ts";
import { moveMount, openHow, setAttributes } from "./rootfs.ts";

/** Binds each path over itself, read-only. A path that does not exist is passed over. */
export function compileReadonlyPaths(c: Context): void {
  const paths = c.spec.linux?.readonlyPaths ?? [];
  const { part, slots } = c;
  for (let i = 0; i < paths.length; i++) {
    const path = paths[i]!;
    const target = slots.take("read-only path");
    const tree = slots.take("read-only bind");
    const how = openHow(abi.O_PATH);
    const about = `can't make ${JSON.stringify(path)} read-only`;
    part.at("paths", `linux.readonlyPaths[${i}]`);
    const skipRest = c.host.kernel >= 5012 ? 5 : 6;
    part.op(abi.SYS_openat2, [c.root, path, how, how.size], {
      slot: target,
      about,
      tolerate: [
        [abi.ENOENT, skipRest],
        [abi.ENOTDIR, skipRest],
      ],
    });
    part.op(
      abi.SYS_open_tree,
      [target, "", abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH | abi.AT_RECURSIVE],
      { slot: tree, about },
    );
    moveMount(part, tree, target, about);
    setAttributes(c, tree, abi.MOUNT_ATTR_RDONLY, 0, false, about);
    part.op(abi.SYS_close, [tree]);
    part.op(abi.SYS_close, [target]);
    slots.give(target, tree);
  }
}

/**
 * Covers directories by one shared empty read-only tmpfs and files by /dev/null. The null device is checked first:
 * an image that replaced it would otherwise choose what "masked" means (CVE-2025-31133).
 */
export function compileMaskedPaths(c: Context): void {
  const paths = c.spec.linux?.maskedPaths ?? [];
  if (!paths.length) return;
  const { part, slots } = c;
  const none = slots.take("/dev/null");
  const empty = c.host.kernel >= 6015 ? slots.take("empty tmpfs") : undefined;
  part.at("paths", "linux.maskedPaths");
  openNull(c, none);
  if (empty) makeEmpty(c, empty);
  const seen = new Set<string>();
  for (let i = 0; i < paths.length; i++) {
    if (seen.has(paths[i]!)) continue;
    seen.add(paths[i]!);
    part.at("paths", `linux.maskedPaths[${i}]`);
    maskPath(c, paths[i]!, none, empty);
  }
  part.op(abi.SYS_close, [none]);
  slots.give(none);
  if (!empty) return;
  part.op(abi.SYS_close, [empty]);
  slots.give(empty);
}

function openNull(c: Context, none: Slot): void {
  const { part, slots } = c;
  const value = slots.take("kind of /dev/null");
  const stat = new Struct(abi.sizeof_.stat, "stat");
  const how = openHow(abi.O_PATH | abi.O_NOFOLLOW);
  const about = "can't mask paths: /dev/null of the container is not the null device";
  part.op(abi.SYS_openat2, [c.root, "/dev/null", how, how.size], { slot: none, about: "can't mask paths: /dev/null" });
  part.op(abi.SYS_newfstatat, [none, "", stat, abi.AT_EMPTY_PATH], { about });
  part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_mode), 4], { slot: value });
  part.op(abi.BUNC_OP_EXPECT, [value, abi.S_IFMT, abi.S_IFCHR, abi.EPERM], { about });
  part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_rdev), 8], { slot: value });
  part.op(abi.BUNC_OP_EXPECT, [value, -1, makeDev(1, 3), abi.EPERM], { about });
  slots.give(value);
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
  if (label) options.push(["context", label]);
  for (const [key, value] of options) {
    part.op(abi.SYS_fsconfig, [fs, abi.FSCONFIG_SET_STRING, key, value, 0], { log: fs, about });
  }
  part.op(abi.SYS_fsconfig, [fs, abi.FSCONFIG_CMD_CREATE, 0, 0, 0], { log: fs, about });
  part.op(abi.SYS_fsmount, [fs, abi.FSMOUNT_CLOEXEC, abi.MOUNT_ATTR_RDONLY], { slot: empty, about });
  part.op(abi.SYS_close, [fs]);
  slots.give(fs);
}

/**
 * One masked path: a directory gets the empty tmpfs, a file the null device, and what is not there is passed over.
 * Before Linux 6.15 a detached mount could not be cloned, so each directory gets a tmpfs of its own then.
 */
function maskPath(c: Context, path: string, none: Slot, empty: Slot | undefined): void {
  const { part, slots } = c;
  const target = slots.take("masked path");
  const tree = slots.take("mask");
  const about = `can't mask path ${JSON.stringify(path)}`;
  const directory = openHow(abi.O_PATH | abi.O_DIRECTORY);
  const file = openHow(abi.O_PATH);
  const clone = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH;
  const own = empty ? 0 : 1;
  part.op(abi.SYS_openat2, [c.root, path, directory, directory.size], {
    slot: target,
    about,
    tolerate: [
      [abi.ENOTDIR, 1 + own],
      [abi.ENOENT, 6 + own],
    ],
  });
  if (empty) {
    part.op(abi.SYS_open_tree, [empty, "", clone], { slot: tree, okSkip: 2, about });
  } else {
    part.op(abi.SYS_fchdir, [target], { about });
    part.op(abi.SYS_mount, ["tmpfs", ".", "tmpfs", abi.MS_RDONLY, "nr_blocks=1,nr_inodes=1"], { okSkip: 4, about });
  }
  part.op(abi.SYS_openat2, [c.root, path, file, file.size], {
    slot: target,
    about,
    tolerate: [
      [abi.ENOTDIR, 4],
      [abi.ENOENT, 4],
    ],
  });
  part.op(abi.SYS_open_tree, [none, "", clone], { slot: tree, about });
  moveMount(part, tree, target, about);
  part.op(abi.SYS_close, [tree]);
  part.op(abi.SYS_close, [target]);
  slots.give(target, tree);
}
