/** Namespaces that a container has joined by path: at a checkpoint they are left out, at a restore there again. */
import type { LibcontainerConfig } from "../container/libcontainer.ts";
import { BuncError } from "../errors.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { InheritFd, JoinNamespace } from "./rpc.gen.ts";

/** The kernel's names of namespaces, by libcontainer's. */
const NAMES: Readonly<Record<string, string>> = {
  NEWNET: "net",
  NEWPID: "pid",
  NEWNS: "mnt",
  NEWUTS: "uts",
  NEWIPC: "ipc",
  NEWUSER: "user",
  NEWCGROUP: "cgroup",
  NEWTIME: "time",
};

/** The least criu that keeps a namespace of this type external; one of another type it joins by path. */
const EXTERNAL_SINCE: Readonly<Record<string, number>> = { NEWNET: 31100, NEWPID: 31500 };

/** The name under which criu keeps an external namespace: "extRootNetNS". */
function keyOf(name: string): string {
  return `extRoot${name[0]!.toUpperCase()}${name.slice(1)}NS`;
}

type Config = Pick<LibcontainerConfig, "namespaces">;

/**
 * The namespaces that are not to be saved: "net[4026531840]:extRootNetNS".
 * @param version criu's
 */
export function dumpNamespaces({ namespaces }: Config, version: number): string[] {
  const external: string[] = [];
  for (const { type, path } of namespaces ?? []) {
    if (!path || EXTERNAL_SINCE[type] === undefined) continue;
    const name = externalName(type, version, "checkpointing");
    external.push(`${name}[${inode(path)}]:${keyOf(name)}`);
  }
  return external;
}

/** What a restore is told of namespaces. */
export interface JoinedNamespaces {
  inherit: InheritFd[];
  join: JoinNamespace[];
  /** Open namespaces, for criu to get as the numbers in `inherit`. */
  fds: number[];
}

/**
 * Opens the namespaces that a restored container is to be in again.
 * @param firstFd number in criu of the first of them
 */
export function restoreNamespaces(
  { namespaces }: Config,
  version: number,
  firstFd: number,
): JoinedNamespaces {
  const found: JoinedNamespaces = { inherit: [], join: [], fds: [] };
  try {
    for (const { type, path } of namespaces ?? []) {
      if (!path) continue;
      if (EXTERNAL_SINCE[type] === undefined) {
        if (type === "NEWCGROUP" || NAMES[type] === undefined) {
          throw new BuncError(`Do not know how to handle namespace ${type}`, { code: "config" });
        }
        found.join.push({ ns: NAMES[type], ns_file: path });
        continue;
      }
      const name = externalName(type, version, "the restoration");
      const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0);
      if (fd < 0) {
        const { message, fields } = pathError("open", path, fd);
        const words = name === "net" ? "network" : name;
        throw new BuncError(`Requested ${words} namespace ${path} does not exist: ${message}`, fields);
      }
      found.inherit.push({ key: keyOf(name), fd: firstFd + found.fds.length });
      found.fds.push(fd);
    }
  } catch (error) {
    for (const fd of found.fds) closeFd(fd);
    throw error;
  }
  return found;
}

function externalName(type: string, version: number, what: string): string {
  const name = NAMES[type]!;
  if (version >= EXTERNAL_SINCE[type]!) return name;
  throw new BuncError(
    `criu lacks support for external ${name} namespace during ${what} process (old criu version?)`,
    { code: "host" },
  );
}

function inode(path: string): bigint {
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  const result = sys(abi.SYS_newfstatat, abi.AT_FDCWD, path, new Uint8Array(stat.buffer), 0);
  if (result < 0) throw pathError("stat", path, result);
  return stat.getBigUint64(stat_.st_ino, true);
}
