/**
 * The mounts of config.json, each one BUNC_OP_MOUNT: the mount is made detached, then moved onto its target, which is a
 * descriptor below the container's root. No path is resolved twice, and a rootfs that swaps symbolic links meanwhile
 * gains nothing (CVE-2021-30465).
 */

import { BuncError } from "../errors.ts";
import { abi, bunc_mount_, sizeof_ } from "../linux/abi.gen.ts";
import type { Mount } from "../oci/config.ts";
import { mountContextType } from "./annotations.ts";
import { compileCgroupMount } from "./cgroup-mount.ts";
import type { Context, SentPart } from "./context.ts";
import { bindAttributes, type MountFlags, parseMountOptions } from "./mount-options.ts";
import { bindSource, openInside, sourceInside, targetPath, treeFd } from "./mount-sources.ts";
import { type OpOptions, Struct } from "./program.ts";

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

/** One mount on its way. */
interface Entry {
  index: number;
  mount: Mount;
  type: string;
  flags: MountFlags;
  target: string;
  about: string;
}

/** All mounts of config.json, in their order. Gives the parts that end where the parent has to do something. */
export function compileMounts(c: Context): SentPart[] {
  const ended: SentPart[] = [];
  const mounts = c.spec.mounts ?? [];
  for (let i = 0; i < mounts.length; i++) {
    const mount = mounts[i]!;
    const flags = parseMountOptions(mount.options, mount.type);
    const target = targetPath(c, mount.destination);
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
    if (flags.remount) compileRemount(c, entry);
    else if (type === "bind") compileBind(c, entry, ended);
    else if (type === "cgroup" || type === "cgroup2") compileCgroupMount(c, entry);
    else compileFileSystem(c, entry);
  }
  return ended;
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
  if (problem)
    throw new BuncError(`${about}: ${problem}`, { code: "config", path: `mounts[${index}].destination` });
}

/** A bind mount: of a path on the host, or of a tree that the parent has opened. */
function compileBind(c: Context, entry: Entry, ended: SentPart[]): void {
  const { mount, flags, target, index } = entry;
  const tree = c.fd(treeFd(index));
  let how = flags.recursive ? abi.BUNC_MOUNT_RECURSIVE : 0;
  if (target === "/proc") how |= abi.BUNC_MOUNT_ONLY_PROC;
  else if (!PROC_FILES.has(target)) how |= abi.BUNC_MOUNT_GUARD_PROC;
  const struct = mountStruct(flags, how);
  const inside = tree === undefined ? sourceInside(c, mount) : undefined;
  if (inside !== undefined) openInside(c, index, inside, flags, struct.at(MOUNT.tree), ended);
  else if (tree === undefined) struct.pointer(MOUNT.source, bindSource(c, mount));
  else struct.u64(MOUNT.tree, tree);
  // The parent's clone is a peer of the host's mount: what the container mounts below it must stay here.
  const slave = flags.recursive ? abi.MS_SLAVE | abi.MS_REC : abi.MS_SLAVE;
  const propagation = tree !== undefined && !flags.propagation.length ? [slave] : flags.propagation;
  const { set, clear, implied } = bindAttributes(flags, mount.options);
  struct.u64(MOUNT.set, set).u64(MOUNT.clear, clear).u64(MOUNT.implied, implied);
  appendMount(c, entry, struct, propagation);
}

/** remount: attributes and parameters of what is there already. */
function compileRemount(c: Context, entry: Entry): void {
  const { flags } = entry;
  const struct = mountStruct(flags, abi.BUNC_MOUNT_REMOUNT)
    .u64(MOUNT.set, flags.set)
    .u64(MOUNT.clear, flags.clear);
  if ((flags.data.length || flags.superFlags.length) && !flags.bind) {
    struct.pointer(MOUNT.params, encoder.encode(parameters(c, entry, "", true)));
  }
  appendMount(c, entry, struct, flags.propagation);
}

/** A mount of a file system with its parameters. */
function compileFileSystem(c: Context, entry: Entry): void {
  const { mount, type, flags, target, about, index } = entry;
  if (!type) throw new BuncError(`${about}: no type and no bind option`, { path: `mounts[${index}].type` });
  let how = 0;
  if (type === "proc" || type === "sysfs") how |= abi.BUNC_MOUNT_NO_LINKS;
  if (target !== "/proc") how |= abi.BUNC_MOUNT_GUARD_PROC;
  if (flags.tmpcopyup) how |= abi.BUNC_MOUNT_COPY_UP;
  if (type === "tmpfs" && !hasMode(flags)) how |= abi.BUNC_MOUNT_TAKE_MODE;
  const late = isReadonlyLate(entry);
  // The owner of the network namespace alone may mount sysfs: without one of its own the container gets the host's.
  const bindInstead = type === "sysfs" && c.namespace("user") !== undefined && !c.namespace("network");
  const struct = mountStruct(flags, how)
    .pointer(MOUNT.type, type)
    .pointer(MOUNT.params, encoder.encode(parameters(c, entry, mount.source ?? type, late)))
    .u64(MOUNT.set, late ? flags.set & ~abi.MOUNT_ATTR_RDONLY : flags.set);
  appendMount(c, entry, struct, flags.propagation, bindInstead ? OR_NEXT : {});
  if (!bindInstead) return;
  const tree = mountStruct(flags, how | abi.BUNC_MOUNT_RECURSIVE)
    .pointer(MOUNT.source, "/sys")
    .u64(MOUNT.set, flags.set);
  appendMount(c, { ...entry, mount: { ...mount, source: "/sys" } }, tree, flags.propagation);
}

function hasMode(flags: MountFlags): boolean {
  for (const { text } of flags.data) if (text.startsWith("mode=")) return true;
  return false;
}

const MOUNT = bunc_mount_;
const encoder = new TextEncoder();

function mountStruct(flags: MountFlags, how: number): Struct {
  return new Struct(sizeof_.bunc_mount, "bunc_mount")
    .u64(MOUNT.rec_set, flags.recSet)
    .u64(MOUNT.rec_clear, flags.recClear)
    .u64(MOUNT.tree, -1)
    .u64(MOUNT.flags, how);
}

/** The operation that follows is done only when this one is not permitted. */
const OR_NEXT: OpOptions = { okSkip: 1, tolerate: [[abi.EPERM, 0]] };

function appendMount(
  c: Context,
  entry: Entry,
  struct: Struct,
  propagation: readonly number[],
  options: OpOptions = {},
): void {
  if (propagation.length) {
    const list = new Struct((propagation.length + 1) * 8, "propagation");
    for (let i = 0; i < propagation.length; i++) list.u64(i * 8, propagation[i]!);
    struct.pointer(MOUNT.propagation, list);
  }
  const { type, mount, flags } = entry;
  c.part.op(abi.BUNC_OP_MOUNT, [c.root, entry.target, struct], {
    about: entry.about,
    mount: { type, source: mount.source ?? "", options: flags.data },
    ...options,
  });
}

/** What is written to after it is mounted (tmpfs, /dev) becomes read-only at the end, not at once. */
function isReadonlyLate({ type, target, flags }: Pick<Entry, "type" | "target" | "flags">): boolean {
  return (flags.set & abi.MOUNT_ATTR_RDONLY) !== 0 && (type === "tmpfs" || target === "/dev");
}

/** The parameters in mount.c's form; the options of config.json come first, so that their number is their place. */
function parameters(c: Context, { flags, type }: Entry, source: string, readonlyLate: boolean): string {
  let out = "";
  for (const { text } of flags.data) {
    const equals = text.indexOf("=");
    out += equals < 0 ? `f${text}\0` : `s${text.slice(0, equals)}\0${text.slice(equals + 1)}\0`;
  }
  if (source) out += `ssource\0${source}\0`;
  for (const flag of flags.superFlags) out += `f${flag}\0`;
  if (flags.set & abi.MOUNT_ATTR_RDONLY && !readonlyLate) out += "fro\0";
  const label = c.spec.linux?.mountLabel;
  if (label && (type === "tmpfs" || type === "devpts")) out += `s${mountContextType(c.spec)}\0${label}\0`;
  return `${out}\0`;
}

/** At the end: tmpfs mounts and /dev that are to be read-only. They are found again below the root. */
export function compileReadonlyMounts(c: Context): void {
  const mounts = c.spec.mounts ?? [];
  for (let i = 0; i < mounts.length; i++) {
    const { destination, options, type = "" } = mounts[i]!;
    // Most have no such option: do not read them all again.
    if (!options?.includes("ro")) continue;
    const flags = parseMountOptions(options, type);
    const target = targetPath(c, destination);
    if (flags.bind || flags.remount || !isReadonlyLate({ type, target, flags })) continue;
    c.part.at("mounts", `mounts[${i}].options`);
    c.part.op(abi.BUNC_OP_MOUNT_ATTR, [c.root, target, abi.MOUNT_ATTR_RDONLY, 0], {
      about: `cannot make ${JSON.stringify(destination)} read-only`,
    });
  }
}
