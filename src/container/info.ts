/** `state`: what a container is and does, as `state` and `list` print it. */

import * as live from "../cgroup/live.ts";
import { readText } from "../linux/file.ts";
import type { CgroupOps } from "./cgroups.ts";
import type { Summary } from "./state.ts";
import { statusOf } from "./status.ts";
import { readSummary, statePath } from "./store.ts";
import type { ContainerInfo } from "./types.ts";

/**
 * A container's state, read without a lock. The owner is "": as in runc only `list` looks it up.
 * @throws BuncError "container does not exist", or one that names the file that cannot be read
 */
export function loadState(root: string, id: string, cgroups: CgroupOps = live): ContainerInfo {
  const summary = readSummary(root, id);
  return infoOf(summary, statePath(root, id), cgroups, "");
}

/** What is told of a container that has been read. */
export function infoOf(
  summary: Summary,
  path: string,
  cgroups: Pick<CgroupOps, "isFrozen">,
  owner: string,
): ContainerInfo {
  const { ociVersion, id, pid, bundle, rootfs, created, annotations } = summary;
  const status = statusOf(summary, path, cgroups);
  return {
    ociVersion,
    id,
    pid: status === "stopped" ? 0 : pid,
    status,
    bundle,
    rootfs,
    created,
    ...(annotations ? { annotations } : {}),
    owner,
  };
}

/** Names of users by the host's /etc/passwd, which is read when the first is asked for. */
export class Owners {
  private passwd: string | undefined;
  private readonly known = new Map<number, string>();

  /** The name of a uid, or "#uid" where there is none. */
  name(uid: number): string {
    let name = this.known.get(uid);
    if (name === undefined) {
      if (this.passwd === undefined) {
        const text = readText("/etc/passwd", 16 << 20);
        this.passwd = typeof text === "string" ? text : "";
      }
      name = userName(this.passwd, uid) ?? `#${uid}`;
      this.known.set(uid, name);
    }
    return name;
  }
}

/** The first name of a uid in a passwd file, passwd(5). */
export function userName(passwd: string, uid: number): string | undefined {
  const wanted = String(uid);
  for (let at = 0; at < passwd.length; ) {
    let end = passwd.indexOf("\n", at);
    if (end < 0) end = passwd.length;
    const name = passwd.indexOf(":", at);
    const password = name < 0 ? -1 : passwd.indexOf(":", name + 1);
    if (password > 0 && password < end && name > at) {
      const stop = passwd.indexOf(":", password + 1);
      if (passwd.slice(password + 1, stop < 0 || stop > end ? end : stop) === wanted) {
        return passwd.slice(at, name);
      }
    }
    at = end + 1;
  }
  return undefined;
}
