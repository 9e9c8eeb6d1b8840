/** The descriptors that init inherits: what each of them is, opened by the parent. */
import { BuncError } from "../errors.ts";
import type { InheritedFd } from "../launch/context.ts";
import { cloneFlag } from "../launch/namespaces.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { connectUnix } from "../linux/socket.ts";
import type { LinuxNamespaceType, Spec } from "../oci/config.ts";
import type { HookOutput } from "./hooks.ts";
import { openDirectory } from "./store.ts";
import type { TreeOpener } from "./trees.ts";
import type { LaunchOptions } from "./types.ts";

/** Descriptors in the order that init gets them, and those among them that the parent closes after the spawn. */
export interface OpenedFds {
  fds: number[];
  owned: number[];
}

/** Where they come from. */
export interface FdSources {
  spec: Spec;
  options: LaunchOptions;
  /** The state directory. */
  stateDir: string;
  /** The socket for the terminal's master, when the command itself relays it. */
  consoleFd: number | undefined;
  euid: number;
  /** A pidfd of the init of the container that is joined; stays the caller's. */
  containerInit?: number;
  /** The files that take what hooks write; they stay the caller's. */
  hookOutput?: HookOutput | undefined;
}

/**
 * Opens all but the first, which is the socket to init.
 *
 * @throws BuncError naming what could not be opened; nothing stays open then
 */
export async function openInheritedFds(
  wanted: readonly InheritedFd[],
  sources: FdSources,
): Promise<OpenedFds> {
  const opened: OpenedFds = { fds: [], owned: [] };
  let trees: TreeOpener | undefined;
  try {
    for (const { from } of wanted.slice(1)) {
      if (from.kind === "console-socket" && sources.consoleFd !== undefined) {
        opened.fds.push(sources.consoleFd);
        continue;
      }
      if (from.kind === "hook-file") {
        opened.fds.push(sources.hookOutput!.fds[from.file.stream === "stdout" ? 0 : 1]);
        continue;
      }
      if (from.kind === "container-init") {
        opened.fds.push(sources.containerInit!);
        continue;
      }
      let number: number;
      if (from.kind === "tree") {
        trees ??= new (await import("./trees.ts")).TreeOpener(sources.spec, sources.euid);
        number = trees.open(from);
      } else {
        number = openFd(from, sources);
      }
      opened.fds.push(number);
      opened.owned.push(number);
    }
    return opened;
  } catch (error) {
    for (const fd of opened.owned) closeFd(fd);
    throw error;
  } finally {
    trees?.close();
  }
}

function openFd(
  from: Exclude<InheritedFd["from"], { kind: "tree" | "container-init" | "hook-file" }>,
  { options, stateDir }: FdSources,
): number {
  // Relative sockets are relative to the bundle, as in runc.
  const fromBundle = (path: string) => (path.startsWith("/") ? path : `${options.bundle}/${path}`);
  switch (from.kind) {
    case "state-dir":
      return openReadonlyTree(stateDir);
    case "console-socket":
      return connectUnix(fromBundle(options.consoleSocket!));
    case "pidfd-socket":
      return connectUnix(fromBundle(options.pidfdSocket!));
    case "namespace":
      return openNamespace(from.namespace.type, from.namespace.path!, from.path);
    case "sync":
      throw new Error("the socket is made by the spawn");
  }
}

/**
 * The state directory as a mount of its own, read-only: whoever gets hold of init's descriptor reaches the fifo (which
 * can be written to all the same) and nothing above.
 */
function openReadonlyTree(path: string): number {
  const flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC;
  const fd = sys(abi.SYS_open_tree, abi.AT_FDCWD, path, flags);
  // An ordinary user may make no mounts: init puts the fifo in its place before others can see it (launch/renew.ts).
  if (fd === -abi.EPERM) return openDirectory(path);
  if (fd < 0) throw pathError("open_tree", path, fd);
  const attr = new Uint8Array(32);
  attr[0] = abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID;
  // Before Linux 5.12 it stays writable; the descriptor is then as good as runc's.
  sys(abi.SYS_mount_setattr, fd, "", abi.AT_EMPTY_PATH, attr, attr.length);
  return fd;
}

/** Opens a namespace to join and checks that it is of the type the bundle says. */
function openNamespace(type: LinuxNamespaceType, path: string, at: string): number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0);
  if (fd < 0) {
    const error = pathError("open", path, fd);
    throw new BuncError(`cannot join the ${type} namespace: ${error.message}`, { ...error.fields, path: at });
  }
  const found = sys(abi.SYS_ioctl, fd, abi.NS_GET_NSTYPE);
  if (found === cloneFlag(type)) return fd;
  closeFd(fd);
  throw new BuncError(
    `cannot join the ${type} namespace: ${path} is ${found < 0 ? "no namespace" : "another type"}`,
    {
      code: "config",
      path: at,
    },
  );
}
