/** The root file system: its mount, the change of root, and what is done to it last. */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import type { Context } from "./context.ts";
import { propagationFlag } from "./mount-options.ts";
import type { Part, Slot } from "./program.ts";

/** move_mount(2) of the mount that `from` is the root of, onto what `to` refers to. */
export function moveMount(part: Part, from: Slot | number, to: Slot | number, about: string): void {
  part.op(abi.SYS_move_mount, [from, "", to, "", abi.MOVE_MOUNT_F_EMPTY_PATH | abi.MOVE_MOUNT_T_EMPTY_PATH], {
    about,
  });
}

/** Cuts propagation to the host, then makes the rootfs a mount of its own; `c.root` is its root from then on. */
export function compileRoot(c: Context): void {
  const { part, spec, settings } = c;
  const wanted = spec.linux?.rootfsPropagation;
  const flag = wanted === undefined ? abi.MS_SLAVE | abi.MS_REC : propagationFlag(wanted)!;
  part.at("rootfs", wanted === undefined ? "" : "linux.rootfsPropagation");
  part.op(abi.SYS_mount, [0, "/", 0, flag, 0], {
    about: `cannot make the host's mounts ${wanted ?? "rslave"}`,
  });
  if (c.settings.noPivot && flag & abi.MS_PRIVATE) {
    throw new BuncError(`rootfsPropagation=${wanted} is not safe without pivot_root`, {
      code: "config",
      path: "linux.rootfsPropagation",
      hint: "leave --no-pivot out, or take another propagation",
    });
  }
  detachParent(c, wanted !== undefined && flag & abi.MS_SLAVE ? abi.MS_SLAVE : abi.MS_PRIVATE);
  part.at("rootfs", "root.path");
  const directory = c.slots.take("rootfs directory");
  part.op(abi.SYS_openat, [abi.AT_FDCWD, settings.rootfs, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot: directory,
    about: `cannot open the rootfs ${JSON.stringify(settings.rootfs)}`,
  });
  part.op(
    abi.SYS_open_tree,
    [directory, "", abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH | abi.AT_RECURSIVE],
    { slot: c.root, about: `cannot bind the rootfs ${JSON.stringify(settings.rootfs)}` },
  );
  moveMount(part, c.root, directory, `cannot bind the rootfs ${JSON.stringify(settings.rootfs)}`);
  part.op(abi.SYS_close, [directory]);
  c.slots.give(directory);
}

/**
 * The mount that the rootfs lies on must not be shared: pivot_root refuses it, and the bind of the rootfs would appear
 * on the host, with all that is mounted below it. Which ancestor is its mount point only the kernel knows: the nearest one
 * that takes the call. By default all mounts are cut off from the host's already.
 */
function detachParent(c: Context, flag: number): void {
  const ancestors: string[] = [];
  for (
    let path = c.settings.rootfsPlace ?? c.settings.rootfs;
    path;
    path = path.slice(0, path.lastIndexOf("/"))
  )
    ancestors.push(path);
  ancestors.push("/");
  for (let i = 0; i < ancestors.length; i++) {
    const left = ancestors.length - 1 - i;
    c.part.op(abi.SYS_mount, [0, ancestors[i]!, 0, flag, 0], {
      // At most what an operation can skip; the rest is then done to mounts further up, which are init's own as well.
      okSkip: left < 255 ? left : 255,
      tolerate: left === 0 ? [] : [[abi.EINVAL, 0]],
      about: "cannot detach the mount of the rootfs from the host's",
    });
  }
}

/** pivot_root, or what stands in for it: MS_MOVE with --no-pivot, chroot without a mount namespace. */
export function compilePivot(c: Context): void {
  const { part } = c;
  part.at("pivot", "root.path");
  if (!c.namespace("mount")) {
    part.op(abi.SYS_fchdir, [c.root]);
    part.op(abi.SYS_chroot, ["."], { about: "cannot change the root" });
    part.op(abi.SYS_chdir, ["/"]);
    return;
  }
  if (c.settings.noPivot) {
    compileMove(c);
    return;
  }
  const old = c.slots.take("host root");
  part.op(abi.SYS_openat, [abi.AT_FDCWD, "/", abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot: old,
  });
  part.op(abi.SYS_fchdir, [c.root]);
  part.op(abi.SYS_pivot_root, [".", "."], {
    about: "cannot make the rootfs the root (pivot_root)",
    hint: "the host's root may be a ramfs or initramfs, which cannot be pivoted from: use --no-pivot",
  });
  part.op(abi.SYS_fchdir, [old]);
  // Unmounting the old root must not propagate to the host.
  part.op(abi.SYS_mount, [0, ".", 0, abi.MS_SLAVE | abi.MS_REC, 0]);
  part.op(abi.SYS_umount2, [".", abi.MNT_DETACH], { about: "cannot detach the host's root" });
  part.op(abi.SYS_close, [old]);
  c.slots.give(old);
  part.op(abi.SYS_chdir, ["/"]);
}

/** --no-pivot. Full mounts of proc and sysfs would let a user namespace mount new ones, so they go first. */
function compileMove(c: Context): void {
  const { part } = c;
  for (const path of c.host.fullProcMounts) {
    part.op(abi.SYS_umount2, [path, abi.MNT_DETACH], { tolerate: [[abi.BUNC_ERR_ANY, 0]], okSkip: 1 });
    part.op(abi.SYS_mount, ["tmpfs", path, "tmpfs", 0, 0], { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  }
  part.op(abi.SYS_fchdir, [c.root]);
  part.op(abi.SYS_mount, [".", "/", 0, abi.MS_MOVE, 0], { about: "cannot move the rootfs to /" });
  part.op(abi.SYS_chroot, ["."], { about: "cannot change the root" });
  part.op(abi.SYS_chdir, ["/"]);
}

/** After the change of root: its own propagation, if it is one that must not reach the host. */
export function compileRootPropagation(c: Context): void {
  const wanted = c.spec.linux?.rootfsPropagation;
  const flag = wanted === undefined ? 0 : propagationFlag(wanted)!;
  if (!(flag & (abi.MS_SHARED | abi.MS_UNBINDABLE))) return;
  c.part.at("rootfs", "linux.rootfsPropagation");
  c.part.op(abi.SYS_mount, [0, "/", 0, flag, 0], { about: `cannot make the root ${wanted}` });
}

/** root.readonly, after everything that writes to the rootfs. */
export function compileReadonlyRoot(c: Context): void {
  if (!c.spec.root?.readonly) return;
  c.part.at("rootfs", "root.readonly");
  c.part.op(abi.BUNC_OP_MOUNT_ATTR, [c.root, "/", abi.MOUNT_ATTR_RDONLY, 0], {
    about: "cannot make the root read-only",
  });
}
