/**
 * The sources of bind mounts that the parent opens for init: detached mounts, with ids mapped where the bundle asks for
 * it (mount_setattr(2) "ID-mapped mounts"), which only a process with rights over the file system can do. What a user
 * namespace gets of the host's mounts is locked (mount_namespaces(7) "Restrictions"): whoever is root in there can
 * neither make a read-only one writable nor take one away to see what it covers.
 */
import { BuncError } from "../errors.ts";
import type { InheritedFd } from "../launch/context.ts";
import { parseMountOptions } from "../launch/mount-options.ts";
import { Part, Slot } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { readText } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { closeFd, kernelVersion } from "../linux/process.ts";
import { HostState, runPart } from "../linux/run-part.ts";
import type { LinuxIDMapping, Mount, Spec } from "../oci/config.ts";
import { applyIdMaps, checkIdMaps, type IdMaps, mapText } from "./ids.ts";
import { Init, userNamespaceHint } from "./init-channel.ts";

/** Where the source of a bind mount is, as planTrees of launch/mounts.ts asks for it. */
export type TreeSource = Extract<InheritedFd["from"], { kind: "tree" }>;

/** A mapping to apply to a mount. */
export interface MountIdMap {
  /** Descriptor of the user namespace that has the mapping. */
  namespace: number;
  /** Also for what is mounted below the source. */
  recursive: boolean;
}

/** The Linux versions in which file systems learnt id mappings, as major * 1000 + minor (mount_setattr(2)). */
const SINCE: Readonly<Record<string, number>> = {
  ext4: 5012,
  vfat: 5012,
  xfs: 5012,
  btrfs: 5015,
  ntfs3: 5015,
  f2fs: 5018,
  erofs: 5019,
  squashfs: 6002,
  tmpfs: 6003,
  ceph: 6007,
  hugetlbfs: 6009,
  fuse: 6012,
  virtiofs: 6012,
};

/**
 * Opens a path as a detached mount, as open_tree(2) with OPEN_TREE_CLONE does, and maps its ids.
 * @param recursive with everything that is mounted below it
 * @returns the descriptor, or -errno
 */
export function openTree(source: string, recursive: boolean, idmap?: MountIdMap): number {
  const tree = sys(abi.SYS_open_tree, abi.AT_FDCWD, source, cloneFlags(recursive));
  if (tree < 0 || !idmap) return tree;
  const result = mapTree(tree, idmap);
  if (result >= 0) return tree;
  closeFd(tree);
  return result;
}

function cloneFlags(recursive: boolean): number {
  return abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | (recursive ? abi.AT_RECURSIVE : 0);
}

/**
 * A copy of this mount namespace that a new user namespace owns: in the copy the kernel has locked every mount. Nothing
 * runs in either; both live as long as the descriptor.
 * @returns a descriptor that the caller closes
 * @throws BuncError
 */
function lockedNamespace(): number {
  const namespace = new Slot(0, "mount namespace");
  const part = new Part().at("mounts");
  part.op(abi.SYS_openat, [abi.AT_FDCWD, "/proc/self/ns/mnt", abi.O_RDONLY | abi.O_CLOEXEC, 0], {
    slot: namespace,
    about: "cannot copy the host's mounts for a user namespace",
  });
  try {
    return runPart(part, new HostState(), abi.CLONE_NEWUSER | abi.CLONE_NEWNS).get(namespace);
  } catch (error) {
    // Most often it is the namespace that cannot be made.
    const hint = error instanceof BuncError ? userNamespaceHint(error.fields.errno ?? "") : undefined;
    throw hint
      ? new BuncError((error as BuncError).message, { ...(error as BuncError).fields, hint })
      : error;
  }
}

/** openTree in another mount namespace: by a child, for this process would not find back to its root. */
function openTreeIn(namespace: number, source: string, recursive: boolean): number {
  const tree = new Slot(0, "tree");
  const part = new Part().at("mounts");
  part.op(abi.SYS_setns, [namespace, abi.CLONE_NEWNS], { about: "cannot see the host's mounts" });
  part.op(abi.SYS_open_tree, [abi.AT_FDCWD, source, cloneFlags(recursive)], {
    slot: tree,
    tolerate: [[abi.BUNC_ERR_ANY, 0]],
  });
  return runPart(part, new HostState(), 0).get(tree);
}

/** struct mount_attr with MOUNT_ATTR_IDMAP and the namespace. */
function mapTree(tree: number, { namespace, recursive }: MountIdMap): number {
  const attr = new DataView(new ArrayBuffer(32));
  attr.setUint32(0, abi.MOUNT_ATTR_IDMAP, true);
  attr.setUint32(24, namespace, true);
  const at = abi.AT_EMPTY_PATH | (recursive ? abi.AT_RECURSIVE : 0);
  return sys(abi.SYS_mount_setattr, tree, "", at, new Uint8Array(attr.buffer), attr.byteLength);
}

/**
 * Opens the sources of one bundle's bind mounts. Mounts with the same mappings share a user namespace, which `close`
 * lets go.
 */
export class TreeOpener {
  private readonly namespaces = new Map<string, number>();
  private mounts = -1;
  /** An ordinary user's mounts are locked already, and so are those in the user namespace of one. */
  private readonly locked: boolean;

  constructor(
    private readonly spec: Spec,
    private readonly euid = sys(abi.SYS_geteuid),
  ) {
    const user = spec.linux?.namespaces?.some(({ type }) => type === "user");
    this.locked = euid === 0 && user === true;
  }

  /**
   * @returns a descriptor that the caller closes
   * @throws BuncError naming the mount, its source and what to do
   */
  open(from: TreeSource): number {
    const mount = this.spec.mounts![from.mount]!;
    const path = `mounts[${from.mount}]`;
    const about = mountingError(mount);
    const flags = parseMountOptions(mount.options, mount.type);
    const own = mount.uidMappings?.length || mount.gidMappings?.length;
    if (!own && !flags.idmap) return this.clone(from, about);
    const idmap = { namespace: this.namespace(from.mount, path), recursive: flags.idmapRecursive };
    const tree = this.clone(from, about);
    const result = mapTree(tree, idmap);
    if (result >= 0) return tree;
    closeFd(tree);
    throw refusal(from, -result, idmap, about);
  }

  private clone(from: TreeSource, about: string): number {
    const { source, recursive } = from;
    if (!this.locked) return checkOpened(openTree(source, recursive), from, about);
    if (this.mounts < 0) this.mounts = lockedNamespace();
    return checkOpened(openTreeIn(this.mounts, source, recursive), from, about);
  }

  /**
   * Maps the ids of a detached mount that init has opened below the root, by its number there.
   *
   * @throws BuncError naming the mount and what to do
   */
  map(init: { pidfd: number }, number: number, mount: number): void {
    const { source = "", options, type } = this.spec.mounts![mount]!;
    const path = `mounts[${mount}]`;
    const flags = parseMountOptions(options, type);
    const tree = sys(abi.SYS_pidfd_getfd, init.pidfd, number, 0);
    if (tree < 0) throw namespaceError("pidfd_getfd", -tree, path);
    try {
      const idmap = { namespace: this.namespace(mount, path), recursive: flags.idmapRecursive };
      const result = mapTree(tree, idmap);
      if (result >= 0) return;
      const from: TreeSource = { kind: "tree", source, recursive: flags.recursive, mount };
      throw refusal(from, -result, idmap, mountingError(this.spec.mounts![mount]!));
    } finally {
      closeFd(tree);
    }
  }

  /** Closes the namespaces; mounts keep theirs. */
  close(): void {
    for (const fd of this.namespaces.values()) closeFd(fd);
    this.namespaces.clear();
    closeFd(this.mounts);
    this.mounts = -1;
  }

  private namespace(index: number, path: string): number {
    const { uidMappings, gidMappings } = this.spec.mounts![index]!;
    if (uidMappings?.length || gidMappings?.length) return this.made(uidMappings, gidMappings, path);
    const user = this.spec.linux?.namespaces?.findIndex(({ type }) => type === "user") ?? -1;
    if (user < 0) {
      throw new BuncError(`${path}: id-mapped mounts without mappings of their own need a user namespace`, {
        code: "config",
        path,
      });
    }
    const joined = this.spec.linux!.namespaces![user]!.path;
    if (joined) return this.joined(joined, `linux.namespaces[${user}].path`);
    return this.made(this.spec.linux!.uidMappings, this.spec.linux!.gidMappings, "linux");
  }

  private joined(file: string, path: string): number {
    const known = this.namespaces.get(file);
    if (known !== undefined) return known;
    const fd = sys(abi.SYS_openat, abi.AT_FDCWD, file, abi.O_RDONLY | abi.O_CLOEXEC, 0);
    if (fd < 0) throw namespaceError(`open ${file}`, -fd, path);
    if (sys(abi.SYS_ioctl, fd, abi.NS_GET_NSTYPE) !== abi.CLONE_NEWUSER) {
      closeFd(fd);
      throw new BuncError(`${path}: ${file} is not a user namespace`, { code: "config", path });
    }
    this.namespaces.set(file, fd);
    return fd;
  }

  private made(
    uid: readonly LinuxIDMapping[] = [],
    gid: readonly LinuxIDMapping[] = [],
    path: string,
  ): number {
    const key = `${mapText(uid)}/${mapText(gid)}`;
    const known = this.namespaces.get(key);
    if (known !== undefined) return known;
    const fd = userNamespaceOf(uid, gid, path, this.euid);
    this.namespaces.set(key, fd);
    return fd;
  }
}

/** What the holder of a user namespace tells when it is in it. */
const MADE = 1;

/**
 * A process in a new user namespace without ids, that does nothing until it is killed.
 *
 * It hides first, as the init of a container does (launch/namespaces.ts): the namespace belongs to root of the host, and
 * whoever is that, in a container that sees this process, could else reach the host's files through it. Not for an
 * ordinary user: newuidmap wants to see in /proc whose process it is.
 * @throws BuncError
 */
export function userNamespaceHolder(euid: number): Init {
  const part = new Part().at("namespaces");
  const [fs, root] = [new Slot(0, "tmpfs"), new Slot(1, "empty root")];
  if (euid === 0) {
    part.op(abi.SYS_prctl, [abi.PR_SET_DUMPABLE, 0, 0, 0, 0]);
    // When it ends it is hidden no more as soon as its memory is gone: its root and descriptors are not the host's then.
    part.op(abi.SYS_fsopen, ["tmpfs", abi.FSOPEN_CLOEXEC], { slot: fs });
    part.op(abi.SYS_fsconfig, [fs, abi.FSCONFIG_CMD_CREATE, 0, 0, 0]);
    part.op(abi.SYS_fsmount, [fs, abi.FSMOUNT_CLOEXEC, 0], { slot: root });
    part.op(abi.SYS_fchdir, [root]);
  }
  part.op(abi.SYS_unshare, [abi.CLONE_NEWUSER], { about: "cannot make a user namespace" });
  // Not before: who has changed its root may not make one.
  if (euid === 0) part.op(abi.SYS_chroot, ["."]);
  part.op(abi.BUNC_OP_PART, [MADE, 0]);
  const holder = Init.spawnSilent({ flags: 0, firstFd: 3, fds: [], preserve: 0 });
  try {
    holder.send(part);
    if (holder.next()?.event === MADE) return holder;
    throw new BuncError("the process that holds a user namespace has ended", { code: "host" });
  } catch (error) {
    holder.kill();
    throw error;
  }
}

/**
 * Makes a user namespace that exists for its mappings only.
 * @param path what has the mappings, for messages
 * @returns a descriptor that the caller closes
 * @throws BuncError
 */
export function userNamespaceOf(
  uid: readonly LinuxIDMapping[],
  gid: readonly LinuxIDMapping[],
  path: string,
  euid = sys(abi.SYS_geteuid),
): number {
  const maps: IdMaps = { uid, gid, path };
  checkIdMaps(maps);
  const holder = userNamespaceHolder(euid);
  try {
    applyIdMaps(holder.pid, maps, euid);
    const file = `/proc/${holder.pid}/ns/user`;
    const fd = sys(abi.SYS_openat, abi.AT_FDCWD, file, abi.O_RDONLY | abi.O_CLOEXEC, 0);
    if (fd < 0) throw namespaceError(`open ${file}`, -fd, path);
    return fd;
  } finally {
    holder.kill();
  }
}

/**
 * Maps the ids of the mount at which init stands (Stage.mapping).
 *
 * @throws BuncError naming the mount and what to do
 */
export function mapInside(spec: Spec, init: { pidfd: number }, number: number, mount: number): void {
  const opener = new TreeOpener(spec);
  try {
    opener.map(init, number, mount);
  } finally {
    opener.close();
  }
}

function mountingError({ source = "", destination }: Mount): string {
  return `error mounting ${JSON.stringify(source)} to rootfs at ${JSON.stringify(destination)}`;
}

function namespaceError(call: string, errno: number, path: string): BuncError {
  return new BuncError(`cannot get the user namespace of an id-mapped mount: ${call}: ${errnoText(errno)}`, {
    code: "launch",
    phase: "mounts",
    path,
    errno: errnoName(errno),
  });
}

function checkOpened(tree: number, { mount }: TreeSource, about: string): number {
  if (tree >= 0) return tree;
  const hint =
    tree === -abi.EPERM
      ? "this needs CAP_SYS_ADMIN in bunc's own mount namespace"
      : tree === -abi.EINVAL
        ? "a mount below it may be locked (mount_namespaces(7)): rbind takes all of them"
        : "the source of a bind mount must exist on the host";
  throw new BuncError(`${about}: source: open_tree: ${errnoText(-tree)}`, {
    code: "launch",
    phase: "mounts",
    path: `mounts[${mount}].source`,
    syscall: "open_tree",
    errno: errnoName(-tree),
    hint,
  });
}

/** Why a mount cannot have its ids mapped; EINVAL is mostly a file system that does not know how. */
function refusal(from: TreeSource, errno: number, idmap: MountIdMap, about: string): BuncError {
  const kernel = kernelVersion();
  let what = errnoText(errno);
  let hint: string | undefined;
  if (errno === abi.ENOSYS) {
    hint = `id-mapped mounts need Linux 5.12; this is ${versionText(kernel)}`;
  } else if (errno === abi.EPERM) {
    hint =
      "bunc must be root of the host (not of a user namespace), the source must not be id-mapped already, and the mapping must not be the host's own";
  } else if (errno === abi.EINVAL) {
    const { type, at } = refusingMount(from, idmap);
    what = `the file system ${type}${at ? ` at ${JSON.stringify(at)}` : ""} cannot have its ids mapped`;
    hint = supportHint(type, kernel);
  }
  return new BuncError(`${about}: mount_setattr: ${what}`, {
    code: "launch",
    phase: "mounts",
    path: `mounts[${from.mount}]`,
    syscall: "mount_setattr",
    errno: errnoName(errno),
    ...(hint ? { hint } : {}),
  });
}

/** What would make the file system work. */
export function supportHint(type: string, kernel: number): string {
  // "fuse.sshfs" is a kind of fuse.
  const base = type.split(".")[0]!;
  const since = Object.hasOwn(SINCE, base) ? SINCE[base]! : 0;
  if (since > kernel) return `${base} can since Linux ${versionText(since)}; this is ${versionText(kernel)}`;
  if (since)
    return `${base} can since Linux ${versionText(since)}, unless its mount options or its server forbid it`;
  return "among those that can are ext4, xfs (Linux 5.12), btrfs (5.15), tmpfs (6.3) and fuse (6.12)";
}

function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${version % 1000}`;
}

/** Finds which mount it was, of the source's own and, for a recursive mapping, those below it. */
function refusingMount(
  from: TreeSource,
  { namespace, recursive }: MountIdMap,
): { type: string; at?: string } {
  const info = readText("/proc/self/mountinfo", 16 << 20);
  const source = sys(abi.SYS_openat, abi.AT_FDCWD, from.source, abi.O_PATH | abi.O_CLOEXEC, 0);
  if (source < 0 || typeof info !== "string") return { type: "of the source" };
  const fdinfo = readText(`/proc/self/fdinfo/${source}`, 4096);
  const id = typeof fdinfo === "string" ? /^mnt_id:\s*(\d+)$/m.exec(fdinfo)?.[1] : undefined;
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${source}`, buffer, buffer.length);
  closeFd(source);
  const mounts = parseMounts(info);
  const own = mounts.find((mount) => mount.id === id)?.type ?? "of the source";
  if (!recursive || n <= 0) return { type: own };
  const prefix = `${text(buffer.subarray(0, n)).replace(/\/$/, "")}/`;
  for (const { type, at } of mounts) {
    if (!at.startsWith(prefix)) continue;
    const tree = openTree(at, false, { namespace, recursive: false });
    closeFd(tree);
    if (tree === -abi.EINVAL) return { type, at };
  }
  return { type: own };
}

/** Id, mount point and type of each line of a mountinfo file (proc_pid_mountinfo(5)). */
export function parseMounts(info: string): { id: string; at: string; type: string }[] {
  const mounts: { id: string; at: string; type: string }[] = [];
  for (const line of info.split("\n")) {
    const fields = line.split(" ");
    const type = fields[fields.indexOf("-") + 1];
    if (fields.length < 10 || !type) continue;
    const at = fields[4]!.replace(/\\([0-7]{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    mounts.push({ id: fields[0]!, at, type });
  }
  return mounts;
}
