/** Which user namespace this process is in. */
import { readText } from "./file.ts";

/** What the initial user namespace maps: every id, from 0 to 2^32-2, to itself (user_namespaces(7)). */
const ALL = "         0          0 4294967295\n";

/** Whether this process is in a user namespace of somebody's, where root is not the host's; false when it cannot be told. */
export function inUserNamespace(): boolean {
  const map = readText("/proc/self/uid_map");
  return typeof map === "string" && map !== ALL;
}
