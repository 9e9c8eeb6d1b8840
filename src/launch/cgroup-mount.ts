/**
 * Mounts of the type "cgroup" in a container. On a v2 host it is cgroup2. On v1 and hybrid hosts it is a tmpfs with one
 * directory for each hierarchy of v1, named as on the host, and links for controllers that are mounted together
 * (runc's mountCgroupV1 and mountCgroupV2).
 */

import { type Hierarchy, type Layout, ownPath } from "../cgroup/layout.ts";
import { groupDirs, innerPath, pathsOf } from "../cgroup/names.ts";
import { BuncError } from "../errors.ts";
import { abi, bunc_mount_, sizeof_ } from "../linux/abi.gen.ts";
import { bytesOf } from "../linux/lib.ts";
import type { Mount } from "../oci/config.ts";
import { mountContextType } from "./annotations.ts";
import type { Context } from "./context.ts";
import type { MountFlags } from "./mount-options.ts";
import { type OpOptions, Struct } from "./program.ts";
import { openHow } from "./resolve.ts";

/** One mount of config.json, as compileMounts has read it. */
export interface CgroupMount {
  /** Its place in `mounts`. */
  index: number;
  mount: Mount;
  /** "cgroup", or "cgroup2", which is that file system on every host. */
  type: string;
  flags: MountFlags;
  /** The destination, cleaned. */
  target: string;
  /** Words for messages. */
  about: string;
}

const MOUNT = bunc_mount_;
/** What the kernel's own files need nothing of. */
const SAFE = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC;

/**
 * Appends the operations of a cgroup mount.
 *
 * @throws BuncError on a host without cgroups.
 */
export function compileCgroupMount(c: Context, entry: CgroupMount): void {
  const layout = c.host.cgroup;
  if (entry.type === "cgroup2") {
    mountV2(c, entry, layout);
  } else if (!layout || layout.mode === "none") {
    throw new BuncError(`${entry.about}: this host has no cgroups mounted`, {
      code: "host",
      path: `mounts[${entry.index}]`,
      hint: "mount them on the host, or take the mount out",
    });
  } else if (layout.mode === "v2") {
    mountV2(c, entry, layout);
  } else {
    mountV1(c, entry, layout);
  }
}

interface Row {
  target: string;
  type?: string;
  params?: string;
  source?: string;
  set: number;
  clear: number;
  recSet: number;
  recClear: number;
  propagation: readonly number[];
}

/** One mount below the root; see bunc_mount in c/bunc.h. */
function append(c: Context, row: Row, options: OpOptions): void {
  const recursive = row.type === undefined ? abi.BUNC_MOUNT_RECURSIVE : 0;
  const struct = new Struct(sizeof_.bunc_mount, "bunc_mount")
    .u64(MOUNT.set, row.set)
    .u64(MOUNT.clear, row.clear)
    .u64(MOUNT.rec_set, row.recSet)
    .u64(MOUNT.rec_clear, row.recClear)
    .u64(MOUNT.tree, -1)
    .u64(MOUNT.flags, abi.BUNC_MOUNT_GUARD_PROC | recursive);
  if (row.type !== undefined)
    struct.pointer(MOUNT.type, row.type).pointer(MOUNT.params, bytesOf(`${row.params}\0`));
  if (row.source !== undefined) struct.pointer(MOUNT.source, row.source);
  if (row.propagation.length > 0) {
    const list = new Struct((row.propagation.length + 1) * 8, "propagation");
    for (let i = 0; i < row.propagation.length; i++) list.u64(i * 8, row.propagation[i]!);
    struct.pointer(MOUNT.propagation, list);
  }
  c.part.op(abi.BUNC_OP_MOUNT, [c.root, row.target, struct], options);
}

/** A parameter of a file system as mount.c takes it: "size=1k" or a flag. */
function parameter(text: string): string {
  const equals = text.indexOf("=");
  return equals < 0 ? `f${text}\0` : `s${text.slice(0, equals)}\0${text.slice(equals + 1)}\0`;
}

/** What describes a mount in the message of its failure. */
function described(entry: CgroupMount, type: string, source: string): OpOptions {
  return { about: entry.about, mount: { type, source, options: entry.flags.data } };
}

/**
 * cgroup2. With a cgroup namespace it is a mount of its own, whose root is the container's cgroup. Without one such a
 * mount would set the options of the host's (nsdelegate) anew, so the host's is bound; also where a user namespace does
 * not own the cgroup namespace and may not mount it (EPERM).
 */
function mountV2(c: Context, entry: CgroupMount, layout: Layout | undefined): void {
  const { flags, target, mount } = entry;
  const own = c.namespace("cgroup") !== undefined;
  const host = layout?.v2;
  const row = {
    target,
    set: flags.set,
    clear: flags.clear,
    recSet: flags.recSet,
    recClear: flags.recClear,
    propagation: flags.propagation,
  };
  c.part.at("mounts", `mounts[${entry.index}]`);
  if (own || !host) {
    let params = "";
    for (const { text } of flags.data) params += parameter(text);
    for (const flag of flags.superFlags) params += parameter(flag);
    if (mount.source) params += parameter(`source=${mount.source}`);
    append(
      c,
      { ...row, type: "cgroup2", params },
      {
        ...described(entry, "cgroup2", mount.source ?? ""),
        ...(host
          ? {
              okSkip: 1,
              tolerate: [
                [abi.EPERM, 0],
                [abi.EBUSY, 0],
              ],
            }
          : {}),
      },
    );
    if (!host) return;
  }
  // The container's own cgroup stands in for the namespace's root.
  const source =
    own && layout.mode === "v2" ? sourceOf(host, containerPaths(c, layout), layout) : host.mountPoint;
  // As a mount of its own would be: criu refuses one that follows a mount which the container cannot see.
  const propagation = flags.propagation.length > 0 ? flags.propagation : [abi.MS_PRIVATE | abi.MS_REC];
  append(c, { ...row, source, propagation }, described(entry, "bind", source));
}

/** Where init is in each hierarchy; none where it stays in the cgroup of its parent. */
function containerPaths(c: Context, layout: Layout): Readonly<Record<string, string>> {
  return (
    c.settings.cgroupPaths ?? pathsOf(groupDirs(layout, innerPath(c.spec.linux?.cgroupsPath, c.settings.id)))
  );
}

/** The tmpfs, what is mounted in it, and the links; at last the tmpfs becomes read-only if it is to be. */
function mountV1(c: Context, entry: CgroupMount, layout: Layout): void {
  const { flags, target, about } = entry;
  const label = c.spec.linux?.mountLabel;
  const readonly = ((flags.set | flags.recSet) & abi.MOUNT_ATTR_RDONLY) !== 0;
  c.part.at("mounts", `mounts[${entry.index}]`);
  append(
    c,
    {
      target,
      type: "tmpfs",
      params:
        parameter("mode=755") +
        parameter("source=tmpfs") +
        (label ? parameter(`${mountContextType(c.spec)}=${label}`) : ""),
      set: SAFE,
      clear: 0,
      recSet: 0,
      recClear: 0,
      propagation: flags.propagation,
    },
    { about },
  );
  const own = c.namespace("cgroup") !== undefined;
  const paths = own ? {} : containerPaths(c, layout);
  const together: string[] = [];
  for (const hierarchy of layout.v1) {
    const name = hierarchy.mountPoint.slice(hierarchy.mountPoint.lastIndexOf("/") + 1);
    const at = { ...entry, target: `${target}/${name}` };
    if (own) mountHierarchy(c, at, hierarchy, readonly);
    else bindHierarchy(c, at, sourceOf(hierarchy, paths, layout));
    if (name.includes(",")) together.push(name);
  }
  if (together.length > 0) link(c, entry, together);
  if (!readonly) return;
  c.part.op(abi.BUNC_OP_MOUNT_ATTR, [c.root, target, abi.MOUNT_ATTR_RDONLY, 0], { about });
}

/** The hierarchy, with the cgroup namespace's root as root. */
function mountHierarchy(c: Context, entry: CgroupMount, { controllers }: Hierarchy, readonly: boolean): void {
  const source = controllers[0] === "name=systemd" ? "systemd" : "cgroup";
  let params = "";
  for (const name of controllers) params += parameter(name);
  append(
    c,
    {
      target: entry.target,
      type: "cgroup",
      params: params + parameter(`source=${source}`),
      set: readonly ? SAFE | abi.MOUNT_ATTR_RDONLY : SAFE,
      clear: 0,
      recSet: 0,
      recClear: 0,
      propagation: [],
    },
    { about: `${entry.about}: cgroup ${controllers.join(",")}` },
  );
}

/** Without a cgroup namespace the container's directory of the host's mount is bound. */
function bindHierarchy(c: Context, entry: CgroupMount, source: string): void {
  const { set, clear, recSet, recClear, propagation } = entry.flags;
  append(
    c,
    { target: entry.target, source, set, clear, recSet, recClear, propagation },
    { about: `${entry.about}: bind ${source}` },
  );
}

function sourceOf(hierarchy: Hierarchy, paths: Readonly<Record<string, string>>, layout: Layout): string {
  // A hierarchy that the container does not join, as name=elogind: init is where its parent is.
  return paths[hierarchy.controllers[0] ?? ""] ?? hierarchy.mountPoint + ownPath(layout, hierarchy);
}

/** "cpu" and "cpuacct" as links to "cpu,cpuacct". */
function link(c: Context, { target, about }: CgroupMount, names: readonly string[]): void {
  const dir = c.slots.take("cgroup tmpfs");
  const how = openHow(abi.O_PATH | abi.O_DIRECTORY);
  c.part.op(abi.SYS_openat2, [c.root, target, how, how.size], { slot: dir, about });
  for (const name of names) {
    for (const controller of name.split(",")) {
      c.part.op(abi.SYS_symlinkat, [name, dir, controller], { tolerate: [[abi.EEXIST, 0]], about });
    }
  }
  c.part.op(abi.SYS_close, [dir]);
  c.slots.give(dir);
}
