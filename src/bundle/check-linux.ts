/** Checks of the `linux` object that need only the document (runtime-spec config-linux.md). */
import type { Linux, LinuxDevice, LinuxNamespace, Spec } from "../oci/config.ts";
import { joinPath, shown } from "../oci/path.ts";
import { checkMappings, isMapped } from "./check-mounts.ts";
import { checkResources } from "./check-resources.ts";
import { checkSeccomp } from "./check-seccomp.ts";
import { checkSysctl } from "./check-sysctl.ts";
import { type Findings, joins, lacks, makes, type Namespaces, problem, sound, warning } from "./findings.ts";
import { countNumbers } from "./number-list.ts";

/** Checks everything in `linux`; `spec.linux` is there and an object. */
export function checkLinux(spec: Spec, namespaces: Namespaces, out: Findings): void {
  const linux = spec.linux!;
  if (linux.namespaces && sound(out, "linux.namespaces")) checkNamespaces(linux.namespaces, out);
  checkUserNamespace(spec, namespaces, out);
  if (linux.timeOffsets && sound(out, "linux.timeOffsets")) checkTimeOffsets(linux, namespaces, out);
  if (linux.cgroupsPath && sound(out, "linux.cgroupsPath")) checkCgroupsPath(linux.cgroupsPath, out);
  if (linux.resources && sound(out, "linux.resources"))
    checkResources(linux.resources, out, "linux.resources.");
  if (linux.sysctl && sound(out, "linux.sysctl")) checkSysctl(linux.sysctl, namespaces, out);
  checkPaths(linux.maskedPaths, namespaces, out, "linux.maskedPaths");
  checkPaths(linux.readonlyPaths, namespaces, out, "linux.readonlyPaths");
  if (linux.devices && sound(out, "linux.devices")) checkDevices(linux.devices, out);
  if (linux.netDevices && sound(out, "linux.netDevices")) checkNetDevices(linux, namespaces, out);
  if (linux.seccomp && sound(out, "linux.seccomp")) checkSeccomp(linux.seccomp, out);
  if (linux.intelRdt && sound(out, "linux.intelRdt")) checkIntelRdt(linux, out);
  if (linux.memoryPolicy && sound(out, "linux.memoryPolicy")) checkMemoryPolicy(linux, out);
  if (linux.personality && sound(out, "linux.personality") && linux.personality.flags?.length) {
    warning(out, "linux.personality.flags", "ignored: the specification defines no flags");
  }
}

function checkNamespaces(list: readonly LinuxNamespace[], out: Findings): void {
  for (let i = 0; i < list.length; i++) {
    const { type, path } = list[i]!;
    for (let before = 0; before < i; before++) {
      if (list[before]!.type !== type) continue;
      problem(out, `linux.namespaces[${i}].type`, `malformed spec file: duplicated ns ${shown(type)}`);
      break;
    }
    if (path && path[0] !== "/") {
      problem(out, `linux.namespaces[${i}].path`, `must be an absolute path, not ${shown(path)}`);
    }
  }
}

function checkUserNamespace(spec: Spec, namespaces: Namespaces, out: Findings): void {
  const { uidMappings, gidMappings } = spec.linux!;
  if (!uidMappings && !gidMappings && !makes(namespaces, "user")) return;
  if (!sound(out, "linux.uidMappings") || !sound(out, "linux.gidMappings")) return;
  checkMappings(uidMappings, out, "linux.uidMappings");
  checkMappings(gidMappings, out, "linux.gidMappings");
  if (lacks(namespaces, "user")) {
    if (!uidMappings?.length && !gidMappings?.length) return;
    problem(
      out,
      uidMappings?.length ? "linux.uidMappings" : "linux.gidMappings",
      "user namespace mappings specified, but user namespace isn't enabled in the config",
    );
  } else if (joins(namespaces, "user")) {
    if (!uidMappings?.length && !gidMappings?.length) return;
    warning(
      out,
      uidMappings?.length ? "linux.uidMappings" : "linux.gidMappings",
      "the user namespace is joined by path, which has its own mappings; these must be the same",
    );
  } else if (makes(namespaces, "user")) {
    if (!uidMappings?.length && !gidMappings?.length) {
      problem(
        out,
        "linux.uidMappings",
        "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
      );
      return;
    }
    checkIds("uid", spec, out);
    checkIds("gid", spec, out);
  }
}

/** Whether root and the ids of the process are mapped into the new user namespace. */
function checkIds(kind: "uid" | "gid", spec: Spec, out: Findings): void {
  const path = `linux.${kind}Mappings` as const;
  const mappings = kind === "uid" ? spec.linux!.uidMappings : spec.linux!.gidMappings;
  if (!mappings?.length) {
    problem(out, path, `user namespaces enabled, but no ${kind} mappings found`);
    return;
  }
  if (!isMapped(0, mappings)) {
    problem(out, path, `user namespaces enabled, but no mapping found for ${kind} 0`);
  }
  if (!spec.process || !sound(out, "process.user")) return;
  const { user } = spec.process;
  const wanted = [{ id: user[kind], at: `process.user.${kind}` }];
  if (kind === "gid") {
    user.additionalGids?.forEach((id, i) => {
      wanted.push({ id, at: `process.user.additionalGids[${i}]` });
    });
  }
  for (const { id, at } of wanted) {
    // 0 is reported above, once.
    if (id !== 0 && !isMapped(id, mappings)) {
      problem(out, at, `${kind} ${id} is not mapped in the user namespace; add it to ${path}`);
    }
  }
}

function checkTimeOffsets(linux: Linux, namespaces: Namespaces, out: Findings): void {
  const clocks = Object.keys(linux.timeOffsets!);
  if (clocks.length === 0) return;
  if (lacks(namespaces, "time")) {
    problem(
      out,
      "linux.timeOffsets",
      "time namespace offsets specified, but time namespace isn't enabled in the config",
    );
  } else if (joins(namespaces, "time")) {
    problem(
      out,
      "linux.timeOffsets",
      "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
    );
  }
  for (const clock of clocks) {
    const path = joinPath("linux.timeOffsets", clock);
    if (clock !== "monotonic" && clock !== "boottime") {
      problem(out, path, `${shown(clock)} is not a clock with an offset; one of monotonic, boottime`);
    }
    const nanosecs = linux.timeOffsets![clock]!.nanosecs ?? 0;
    if (nanosecs > 999_999_999) {
      problem(out, `${path}.nanosecs`, `must be less than a second (1000000000), not ${nanosecs}`);
    }
  }
}

function checkCgroupsPath(path: string, out: Findings): void {
  if (path.includes("..") && path.split("/").includes("..")) {
    problem(out, "linux.cgroupsPath", `must not have ".." in it: ${shown(path)}`);
  }
}

function checkPaths(
  paths: readonly string[] | undefined,
  namespaces: Namespaces,
  out: Findings,
  path: string,
): void {
  if (!paths || !sound(out, path)) return;
  if (paths.length > 0 && lacks(namespaces, "mount")) {
    problem(out, path, "unable to restrict sys entries without a private MNT namespace");
  }
  for (let i = 0; i < paths.length; i++) {
    if (paths[i]![0] !== "/") {
      problem(out, `${path}[${i}]`, `must be an absolute path, not ${shown(paths[i])}`);
    }
  }
}

/** The widths of the two parts of a device number in the kernel (MINORBITS is 20). */
const HIGHEST_MAJOR = 4095;
const HIGHEST_MINOR = 1048575;

function checkDevices(devices: readonly LinuxDevice[], out: Findings): void {
  const paths = new Set<string>();
  for (let i = 0; i < devices.length; i++) {
    const { path, type, major, minor } = devices[i]!;
    const at = `linux.devices[${i}]`;
    if (path[0] !== "/") problem(out, `${at}.path`, `must be an absolute path, not ${shown(path)}`);
    else if (paths.has(path)) {
      warning(out, `${at}.path`, `${shown(path)} is listed twice`);
    }
    paths.add(path);
    if (type === "p") continue;
    for (const [name, number, highest] of [
      ["major", major, HIGHEST_MAJOR],
      ["minor", minor, HIGHEST_MINOR],
    ] as const) {
      if (number === undefined) problem(out, `${at}.${name}`, `is required for a device of type "${type}"`);
      else if (number < 0 || number > highest) {
        problem(out, `${at}.${name}`, `must be an integer from 0 to ${highest}, not ${number}`);
      }
    }
  }
}

function checkNetDevices(linux: Linux, namespaces: Namespaces, out: Findings): void {
  const devices = Object.entries(linux.netDevices!);
  if (devices.length > 0 && lacks(namespaces, "network")) {
    problem(out, "linux.netDevices", "unable to move network devices without a NET namespace");
  }
  const taken = new Map<string, string>();
  for (const [host, { name }] of devices) {
    const path = joinPath("linux.netDevices", host);
    if (!isDeviceName(host)) problem(out, path, `invalid network device name ${shown(host)}`);
    if (name && !isDeviceName(name))
      problem(out, `${path}.name`, `invalid network device name ${shown(name)}`);
    const inside = name || host;
    // "%d" lets the kernel choose a number that is free.
    if (inside.includes("%d")) continue;
    const other = taken.get(inside);
    if (other !== undefined) {
      problem(out, name ? `${path}.name` : path, `${shown(inside)} is the name of ${shown(other)} too`);
    }
    taken.set(inside, host);
  }
}

/** Whether the kernel takes it for a network device (dev_valid_name: below 16 bytes, no "/", ":" or blank). */
function isDeviceName(name: string): boolean {
  return (
    /^[^\s/:\0]+$/.test(name) && new TextEncoder().encode(name).length < 16 && name !== "." && name !== ".."
  );
}

function checkIntelRdt(linux: Linux, out: Findings): void {
  const { closID, schemata, l3CacheSchema, memBwSchema } = linux.intelRdt!;
  if (closID === "." || closID === ".." || (closID && closID.length > 1 && closID.includes("/"))) {
    problem(out, "linux.intelRdt.closID", `invalid intelRdt.ClosID ${shown(closID)}`);
  }
  schemata?.forEach((line, i) => {
    if (line.includes("\n")) problem(out, `linux.intelRdt.schemata[${i}]`, "must be one line");
  });
  if (l3CacheSchema?.includes("\n")) problem(out, "linux.intelRdt.l3CacheSchema", "must be one line");
  if (l3CacheSchema && !l3CacheSchema.startsWith("L3:")) {
    warning(out, "linux.intelRdt.l3CacheSchema", `should begin with "L3:"`);
  }
  if (memBwSchema && (!memBwSchema.startsWith("MB:") || memBwSchema.includes("\n"))) {
    problem(out, "linux.intelRdt.memBwSchema", `must be one line that begins with "MB:"`);
  }
}

function checkMemoryPolicy(linux: Linux, out: Findings): void {
  const { mode, nodes = "", flags } = linux.memoryPolicy!;
  const path = "linux.memoryPolicy.nodes";
  const count = countNumbers(nodes);
  if (count === undefined) {
    problem(out, path, `invalid memory policy nodes ${shown(nodes)}; not a list like "0-3,7"`);
  } else if (mode === "MPOL_DEFAULT" || mode === "MPOL_LOCAL") {
    if (count > 0) problem(out, path, `memory policy mode requires 0 nodes but got ${count}`);
  } else if (mode !== "MPOL_PREFERRED" && count === 0) {
    problem(out, path, "memory policy mode requires at least one node but got 0");
  }
  // set_mempolicy(2), EINVAL.
  if (flags?.includes("MPOL_F_STATIC_NODES") && flags.includes("MPOL_F_RELATIVE_NODES")) {
    problem(
      out,
      "linux.memoryPolicy.flags",
      "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other",
    );
  }
}
