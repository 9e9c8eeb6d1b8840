/**
 * What mounts-inside.ts and covers-inside.ts share: a root in a tmpfs of its own for each test, and single operations of
 * c/mount.c and c/cover.c executed on it. Both are executed by src/launch/interp-mounts.test.ts as root of a new user,
 * mount and pid namespace (unshare -Urmpf --mount-proc), so nothing of the host can change and nobody needs root.
 */
import { afterEach, beforeEach, expect } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Part, Struct } from "../../src/launch/program.ts";
import { run } from "../../src/launch/testing-run.ts";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { callName } from "../../src/linux/names.ts";

const MOUNT = abi.bunc_mount_;
const DEVICE = abi.bunc_device_;

/** The whole of each test lies in a tmpfs of its own. */
export let dir = "";
export let root = "";
export let rootFd = -1;
let descriptors = 0;

/** Gives each test of a file a root, and checks after it that nothing got out and no descriptor is left. */
export function useRoot(): void {
  beforeEach(makeRoot);
  afterEach(removeRoot);
}

function makeRoot(): void {
  // A call of libbunc's own: once loaded, it keeps a descriptor.
  sys(abi.BUNC_CALL_READ_FILE, abi.AT_FDCWD, "/proc/self/stat", new Uint8Array(16), 16);
  dir = mkdtempSync(join(tmpdir(), "bunc-mounts-"));
  expect(sys(abi.SYS_mount, "tmpfs", dir, "tmpfs", 0, 0)).toBe(0);
  root = join(dir, "root");
  mkdirSync(join(root, "dev"), { recursive: true });
  mkdirSync(join(dir, "outside"));
  // A mount of its own, as in a container: below it mounts can be made read-only.
  expect(sys(abi.SYS_mount, root, root, 0, abi.MS_BIND, 0)).toBe(0);
  descriptors = readdirSync("/proc/self/fd").length;
  rootFd = sys(abi.SYS_openat, abi.AT_FDCWD, root, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
}

function removeRoot(): void {
  expect(readdirSync(join(dir, "outside"))).toEqual([]);
  sys(abi.SYS_close, rootFd);
  expect(readdirSync("/proc/self/fd").length).toBe(descriptors);
  expect(sys(abi.SYS_umount2, dir, abi.MNT_DETACH)).toBe(0);
  rmdirSync(dir);
}

/** How one operation ends: "" or errno, with the call of the composite that failed and the item it was at. */
export function outcome(code: number, ...args: (number | string | Struct)[]): string {
  const part = new Part();
  part.op(code, args);
  const { errno, step, text } = run(part);
  if (!errno) return "";
  const item = step >>> 16;
  const where = step ? ` in ${callName(step & 0xffff)}${item ? ` ${item}` : ""}` : "";
  return `${errno}${where}${text.length ? `: ${new TextDecoder().decode(text)}` : ""}`;
}

interface Given {
  type?: string;
  params?: string[];
  source?: string;
  tree?: number;
  set?: number;
  clear?: number;
  recSet?: number;
  propagation?: number[];
  flags?: number;
}

/** Executes one BUNC_OP_MOUNT. */
export function mount(target: string, given: Given): string {
  const {
    type,
    params = [],
    source,
    tree = -1,
    set = 0,
    clear = 0,
    recSet = 0,
    propagation,
    flags = 0,
  } = given;
  const struct = new Struct(abi.sizeof_.bunc_mount, "bunc_mount")
    .u64(MOUNT.set, set)
    .u64(MOUNT.clear, clear)
    .u64(MOUNT.rec_set, recSet)
    .u64(MOUNT.tree, tree)
    .u64(MOUNT.flags, flags);
  if (type !== undefined) {
    const list = params.map((text) => {
      const [key, value] = text.split("=");
      return value === undefined ? `f${key}\0` : `s${key}\0${value}\0`;
    });
    struct.pointer(MOUNT.type, type).pointer(MOUNT.params, new TextEncoder().encode(`${list.join("")}\0`));
  }
  if (source !== undefined) struct.pointer(MOUNT.source, source);
  if (propagation) {
    const list = new Struct((propagation.length + 1) * 8, "propagation");
    for (const [i, value] of propagation.entries()) list.u64(i * 8, value);
    struct.pointer(MOUNT.propagation, list);
  }
  return outcome(abi.BUNC_OP_MOUNT, rootFd, target, struct);
}

/** The topmost mount at a path below the root: its options, its propagation and its type; undefined for none. */
export function mounted(path: string): { options: string[]; shared: boolean; type: string } | undefined {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  const fields = lines.map((line) => line.split(" ")).findLast((line) => line[4] === join(root, path));
  if (!fields) return undefined;
  const dash = fields.indexOf("-");
  return {
    options: fields[5]!.split(","),
    shared: fields.slice(6, dash).some((tag) => tag.startsWith("shared:")),
    type: fields[dash + 1]!,
  };
}

/** A path below the root as this process sees it. */
export const inRoot = (path: string) => join(root, path);
/** Permissions of a file below the root. */
export const mode = (path: string) => statSync(inRoot(path)).mode & 0o7777;

interface GivenDevice {
  mode?: number;
  dev?: number;
  host?: string;
  uid?: number;
  strict?: boolean;
}

/** Makes a device in /dev of the root. */
export function device(name: string, given: GivenDevice): string {
  const struct = new Struct(abi.sizeof_.bunc_device, "bunc_device")
    .u64(DEVICE.mode, given.mode ?? 0)
    .u64(DEVICE.dev, given.dev ?? 0)
    .u32(DEVICE.uid, given.uid ?? 0)
    .u32(DEVICE.strict, given.strict ? 1 : 0);
  if (given.host) struct.pointer(DEVICE.host, given.host);
  const fd = sys(
    abi.SYS_openat,
    abi.AT_FDCWD,
    inRoot("dev"),
    abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC,
    0,
  );
  try {
    return outcome(abi.BUNC_OP_DEVICE, fd, name, struct);
  } finally {
    sys(abi.SYS_close, fd);
  }
}

/** The null device as a bundle asks for it. */
export const NULL = { mode: abi.S_IFCHR | 0o666, dev: 0x103, host: "/dev/null" };
