/**
 * Old shapes of config.json, from OCI 0.3 to 1.0.0-rc6, turned into today's in place before the schema looks at them.
 * What a shape was, and when it changed, is in the history of the runtime-spec (specs-go/config.go at each tag).
 */
import type { Problem } from "../errors.ts";

type Fields = Record<string, unknown>;

/** Whether a config.json says it was written for a version before 1.0.0, whose fields may have other meanings. */
export function isOldVersion(value: unknown): boolean {
  const version = fields(value)?.ociVersion;
  return typeof version === "string" && (version.startsWith("0.") || version.startsWith("1.0.0-rc"));
}

/**
 * Turns old shapes into today's, in place. A value that has none of them is left as it is; a value of the wrong type
 * is left for the schema to report. Returns what only the old shape can have wrong: a `platform` that is not Linux.
 */
export function normalise(value: unknown): Problem[] {
  const spec = fields(value);
  if (!spec) return [];
  const linux = fields(spec.linux);
  const process = fields(spec.process);
  if (linux) {
    if (process) moveProcessFields(linux, process);
    normaliseLinux(linux, process, isOldVersion(spec));
  }
  if (process) normaliseProcess(process);
  const os = fields(spec.platform)?.os;
  if (typeof os !== "string" || os === "" || os === "linux") return [];
  return [
    { path: "platform.os", message: `${JSON.stringify(os)} is not supported; this runtime runs linux` },
  ];
}

/** As normalise, for a `process` alone (`exec --process FILE`). */
export function normaliseProcess(value: unknown): void {
  const process = fields(value);
  if (!process) return;
  // A flat list of capabilities (until 1.0.0-rc4) was given to all sets but ambient. Inheritable is left out: it would
  // let programs with inheritable file capabilities gain them (CVE-2022-29162).
  const flat = process.capabilities;
  if (Array.isArray(flat)) {
    process.capabilities = { bounding: flat, effective: [...flat], permitted: [...flat] };
  }
  // uid and gid were left out when 0 (until 0.5), and config-schema.json asks for neither them nor user to this day.
  process.user ??= {};
  const user = fields(process.user);
  if (user) {
    user.uid ??= 0;
    user.gid ??= 0;
  }
}

/** In 0.3 these fields of the process were in linux. */
function moveProcessFields(linux: Fields, process: Fields): void {
  move(linux, "capabilities", process, "capabilities");
  move(linux, "rlimits", process, "rlimits");
  move(linux, "noNewPrivileges", process, "noNewPrivileges");
  move(linux, "apparmorProfile", process, "apparmorProfile");
  move(linux, "selinuxProcessLabel", process, "selinuxLabel");
}

function normaliseLinux(linux: Fields, process: Fields | undefined, old: boolean): void {
  if (linux.rootfsPropagation === "") delete linux.rootfsPropagation;
  for (const device of items(linux.devices)) normaliseDeviceType(device);
  const resources = fields(linux.resources);
  if (resources) {
    if (process) move(resources, "oomScoreAdj", process, "oomScoreAdj");
    normaliseResources(resources, old);
  }
  normaliseSeccomp(linux);
}

/**
 * As normalise, for `linux.resources` alone (`update --resources FILE`).
 * @param old the limits are unsigned as before 1.0.0-rc6, where "no limit" was 2^64-1
 */
export function normaliseResources(value: unknown, old = false): void {
  const resources = fields(value);
  if (!resources) return;
  if (typeof resources.disableOOMKiller === "boolean") {
    resources.memory ??= {};
    const memory = fields(resources.memory);
    if (memory) move(resources, "disableOOMKiller", memory, "disableOOMKiller");
  }
  for (const rule of items(resources.devices)) normaliseDeviceType(rule);
  const blockIO = fields(resources.blockIO);
  if (blockIO) {
    for (const name of Object.keys(blockIO)) {
      // blkioWeightDevice and the like lost their prefix in 1.0.0-rc6.
      if (name.startsWith("blkio"))
        move(blockIO, name, blockIO, name.charAt(5).toLowerCase() + name.slice(6));
    }
  }
  if (old) {
    const memory = fields(resources.memory);
    const cpu = fields(resources.cpu);
    for (const name of ["limit", "reservation", "swap", "kernel", "kernelTCP"]) signed(memory, name);
    for (const name of ["quota", "realtimeRuntime"]) signed(cpu, name);
  }
}

function signed(limits: Fields | undefined, name: string): void {
  const limit = limits?.[name];
  if (typeof limit !== "bigint" || limit < 2n ** 63n || limit >= 2n ** 64n) return;
  const same = BigInt.asIntN(64, limit);
  limits![name] = Number.isSafeInteger(Number(same)) ? Number(same) : same;
}

/** In 0.3 the type of a device was the number of its letter. */
function normaliseDeviceType(device: Fields): void {
  const type = device.type;
  if (typeof type === "number" && type > 0x20 && type < 0x7f) device.type = String.fromCharCode(type);
}

function normaliseSeccomp(linux: Fields): void {
  const seccomp = fields(linux.seccomp);
  if (!seccomp) return;
  const calls = seccomp.syscalls;
  // Written by 0.3 always, and since then by tools for "no profile": neither a default action nor calls.
  if (
    (seccomp.defaultAction ?? "") === "" &&
    (calls == null || (Array.isArray(calls) && calls.length === 0))
  ) {
    delete linux.seccomp;
    return;
  }
  for (const call of items(calls)) {
    // One name per entry, until 1.0.0-rc4.
    if (typeof call.name === "string" && call.names == null) {
      call.names = [call.name];
      delete call.name;
    }
  }
}

function move(from: Fields, name: string, to: Fields, newName: string): void {
  if (from[name] == null) return;
  to[newName] ??= from[name];
  delete from[name];
}

function fields(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

function items(value: unknown): Fields[] {
  return Array.isArray(value) ? value.filter((item) => fields(item) !== undefined) : [];
}
