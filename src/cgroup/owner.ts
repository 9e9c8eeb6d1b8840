/** Who owns a container's cgroup (runtime-spec config-linux.md "Cgroup ownership"); for cgroup v2 only. */
import type { LinuxIDMapping, Spec } from "../oci/config.ts";
import { cleanGroupPath } from "./names.ts";

/**
 * The host uid that is to own the cgroup: that of process.user where the container has a cgroup namespace of its own
 * and a writable /sys/fs/cgroup; undefined otherwise, and where it is root on the host anyway.
 */
export function ownerOf(spec: Spec): number | undefined {
  const linux = spec.linux;
  const namespaces = linux?.namespaces ?? [];
  if (!namespaces.some((namespace) => namespace.type === "cgroup" && !namespace.path)) return undefined;
  const writable = (spec.mounts ?? []).some(
    (mount) =>
      mount.source === "cgroup" &&
      cleanGroupPath(mount.destination) === "/sys/fs/cgroup" &&
      !(mount.options ?? []).includes("ro"),
  );
  if (!writable) return undefined;
  const uid = spec.process?.user?.uid ?? 0;
  const user = namespaces.find((namespace) => namespace.type === "user");
  const host = user ? mapped(linux?.uidMappings ?? [], uid) : uid;
  return host === 0 ? undefined : host;
}

function mapped(mappings: readonly LinuxIDMapping[], uid: number): number | undefined {
  for (const { containerID, hostID, size } of mappings) {
    if (uid >= containerID && uid < containerID + size) return hostID + (uid - containerID);
  }
  return undefined;
}
