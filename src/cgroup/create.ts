/** Operations that make a container's cgroups, and those by which a process enters them. */
import { type Part, type Slot, type Slots, Struct } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxCPU } from "../oci/config.ts";
import { type Layout, v2Controllers } from "./layout.ts";
import { type GroupDir, parentsOf } from "./names.ts";
import { writeValue } from "./write.ts";

/** How errors of cgroups begin, in runc's words. */
export const APPLY = "unable to apply cgroup configuration";
const MODE = 0o755;
const WRITABLE =
  "the cgroup file systems must be mounted read-write and this user must be allowed to write to them";

/** What is there already of the directories to be made; see inspect() in host.ts. */
export interface Existing {
  /** Directories between the base and the cgroup that must be made, by the path of the cgroup; outermost first. */
  readonly missing: ReadonlyMap<string, readonly string[]>;
  /** Cgroups of the container (their paths) that are there already. */
  readonly present: ReadonlySet<string>;
  /** Parents in the cpuset hierarchy of v1 that are there without any cpus or memory nodes; outermost first. */
  readonly unset?: readonly string[];
}

/** Nothing is there but the directories that always are: what `explain` assumes. */
export function assumeMissing(dirs: readonly GroupDir[]): Existing {
  const missing = new Map<string, readonly string[]>();
  for (const dir of dirs) missing.set(dir.path, parentsOf(dir));
  return { missing, present: new Set() };
}

function tolerate(dir: GroupDir): readonly (readonly [number, number])[] {
  return dir.optional ? [[abi.BUNC_ERR_ANY, 0]] : [[abi.EEXIST, 0]];
}

/** Makes the directories of cgroup v1, and of the cgroup2 of a hybrid host. */
export function makeV1(
  part: Part,
  slots: Slots,
  dirs: readonly GroupDir[],
  existing: Existing,
  cpu?: LinuxCPU,
): void {
  for (const dir of dirs) {
    part.at("cgroup", "linux.cgroupsPath");
    const parents = existing.missing.get(dir.path) ?? [];
    if (existing.unset && dir.names.includes("cpuset")) {
      for (const path of existing.unset) inheritCpuset(part, slots, dir, path, true);
    }
    for (const path of parents) {
      makeDir(part, dir, path);
      if (dir.names.includes("cpuset")) inheritCpuset(part, slots, dir, path, false);
    }
    makeDir(part, dir, dir.path);
    if (dir.names.includes("cpuset")) {
      setCpuset(part, dir, cpu);
      inheritCpuset(part, slots, dir, dir.path, existing.present.has(dir.path), cpu);
    }
    if (dir.names.includes("freezer"))
      expectThawed(part, slots, `${dir.path}/freezer.state`, 0, 0x54 /* T */);
  }
}

function makeDir(part: Part, dir: GroupDir, path: string): void {
  part.op(abi.SYS_mkdirat, [abi.AT_FDCWD, path, MODE], {
    tolerate: tolerate(dir),
    about: `${APPLY}: mkdir ${path}`,
    hint: WRITABLE,
  });
}

function cpusetFile(dir: GroupDir, path: string, name: string): string {
  return `${path}/${dir.hierarchy.noprefix ? "" : "cpuset."}${name}`;
}

function setCpuset(part: Part, dir: GroupDir, cpu: LinuxCPU | undefined): void {
  for (const [name, value] of [
    ["cpus", cpu?.cpus],
    ["mems", cpu?.mems],
  ] as const) {
    if (!value) continue;
    part.at("cgroup", `linux.resources.cpu.${name}`);
    writeValue(part, cpusetFile(dir, dir.path, name), value, {
      hint: `must be a list such as 0-3,7 of what the cgroup above has in cpuset.${name}`,
    });
  }
  part.at("cgroup", "linux.cgroupsPath");
}

/** Longer lists of cpus, in as many pieces, are refused rather than cut off. A power of two. */
const LIST_MAX = 4096;

/**
 * A cpuset cgroup of v1 begins empty, and no process can enter it before it has cpus and memory nodes: what the bundle
 * does not set is copied from the cgroup above. A cgroup that was there before keeps the lists it has.
 */
function inheritCpuset(
  part: Part,
  slots: Slots,
  dir: GroupDir,
  path: string,
  present: boolean,
  cpu?: LinuxCPU | undefined,
): void {
  const above = path.slice(0, path.lastIndexOf("/"));
  const fd = slots.take("cpuset list");
  const size = slots.take("size of the list");
  const list = new Struct(LIST_MAX, "cpuset list");
  for (const name of ["cpus", "mems"] as const) {
    if (cpu?.[name]) continue;
    const own = cpusetFile(dir, path, name);
    const about = `${APPLY}: copy ${cpusetFile(dir, above, name)} to ${path}`;
    if (present) {
      readFile(part, own, fd, size, list, about);
      // "\n" is an empty list, anything longer is not.
      part.op(abi.BUNC_OP_EXPECT, [size, -2, 0, abi.EEXIST], { tolerate: [[abi.EEXIST, 5]] });
    }
    readFile(part, cpusetFile(dir, above, name), fd, size, list, about);
    part.op(abi.BUNC_OP_EXPECT, [size, -LIST_MAX, 0, abi.EFBIG], { about });
    part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, own, abi.O_WRONLY | abi.O_CLOEXEC, list, size], {
      about,
      hint: `the cgroup above must have a list in cpuset.${name}`,
    });
  }
  slots.give(fd, size);
}

/** Reads a file into a structure of the program; three operations. */
function readFile(part: Part, path: string, fd: Slot, size: Slot, into: Struct, about: string): void {
  part.op(abi.SYS_openat, [abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0], { slot: fd, about });
  part.op(abi.SYS_read, [fd, into, into.size], { slot: size, about });
  part.op(abi.SYS_close, [fd]);
}

/** A frozen cgroup, also one frozen by a cgroup above, would hold init and whoever waits for it for ever. */
function expectThawed(part: Part, slots: Slots, file: string, offset: number, thawed: number): void {
  const fd = slots.take("freezer state");
  const word = slots.take("first letter of the state");
  const state = new Struct(8, "freezer state");
  const about = `cannot read ${file}`;
  // The root of a hierarchy has no such file.
  part.op(abi.SYS_openat, [abi.AT_FDCWD, file, abi.O_RDONLY | abi.O_CLOEXEC, 0], {
    slot: fd,
    about,
    tolerate: [[abi.ENOENT, 4]],
  });
  part.op(abi.SYS_pread64, [fd, state, 1, offset], { about });
  part.op(abi.SYS_close, [fd]);
  part.op(abi.BUNC_OP_LOAD, [state, 1], { slot: word });
  part.op(abi.BUNC_OP_EXPECT, [word, 0xff, thawed, abi.EBUSY], {
    about: "container's cgroup unexpectedly frozen",
    hint: `thaw it, or the cgroup above that is frozen (${file})`,
  });
  slots.give(fd, word);
}

/** Makes the directory of cgroup v2 and enables all controllers for it, as far as they can be. */
export function makeV2(
  part: Part,
  slots: Slots,
  dir: GroupDir,
  existing: Existing,
  layout: Layout,
  needsDomain: boolean,
): void {
  part.at("cgroup", "linux.cgroupsPath");
  const fresh = existing.missing.get(dir.path) ?? [];
  const above = [dir.hierarchy.mountPoint];
  for (let at = dir.hierarchy.mountPoint.length + 1; ; ) {
    at = dir.path.indexOf("/", at);
    if (at < 0) break;
    above.push(dir.path.slice(0, at));
    at++;
  }
  for (const path of above) {
    if (fresh.includes(path)) {
      makeDir(part, dir, path);
      expectDomain(part, slots, path, needsDomain);
    }
    enableControllers(part, path, v2Controllers(layout));
  }
  makeDir(part, dir, dir.path);
  expectDomain(part, slots, dir.path, needsDomain);
  // "populated 0\nfrozen 0\n": the digit after "frozen ".
  expectThawed(part, slots, `${dir.path}/cgroup.events`, 19, 0x30 /* 0 */);
}

/** All at once, and where that is refused one by one: a limit whose controller is missing then fails by itself. */
function enableControllers(part: Part, path: string, controllers: readonly string[]): void {
  if (controllers.length === 0) return;
  const file = `${path}/cgroup.subtree_control`;
  writeValue(part, file, `+${controllers.join(" +")}`, {
    okSkip: controllers.length,
    tolerate: [[abi.BUNC_ERR_ANY, 0]],
  });
  for (const name of controllers) writeValue(part, file, `+${name}`, { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
}

/** The four bytes of cgroup.type after the fourth, as a little-endian word: of "domain\n" and of "domain invalid". */
const DOMAIN = 0x000a6e69;
const DOMAIN_INVALID = 0x69206e69;

/**
 * Below a threaded cgroup a new one is unusable ("domain invalid") until it is made threaded too, and then the
 * controllers for whole processes are not to be had.
 */
function expectDomain(part: Part, slots: Slots, path: string, needsDomain: boolean): void {
  const fd = slots.take("cgroup.type");
  const size = slots.take("size of the type");
  const type = slots.take("type");
  const text = new Struct(16, "cgroup.type");
  const about = `${APPLY}: read ${path}/cgroup.type`;
  readFile(part, `${path}/cgroup.type`, fd, size, text, about);
  part.op(abi.BUNC_OP_LOAD, [text.at(4), 4], { slot: type });
  if (needsDomain) {
    part.op(abi.BUNC_OP_EXPECT, [type, -1, DOMAIN, abi.EOPNOTSUPP], {
      about: `${APPLY}: cannot enter cgroupv2 ${JSON.stringify(path)} with domain controllers -- it is not a domain`,
      hint: `a cgroup above is threaded (see ${path}/cgroup.type); choose another linux.cgroupsPath`,
    });
  } else {
    part.op(abi.BUNC_OP_EXPECT, [type, -1, DOMAIN_INVALID, abi.ENOENT], { tolerate: [[abi.ENOENT, 1]] });
    writeValue(part, `${path}/cgroup.type`, "threaded", { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  }
  slots.give(fd, size, type);
}

/** Opens the directory of cgroup2 for clone3's CLONE_INTO_CGROUP. */
export function openForBirth(part: Part, slot: Slot, dir: GroupDir): void {
  part.at("cgroup", "linux.cgroupsPath");
  part.op(abi.SYS_openat, [abi.AT_FDCWD, dir.path, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0], {
    slot,
    about: `${APPLY}: open ${dir.path}`,
    tolerate: dir.optional ? [[abi.BUNC_ERR_ANY, 0]] : [],
  });
}

/** Gives the container's cgroup to a user: the directory and the files that the kernel lists as safe to delegate. */
export function delegate(part: Part, path: string, uid: number, files: readonly string[]): void {
  part.at("cgroup", "linux.cgroupsPath");
  for (const file of [".", ...files]) {
    part.op(abi.SYS_fchownat, [abi.AT_FDCWD, file === "." ? path : `${path}/${file}`, uid, -1, 0], {
      about: `${APPLY}: chown ${path}/${file}`,
      tolerate: file === "." ? [] : [[abi.ENOENT, 0]],
    });
  }
}

/**
 * Puts a process into cgroups by writing. A process that puts itself in (no pid) writes to `tasks`, which spares the
 * grace period of RCU that moving a whole thread group costs: 0.3 ms instead of 8 to 14 for nine hierarchies. It must
 * have one thread. cgroup2 knows no such way.
 */
export function enter(part: Part, dirs: readonly GroupDir[], pid?: number): void {
  part.at("cgroup", "linux.cgroupsPath");
  for (const dir of dirs) {
    const own = pid === undefined && !dir.names.includes("");
    writeValue(part, `${dir.path}/${own ? "tasks" : "cgroup.procs"}`, String(pid ?? 0), {
      about: `${APPLY}: join ${dir.path}`,
      hint: WRITABLE,
      ...(dir.optional ? { tolerate: [[abi.BUNC_ERR_ANY, 0]] } : {}),
    });
  }
}

/** The files of cgroup v1 by which a process joins, in the order of the directories. */
export function taskFiles(dirs: readonly GroupDir[]): string[] {
  const files: string[] = [];
  for (const dir of dirs) if (dir.names[0] !== "") files.push(`${dir.path}/tasks`);
  return files;
}

/**
 * The same as enter() for a process that may not open these files, as it is in a user namespace: the kernel asks for
 * the rights of who has opened them (since CVE-2021-4197). The descriptors are closed.
 *
 * @param fds the descriptors of taskFiles() in that process, -1 for one that could not be opened
 */
export function enterByDescriptors(part: Part, dirs: readonly GroupDir[], fds: readonly number[]): void {
  part.at("cgroup", "linux.cgroupsPath");
  for (let i = 0; i < fds.length; i++) {
    if (fds[i]! < 0) continue;
    const dir = dirs[i]!;
    part.op(abi.BUNC_OP_WRITE, [fds[i]!, "0", 1], {
      about: `${APPLY}: join ${dir.path}`,
      ...(dir.optional ? { tolerate: [[abi.BUNC_ERR_ANY, 0]] } : {}),
    });
    part.op(abi.SYS_close, [fds[i]!]);
  }
}

/** As many cpus as the kernel can be built for, and some. */
const CPU_MASK_BYTES = 1024;

/**
 * Lets a process run on all cpus its cgroups allow, whatever bunc itself was bound to (taskset). The kernel cuts the
 * mask to what there is.
 */
export function resetAffinity(part: Part, pid = 0): void {
  part.at("cgroup", "");
  const mask = new Uint8Array(CPU_MASK_BYTES).fill(0xff);
  part.op(abi.SYS_sched_setaffinity, [pid, mask.length, mask], { tolerate: [[abi.BUNC_ERR_ANY, 0]] });
}
