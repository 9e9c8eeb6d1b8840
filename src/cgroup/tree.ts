/**
 * A cgroup and the cgroups below it, which the container itself may have made: names and depth are hostile. The walk
 * holds one descriptor, so that no depth exhausts them, and opens everything from the directory above.
 */
import { abi } from "../linux/abi.gen.ts";
import { readBytes } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";

const OPEN_DIR = abi.O_RDONLY | abi.O_DIRECTORY | abi.O_NOFOLLOW | abi.O_CLOEXEC;

/**
 * Visits a cgroup and all below it from the top down. After all below one have been visited, `leave` gets its name and
 * the descriptor of the directory above. What vanishes meanwhile is left out.
 *
 * @returns 0, or -errno when the cgroup itself cannot be opened.
 */
function walk(
  path: string,
  visit: (fd: number) => void,
  leave?: (above: number, name: Uint8Array) => void,
): number {
  let fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, OPEN_DIR, 0);
  if (fd < 0) return fd;
  visit(fd);
  const names: Uint8Array[] = [];
  const pending = [subgroups(fd)];
  for (;;) {
    const name = pending[pending.length - 1]!.pop();
    if (name === undefined) {
      pending.pop();
      const left = names.pop();
      if (left === undefined) break;
      const above = sys(abi.SYS_openat, fd, "..", OPEN_DIR, 0);
      sys(abi.SYS_close, fd);
      if (above < 0) return 0;
      fd = above;
      leave?.(fd, left);
      continue;
    }
    const child = sys(abi.SYS_openat, fd, name, OPEN_DIR, 0);
    if (child < 0) continue;
    sys(abi.SYS_close, fd);
    fd = child;
    visit(fd);
    names.push(name);
    pending.push(subgroups(fd));
  }
  sys(abi.SYS_close, fd);
  return 0;
}

/**
 * Names of the cgroups in an open directory, or of what directories it has (getdents64(2)), each ended by NUL. They are
 * bytes: as text a name that is not UTF-8 would be another one, and what is in that cgroup would be out of reach.
 */
export function subgroups(fd: number): Uint8Array[] {
  const names: Uint8Array[] = [];
  const buffer = new Uint8Array(16384);
  const view = new DataView(buffer.buffer);
  for (;;) {
    const n = sys(abi.SYS_getdents64, fd, buffer, buffer.length);
    if (n <= 0) return names;
    for (let at = 0; at < n; at += view.getUint16(at + 16, true)) {
      if (buffer[at + 18] !== abi.DT_DIR) continue;
      const name = buffer.slice(at + 19, buffer.indexOf(0, at + 19) + 1);
      if (!isDots(name)) names.push(name);
    }
  }
}

/** "." and "..". */
function isDots(name: Uint8Array): boolean {
  return name[0] === DOT && (name.length === 2 || (name.length === 3 && name[1] === DOT));
}

const DOT = 0x2e;

/**
 * Pids of all processes in a cgroup and below; those outside of this process's pid namespace are left out. -errno when
 * the cgroup cannot be read at all.
 */
export function pidsBelow(path: string): number[] | number {
  const pids = new Set<number>();
  const result = walk(path, (fd) => {
    let bytes = readBytes("cgroup.procs", undefined, fd);
    // The processes of a threaded cgroup are listed by its domain, here are their threads.
    if (bytes === -abi.EOPNOTSUPP) bytes = readBytes("cgroup.threads", undefined, fd);
    if (typeof bytes === "number") return;
    for (const line of text(bytes).split("\n")) {
      const pid = Number(line);
      if (pid > 0) pids.add(pid);
    }
  });
  return result < 0 ? result : [...pids];
}

/** Removes a cgroup and all below it, as far as no process is in them; 0 or -errno of the last rmdir. */
export function removeTree(path: string): number {
  const result = rmdir(path);
  // EROFS is answered for a directory that does not exist, too.
  if (result === 0 || (result === -abi.EROFS && !exists(path))) return 0;
  walk(
    path,
    () => {},
    (above, name) => sys(abi.SYS_unlinkat, above, name, abi.AT_REMOVEDIR),
  );
  return rmdir(path);
}

/** rmdir(2); a directory that is not there is gone. */
export function rmdir(path: string): number {
  const result = sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, abi.AT_REMOVEDIR);
  return result === -abi.ENOENT ? 0 : result;
}

/** Whether there is anything at a path. */
export function exists(path: string): boolean {
  return sys(abi.SYS_faccessat2, abi.AT_FDCWD, path, 0, 0) === 0;
}
