/** Facts about file systems: which can be mounted in a container, tried in namespaces that nobody else sees. */

import { applyIdMaps } from "../container/ids.ts";
import type { Init } from "../container/init-channel.ts";
import { openTree, userNamespaceHolder } from "../container/trees.ts";
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { CallerFacts, Outcome } from "./facts.ts";
import { type MountLine, mountOf } from "./parse.ts";
import { type Call, type Maps, outcome, type Steps, slots, type Trial, tryOut } from "./trial.ts";

/** File systems of a container, as the default config.json has them. */
const TYPES = ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2"] as const;

/** Makes a file system without attaching it; its mount is in `mount`. */
function make(
  type: string,
  context: Call["slot"],
  mount: Call["slot"],
  parameters: [string, string][] = [],
): Call[] {
  return [
    { call: abi.SYS_fsopen, args: [type, abi.FSOPEN_CLOEXEC], slot: context! },
    ...parameters.map(([key, value]) => ({
      call: abi.SYS_fsconfig,
      args: [context!, abi.FSCONFIG_SET_STRING, key, value, 0],
    })),
    { call: abi.SYS_fsconfig, args: [context!, abi.FSCONFIG_CMD_CREATE, 0, 0, 0] },
    { call: abi.SYS_fsmount, args: [context!, abi.FSMOUNT_CLOEXEC, 0], slot: mount! },
  ];
}

/**
 * Mounts each file system of a container, an overlay, and makes a device. The overlay's directories are on a tmpfs at
 * /dev, in a mount namespace from which nothing goes out.
 *
 * @param maps ids of a user namespace of its own; without, the caller's rights are used as they are
 */
export function tryMounts(maps: Maps | undefined, overlay: boolean): Trial {
  const [context, mount, tmpfs] = slots("context", "mount", "tmpfs");
  const flags =
    abi.CLONE_NEWNS | abi.CLONE_NEWNET | abi.CLONE_NEWIPC | abi.CLONE_NEWUTS | abi.CLONE_NEWCGROUP;
  const steps: Steps = {
    namespaces: [
      { call: abi.SYS_unshare, args: [flags] },
      // proc belongs to a pid namespace, which takes effect in a child.
      { call: abi.BUNC_OP_FORK, args: [abi.CLONE_NEWPID] },
    ],
    private: [{ call: abi.SYS_mount, args: ["", "/", "", abi.MS_REC | abi.MS_PRIVATE, ""] }],
  };
  for (const type of TYPES) steps[type] = make(type, context, mount);
  if (overlay) {
    const directory = (name: string): Call => ({
      call: abi.SYS_mkdirat,
      args: [abi.AT_FDCWD, `/dev/${name}`, 0o755],
    });
    steps.overlay = [
      ...make("tmpfs", context, tmpfs),
      {
        call: abi.SYS_move_mount,
        args: [tmpfs!, "", abi.AT_FDCWD, "/dev", abi.MOVE_MOUNT_F_EMPTY_PATH],
      },
      directory("lower"),
      directory("upper"),
      directory("work"),
      ...make("overlay", context, mount, [
        ["lowerdir", "/dev/lower"],
        ["upperdir", "/dev/upper"],
        ["workdir", "/dev/work"],
      ]),
    ];
  }
  steps.mknod = [
    ...make("tmpfs", context, tmpfs),
    { call: abi.SYS_mknodat, args: [tmpfs!, "null", abi.S_IFCHR | 0o666, NULL_DEVICE] },
  ];
  return tryOut(steps, maps ?? "own");
}

/** makedev(1, 3). */
const NULL_DEVICE = (1 << 8) | 3;

/** The names that tryMounts adds for itself. */
export const NOT_MOUNTS = ["namespaces", "private"];

/** Maps the ids of mounts that are never attached: of / and of the current directory. Only root can. */
export function tryIdmappedMounts(
  caller: CallerFacts,
  mounts: readonly MountLine[],
  here: string,
): Record<string, Outcome> {
  const found: Record<string, Outcome> = {};
  if (!caller.effective.includes("CAP_SYS_ADMIN") || caller.userNamespace) return found;
  let init: Init;
  try {
    init = userNamespaceHolder(caller.uid);
  } catch (error) {
    if (error instanceof BuncError) return found;
    throw error;
  }
  const range = [{ containerID: 0, hostID: 100000, size: 65536 }];
  try {
    applyIdMaps(init.pid, { uid: range, gid: range, path: "linux" }, caller.uid);
    const namespace = sys(
      abi.SYS_openat,
      abi.AT_FDCWD,
      `/proc/${init.pid}/ns/user`,
      abi.O_RDONLY | abi.O_CLOEXEC,
      0,
    );
    for (const path of ["/", here, "/dev/shm"]) {
      const type = mountOf(mounts, path)?.type;
      if (type === undefined || found[type] !== undefined) continue;
      const tree = openTree(path, false, { namespace, recursive: false });
      found[type] = outcome(tree);
      closeFd(tree);
    }
    closeFd(namespace);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
  } finally {
    init.kill();
  }
  return found;
}
