/** Mounting the rootfs that containerd's snapshotter describes, and taking the mounts back. */
import { BuncError } from "../../errors.ts";
import { Part } from "../../launch/program.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import type { Mount } from "../proto/task.gen.ts";

/** mount(8)'s words for flags; with "no" or "" in front the flag is taken back. */
const FLAGS: Readonly<Record<string, readonly [flag: number, clear: boolean]>> = {
  async: [abi.MS_SYNCHRONOUS, true],
  atime: [abi.MS_NOATIME, true],
  bind: [abi.MS_BIND, false],
  defaults: [0, false],
  dev: [abi.MS_NODEV, true],
  diratime: [abi.MS_NODIRATIME, true],
  dirsync: [abi.MS_DIRSYNC, false],
  exec: [abi.MS_NOEXEC, true],
  mand: [abi.MS_MANDLOCK, false],
  noatime: [abi.MS_NOATIME, false],
  nodev: [abi.MS_NODEV, false],
  nodiratime: [abi.MS_NODIRATIME, false],
  noexec: [abi.MS_NOEXEC, false],
  nomand: [abi.MS_MANDLOCK, true],
  norelatime: [abi.MS_RELATIME, true],
  nostrictatime: [abi.MS_STRICTATIME, true],
  nosuid: [abi.MS_NOSUID, false],
  rbind: [abi.MS_BIND | abi.MS_REC, false],
  relatime: [abi.MS_RELATIME, false],
  remount: [abi.MS_REMOUNT, false],
  ro: [abi.MS_RDONLY, false],
  rw: [abi.MS_RDONLY, true],
  strictatime: [abi.MS_STRICTATIME, false],
  suid: [abi.MS_NOSUID, true],
  sync: [abi.MS_SYNCHRONOUS, false],
};

/** What mount(2) gets of a mount's options. */
export interface ParsedOptions {
  flags: number;
  data: string[];
}

/** @throws BuncError for what mount(2) alone cannot do */
export function parseOptions(options: readonly string[]): ParsedOptions {
  let flags = 0;
  const data: string[] = [];
  for (const option of options) {
    const known = Object.hasOwn(FLAGS, option) ? FLAGS[option] : undefined;
    if (known) flags = known[1] ? flags & ~known[0] : flags | known[0];
    else if (option === "loop" || option.startsWith("X-containerd.")) {
      throw new BuncError(`rootfs: mount option "${option}" is not supported`, {
        code: "config",
        hint: "use a snapshotter whose mounts the kernel makes by itself, such as overlayfs",
      });
    } else if (option !== "") data.push(option);
  }
  return { flags, data };
}

/** mount(2) takes one page of data. */
const MAX_DATA = 4095;

export const LOWER = "lowerdir=";

/** The directory that all layers lie in, with the slash at its end, and their paths below it. */
export function commonDirectory(
  layers: readonly string[],
): { directory: string; rest: string[] } | undefined {
  let directory = layers[0]!.slice(0, layers[0]!.lastIndexOf("/") + 1);
  for (const layer of layers) {
    while (!layer.startsWith(directory))
      directory = directory.slice(0, directory.lastIndexOf("/", directory.length - 2) + 1);
  }
  if (directory.length <= 1) return undefined;
  const rest = layers.map((layer) => layer.slice(directory.length));
  return rest.some((layer) => layer === "") ? undefined : { directory, rest };
}

/**
 * The layers of an overlay by paths relative to the directory that all of them lie in, for when there are so many that
 * their whole names do not fit into one page.
 */
export function shorten(data: readonly string[]): { directory: string; data: string[] } | undefined {
  const at = data.findIndex((option) => option.startsWith(LOWER));
  const common = at < 0 ? undefined : commonDirectory(data[at]!.slice(LOWER.length).split(":"));
  if (!common) return undefined;
  return { directory: common.directory, data: data.with(at, LOWER + common.rest.join(":")) };
}

/** Where the layers of an overlay are mounted with other ids, until the overlay is. */
export function layersOf(rootfs: string): string {
  return `${rootfs}-layers`;
}

/** Unmounts the layers, if they are there. The overlay has its own copy of their mount. */
export function releaseLayers(rootfs: string): void {
  const layers = layersOf(rootfs);
  sys(abi.SYS_umount2, layers, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW);
  sys(abi.SYS_unlinkat, abi.AT_FDCWD, layers, abi.AT_REMOVEDIR);
}

/** Whether containerd asks by it for other ids; the kernel does not know these. */
export function isMappingOption(option: string): boolean {
  return option.startsWith("uidmap=") || option.startsWith("gidmap=");
}

/**
 * The operations that make one mount.
 * @param target the rootfs, or a directory below it that the mount names
 */
export function mountPart(mount: Mount, target: string): Part {
  const part = new Part().at("mounts", "rootfs");
  const { flags, data } = parseOptions(mount.options);
  let options = data;
  let text = options.join(",");
  if (text.length > MAX_DATA && mount.type === "overlay") {
    const short = shorten(options);
    if (short) {
      part.op(abi.SYS_chdir, [short.directory], { about: `cannot enter ${short.directory}` });
      options = short.data;
      text = options.join(",");
    }
  }
  if (text.length > MAX_DATA) {
    throw new BuncError(
      `rootfs: the options of the mount have ${text.length} bytes, the kernel takes ${MAX_DATA}`,
      {
        code: "config",
        hint: "the image has too many layers",
      },
    );
  }
  const about = `failed to mount rootfs component: mount ${mount.type} ${mount.source} on ${target}`;
  if (flags & abi.MS_BIND) {
    const rest = flags & ~(abi.MS_BIND | abi.MS_REC);
    part.op(abi.SYS_mount, [mount.source, target, "", flags & (abi.MS_BIND | abi.MS_REC), 0], { about });
    // The first call takes no other flags.
    if (rest) part.op(abi.SYS_mount, ["", target, "", abi.MS_BIND | abi.MS_REMOUNT | rest, 0], { about });
  } else {
    part.op(abi.SYS_mount, [mount.source, target, mount.type, flags, text === "" ? 0 : text], { about });
  }
  return part;
}

/**
 * Mounts the rootfs, apart from this process's loop: a file system may be slow.
 * @throws BuncError; nothing stays mounted then
 */
export async function mountRootfs(mounts: readonly Mount[], rootfs: string): Promise<void> {
  if (mounts.length === 0) return;
  const { runPartApart } = await import("../../container/hooks-apart.ts");
  const made = sys(abi.SYS_mkdirat, abi.AT_FDCWD, rootfs, 0o711);
  if (made < 0 && made !== -abi.EEXIST) throw pathError("mkdir", rootfs, made);
  try {
    for (const mount of mounts) {
      const target = targetOf(mount, rootfs);
      const mountOne = (one: Mount) => runPartApart(mountPart(one, target));
      if (mount.options.some(isMappingOption)) {
        const { mountMapped } = await import("./mapped-rootfs.ts");
        await mountMapped(mount, rootfs, target, mountOne);
      } else await mountOne(mount);
    }
  } catch (error) {
    unmountRootfs(rootfs);
    throw error;
  }
}

/** Below the rootfs a target is containerd's own choice (of its mount manager), never an image's. */
function targetOf({ target }: Mount, rootfs: string): string {
  if (target === "" || target === "/") return rootfs;
  if (target.split("/").includes("..")) {
    throw new BuncError(`rootfs: mount target ${JSON.stringify(target)} leaves the rootfs`, {
      code: "config",
    });
  }
  return `${rootfs}/${target}`;
}

/** Unmounts all that is mounted at the rootfs; what is in use goes when its last user does. */
export function unmountRootfs(rootfs: string): void {
  for (let i = 0; i < 128; i++) {
    const result = sys(abi.SYS_umount2, rootfs, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW);
    if (result === -abi.EINVAL || result === -abi.ENOENT) return;
    if (result < 0) throw pathError("unmount", rootfs, result);
  }
}
