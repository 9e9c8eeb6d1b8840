/**
 * The external mounts of a container: what criu is not to save, because it is the host's (binds, devices, masked files).
 * criu knows them by their mount points, which are those that the destinations of the config lead to.
 */
import { type Layout, readLayout } from "../cgroup/layout.ts";
import type { LibcontainerConfig } from "../container/libcontainer.ts";
import { BuncError } from "../errors.ts";
import { cleanPath } from "../launch/mount-sources.ts";
import { openHow } from "../launch/resolve.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { ExternalMount } from "./rpc.gen.ts";

/** A mount of the config that is external: where it is in the container, and where it comes from on the host. */
interface Bind {
  destination: string;
  source: string;
}

/** Where masked files come from. */
const NULL = "/dev/null";

/**
 * What criu is told before it saves: the value of each is its name for the restore.
 * @param pid of the container's init
 */
export function dumpMounts(config: LibcontainerConfig, pid: number): ExternalMount[] {
  const rootfs = new Rootfs(config.rootfs);
  try {
    const found = [...binds(config), ...devices(config)].map(({ destination }) => {
      const place = rootfs.resolve(destination);
      return { key: place, val: place };
    });
    return [...found, ...maskedFiles(config.mask_paths ?? [], pid)];
  } finally {
    rootfs.close();
  }
}

/** What criu is told before it restores: by the names of before, where each is on the host now. */
export function restoreMounts(
  config: LibcontainerConfig,
  cgroups: Readonly<Record<string, string>>,
): ExternalMount[] {
  const rootfs = new Rootfs(config.rootfs);
  try {
    const masked = config.mask_paths?.length ? [{ destination: NULL, source: NULL }] : [];
    return [...binds(config, cgroups), ...masked, ...devices(config)].map(({ destination, source }) => ({
      key: rootfs.resolve(destination),
      val: source,
    }));
  } finally {
    rootfs.close();
  }
}

function binds(config: LibcontainerConfig, cgroups: Readonly<Record<string, string>> = {}): Bind[] {
  const found: Bind[] = [];
  for (const { device, destination, source } of config.mounts ?? []) {
    if (device === "bind") found.push({ destination, source });
    else if (device === "cgroup") found.push(...cgroupBinds(config, destination, cgroups));
  }
  return found;
}

/** Without a cgroup namespace a cgroup mount of v1 is a bind mount for each hierarchy. */
function cgroupBinds(
  config: LibcontainerConfig,
  destination: string,
  cgroups: Readonly<Record<string, string>>,
  layout: Layout = readLayout(),
): Bind[] {
  if (layout.mode === "v2" || config.namespaces?.some(({ type }) => type === "NEWCGROUP")) return [];
  return layout.v1.map(({ mountPoint, controllers }) => ({
    destination: `${destination}/${mountPoint.slice(mountPoint.lastIndexOf("/") + 1)}`,
    source: cgroups[controllers[0] ?? ""] ?? mountPoint,
  }));
}

/** In a user namespace device nodes are bind mounts of the host's. */
function devices(config: LibcontainerConfig): Bind[] {
  return (config.devices ?? []).map(({ path }) => ({ destination: path, source: path }));
}

/** Masked files are covered by the null device; directories by a tmpfs, which criu saves as any other. */
function maskedFiles(paths: readonly string[], pid: number): ExternalMount[] {
  const root = openPath(`/proc/${pid}/root`);
  if (root < 0) throw pathError("open", `/proc/${pid}/root`, root);
  try {
    return paths.filter((path) => isFile(root, path)).map((path) => ({ key: path, val: NULL }));
  } finally {
    closeFd(root);
  }
}

function openPath(path: string): number {
  return sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
}

/** Below a root that is the container's: no link leads out of it. */
function openBelow(root: number, path: string): number {
  const how = openHow(abi.O_PATH);
  const bytes = new Uint8Array(how.view.buffer);
  for (let again = 0; ; again++) {
    const fd = sys(abi.SYS_openat2, root, path, bytes, bytes.length);
    if ((fd !== -abi.EAGAIN && fd !== -abi.EINTR) || again === 100) return fd;
  }
}

function isFile(root: number, path: string): boolean {
  const fd = openBelow(root, path);
  if (fd === -abi.ENOENT || fd === -abi.ENOTDIR) return false;
  if (fd < 0) throw pathError("open", path, fd);
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  sys(abi.SYS_newfstatat, fd, "", new Uint8Array(stat.buffer), abi.AT_EMPTY_PATH);
  closeFd(fd);
  return (stat.getUint32(stat_.st_mode, true) & abi.S_IFMT) !== abi.S_IFDIR;
}

/** The root file system as the host sees it; its links are followed as the container would. */
class Rootfs {
  private readonly root: number;
  private readonly path: string;

  constructor(private readonly rootfs: string) {
    this.root = openPath(rootfs);
    if (this.root < 0) throw pathError("open", rootfs, this.root);
    this.path = linkOf(this.root);
  }

  close(): void {
    closeFd(this.root);
  }

  /** Where a destination leads to; what of it does not exist (it may lie on another mount) stays as it is. */
  resolve(destination: string): string {
    const clean = cleanPath(destination);
    // A destination may name the rootfs, too.
    const wanted = clean.startsWith(`${this.rootfs}/`) ? clean.slice(this.rootfs.length) : clean;
    for (let head = wanted, rest = ""; head !== ""; ) {
      const fd = openBelow(this.root, head);
      if (fd >= 0) {
        const found = linkOf(fd);
        closeFd(fd);
        return this.inside(found) + rest;
      }
      if (fd !== -abi.ENOENT && fd !== -abi.ENOTDIR) throw pathError("open", `${this.rootfs}${head}`, fd);
      const slash = head.lastIndexOf("/");
      rest = head.slice(slash) + rest;
      head = head.slice(0, slash);
    }
    return wanted;
  }

  private inside(path: string): string {
    if (path === this.path) return "";
    if (this.path === "/") return path;
    if (path.startsWith(`${this.path}/`)) return path.slice(this.path.length);
    // It was renamed out of the rootfs meanwhile.
    throw new BuncError(`${path} is not below the rootfs ${this.rootfs}`, { code: "host" });
  }
}

/** The path of an open descriptor. */
function linkOf(fd: number): string {
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${fd}`, buffer, buffer.length);
  if (n < 0) throw pathError("readlink", `/proc/self/fd/${fd}`, n);
  return text(buffer.subarray(0, n));
}
