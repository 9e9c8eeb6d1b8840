/**
 * /dev: device nodes, the usual links, and the program's standard streams where they are /dev/null. Nodes are made
 * below a descriptor of their directory and checked before anything is changed on them (CVE-2025-31133, 2026-47766).
 */
import * as abi from "../linux/abi.gen.ts";
import type { LinuxDevice } from "../oci/config.ts";
import type { Context } from "./context.ts";
import { cleanPath } from "./mounts.ts";
import { parseMountOptions } from "./mount-options.ts";
import { type Slot, Struct } from "./program.ts";
import { moveMount, openHow } from "./rootfs.ts";

/** The devices that the runtime-spec promises to every container (config-linux.md "Default Devices"). */
export const DEFAULT_DEVICES: readonly LinuxDevice[] = [
  { path: "/dev/null", type: "c", major: 1, minor: 3 },
  { path: "/dev/random", type: "c", major: 1, minor: 8 },
  { path: "/dev/full", type: "c", major: 1, minor: 7 },
  { path: "/dev/tty", type: "c", major: 5, minor: 0 },
  { path: "/dev/zero", type: "c", major: 1, minor: 5 },
  { path: "/dev/urandom", type: "c", major: 1, minor: 9 },
];

const LINKS: readonly (readonly [name: string, target: string])[] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
  ["core", "/proc/kcore"],
];

/** dev_t as the kernel's system calls take it. */
export function makeDev(major: number, minor: number): number {
  return (
    (minor & 0xff) +
    (major & 0xfff) * 0x100 +
    ((minor & 0xfff00) >>> 8) * 0x100000 +
    Math.floor(major / 0x1000) * 0x100000000
  );
}

/** A bind over /dev brings its own nodes. */
export function needsDev(c: Context): boolean {
  return !(c.spec.mounts ?? []).some(
    (mount) => cleanPath(mount.destination) === "/dev" && parseMountOptions(mount.options, mount.type).bind,
  );
}

/** Default devices, linux.devices and the links of /dev. */
export function compileDevices(c: Context): void {
  if (!needsDev(c)) return;
  const { part } = c;
  const dev = c.slots.take("/dev");
  part.at("devices");
  part.op(abi.BUNC_OP_MKPATH, [c.root, "/dev", abi.S_IFDIR, 0o755], { slot: dev, about: "cannot make /dev" });
  const given = c.spec.linux?.devices ?? [];
  const replaced = new Set(given.map((device) => cleanPath(device.path)));
  for (const device of DEFAULT_DEVICES) {
    if (!replaced.has(device.path)) compileDevice(c, device, dev, "");
  }
  for (let i = 0; i < given.length; i++) compileDevice(c, given[i]!, dev, `linux.devices[${i}]`);
  part.at("devices");
  for (const [name, target] of LINKS) {
    part.op(abi.SYS_symlinkat, [target, dev, name], { tolerate: [[abi.EEXIST, 0]], about: `cannot make /dev/${name}` });
  }
  part.op(abi.SYS_unlinkat, [dev, "ptmx", 0], { tolerate: [[abi.ENOENT, 0]], about: "cannot replace /dev/ptmx" });
  part.op(abi.SYS_symlinkat, ["pts/ptmx", dev, "ptmx"], { about: "cannot make /dev/ptmx" });
  part.op(abi.SYS_close, [dev]);
  c.slots.give(dev);
}

function compileDevice(c: Context, device: LinuxDevice, dev: Slot, at: string): void {
  const path = cleanPath(device.path);
  if (path === "/dev/ptmx" || path === "/") return;
  const { part, slots } = c;
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  const about = `cannot make device ${JSON.stringify(device.path)}`;
  let dir = dev;
  part.at("devices", at);
  if (path.slice(0, slash) !== "/dev") {
    dir = slots.take("directory of the device");
    part.op(abi.BUNC_OP_MKPATH, [c.root, path.slice(0, slash) || "/", abi.S_IFDIR, 0o755], { slot: dir, about });
  }
  if (c.namespace("user")) bindDevice(c, device, dir, name, about);
  else makeNode(c, device, dir, name, about);
  if (dir !== dev) {
    part.op(abi.SYS_close, [dir]);
    slots.give(dir);
  }
}

const TYPE: Readonly<Record<string, number>> = { c: abi.S_IFCHR, u: abi.S_IFCHR, b: abi.S_IFBLK, p: abi.S_IFIFO };

/** Makes the node. One that is there already stays as it is, as in runc; without the right to, it is bound. */
function makeNode(c: Context, device: LinuxDevice, dir: Slot, name: string, about: string): void {
  const { part } = c;
  const mode = (device.fileMode === undefined ? 0o666 : device.fileMode & 0o7777) | TYPE[device.type]!;
  const number = device.type === "p" ? 0 : makeDev(Number(device.major ?? 0), Number(device.minor ?? 0));
  const chown = Boolean(device.uid || device.gid);
  const bind = device.type === "p" ? undefined : BIND_OPS;
  // Init's umask is 0 meanwhile, so the node has its mode at once.
  const after = (chown ? 1 : 0) + (bind ?? 0);
  part.op(abi.SYS_mknodat, [dir, name, mode, number], {
    okSkip: chown ? 0 : after,
    tolerate: bind
      ? [
          [abi.EEXIST, after],
          [abi.EPERM, chown ? 1 : 0],
        ]
      : [[abi.EEXIST, after]],
    about,
  });
  if (chown) {
    part.op(abi.SYS_fchownat, [dir, name, device.uid ?? 0, device.gid ?? 0, abi.AT_SYMLINK_NOFOLLOW], {
      okSkip: bind ?? 0,
      about,
    });
  }
  if (bind) bindDevice(c, device, dir, name, about);
}

/** Number of operations of bindDevice. */
const BIND_OPS = 5;

/** In a user namespace nodes cannot be made: the host's is bound over an empty file. */
function bindDevice(c: Context, device: LinuxDevice, dir: Slot, name: string, about: string): void {
  const { part, slots } = c;
  const file = slots.take("place of the device");
  const tree = slots.take("device of the host");
  part.op(
    abi.SYS_openat,
    [dir, name, abi.O_RDONLY | abi.O_CREAT | abi.O_NOFOLLOW | abi.O_NONBLOCK | abi.O_CLOEXEC, 0o666],
    { slot: file, about },
  );
  part.op(
    abi.SYS_open_tree,
    [abi.AT_FDCWD, device.path, abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_SYMLINK_NOFOLLOW],
    { slot: tree, about, hint: "in a user namespace the host's node is bound, so it must exist on the host" },
  );
  moveMount(part, tree, file, about);
  part.op(abi.SYS_close, [tree]);
  part.op(abi.SYS_close, [file]);
  slots.give(file, tree);
}

/**
 * Standard streams that are the host's /dev/null become the container's: a node of the host's /dev must not be
 * reachable from inside. Both are checked to be the null device, and the new one is opened without any link.
 */
export function compileNullStreams(c: Context): void {
  if (!needsDev(c)) return;
  const { part, slots } = c;
  const none = slots.take("/dev/null");
  const rdev = slots.take("device number");
  const mode = slots.take("file mode");
  const stat = new Struct(abi.sizeof_.stat, "stat");
  const how = openHow(abi.O_RDWR | abi.O_NOCTTY, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS);
  const number = makeDev(1, 3);
  part.at("devices");
  part.op(abi.SYS_openat2, [c.root, "/dev/null", how, how.size], { slot: none, about: "cannot open /dev/null" });
  part.op(abi.SYS_newfstatat, [none, "", stat, abi.AT_EMPTY_PATH]);
  part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_rdev), 8], { slot: rdev });
  part.op(abi.BUNC_OP_EXPECT, [rdev, -1, number, abi.EPERM], {
    about: "/dev/null of the container is not the null device",
    hint: "the image has a file of its own there",
  });
  part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_mode), 4], { slot: mode });
  part.op(abi.BUNC_OP_EXPECT, [mode, abi.S_IFMT, abi.S_IFCHR, abi.EPERM], {
    about: "/dev/null of the container is not a character device",
  });
  for (const fd of [0, 1, 2]) {
    part.op(abi.SYS_newfstatat, [fd, "", stat, abi.AT_EMPTY_PATH], { tolerate: [[abi.EBADF, 3]] });
    part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_rdev), 8], { slot: rdev });
    part.op(abi.BUNC_OP_EXPECT, [rdev, -1, number, abi.ENODEV], { tolerate: [[abi.ENODEV, 1]] });
    part.op(abi.SYS_dup3, [none, fd, 0]);
  }
  part.op(abi.SYS_close, [none]);
  slots.give(none, rdev, mode);
}
