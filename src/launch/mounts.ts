/**
 * The mounts of config.json. Every mount is made detached (fsopen or open_tree), given its attributes, and only then
 * moved onto its target, which is a descriptor below the container's root: no path is resolved twice, and a rootfs
 * that swaps symbolic links meanwhile gains nothing (CVE-2021-30465).
 */
import { BuncError } from "../errors.ts";
import * as abi from "../linux/abi.gen.ts";
import type { Mount } from "../oci/config.ts";
import type { Context } from "./context.ts";
import { type MountFlags, parseMountOptions } from "./mount-options.ts";
import { type Slot, Struct } from "./program.ts";
import { moveMount, openHow, setAttributes } from "./rootfs.ts";

/** Files of /proc that lxcfs and others may cover; nothing else may be mounted inside of /proc. */
const PROC_FILES: ReadonlySet<string> = new Set([
  "/proc/cpuinfo",
  "/proc/diskstats",
  "/proc/meminfo",
  "/proc/stat",
  "/proc/swaps",
  "/proc/uptime",
  "/proc/loadavg",
  "/proc/slabinfo",
  "/proc/sys/kernel/ns_last_pid",
  "/proc/sys/crypto/fips_enabled",
]);

/** A destination as an absolute path without "." and ".." and double slashes. */
export function cleanPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") out.pop();
    else out.push(part);
  }
  return `/${out.join("/")}`;
}

/** One mount on its way. */
interface Entry {
  index: number;
  mount: Mount;
  type: string;
  flags: MountFlags;
  target: string;
  about: string;
}

/** The source tree of a bind mount that the parent must open: name of the inherited descriptor. */
export function treeFd(index: number): string {
  return `mount:${index}`;
}

/**
 * Declares the descriptors of bind sources that init could not open itself: with a user namespace it may lack the
 * right to walk to them, and an idmapped mount can only be made by the parent.
 */
export function planTrees(c: Context): void {
  const mounts = c.spec.mounts ?? [];
  const user = c.namespace("user") !== undefined;
  for (let i = 0; i < mounts.length; i++) {
    const flags = parseMountOptions(mounts[i]!.options, mounts[i]!.type);
    if (!flags.bind) continue;
    const mapped = flags.idmap || mounts[i]!.uidMappings?.length;
    if (!user && !mapped) continue;
    c.inherit({
      name: treeFd(i),
      from: { kind: "tree", source: bindSource(c, mounts[i]!), recursive: flags.recursive, mount: i },
    });
  }
}

/** All mounts of config.json, in their order. */
export function compileMounts(c: Context): void {
  const mounts = c.spec.mounts ?? [];
  for (let i = 0; i < mounts.length; i++) {
    const mount = mounts[i]!;
    const flags = parseMountOptions(mount.options, mount.type);
    const target = cleanPath(mount.destination);
    const type = flags.bind ? "bind" : (mount.type ?? "");
    const source = mount.source ?? "";
    const entry: Entry = {
      index: i,
      mount,
      type,
      flags,
      target,
      about: `error mounting ${JSON.stringify(source || type)} to rootfs at ${JSON.stringify(mount.destination)}`,
    };
    c.part.at("mounts", `mounts[${i}]`);
    checkTarget(entry);
    if (type === "bind") compileBind(c, entry);
    else if (type === "cgroup" || type === "cgroup2") compileCgroup(c, entry);
    else compileFileSystem(c, entry);
  }
}

/** What can be refused by the words alone; a link that leads into /proc is refused by init (guardProc). */
function checkTarget({ target, type, index, about }: Entry): void {
  let problem: string | undefined;
  if (target === "/") problem = "the destination is the root of the container itself";
  else if (target.startsWith("/proc/") && !PROC_FILES.has(target)) {
    problem = `${JSON.stringify(target)} cannot be mounted because it is inside /proc`;
  } else if (target === "/proc" && type !== "proc" && type !== "bind") {
    problem = `${JSON.stringify(target)} cannot be mounted because it is not of type proc`;
  }
  if (problem) throw new BuncError(`${about}: ${problem}`, { code: "config", path: `mounts[${index}].destination` });
}

function bindSource(c: Context, mount: Mount): string {
  const source = mount.source ?? "";
  return source.startsWith("/") ? source : `${c.settings.bundle}/${source}`;
}

function compileBind(c: Context, entry: Entry): void {
  const { part, slots } = c;
  const { mount, flags, about, index } = entry;
  const inherited = c.fd(treeFd(index));
  let tree: Slot | number;
  let slot: Slot | undefined;
  part.at("mounts", `mounts[${index}].source`);
  if (inherited !== undefined) {
    tree = inherited;
  } else {
    slot = slots.take("bind source");
    tree = slot;
    const recursive = flags.recursive ? abi.AT_RECURSIVE : 0;
    part.op(
      abi.SYS_open_tree,
      [abi.AT_FDCWD, bindSource(c, mount), abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | recursive],
      { slot, about: `${about}: source`, hint: "the source of a bind mount must exist on the host" },
    );
  }
  part.at("mounts", `mounts[${index}]`);
  const stat = new Struct(abi.sizeof_.stat, "stat");
  const mode = slots.take("mode of the source");
  const target = slots.take("mount target");
  part.op(abi.SYS_newfstatat, [tree, "", stat, abi.AT_EMPTY_PATH], { about });
  part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_mode), 4], { slot: mode });
  part.op(abi.BUNC_OP_MKPATH, [c.root, entry.target, mode, 0o755], {
    slot: target,
    about: `${about}: make mountpoint`,
  });
  guardProc(c, entry, target);
  if (entry.target === "/proc") requireProc(c, entry, tree);
  moveMount(part, tree, target, about);
  setAttributes(c, tree, flags.set, flags.clear, false, about);
  setAttributes(c, tree, flags.recSet, flags.recClear, true, about);
  // The parent's clone is a peer of the host's mount: what the container mounts below it must stay here.
  if (inherited !== undefined && !flags.propagation.length) {
    setAttributes(c, tree, 0, 0, flags.recursive, about, abi.MS_SLAVE);
  }
  compilePropagation(c, entry, tree);
  part.op(abi.SYS_close, [tree]);
  part.op(abi.SYS_close, [target]);
  slots.give(mode, target);
  if (slot) slots.give(slot);
}

function compilePropagation(c: Context, { flags, about }: Entry, mount: Slot | number): void {
  for (const flag of flags.propagation) {
    setAttributes(c, mount, 0, 0, (flag & abi.MS_REC) !== 0, about, flag & ~abi.MS_REC);
  }
}

/** Whatever links the rootfs holds, a target inside of a proc file system is refused (but for lxcfs's files). */
function guardProc(c: Context, entry: Entry, target: Slot): void {
  if (PROC_FILES.has(entry.target) || entry.target === "/proc") return;
  const { part, slots } = c;
  const statfs = new Struct(120, "statfs");
  const type = slots.take("file system type");
  part.op(abi.SYS_fstatfs, [target, statfs]);
  part.op(abi.BUNC_OP_LOAD, [statfs, 8], { slot: type });
  // EXPECT succeeds when it is a proc file system: that is the failure, told by the operation after it.
  part.op(abi.BUNC_OP_EXPECT, [type, -1, abi.PROC_SUPER_MAGIC, abi.ENOENT], { tolerate: [[abi.ENOENT, 1]] });
  part.op(abi.BUNC_OP_EXPECT, [0, 1, 1, abi.EPERM], {
    about: `${entry.about}: the destination leads into /proc`,
    hint: "a symbolic link in the rootfs points there",
  });
  slots.give(type);
}

/** Over /proc itself only a proc file system may be bound. */
function requireProc(c: Context, entry: Entry, tree: Slot | number): void {
  const { part, slots } = c;
  const statfs = new Struct(120, "statfs");
  const type = slots.take("file system type");
  part.op(abi.SYS_fstatfs, [tree, statfs]);
  part.op(abi.BUNC_OP_LOAD, [statfs, 8], { slot: type });
  part.op(abi.BUNC_OP_EXPECT, [type, -1, abi.PROC_SUPER_MAGIC, abi.EPERM], {
    about: `${entry.about}: "/proc" cannot be mounted because it is not of type proc`,
  });
  slots.give(type);
}

/** A mount of a file system: fsopen, one fsconfig for each option, fsmount, move_mount. */
function compileFileSystem(c: Context, entry: Entry): void {
  const { part, slots } = c;
  const { mount, type, flags, about, index } = entry;
  if (!type) throw new BuncError(`${about}: no type and no bind option`, { path: `mounts[${index}].type` });
  const target = slots.take("mount target");
  const mode = compileTarget(c, entry, target);
  const { mnt, fs } = makeFileSystem(c, entry, mount.source ?? type);
  if (mode) {
    part.op(abi.SYS_fchmodat, [mnt, ".", mode], { about });
    slots.give(mode);
  }
  if (flags.tmpcopyup) compileCopyUp(c, entry, mnt, target);
  moveMount(part, mnt, target, about);
  setAttributes(c, mnt, flags.recSet, flags.recClear, true, about);
  compilePropagation(c, entry, mnt);
  for (const slot of [fs, mnt, target]) part.op(abi.SYS_close, [slot]);
  slots.give(fs, mnt, target);
}

/** What is written to after it is mounted (tmpfs, /dev) becomes read-only at the end, not at once. */
function isReadonlyLate({ type, target, flags }: Entry): boolean {
  return (flags.set & abi.MOUNT_ATTR_RDONLY) !== 0 && (type === "tmpfs" || target === "/dev");
}

function makeFileSystem(c: Context, entry: Entry, source: string): { mnt: Slot; fs: Slot } {
  const { part, slots } = c;
  const { type, flags, about, index } = entry;
  const fs = slots.take("file system");
  const mnt = slots.take("mount");
  part.at("mounts", `mounts[${index}].type`);
  part.op(abi.SYS_fsopen, [type, abi.FSOPEN_CLOEXEC], {
    slot: fs,
    about,
    hint: `this kernel must know the file system ${type}; a directory or file of the host needs the option "bind"`,
  });
  part.at("mounts", `mounts[${index}].options`);
  if (source) config(c, fs, "source", source, about);
  for (const flag of flags.superFlags) config(c, fs, flag, undefined, about);
  const readonly = (flags.set & abi.MOUNT_ATTR_RDONLY) !== 0 && !isReadonlyLate(entry);
  if (readonly) config(c, fs, "ro", undefined, about);
  for (const { text, index: at } of flags.data) {
    part.at("mounts", `mounts[${index}].options[${at}]`);
    const equals = text.indexOf("=");
    if (equals < 0) config(c, fs, text, undefined, about);
    else config(c, fs, text.slice(0, equals), text.slice(equals + 1), about);
  }
  const label = c.spec.linux?.mountLabel;
  if (label && (type === "tmpfs" || type === "devpts")) {
    part.at("mounts", "linux.mountLabel");
    config(c, fs, "context", label, about);
  }
  part.at("mounts", `mounts[${index}]`);
  part.op(abi.SYS_fsconfig, [fs, abi.FSCONFIG_CMD_CREATE, 0, 0, 0], { log: fs, about });
  const attributes = isReadonlyLate(entry) ? flags.set & ~abi.MOUNT_ATTR_RDONLY : flags.set;
  part.op(abi.SYS_fsmount, [fs, abi.FSMOUNT_CLOEXEC, attributes], { slot: mnt, log: fs, about });
  return { mnt, fs };
}

function config(c: Context, fs: Slot, key: string, value: string | undefined, about: string): void {
  const args = value === undefined ? [fs, abi.FSCONFIG_SET_FLAG, key, 0, 0] : [fs, abi.FSCONFIG_SET_STRING, key, value, 0];
  c.part.op(abi.SYS_fsconfig, args, {
    log: fs,
    about: `${about}: option ${JSON.stringify(value === undefined ? key : `${key}=${value}`)}`,
  });
}

/**
 * Opens or makes the target directory. proc and sysfs must be mounted on a directory of the rootfs itself, not
 * through a link. For a tmpfs without mode= gives the mode of the directory it covers, which it takes over.
 */
function compileTarget(c: Context, entry: Entry, target: Slot): Slot | undefined {
  const { part } = c;
  const { type, flags, about } = entry;
  if (type === "proc" || type === "sysfs") {
    const how = openHow(abi.O_PATH | abi.O_DIRECTORY, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS);
    part.op(abi.SYS_openat2, [c.root, entry.target, how, how.size], {
      slot: target,
      okSkip: 1,
      tolerate: [[abi.ENOENT, 0]],
      about: `${about}: filesystem ${JSON.stringify(type)} must be mounted on ordinary directory`,
    });
  }
  const makeTarget = () =>
    part.op(abi.BUNC_OP_MKPATH, [c.root, entry.target, abi.S_IFDIR, 0o755], {
      slot: target,
      about: `${about}: make mountpoint`,
    });
  const takesMode = type === "tmpfs" && !flags.data.some(({ text }) => text.startsWith("mode="));
  if (!takesMode) {
    makeTarget();
    guardProc(c, entry, target);
    return undefined;
  }
  const mode = c.slots.take("mode of the covered directory");
  const stat = new Struct(abi.sizeof_.stat, "stat");
  const how = openHow(abi.O_PATH);
  part.op(abi.BUNC_OP_LOAD, [new Struct(4, "mode").u32(0, 0o1777), 4], { slot: mode });
  part.op(abi.SYS_openat2, [c.root, entry.target, how, how.size], { slot: target, tolerate: [[abi.ENOENT, 2]], about });
  part.op(abi.SYS_newfstatat, [target, "", stat, abi.AT_EMPTY_PATH], { about });
  part.op(abi.BUNC_OP_LOAD, [stat.at(abi.stat_.st_mode), 4], { slot: mode, okSkip: 1 });
  makeTarget();
  guardProc(c, entry, target);
  return mode;
}

/** tmpcopyup: the covered directory's content is copied into the tmpfs while nobody can see it yet. */
function compileCopyUp(c: Context, entry: Entry, mnt: Slot, target: Slot): void {
  const { part, slots } = c;
  const from = slots.take("covered directory");
  const to = slots.take("tmpfs root");
  const flags = abi.O_RDONLY | abi.O_DIRECTORY | abi.O_CLOEXEC;
  const about = `${entry.about}: tmpcopyup`;
  part.at("mounts", `mounts[${entry.index}].options`);
  part.op(abi.SYS_openat, [target, ".", flags, 0], { slot: from, about });
  part.op(abi.SYS_openat, [mnt, ".", flags, 0], { slot: to, about });
  part.op(abi.BUNC_OP_COPYUP, [from, to], { about });
  part.op(abi.SYS_close, [from]);
  part.op(abi.SYS_close, [to]);
  part.at("mounts", `mounts[${entry.index}]`);
  slots.give(from, to);
}

function compileCgroup(c: Context, entry: Entry): void {
  if (!c.host.cgroup) {
    throw new BuncError(`${entry.about}: this host has no cgroups mounted`, { path: `mounts[${entry.index}]` });
  }
}

/** At the end: tmpfs mounts and /dev that are to be read-only. They are found again below the root, by descriptor. */
export function compileReadonlyMounts(c: Context): void {
  const mounts = c.spec.mounts ?? [];
  for (let i = 0; i < mounts.length; i++) {
    const mount = mounts[i]!;
    const flags = parseMountOptions(mount.options, mount.type);
    const entry = { type: mount.type ?? "", target: cleanPath(mount.destination), flags } as Entry;
    if (flags.bind || !isReadonlyLate(entry)) continue;
    const slot = c.slots.take("mount");
    const how = openHow(abi.O_PATH);
    const about = `cannot make ${JSON.stringify(mount.destination)} read-only`;
    c.part.at("mounts", `mounts[${i}].options`);
    c.part.op(abi.SYS_openat2, [c.root, entry.target, how, how.size], { slot, about });
    setAttributes(c, slot, abi.MOUNT_ATTR_RDONLY, 0, false, about);
    c.part.op(abi.SYS_close, [slot]);
    c.slots.give(slot);
  }
}
