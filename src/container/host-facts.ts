/** What a launch has to know about this host and about the process that launches. */
import type { Layout } from "../cgroup/layout.ts";
import type { HostFacts } from "../launch/context.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import type { Spec } from "../oci/config.ts";

/** The facts that the compiler needs; what costs a file is read only for a bundle that depends on it. An exec needs no cgroups. */
export function hostFacts(spec: Spec, noPivot: boolean, cgroup: Layout | undefined): HostFacts {
  return {
    apparmor: spec.process?.apparmorProfile ? isOn("/sys/module/apparmor/parameters/enabled", "Y") : false,
    selinux:
      spec.process?.selinuxLabel || spec.linux?.mountLabel ? isOn("/sys/fs/selinux/enforce", "") : false,
    fullProcMounts: noPivot ? fullProcMounts(spec.root!.path) : [],
    cgroup,
  };
}

/** Whether a file of the host exists and begins so. */
function isOn(path: string, prefix: string): boolean {
  const text = readText(path, 64);
  return typeof text === "string" && text.startsWith(prefix);
}

/** Mount points of whole proc and sysfs file systems outside of the rootfs (see compileMove). */
function fullProcMounts(rootfs: string): string[] {
  const info = readText("/proc/self/mountinfo");
  if (typeof info === "number") return [];
  const found: string[] = [];
  for (const line of info.split("\n")) {
    const fields = line.split(" ");
    const type = fields[fields.indexOf("-") + 1];
    if (fields[3] === "/" && (type === "proc" || type === "sysfs") && !fields[4]!.startsWith(rootfs)) {
      found.push(
        fields[4]!.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
      );
    }
  }
  return found;
}

/** The pid that a process has in its own pid namespace: the last of NSpid (proc_pid_status(5)). */
export function innerPid(pid: number): number {
  const status = readText(`/proc/${pid}/status`, 8192);
  const line = typeof status === "string" ? /^NSpid:(.*)$/m.exec(status) : null;
  return Number(line?.[1]?.trim().split(/\s+/).pop() ?? pid);
}

/** Who has called, where it is not the parent of this process. */
let caller: number | undefined;

/** From now on this process works in the place of another: what counts is what that one's caller has. */
export function workFor(pid: number): void {
  caller = pid;
}

/**
 * RLIMIT_NOFILE as this process was given it. Bun raises its own soft limit to the hard one at start, and there is no way
 * back but the parent's: a parent with the same hard limit is taken to have passed on its soft one, too.
 */
export function callersNofile(): { soft: bigint; hard: bigint } | undefined {
  const own = rlimit(0, abi.RLIMIT_NOFILE);
  const parents = rlimit(caller ?? sys(abi.SYS_getppid), abi.RLIMIT_NOFILE);
  return own && parents && own.hard === parents.hard && own.soft !== parents.soft ? parents : undefined;
}

function rlimit(pid: number, resource: number): { soft: bigint; hard: bigint } | undefined {
  const limit = new BigUint64Array(2);
  if (sys(abi.SYS_prlimit64, pid, resource, 0, new Uint8Array(limit.buffer)) < 0) return undefined;
  return { soft: limit[0]!, hard: limit[1]! };
}

/** Whether nobody can set supplementary groups in this process's user namespace, nor in any below it (user_namespaces(7)). */
export function deniesGroups(): boolean {
  const text = readText("/proc/self/setgroups", 16);
  return typeof text === "string" && text.startsWith("deny");
}

/** What a standard descriptor is: "pipe:[12]", "/dev/null". */
export function descriptorName(fd: number): string {
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${fd}`, buffer, buffer.length);
  return n > 0 ? text(buffer.subarray(0, n)) : "";
}
