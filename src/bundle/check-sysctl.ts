/**
 * Checks of `linux.sysctl`: /proc/sys is not namespaced as a whole, so only the parameters of a namespace that the
 * container has of its own may be set. Whether a joined network namespace is the host's can only be seen at run time.
 */
import { joinPath, shown } from "../oci/path.ts";
import { type Findings, lacks, type Namespaces, problem } from "./findings.ts";

/** Parameters of the IPC namespace, besides those of fs.mqueue (ipc_namespaces(7)). */
const IPC = [
  "kernel.msgmax",
  "kernel.msgmnb",
  "kernel.msgmni",
  "kernel.sem",
  "kernel.shmall",
  "kernel.shmmax",
  "kernel.shmmni",
  "kernel.shm_rmid_forced",
];

/** Checks each key of `linux.sysctl` against the namespaces of the container. */
export function checkSysctl(sysctl: Record<string, string>, namespaces: Namespaces, out: Findings): void {
  for (const key in sysctl) {
    const message = wrongWith(key, namespaces);
    if (message) problem(out, joinPath("linux.sysctl", key), message);
  }
}

function wrongWith(key: string, namespaces: Namespaces): string | undefined {
  if (sysctlPath(key) === undefined) return "is not the name of a parameter";
  const name = dotted(key);
  if (IPC.indexOf(name) >= 0 || name.startsWith("fs.mqueue.")) {
    if (lacks(namespaces, "ipc")) return `sysctl ${shown(key)} is not allowed in the hosts ipc namespace`;
  } else if (name.startsWith("net.")) {
    if (lacks(namespaces, "network")) return `sysctl ${shown(key)} not allowed in host network namespace`;
  } else if (name === "kernel.hostname" && !lacks(namespaces, "uts")) {
    return `sysctl ${shown(key)} is not allowed as it conflicts with the OCI "hostname" field`;
  } else if (name.startsWith("user.")) {
    if (lacks(namespaces, "user"))
      return `setting ucounts without a user namespace not allowed: ${shown(key)}`;
  } else if (name !== "kernel.domainname" || lacks(namespaces, "uts")) {
    return `sysctl ${shown(key)} is not in a separate kernel namespace`;
  }
  return undefined;
}

/**
 * The file of a parameter, relative to /proc/sys: "net.ipv4.conf.eno2/100.rp_filter" and "net/ipv4/conf/eno2.100/rp_filter"
 * are both net/ipv4/conf/eno2.100/rp_filter (sysctl(8)). Undefined if it is none, or would lead elsewhere.
 */
export function sysctlPath(key: string): string | undefined {
  let path = "";
  for (const part of dotted(key).split(".")) {
    const name = part.indexOf("/") < 0 ? part : part.replaceAll("/", ".");
    if (name === "" || name === "." || name === ".." || name.indexOf("\0") >= 0) return undefined;
    path += path === "" ? name : `/${name}`;
  }
  return path;
}

/** The name with dots between its parts: the first of "." and "/" in it is the separator, the other stands for itself. */
function dotted(key: string): string {
  const dot = key.indexOf(".");
  const slash = key.indexOf("/");
  if (slash < 0 || (dot >= 0 && dot < slash)) return key;
  return key.replace(/[./]/g, (separator) => (separator === "/" ? "." : "/"));
}
