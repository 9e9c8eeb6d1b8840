/** Which containers share a shim, and the address of its socket. */
import { readText } from "../../linux/file.ts";

/** The first that a bundle has names its group (containerd's cmd/containerd-shim-runc-v2/manager). */
const GROUP_LABELS = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"] as const;

/** Where containerd puts the sockets of shims. */
export const SOCKET_DIR = "/run/containerd/s";

/**
 * The group of the container in a bundle: what an annotation says, else its id.
 * @param bundle directory with the config.json; what is wrong in it is for Create to say
 */
export function groupOf(bundle: string, id: string): string {
  const text = readText(`${bundle}/config.json`);
  if (typeof text !== "string") return id;
  // Most bundles are in no group, and a config.json may be long.
  if (!text.includes(GROUP_LABELS[0]) && !text.includes(GROUP_LABELS[1])) return id;
  try {
    const annotations: unknown = JSON.parse(text).annotations;
    for (const label of GROUP_LABELS) {
      const group = (annotations as Record<string, unknown> | null)?.[label];
      if (typeof group === "string" && group !== "") return group;
    }
  } catch {
    // Create will say what is wrong with it.
  }
  return id;
}

/**
 * The path of the socket: the hash keeps it within the length of an address (unix(7)).
 * @param directory "" for containerd's own
 * @param address containerd's, which tells its daemons apart
 */
export function socketPath(directory: string, address: string, namespace: string, group: string): string {
  const hash = new Bun.CryptoHasher("sha256").update(`${address}/${namespace}/${group}`).digest("hex");
  return `${directory || SOCKET_DIR}/${hash}`;
}
