/**
 * The id mappings of a new user namespace (user_namespaces(7)): written to /proc/PID/uid_map and gid_map by this process
 * where it may, else by the set-uid programs newuidmap and newgidmap, which ask /etc/subuid and /etc/subgid.
 */
import { checkMappings } from "../bundle/check-mounts.ts";
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { readText, writeExisting } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import type { Linux, LinuxIDMapping } from "../oci/config.ts";
import { userName } from "./info.ts";

/** The mappings of one namespace, and the fields of config.json they come from. */
export interface IdMaps {
  uid: readonly LinuxIDMapping[];
  gid: readonly LinuxIDMapping[];
  /** "linux" or "mounts[2]"; the fields below it are uidMappings and gidMappings. */
  path: string;
}

type Kind = "uid" | "gid";

/**
 * Gives a process's new user namespace its ids. The process waits meanwhile and is still as it was born: newuidmap wants
 * to see in /proc that it belongs to the caller.
 * @param euid effective user id of this process
 * @throws BuncError naming the mapping, what refused it and what to do
 */
export function writeIdMaps(pid: number, linux: Linux, euid: number): void {
  applyIdMaps(pid, { uid: linux.uidMappings ?? [], gid: linux.gidMappings ?? [], path: "linux" }, euid);
}

/** `writeIdMaps` for mappings of any origin. */
export function applyIdMaps(pid: number, maps: IdMaps, euid: number): void {
  checkIdMaps(maps);
  // An ordinary user may map its own group without help only after its processes gave up setgroups(2).
  if (euid !== 0 && isOwnId(maps.gid, sys(abi.SYS_getegid))) writeSetgroups(pid);
  writeMap("uid", pid, maps, euid);
  writeMap("gid", pid, maps, euid);
}

/**
 * @throws BuncError with the first thing the kernel would refuse: no mapping, an empty one, ids beyond the last, an
 * overlap, too many
 */
export function checkIdMaps(maps: IdMaps): void {
  for (const kind of ["uid", "gid"] as const) {
    const path = `${maps.path}.${kind}Mappings`;
    if (!maps[kind].length) throw new BuncError(`${path} has no mapping`, { code: "config", path });
    const found = { problems: [], warnings: [], misshapen: 0 } as Parameters<typeof checkMappings>[1];
    checkMappings(maps[kind], found, path);
    const first = found.problems[0];
    if (first) throw new BuncError(`${first.path}: ${first.message}`, { code: "config", path: first.path });
  }
}

/** The content of a map file: one line for each mapping. */
export function mapText(mappings: readonly LinuxIDMapping[]): string {
  return mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join("");
}

/** What the kernel lets a user without rights map: a single id, its own. */
function isOwnId(mappings: readonly LinuxIDMapping[], id: number): boolean {
  return mappings.length === 1 && mappings[0]!.size === 1 && mappings[0]!.hostID === id;
}

function writeSetgroups(pid: number): void {
  const path = `/proc/${pid}/setgroups`;
  const result = writeExisting(path, "deny");
  if (result >= 0) return;
  throw new BuncError(`cannot write "deny" to ${path}: ${errnoText(-result)}`, {
    code: "launch",
    phase: "ids",
    path: "linux.gidMappings",
    errno: errnoName(-result),
  });
}

function writeMap(kind: Kind, pid: number, maps: IdMaps, euid: number): void {
  const file = `/proc/${pid}/${kind}_map`;
  const content = mapText(maps[kind]);
  // In one write, which may happen once: a refused one does not count.
  const result = writeExisting(file, content);
  if (result >= 0) return;
  if (result === -abi.EPERM && euid !== 0) {
    callHelper(kind, pid, maps, euid);
    return;
  }
  const path = `${maps.path}.${kind}Mappings`;
  const hint = refusalHint(kind, -result, maps[kind], content);
  throw new BuncError(`cannot apply ${path}: write ${file}: ${errnoText(-result)}`, {
    code: "launch",
    phase: "ids",
    path,
    errno: errnoName(-result),
    ...(hint ? { hint } : {}),
  });
}

/** Why the kernel does not take a map that is well formed. */
function refusalHint(
  kind: Kind,
  errno: number,
  mappings: readonly LinuxIDMapping[],
  content: string,
): string | undefined {
  if (errno === abi.EINVAL && content.length >= 4096) {
    return `the mappings take ${content.length} bytes, and the kernel reads less than a page (4096 bytes); join neighbouring ranges`;
  }
  if (errno !== abi.EPERM) return undefined;
  const own = readText(`/proc/self/${kind}_map`, 65536);
  const missing = typeof own === "string" ? mappings.find((mapping) => !isCovered(mapping, own)) : undefined;
  if (missing) {
    const { hostID, size } = missing;
    return `the host ids ${hostID} to ${hostID + size - 1} are not all mapped in bunc's own user namespace (/proc/self/${kind}_map)`;
  }
  return `this needs CAP_SET${kind.toUpperCase()}, and CAP_SETFCAP to map the host's root`;
}

/** Whether all host ids of a mapping have numbers in the namespace whose map file this is. */
export function isCovered({ hostID, size }: LinuxIDMapping, map: string): boolean {
  const ranges: [number, number][] = [];
  for (const line of map.split("\n")) {
    const [inside, , count] = line.trim().split(/\s+/).map(Number);
    if (count) ranges.push([inside!, inside! + count]);
  }
  ranges.sort((a, b) => a[0] - b[0]);
  let next = hostID;
  for (const [from, to] of ranges) if (from <= next && to > next) next = to;
  return next >= hostID + size;
}

function callHelper(kind: Kind, pid: number, maps: IdMaps, euid: number): void {
  const helper = `new${kind}map`;
  const path = `${maps.path}.${kind}Mappings`;
  const fields = { code: "launch", phase: "ids", path } as const;
  const program = Bun.which(helper, { PATH: process.env.PATH ?? "" });
  if (!program) {
    const own = kind === "uid" ? euid : sys(abi.SYS_getegid);
    throw new BuncError(`cannot apply ${path}: ${helper} not found in $PATH`, {
      ...fields,
      hint: `install the package uidmap; without it an ordinary user can only map its own id (hostID ${own}, size 1)`,
    });
  }
  const numbers = maps[kind].flatMap(({ containerID, hostID, size }) => [containerID, hostID, size]);
  const { exitCode, signalCode, stderr } = Bun.spawnSync([program, String(pid), ...numbers.map(String)], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    env: {},
  });
  if (exitCode === 0) return;
  const said = text(stderr.subarray(0, 1000)).trim();
  const how = signalCode ? `signal: ${signalCode}` : `exit status ${exitCode}`;
  throw new BuncError(`cannot apply ${path}: ${program}: ${how}${said ? `: ${said}` : ""}`, {
    ...fields,
    hint: `/etc/sub${kind} must give the user all host ids of the mapping, in lines like ${exampleLine(maps[kind], euid)}`,
  });
}

/** The line of /etc/subuid that the largest range needs; the user's own id needs none. */
function exampleLine(mappings: readonly LinuxIDMapping[], euid: number): string {
  const { hostID, size } = mappings.reduce((largest, next) => (next.size > largest.size ? next : largest));
  return `${nameOf(euid)}:${hostID}:${size}`;
}

function nameOf(uid: number): string {
  const passwd = readText("/etc/passwd", 16 << 20);
  return (typeof passwd === "string" ? userName(passwd, uid) : undefined) ?? String(uid);
}
