/** Which namespaces a process has that are not those of this one. */
import { BuncError } from "../errors.ts";
import { NAMESPACES } from "../launch/context.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import type { LinuxNamespaceType } from "../oci/config.ts";

/** The namespaces of a process that are not those of this one. */
export function namespacesOf(pid: number): LinuxNamespaceType[] {
  const joined: LinuxNamespaceType[] = [];
  for (const type of NAMESPACES) {
    const name = FILES[type];
    if (link(`/proc/${pid}/ns/${name}`) !== link(`/proc/self/ns/${name}`)) joined.push(type);
  }
  return joined;
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
