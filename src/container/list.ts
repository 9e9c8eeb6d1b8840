/** `list`: all containers below a root. */

import * as live from "../cgroup/live.ts";
import { BuncError, renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { closeFd } from "../linux/process.ts";
import type { CgroupOps } from "./cgroups.ts";
import { infoOf, Owners } from "./info.ts";
import { type Entry, listDirectory, openDirectory, ownerOf, summaryAt } from "./store.ts";
import type { ContainerInfo, Listing } from "./types.ts";

/**
 * All containers below a root, sorted by id, without a lock.
 * @throws BuncError with errno ENOENT when the root does not exist
 */
export function listContainers(root: string, cgroups: CgroupOps = live): Listing {
  const fd = openDirectory(root);
  if (fd < 0) throw pathError("open", root, fd);
  try {
    const entries = listDirectory(fd);
    if (typeof entries === "number") throw pathError("readdir", root, entries);
    // As Go's os.ReadDir sorts: by bytes, which for ids is by UTF-16 units.
    entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    return listEntries(fd, root, entries, cgroups);
  } finally {
    closeFd(fd);
  }
}

function listEntries(root: number, rootPath: string, entries: readonly Entry[], cgroups: CgroupOps): Listing {
  const containers: ContainerInfo[] = [];
  const errors: string[] = [];
  const owners = new Owners();
  for (const { name, type } of entries) {
    if (type !== abi.DT_DIR && type !== abi.DT_UNKNOWN) continue;
    const path = `${rootPath}/${name}`;
    try {
      const summary = summaryAt(root, `${name}/state.json`, path);
      const uid = ownerOf(root, name);
      if (uid < 0) continue;
      containers.push(infoOf(summary, path, cgroups, owners.name(uid)));
    } catch (error) {
      if (!(error instanceof BuncError)) throw error;
      // Deleted since the directory was read, or, where the file system gives no types, no directory at all.
      if (ownerOf(root, `${name}/.`) < 0) continue;
      errors.push(`load container ${name}: ${renderError(error)}`);
    }
  }
  return { containers, errors };
}
