/**
 * A rootfs whose files change owner on the way: for a pod in a user namespace containerd's snapshotters name the ids as
 * `uidmap=` and `gidmap=` among a mount's options, which no kernel knows. An overlay cannot be id-mapped itself, but its
 * layers can (mount_setattr(2) "ID-mapped mounts"), so they are looked at through a mapped mount of the directory that
 * all of them lie in. It is needed only until the overlay is mounted.
 */
import { openTree, userNamespaceOf } from "../../container/trees.ts";
import { BuncError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { errnoName, errnoText } from "../../linux/errno.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import type { LinuxIDMapping } from "../../oci/config.ts";
import type { Mount } from "../proto/task.gen.ts";
import { commonDirectory, isMappingOption, LOWER, layersOf, releaseLayers } from "./rootfs.ts";

const MAX_ID = 0xffffffff;

/**
 * Mounts with the ids that the options name.
 * @param mountOne mounts what remains
 * @throws BuncError; what is mounted then at the target the caller unmounts
 */
export async function mountMapped(
  mount: Mount,
  rootfs: string,
  target: string,
  mountOne: (mount: Mount) => Promise<void>,
): Promise<void> {
  const uid = mappingsOf(mount.options, "uidmap=");
  const gid = mappingsOf(mount.options, "gidmap=");
  const options = mount.options.filter((option) => !isMappingOption(option));
  const namespace = userNamespaceOf(uid, gid, "rootfs");
  try {
    if (mount.type === "overlay") await mountOverlay({ ...mount, options }, rootfs, namespace, mountOne);
    else {
      await mountOne({ ...mount, options });
      attach(target, target, namespace);
    }
  } finally {
    closeFd(namespace);
  }
}

async function mountOverlay(
  mount: Mount,
  rootfs: string,
  namespace: number,
  mountOne: (mount: Mount) => Promise<void>,
): Promise<void> {
  const at = mount.options.findIndex((option) => option.startsWith(LOWER));
  const common = at < 0 ? undefined : commonDirectory(mount.options[at]!.slice(LOWER.length).split(":"));
  if (common === undefined) {
    throw new BuncError("rootfs: the layers of an id-mapped overlay have no directory in common", {
      code: "config",
    });
  }
  const layers = layersOf(rootfs);
  const made = sys(abi.SYS_mkdirat, abi.AT_FDCWD, layers, 0o700);
  if (made < 0 && made !== -abi.EEXIST) throw pathError("mkdir", layers, made);
  try {
    attach(common.directory, layers, namespace);
    const lower = LOWER + common.rest.map((layer) => `${layers}/${layer}`).join(":");
    await mountOne({ ...mount, options: mount.options.with(at, lower) });
  } finally {
    releaseLayers(rootfs);
  }
}

/** Mounts a directory, with all that is mounted below it, elsewhere, or once more where it is, with other ids. */
function attach(directory: string, at: string, namespace: number): void {
  const about = `failed to mount rootfs component: cannot map the ids of ${directory}`;
  const tree = openTree(directory, true, { namespace, recursive: true });
  if (tree < 0) throw refused(about, "mount_setattr", tree);
  const moved = sys(abi.SYS_move_mount, tree, "", abi.AT_FDCWD, at, abi.MOVE_MOUNT_F_EMPTY_PATH);
  closeFd(tree);
  if (moved < 0) throw refused(about, "move_mount", moved);
}

function refused(about: string, syscall: string, result: number): BuncError {
  return new BuncError(`${about}: ${syscall}: ${errnoText(-result)}`, {
    code: "launch",
    phase: "mounts",
    path: "rootfs",
    syscall,
    errno: errnoName(-result),
    hint: "the snapshotter's file system must be one that can be id-mapped, such as ext4 or xfs, and overlayfs of Linux 5.19",
  });
}

/**
 * What `uidmap=0:100000:65536,65536:300000:10` says.
 * @throws BuncError when it says nothing, or not that
 */
export function mappingsOf(options: readonly string[], prefix: string): LinuxIDMapping[] {
  const option = options.findLast((one) => one.startsWith(prefix));
  const parts = option?.slice(prefix.length).split(",") ?? [];
  const mappings = parts.map((part) => {
    const numbers = part.split(":").map((word) => (/^\d{1,10}$/.test(word) ? Number(word) : Number.NaN));
    const [containerID = 0, hostID = 0, size = 0] = numbers;
    return numbers.length === 3 && numbers.every((number) => number <= MAX_ID)
      ? { containerID, hostID, size }
      : undefined;
  });
  if (mappings.length > 0 && mappings.every((mapping) => mapping !== undefined)) return mappings;
  throw new BuncError(`rootfs: mount option ${JSON.stringify(option ?? prefix)} is no list of id mappings`, {
    code: "config",
    hint: "it is CONTAINERID:HOSTID:SIZE with commas between, and uidmap and gidmap go together",
  });
}
