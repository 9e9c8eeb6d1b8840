/** Who owns a container's cgroup (runtime-spec config-linux.md "Cgroup ownership"); for cgroup v2 only. */
import type { LinuxIDMapping, Spec } from "../oci/config.ts";
import { cleanGroupPath } from "./names.ts";

/**
 * The host uid that is to own the cgroup: that of process.user where the container has a cgroup namespace of its own
 * and a writable /sys/fs/cgroup; undefined otherwise, and where it is root on the host anyway.
 */
export function ownerOf(spec: Spec): number | undefined {
  let ownNamespace = false;
  let userNamespace = false;
  for (const { type, path } of spec.linux?.namespaces ?? []) {
    if (type === "cgroup" && !path) ownNamespace = true;
    else if (type === "user") userNamespace = true;
  }
  if (!ownNamespace || !hasWritableMount(spec)) return undefined;
  const uid = spec.process?.user.uid ?? 0;
  const host = userNamespace ? mapped(spec.linux?.uidMappings ?? [], uid) : uid;
  return host === 0 ? undefined : host;
}

function hasWritableMount(spec: Spec): boolean {
  for (const { source, destination, options } of spec.mounts ?? []) {
    if (source === "cgroup" && cleanGroupPath(destination) === "/sys/fs/cgroup" && !options?.includes("ro")) {
      return true;
    }
  }
  return false;
}

function mapped(mappings: readonly LinuxIDMapping[], uid: number): number | undefined {
  for (const { containerID, hostID, size } of mappings) {
    if (uid >= containerID && uid < containerID + size) return hostID + (uid - containerID);
  }
  return undefined;
}
