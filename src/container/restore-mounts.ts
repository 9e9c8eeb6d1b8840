/**
 * The mount points that a restored container needs: criu mounts on what is there and makes nothing. bunc-init makes them
 * in a mount namespace of its own, below the root as at a launch; the bind mounts it needs for that, to make mount points
 * in what is bound, go with the namespace.
 */
import { cleanPath } from "../launch/mount-sources.ts";
import { Part, Slot, Struct } from "../launch/program.ts";
import { abi, bunc_mount_, sizeof_ } from "../linux/abi.gen.ts";
import { servesOthers } from "../linux/wait.ts";
import { Init } from "./init-channel.ts";
import type { LibcontainerMount } from "./libcontainer.ts";

/**
 * Makes what is missing of the mount points of a config, in their order.
 * @throws BuncError naming the mount
 */
export async function makeMountPoints(rootfs: string, mounts: readonly LibcontainerMount[]): Promise<void> {
  const part = compileMountPoints(rootfs, mounts);
  const init = Init.spawn({ flags: abi.CLONE_NEWNS, firstFd: 3, fds: [], preserve: 0 });
  try {
    init.send(part);
    if (servesOthers()) await init.told();
    init.next();
  } finally {
    init.kill();
  }
}

/** Pure. */
export function compileMountPoints(rootfs: string, mounts: readonly LibcontainerMount[]): Part {
  const part = new Part().at("mounts");
  const root = new Slot(0, "root");
  const made = new Slot(1, "mount point");
  // Nothing of it reaches the host's mount namespace.
  part.op(abi.SYS_mount, [0, "/", 0, abi.MS_SLAVE | abi.MS_REC, 0], { about: "cannot make mounts private" });
  part.op(abi.SYS_openat, [abi.AT_FDCWD, rootfs, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot: root,
    about: `cannot open the rootfs ${JSON.stringify(rootfs)}`,
  });
  for (let i = 0; i < mounts.length; i++) {
    const { device, destination, source } = mounts[i]!;
    // Those of cgroups come with what is mounted above them; what lies on a tmpfs criu restores with it.
    if (device === "cgroup" || device === "cgroup2" || liesOnTmpfs(destination, mounts)) continue;
    const target = targetOf(rootfs, destination);
    if (target === "/") continue;
    part.at("mounts", `mounts[${i}]`);
    const about = `create criu restore mountpoint for ${destination} mount`;
    if (device === "bind") {
      const struct = new Struct(sizeof_.bunc_mount, "bunc_mount")
        .pointer(bunc_mount_.source, source)
        .u64(bunc_mount_.tree, -1)
        .u64(bunc_mount_.flags, abi.BUNC_MOUNT_RECURSIVE);
      part.op(abi.BUNC_OP_MOUNT, [root, target, struct], {
        about,
        mount: { type: "bind", source, options: [] },
      });
    } else {
      part.op(abi.BUNC_OP_MKPATH, [root, target, abi.S_IFDIR, 0o755], { slot: made, about });
      part.op(abi.SYS_close, [made]);
    }
  }
  return part;
}

function targetOf(rootfs: string, destination: string): string {
  const path = cleanPath(destination);
  return path.startsWith(`${rootfs}/`) ? path.slice(rootfs.length) : path;
}

function liesOnTmpfs(path: string, mounts: readonly LibcontainerMount[]): boolean {
  return mounts.some(({ device, destination }) => device === "tmpfs" && path.startsWith(`${destination}/`));
}
