/**
 * Mounts in a container that runs, and their removal: a program of setns as for exec, that ends where an exec would begin
 * with its process. The container is hostile and awake: whatever it renames or links meanwhile, a path never leads out
 * of its root, and a mount is moved onto what was found once.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxNamespaceType, Mount, Spec } from "../oci/config.ts";
import { Context, type HostFacts, type LaunchSettings, type SentPart, Stage } from "./context.ts";
import { compileSetns, INIT_FD } from "./exec.ts";
import { parseMountOptions } from "./mount-options.ts";
import { planTrees, targetPath } from "./mount-sources.ts";
import { compileMounts, compileReadonlyMounts } from "./mounts.ts";
import { compileHiding } from "./namespaces.ts";
import { openHow } from "./resolve.ts";

/** What is to be done. */
export interface LiveMounts {
  action: "add" | "remove";
  mounts: readonly Mount[];
  /** Namespaces of the container's init that are not those of the caller. */
  join: readonly LinuxNamespaceType[];
}

/** Compiles one change. */
export class LiveMountProgram {
  readonly context: Context;

  /**
   * @param spec the container's
   * @throws BuncError for a mount that a running container cannot have
   */
  constructor(
    spec: Spec,
    private readonly change: LiveMounts,
    settings: LaunchSettings,
    host: HostFacts,
  ) {
    const c = new Context({ ...spec, mounts: [...change.mounts] }, settings, host);
    this.context = c;
    c.inherit({ name: INIT_FD, from: { kind: "container-init" } });
    if (change.action === "remove") return;
    change.mounts.forEach(refuse);
    planTrees(c, true);
  }

  /** The program. It waits at its end, Stage.mounted, for more, and is to be killed. */
  parts(): SentPart[] {
    const { context: c, change } = this;
    const { part } = c;
    part.at("namespaces");
    part.op(abi.BUNC_OP_RESET_SIGNALS, []);
    part.op(abi.SYS_prctl, [abi.PR_SET_NAME, "bunc:[mounts]"]);
    // Before anybody in the container can see it, and so that what is inherited stays out of reach.
    compileHiding(c);
    compileSetns(c, change.join);
    part.op(abi.SYS_umask, [0]);
    part.at("rootfs");
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/", abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
      slot: c.root,
      about: "cannot open the root of the container",
    });
    let ended: SentPart[] = [];
    if (change.action === "add") {
      ended = compileMounts(c);
      compileReadonlyMounts(c);
    } else {
      for (const [index, mount] of change.mounts.entries()) compileUnmount(c, mount, index);
    }
    ended.push(c.endPart(Stage.mounted));
    return ended;
  }
}

function refuse({ destination, options, type }: Mount, index: number): void {
  const flags = parseMountOptions(options, type);
  let problem: string | undefined;
  // By a link the container could have it change what protects the host: a read-only path of /proc, say.
  if (flags.remount) problem = "remount";
  // Nobody should copy what somebody is changing, with the rights of the host.
  else if (flags.tmpcopyup) problem = "tmpcopyup";
  else if (type === "cgroup" || type === "cgroup2") problem = `the type ${type}`;
  if (!problem) return;
  throw new BuncError(
    `cannot mount ${JSON.stringify(destination)}: ${problem} is not for a container that runs already`,
    { code: "config", path: `mounts[${index}]` },
  );
}

/**
 * Removes what is mounted at a destination. No link on the way is followed: the container could have one lead to what
 * protects the host, such as a masked path. A directory is unmounted as the current one, a file by its name there.
 */
function compileUnmount(c: Context, { destination }: Mount, index: number): void {
  const { part } = c;
  const target = targetPath(c, destination);
  const path = `mounts[${index}].destination`;
  if (target === "/") {
    throw new BuncError("the root of the container cannot be unmounted", { code: "config", path });
  }
  part.at("mounts", path);
  const about = `cannot unmount ${JSON.stringify(destination)}`;
  const hint = "it must be the path of a mount in the container, without symbolic links";
  const slash = target.lastIndexOf("/");
  const how = openHow(abi.O_PATH | abi.O_DIRECTORY, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS);
  const open = (name: string, tolerate: readonly (readonly [number, number])[]) =>
    part.op(abi.SYS_openat2, [c.root, name, how, how.size], { slot, tolerate, about, hint });
  const slot = c.slots.take("directory");
  open(target, [[abi.ENOTDIR, 3]]);
  part.op(abi.SYS_fchdir, [slot], { about });
  part.op(abi.SYS_umount2, [".", abi.MNT_DETACH], { about, hint });
  part.op(abi.SYS_close, [slot], { okSkip: 4 });
  open(target.slice(0, slash) || "/", []);
  part.op(abi.SYS_fchdir, [slot], { about });
  part.op(abi.SYS_umount2, [target.slice(slash + 1), abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW], { about, hint });
  part.op(abi.SYS_close, [slot]);
  c.slots.give(slot);
}
