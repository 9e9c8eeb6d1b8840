/** The JSON of a container's state, in the fields and the order of runc's `state` and `list`. */
import type { ContainerInfo } from "../container/types.ts";

/** A value whose JSON has the fields in order; annotations sorted as Go sorts maps, and left out when empty. */
export function stateJson(info: ContainerInfo): object {
  const { ociVersion, id, pid, status, bundle, rootfs, created, annotations, owner } = info;
  const keys = annotations ? Object.keys(annotations).sort() : [];
  return {
    ociVersion,
    id,
    pid,
    status,
    bundle,
    rootfs,
    created,
    annotations:
      keys.length > 0 ? Object.fromEntries(keys.map((key) => [key, annotations?.[key]])) : undefined,
    owner,
  };
}
