/**
 * What bunc does by calls of its own while it launches, for `explain`: the operations stand for those of src/container,
 * in their order. Pure.
 */
import type { Cgroup } from "../cgroup/cgroup.ts";
import type { InheritedFd } from "../launch/context.ts";
import type { SidePart } from "../launch/explain.ts";
import { cloneFlag } from "../launch/namespaces.ts";
import { Part, Slot, Struct } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { bytesOf } from "../linux/lib.ts";
import type { Spec } from "../oci/config.ts";

/** What of the container only a command that makes one is given. */
export interface Place {
  /** Its state directory. */
  stateDir: string;
  /** The pid of its init. */
  pid: string;
  /** It is in a user namespace, and the parent is root: what it gets of the host's mounts is locked. */
  locked?: boolean;
}

/** A result that is told by its name; the numbers do not matter, nothing of this is executed. */
const known = (name: string) => new Slot(0, name);

/** A part that is left out when it is empty. */
export function plain(parts: SidePart[], part: Part): void {
  if (part.ops.length) parts.push({ side: "parent", part, plain: true });
}

/** The state directory and the first state.json (container/store.ts). */
export function claim({ stateDir }: Place): Part {
  const part = new Part().at("state");
  const dir = known("state directory");
  part.op(abi.SYS_mkdirat, [abi.AT_FDCWD, stateDir, 0o711]);
  const flags = abi.O_RDONLY | abi.O_DIRECTORY | abi.O_NOFOLLOW | abi.O_CLOEXEC;
  part.op(abi.SYS_openat, [abi.AT_FDCWD, stateDir, flags, 0], { slot: dir });
  part.op(abi.SYS_flock, [dir, abi.LOCK_EX | abi.LOCK_NB]);
  const text = bytesOf("<state>");
  const create = abi.O_WRONLY | abi.O_CREAT | abi.O_EXCL | abi.O_CLOEXEC;
  part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, `${stateDir}/state.json`, create, text, text.length]);
  return part;
}

/** state.json again, beside itself and then in its place. */
export function save({ stateDir }: Place): Part {
  const part = new Part().at("state");
  const text = bytesOf("<state>");
  const create = abi.O_WRONLY | abi.O_CREAT | abi.O_EXCL | abi.O_CLOEXEC;
  part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, `${stateDir}/.state.json`, create, text, text.length]);
  part.op(abi.SYS_renameat, [
    ...[abi.AT_FDCWD, `${stateDir}/.state.json`],
    ...[abi.AT_FDCWD, `${stateDir}/state.json`],
  ]);
  return part;
}

/** After the program's end, when nothing is in the way. */
export function removal({ stateDir }: Place, { paths }: Pick<Cgroup, "paths">): Part {
  const part = new Part().at("cgroup", "linux.cgroupsPath");
  for (const path of new Set(Object.values(paths))) {
    part.op(abi.SYS_unlinkat, [abi.AT_FDCWD, path, abi.AT_REMOVEDIR], { tolerate: [[abi.ENOENT, 0]] });
  }
  part.at("state");
  part.op(abi.SYS_unlinkat, [abi.AT_FDCWD, `${stateDir}/state.json`, 0]);
  part.op(abi.SYS_unlinkat, [abi.AT_FDCWD, stateDir, abi.AT_REMOVEDIR]);
  return part;
}

/** What init inherits, as container/launch-fds.ts opens it. */
export function openings(fds: readonly InheritedFd[], { stateDir, pid, locked }: Place): Part {
  const part = new Part();
  if (locked && fds.some(({ from }) => from.kind === "tree")) {
    // By children that are gone then: one makes a mount namespace in a user namespace, others open the trees in it.
    part.at("mounts").op(abi.SYS_unshare, [abi.CLONE_NEWUSER | abi.CLONE_NEWNS]);
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/proc/self/ns/mnt", abi.O_RDONLY | abi.O_CLOEXEC, 0], {
      slot: known("locked mounts"),
    });
    part.op(abi.SYS_setns, [known("locked mounts"), abi.CLONE_NEWNS]);
  }
  for (const { name, from } of fds) {
    switch (from.kind) {
      case "sync":
        part.at("namespaces").op(abi.SYS_socketpair, [abi.AF_UNIX, abi.SOCK_STREAM | abi.SOCK_CLOEXEC, 0]);
        break;
      case "container-init":
        part.at("namespaces").op(abi.SYS_pidfd_open, [bytesOf(pid), 0], { slot: known(name) });
        break;
      case "namespace": {
        const slot = known(name);
        part.at("namespaces", from.path);
        part.op(abi.SYS_openat, [abi.AT_FDCWD, from.namespace.path!, abi.O_RDONLY | abi.O_CLOEXEC, 0], {
          slot,
        });
        part.op(abi.SYS_ioctl, [slot, abi.NS_GET_NSTYPE], { slot: known("type") });
        part.op(abi.BUNC_OP_EXPECT, [known("type"), -1, cloneFlag(from.namespace.type), abi.EINVAL], {
          about: `it is another namespace than ${from.namespace.type}`,
        });
        break;
      }
      case "tree": {
        const flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | (from.recursive ? abi.AT_RECURSIVE : 0);
        part.at("mounts", `mounts[${from.mount}].source`);
        part.op(abi.SYS_open_tree, [abi.AT_FDCWD, from.source, flags], { slot: known(name) });
        break;
      }
      case "hook-file":
        part.at("hooks", from.file.path);
        part.op(
          abi.SYS_openat,
          [abi.AT_FDCWD, from.file.file, abi.O_WRONLY | abi.O_CREAT | abi.O_APPEND | abi.O_CLOEXEC, 0o600],
          { slot: known(name) },
        );
        break;
      case "state-dir":
        part.at("state");
        part.op(abi.SYS_open_tree, [abi.AT_FDCWD, stateDir, abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC], {
          slot: known(name),
        });
        break;
      default:
        // A socket that the caller has named: its terminal's, or the one that gets a pidfd.
        part.at(from.kind === "console-socket" ? "terminal" : "process");
        part.op(abi.SYS_socket, [abi.AF_UNIX, abi.SOCK_STREAM | abi.SOCK_CLOEXEC, 0], { slot: known(name) });
        part.op(abi.SYS_connect, [known(name)]);
    }
  }
  return part;
}

/** The ids of a mount that init has opened (container/trees.ts). */
export function mapMount(mount: number): Part {
  const part = new Part().at("mounts", `mounts[${mount}]`);
  const tree = known("mount of init's");
  part.op(abi.SYS_pidfd_getfd, [known("pidfd of init"), known("number in init"), 0], { slot: tree });
  const namespace = known("user namespace");
  part.op(
    abi.SYS_openat,
    [abi.AT_FDCWD, "/proc/<pid of a helper>/ns/user", abi.O_RDONLY | abi.O_CLOEXEC, 0],
    { slot: namespace },
  );
  const attributes = new Struct(32, "mount_attr").u64(0, abi.MOUNT_ATTR_IDMAP);
  part.op(abi.SYS_mount_setattr, [tree, "", abi.AT_EMPTY_PATH, attributes, attributes.size]);
  return part;
}

/** The listener of a seccomp filter, on its way to the agent (container/seccomp-listener.ts). */
export function passListener(spec: Spec): Part {
  const part = new Part().at("seccomp", "linux.seccomp.listenerPath");
  const listener = known("listener");
  const agent = known("agent");
  const text = bytesOf(spec.linux?.seccomp?.listenerPath ?? "");
  part.op(abi.SYS_pidfd_getfd, [known("pidfd of init"), known("number in init"), 0], { slot: listener });
  part.op(abi.SYS_socket, [abi.AF_UNIX, abi.SOCK_STREAM | abi.SOCK_CLOEXEC, 0], { slot: agent });
  part.op(abi.SYS_connect, [agent, text, text.length]);
  part.op(abi.BUNC_OP_SENDFD, [agent, listener, bytesOf("<state>"), 0]);
  return part;
}
