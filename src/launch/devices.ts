/**
 * /dev: device nodes, the usual links, and the program's standard streams where they are /dev/null. Nodes are made
 * below a descriptor of their directory and checked before anything is changed on them (CVE-2025-31133, 2026-47766).
 */
import { abi, bunc_device_, sizeof_ } from "../linux/abi.gen.ts";
import type { LinuxDevice } from "../oci/config.ts";
import type { Context } from "./context.ts";
import { parseMountOptions } from "./mount-options.ts";
import { cleanPath } from "./mount-sources.ts";
import { type Slot, Struct } from "./program.ts";

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
    (major >>> 12) * 0x100000000
  );
}

/** A bind over /dev brings its own nodes. */
export function needsDev(c: Context): boolean {
  for (const { destination, options, type } of c.spec.mounts ?? [])
    if (cleanPath(destination) === "/dev" && parseMountOptions(options, type).bind) return false;
  return true;
}

/** Default devices, linux.devices and the links of /dev. */
export function compileDevices(c: Context): void {
  if (!needsDev(c)) return;
  const { part } = c;
  const dev = c.slots.take("/dev");
  part.at("devices");
  part.op(abi.BUNC_OP_MKPATH, [c.root, "/dev", abi.S_IFDIR, 0o755], { slot: dev, about: "cannot make /dev" });
  const given = c.spec.linux?.devices ?? [];
  const replaced = new Set<string>();
  for (const { path } of given) replaced.add(cleanPath(path));
  for (const device of DEFAULT_DEVICES) {
    if (!replaced.has(device.path)) compileDevice(c, device, dev, "");
  }
  for (let i = 0; i < given.length; i++) compileDevice(c, given[i]!, dev, `linux.devices[${i}]`);
  part.at("devices");
  for (const [name, target] of LINKS) {
    part.op(abi.SYS_symlinkat, [target, dev, name], {
      tolerate: [[abi.EEXIST, 0]],
      about: `cannot make /dev/${name}`,
    });
  }
  part.op(abi.SYS_unlinkat, [dev, "ptmx", 0], {
    tolerate: [[abi.ENOENT, 0]],
    about: "cannot replace /dev/ptmx",
  });
  part.op(abi.SYS_symlinkat, ["pts/ptmx", dev, "ptmx"], { about: "cannot make /dev/ptmx" });
  part.op(abi.SYS_close, [dev]);
  c.slots.give(dev);
}

function compileDevice(c: Context, device: LinuxDevice, dev: Slot, at: string): void {
  const path = cleanPath(device.path);
  if (path === "/dev/ptmx" || path === "/") return;
  const { part, slots } = c;
  const slash = path.lastIndexOf("/");
  const about = `cannot make device ${JSON.stringify(device.path)}`;
  let dir = dev;
  part.at("devices", at);
  if (path.slice(0, slash) !== "/dev") {
    dir = slots.take("directory of the device");
    part.op(abi.BUNC_OP_MKPATH, [c.root, path.slice(0, slash) || "/", abi.S_IFDIR, 0o755], {
      slot: dir,
      about,
    });
  }
  part.op(abi.BUNC_OP_DEVICE, [dir, path.slice(slash + 1), deviceStruct(c, device, at !== "")], {
    about,
    hint: "where no node can be made, the host's is bound, so it must exist",
  });
  if (dir === dev) return;
  part.op(abi.SYS_close, [dir]);
  slots.give(dir);
}

const TYPE: Readonly<Record<string, number>> = {
  c: abi.S_IFCHR,
  u: abi.S_IFCHR,
  b: abi.S_IFBLK,
  p: abi.S_IFIFO,
};
const DEVICE = bunc_device_;

/** In a user namespace nodes cannot be made (mode 0): the host's is bound. Init's umask is 0 meanwhile. */
function deviceStruct(
  c: Context,
  { path, type, major, minor, fileMode, uid, gid }: LinuxDevice,
  strict: boolean,
): Struct {
  const struct = new Struct(sizeof_.bunc_device, "bunc_device");
  if (!c.namespace("user") || type === "p") {
    struct.u64(DEVICE.mode, (fileMode === undefined ? 0o666 : fileMode & 0o7777) | TYPE[type]!);
    if (type !== "p") struct.u64(DEVICE.dev, makeDev(Number(major ?? 0), Number(minor ?? 0)));
    struct.u32(DEVICE.uid, uid ?? 0).u32(DEVICE.gid, gid ?? 0);
    // "If a file already exists at path that does not match the requested device, the runtime MUST generate an error."
    if (strict) struct.u32(DEVICE.strict, 1);
  }
  return type === "p" ? struct : struct.pointer(DEVICE.host, path);
}

/**
 * Standard streams that are the host's /dev/null become the container's: a node of the host's /dev must not be
 * reachable from inside.
 */
export function compileNullStreams(c: Context): void {
  if (!needsDev(c)) return;
  c.part.at("devices").op(abi.BUNC_OP_NULL_STREAMS, [c.root], {
    about: "/dev/null of the container is not the null device",
    hint: "the image has a file of its own there",
  });
}
