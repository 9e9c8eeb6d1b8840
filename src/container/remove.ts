/**
 * Removes a state directory: the files bunc and runc put there and nothing else, so that a wrong --root cannot cost
 * anybody's data. No symlink is followed, and no other file system is entered.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { listDirectory, type StateDir } from "./store.ts";

const STATE = "state.json";

/** Files by name; "checkpoint" marks a container that runc has restored, "trace" is that of `create --trace`. */
const FILES = new Set([".state.json", "exec.fifo", "checkpoint", "trace"]);

/** Temporary files of runc begin so: of its state, and of its own executable. */
const TEMPORARY = ["state-", "runc."];

/** Directories with files of their own: $NOTIFY_SOCKET's, and where runc restores mount a root. */
const DIRECTORIES: Readonly<Record<string, readonly string[]>> = {
  notify: ["notify.sock"],
  "criu-root": [],
};

/**
 * Removes a container's state directory; one that is gone already is fine.
 * @param mounts mount points in it, relative to it
 * @throws BuncError naming what it does not know, or path and call
 */
export function removeStateDir(dir: StateDir, mounts: readonly string[] = []): void {
  for (const mount of mounts) unmount(dir, mount);
  // From the beginning, should this have been tried before.
  sys(abi.SYS_lseek, dir.fd, 0, 0);
  const entries = listDirectory(dir.fd);
  if (typeof entries === "number") throw pathError("readdir", dir.path, entries);
  const left: string[] = [];
  for (const { name } of entries) {
    if (name !== STATE && !removeEntry(dir, name, mounts)) left.push(name);
  }
  // Last, and not while something is in the way: without it there would be no container to delete again.
  if (left.length === 0) unlink(dir, STATE);
  const result = sys(abi.SYS_unlinkat, abi.AT_FDCWD, dir.path, abi.AT_REMOVEDIR);
  if (result === 0 || result === -abi.ENOENT) return;
  const error = pathError("rmdir", dir.path, result);
  throw new BuncError(`unable to remove container state dir: ${error.message}`, {
    ...error.fields,
    hint: left.length > 0 ? `remove what is not the container's, then delete it again: ${shown(left)}` : "",
  });
}

function shown(names: readonly string[]): string {
  const first = names.slice(0, 5).map((name) => JSON.stringify(name));
  return names.length > 5 ? `${first.join(", ")} and ${names.length - 5} more` : first.join(", ");
}

/** Detaches all that is mounted on a path in the directory; a path that leads out of it is left alone. */
function unmount(dir: StateDir, mount: string): void {
  if (mount.startsWith("/") || mount.split("/").includes("..")) return;
  const path = `${dir.path}/${mount}`;
  const flags = abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW;
  // EINVAL: nothing is mounted there (any more).
  const result = sys(abi.SYS_umount2, path, flags);
  if (result < 0 && result !== -abi.EINVAL && result !== -abi.ENOENT) throw pathError("umount", path, result);
}

/** Removes an entry that is known by its name; false when it stays. */
function removeEntry(dir: StateDir, name: string, mounts: readonly string[]): boolean {
  if (FILES.has(name) || TEMPORARY.some((start) => name.startsWith(start))) {
    unlink(dir, name);
    return true;
  }
  if (Object.hasOwn(DIRECTORIES, name)) return removeDirectory(dir, name, DIRECTORIES[name]!);
  if (!mounts.includes(name)) return false;
  const result = sys(abi.SYS_unlinkat, dir.fd, name, 0);
  return result === 0 || (result === -abi.EISDIR && removeDirectory(dir, name, []));
}

function unlink(dir: StateDir, name: string): void {
  const result = sys(abi.SYS_unlinkat, dir.fd, name, 0);
  if (result < 0 && result !== -abi.ENOENT) throw pathError("unlink", `${dir.path}/${name}`, result);
}

/** Removes a directory with these files; false for one with others, and for what is no directory. */
function removeDirectory(dir: StateDir, name: string, files: readonly string[]): boolean {
  const flags = abi.O_RDONLY | abi.O_DIRECTORY | abi.O_NOFOLLOW | abi.O_CLOEXEC;
  const fd = sys(abi.SYS_openat, dir.fd, name, flags, 0);
  if (fd < 0) return false;
  for (const file of files) sys(abi.SYS_unlinkat, fd, file, 0);
  closeFd(fd);
  return sys(abi.SYS_unlinkat, dir.fd, name, abi.AT_REMOVEDIR) === 0;
}
