/** Which namespaces a process has that are not those of this one. */
import { BuncError } from "../errors.ts";
import { NAMESPACES } from "../launch/context.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import type { LinuxNamespaceType } from "../oci/config.ts";

/**
 * The namespaces of a process that are not those of this one; undefined where it has ended. Its number may be another's
 * by then, a process of the host maybe, from whom there is nothing to join: what was to run in a container would run on
 * the host.
 * @param pidfd of the process; -1 where nothing is going to be joined
 */
export function namespacesOf(pid: number, pidfd: number): LinuxNamespaceType[] | undefined {
  const joined: LinuxNamespaceType[] = [];
  for (const type of NAMESPACES) {
    const name = FILES[type];
    if (link(`/proc/${pid}/ns/${name}`) !== link(`/proc/self/ns/${name}`)) joined.push(type);
  }
  // Asked last: who has this pid now had it all the time.
  const ended = sys(abi.SYS_pidfd_send_signal, pidfd, 0, 0, 0) === -abi.ESRCH;
  return ended ? undefined : joined;
}

const FILES: Readonly<Record<LinuxNamespaceType, string>> = {
  user: "user",
  ipc: "ipc",
  uts: "uts",
  network: "net",
  pid: "pid",
  mount: "mnt",
  cgroup: "cgroup",
  time: "time",
};

function link(path: string): string {
  const buffer = new Uint8Array(64);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, path, buffer, buffer.length);
  if (n === -abi.ENOENT) return "";
  if (n < 0) {
    const error = pathError("readlink", path, n);
    if (n !== -abi.EACCES && n !== -abi.EPERM) throw error;
    // Until execve init is hidden (compileHiding), from an ordinary user where it could not be renewed (launch/renew.ts).
    const hint =
      "init hides until the program runs: `start` the container first, or let it have user and mount namespaces of its own";
    throw new BuncError(error.message, { ...error.fields, hint });
  }
  return text(buffer.subarray(0, n));
}
