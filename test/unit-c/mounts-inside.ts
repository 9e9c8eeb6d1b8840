/**
 * The composites of c/mount.c on real mounts. Executed by src/launch/interp-mounts.test.ts, as root of a new user,
 * mount and pid namespace (unshare -Urmpf --mount-proc), so nothing of the host can change and nobody needs root:
 * `bun test ./test/unit-c/mounts-inside.ts`.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Part, Struct } from "../../src/launch/program.ts";
import { call, run } from "../../src/launch/testing-run.ts";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { callName } from "../../src/linux/names.ts";

const MOUNT = abi.bunc_mount_;
const DEVICE = abi.bunc_device_;

/** The whole of each test lies in a tmpfs of its own. */
let dir = "";
let root = "";
let rootFd = -1;
let descriptors = 0;

beforeEach(() => {
  dir = mkdtempSync("/tmp/bunc-mounts-");
  expect(sys(abi.SYS_mount, "tmpfs", dir, "tmpfs", 0, 0)).toBe(0);
  root = join(dir, "root");
  mkdirSync(join(root, "dev"), { recursive: true });
  mkdirSync(join(dir, "outside"));
  // A mount of its own, as in a container: below it mounts can be made read-only.
  expect(sys(abi.SYS_mount, root, root, 0, abi.MS_BIND, 0)).toBe(0);
  descriptors = readdirSync("/proc/self/fd").length;
  rootFd = sys(abi.SYS_openat, abi.AT_FDCWD, root, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
});

afterEach(() => {
  expect(readdirSync(join(dir, "outside"))).toEqual([]);
  sys(abi.SYS_close, rootFd);
  expect(readdirSync("/proc/self/fd").length).toBe(descriptors);
  expect(sys(abi.SYS_umount2, dir, abi.MNT_DETACH)).toBe(0);
});

/** How one operation ends: "" or errno, with the call of the composite that failed and the item it was at. */
function outcome(code: number, ...args: (number | string | Struct)[]): string {
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

function mount(target: string, given: Given): string {
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
function mounted(path: string): { options: string[]; shared: boolean; type: string } | undefined {
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

const inRoot = (path: string) => join(root, path);
const mode = (path: string) => statSync(inRoot(path)).mode & 0o7777;

describe("a file system", () => {
  test("is mounted on a directory that is made", () => {
    expect(mount("/a/b", { type: "tmpfs", params: ["size=64k", "mode=0700"] })).toBe("");
    expect(mounted("a/b")).toMatchObject({ type: "tmpfs" });
    expect(mode("a/b")).toBe(0o700);
    expect(mode("a") & 0o700).toBe(0o700);
  });

  test("takes the mode of the directory it covers, 1777 where none was there", () => {
    mkdirSync(inRoot("there"), { mode: 0o2750 });
    sys(abi.SYS_fchmodat, abi.AT_FDCWD, inRoot("there"), 0o2750);
    const flags = abi.BUNC_MOUNT_TAKE_MODE;
    expect(mount("/there", { type: "tmpfs", flags })).toBe("");
    expect(mount("/missing", { type: "tmpfs", flags })).toBe("");
    expect([mode("there"), mode("missing")]).toEqual([0o2750, 0o1777]);
  });

  test("gets the content of what it covers", () => {
    mkdirSync(inRoot("full/sub"), { recursive: true });
    writeFileSync(inRoot("full/sub/file"), "content");
    const flags = abi.BUNC_MOUNT_COPY_UP | abi.BUNC_MOUNT_TAKE_MODE;
    expect(mount("/full", { type: "tmpfs", flags })).toBe("");
    expect(mounted("full")).toMatchObject({ type: "tmpfs" });
    expect(readFileSync(inRoot("full/sub/file"), "utf8")).toBe("content");
    expect(mount("/none", { type: "tmpfs", flags })).toBe("");
    expect(readdirSync(inRoot("none"))).toEqual([]);
  });

  test("gets attributes, of its own and recursive, and propagation", () => {
    const set = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV;
    expect(
      mount("/m", { type: "tmpfs", set, recSet: abi.MOUNT_ATTR_NOEXEC, propagation: [abi.MS_SHARED] }),
    ).toBe("");
    expect(mounted("m")!.options).toEqual(expect.arrayContaining(["nosuid", "nodev", "noexec"]));
    expect(mounted("m")!.shared).toBe(true);
  });

  test("of an unknown type, or with a bad parameter, says which", () => {
    expect(mount("/m", { type: "nosuchfs" })).toBe("ENODEV in fsopen");
    expect(mount("/m", { type: "tmpfs", params: ["size=64k", "nosuch=1"] })).toStartWith(
      "EINVAL in fsconfig 2: tmpfs: ",
    );
    expect(mount("/m", { type: "tmpfs", params: ["size=large"] })).toStartWith("EINVAL in fsconfig 1: ");
    expect(mounted("m")).toBeUndefined();
  });

  test("must be mounted on a directory, with NO_LINKS on one of the image itself", () => {
    mkdirSync(inRoot("real"));
    writeFileSync(inRoot("file"), "");
    symlinkSync("real", inRoot("link"));
    const flags = abi.BUNC_MOUNT_NO_LINKS;
    expect(mount("/link", { type: "proc", flags })).toBe("ELOOP in openat2");
    expect(mount("/link/below", { type: "proc", flags })).toBe("ELOOP in openat2");
    expect(mount("/file", { type: "proc", flags })).toBe("ENOTDIR in openat2");
    expect(mount("/file", { type: "tmpfs" })).toBe("ENOTDIR in move_mount");
    expect(mount("/real", { type: "proc", flags })).toBe("");
    expect(mount("/new", { type: "proc", flags })).toBe("");
    expect(mounted("new")).toMatchObject({ type: "proc" });
  });

  test("lands inside of the root, whatever links lead to", () => {
    symlinkSync(join(dir, "outside"), inRoot("absolute"));
    symlinkSync("../../../outside", inRoot("relative"));
    for (const link of ["absolute", "relative"]) expect(mount(`/${link}`, { type: "tmpfs" })).toBe("");
    expect(mounted(join(dir, "outside"))).toMatchObject({ type: "tmpfs" });
    expect(mounted("outside")).toMatchObject({ type: "tmpfs" });
  });

  test("is not mounted inside of a proc, where a link may lead", () => {
    expect(mount("/proc", { type: "proc" })).toBe("");
    symlinkSync("proc/self/attr", inRoot("link"));
    symlinkSync("/proc/sys", inRoot("sys"));
    const flags = abi.BUNC_MOUNT_GUARD_PROC;
    for (const path of ["/link", "/sys", "/proc/sys", "/proc/sys/kernel/../net"]) {
      expect([path, mount(path, { type: "tmpfs", flags })]).toEqual([path, "EPERM in fstatfs"]);
      expect([path, mount(path, { source: "/tmp", flags })]).toEqual([path, "EPERM in fstatfs"]);
    }
    expect(mount("/proc/self/cwd/x", { type: "tmpfs", flags })).toStartWith("ELOOP");
    expect(mount("/elsewhere", { type: "tmpfs", flags })).toBe("");
  });
});

describe("a bind mount", () => {
  const source = () => join(dir, "source");

  beforeEach(() => {
    mkdirSync(join(source(), "sub"), { recursive: true });
    writeFileSync(join(source(), "file"), "content");
  });

  test("of a directory or a file makes its target of the same kind", () => {
    expect(mount("/new/dir", { source: source() })).toBe("");
    expect(readFileSync(inRoot("new/dir/file"), "utf8")).toBe("content");
    expect(mount("/etc/file", { source: join(source(), "file") })).toBe("");
    expect(readFileSync(inRoot("etc/file"), "utf8")).toBe("content");
    expect(mount("/dev/tty0", { source: "/dev/null" })).toBe("");
    expect(statSync(inRoot("dev/tty0")).isCharacterDevice()).toBe(true);
  });

  test("of a file over a directory, or the reverse, fails", () => {
    mkdirSync(inRoot("dir"));
    writeFileSync(inRoot("file"), "");
    expect(mount("/dir", { source: join(source(), "file") })).toBe("ENOTDIR in move_mount");
    expect(mount("/file", { source: source() })).toBe("ENOTDIR in move_mount");
    expect(mount("/missing", { source: join(source(), "missing") })).toBe("ENOENT in open_tree");
    expect(existsSync(inRoot("missing"))).toBe(false);
  });

  test("gets its attributes, which leave the source alone", () => {
    const set = abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID;
    expect(mount("/m", { source: source(), set })).toBe("");
    expect(mounted("m")!.options).toEqual(expect.arrayContaining(["ro", "nosuid"]));
    expect(() => writeFileSync(inRoot("m/new"), "")).toThrow("EROFS");
    writeFileSync(join(source(), "new"), "");
    expect(
      mount("/n", { source: inRoot("m"), set: abi.MOUNT_ATTR_NODEV, clear: abi.MOUNT_ATTR_NOSUID }),
    ).toBe("");
    expect(mounted("n")!.options).toEqual(expect.arrayContaining(["ro", "nodev"]));
    expect(mounted("n")!.options).not.toContain("nosuid");
  });

  test("is recursive only when it is to be, with attributes for all below", () => {
    expect(sys(abi.SYS_mount, "tmpfs", join(source(), "sub"), "tmpfs", 0, 0)).toBe(0);
    expect(mount("/plain", { source: source() })).toBe("");
    expect(mounted("plain/sub")).toBeUndefined();
    const flags = abi.BUNC_MOUNT_RECURSIVE;
    expect(mount("/deep", { source: source(), flags, recSet: abi.MOUNT_ATTR_RDONLY })).toBe("");
    for (const path of ["deep", "deep/sub"]) expect(mounted(path)!.options).toContain("ro");
    expect(mount("/top", { source: source(), flags, set: abi.MOUNT_ATTR_RDONLY })).toBe("");
    expect([mounted("top")!.options[0], mounted("top/sub")!.options[0]]).toEqual(["ro", "rw"]);
  });

  test("gets each propagation in turn", () => {
    const flags = abi.BUNC_MOUNT_RECURSIVE;
    expect(mount("/m", { source: source(), flags, propagation: [abi.MS_SHARED | abi.MS_REC] })).toBe("");
    expect(mounted("m")!.shared).toBe(true);
    expect(mount("/n", { source: source(), propagation: [abi.MS_SHARED, abi.MS_PRIVATE] })).toBe("");
    expect(mounted("n")!.shared).toBe(false);
    // One call takes one type.
    expect(mount("/o", { source: source(), propagation: [abi.MS_SHARED | abi.MS_PRIVATE] })).toBe(
      "EINVAL in mount_setattr 2",
    );
  });

  test("of a tree that was opened before closes its descriptor", () => {
    const open = () =>
      sys(abi.SYS_open_tree, abi.AT_FDCWD, source(), abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC);
    expect(mount("/m", { tree: open() })).toBe("");
    expect(readFileSync(inRoot("m/file"), "utf8")).toBe("content");
    writeFileSync(inRoot("file"), "");
    expect(mount("/file", { tree: open() })).toBe("ENOTDIR in move_mount");
  });

  test("over /proc must be of a proc", () => {
    const flags = abi.BUNC_MOUNT_ONLY_PROC;
    expect(mount("/proc", { source: source(), flags })).toBe("EPERM in fstatfs 1");
    expect(mount("/proc", { source: "/proc", flags: flags | abi.BUNC_MOUNT_RECURSIVE })).toBe("");
  });
});

describe("a remount", () => {
  const flags = abi.BUNC_MOUNT_REMOUNT;

  test("changes attributes and parameters of what is there", () => {
    expect(mount("/m", { type: "tmpfs", params: ["size=64k"], set: abi.MOUNT_ATTR_NOSUID })).toBe("");
    symlinkSync("m", inRoot("link"));
    expect(mount("/link", { flags, set: abi.MOUNT_ATTR_NOEXEC, propagation: [abi.MS_SHARED] })).toBe("");
    expect(mounted("m")!.options).toEqual(expect.arrayContaining(["nosuid", "noexec"]));
    expect(mounted("m")!.shared).toBe(true);
  });

  test("of nothing fails", () => {
    expect(mount("/missing", { flags, set: abi.MOUNT_ATTR_RDONLY })).toBe("ENOENT in openat2");
    expect(mount("/dev", { flags, set: abi.MOUNT_ATTR_RDONLY })).toBe("EINVAL in mount_setattr");
  });
});

describe("MOUNT_ATTR", () => {
  test("changes a mount below the root, found without leaving it", () => {
    expect(mount("/m", { type: "tmpfs" })).toBe("");
    symlinkSync("/m", inRoot("link"));
    expect(outcome(abi.BUNC_OP_MOUNT_ATTR, rootFd, "/link", abi.MOUNT_ATTR_RDONLY, 0)).toBe("");
    expect(mounted("m")!.options).toContain("ro");
    expect(outcome(abi.BUNC_OP_MOUNT_ATTR, rootFd, "/m", 0, abi.MOUNT_ATTR_RDONLY)).toBe("");
    expect(mounted("m")!.options).toContain("rw");
    expect(outcome(abi.BUNC_OP_MOUNT_ATTR, rootFd, "/", abi.MOUNT_ATTR_RDONLY, 0)).toBe("");
    expect(() => writeFileSync(inRoot("new"), "")).toThrow("EROFS");
    expect(outcome(abi.BUNC_OP_MOUNT_ATTR, rootFd, "/", 0, abi.MOUNT_ATTR_RDONLY)).toBe("");
    expect(outcome(abi.BUNC_OP_MOUNT_ATTR, rootFd, "/missing", abi.MOUNT_ATTR_RDONLY, 0)).toStartWith(
      "ENOENT",
    );
    // A directory that is no mount point has no attributes of its own.
    expect(outcome(abi.BUNC_OP_MOUNT_ATTR, rootFd, "/dev", abi.MOUNT_ATTR_RDONLY, 0)).toStartWith("EINVAL");
  });
});

interface GivenDevice {
  mode?: number;
  dev?: number;
  host?: string;
  uid?: number;
  strict?: boolean;
}

function device(name: string, given: GivenDevice): string {
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

const NULL = { mode: abi.S_IFCHR | 0o666, dev: 0x103, host: "/dev/null" };

describe("a device", () => {
  test("that may not be made is the host's, bound", () => {
    for (const given of [NULL, { host: "/dev/null" }]) {
      expect(device("null", given)).toBe("");
      expect(statSync(inRoot("dev/null")).rdev).toBe(0x103);
      sys(abi.SYS_umount2, inRoot("dev/null"), abi.MNT_DETACH);
      sys(abi.SYS_unlinkat, abi.AT_FDCWD, inRoot("dev/null"), 0);
    }
    expect(device("none", { ...NULL, host: "/dev/no-such-device" })).toBe("ENOENT in open_tree");
  });

  test("that is there stays as it is", () => {
    writeFileSync(inRoot("dev/null"), "of the image");
    expect(device("null", NULL)).toBe("");
    expect(readFileSync(inRoot("dev/null"), "utf8")).toBe("of the image");
    // Bound over, in a user namespace.
    expect(device("null", { host: "/dev/null" })).toBe("");
    expect(statSync(inRoot("dev/null")).isCharacterDevice()).toBe(true);
  });

  test("that is there must be the one that the bundle asks for", () => {
    const fifo = { mode: abi.S_IFIFO | 0o600, strict: true };
    expect([device("pipe", fifo), device("pipe", fifo)]).toEqual(["", ""]);
    writeFileSync(inRoot("dev/file"), "of the image");
    expect(device("file", fifo)).toBe("EEXIST in mknodat");
    expect(device("pipe", { ...NULL, strict: true })).toBe("EEXIST in mknodat");
    symlinkSync("pipe", inRoot("dev/link"));
    expect(device("link", fifo)).toBe("EEXIST in mknodat");
  });

  test("is not made through a link of the image", () => {
    symlinkSync("../../outside/victim", inRoot("dev/null"));
    expect(device("null", NULL)).toBe("");
    expect(lstatSync(inRoot("dev/null")).isSymbolicLink()).toBe(true);
    expect(device("null", { host: "/dev/null" })).toBe("ELOOP in openat");
  });

  test("that is a fifo is made with its mode", () => {
    const umask = process.umask(0);
    expect(device("pipe", { mode: abi.S_IFIFO | 0o622 })).toBe("");
    process.umask(umask);
    const made = statSync(inRoot("dev/pipe"));
    expect([made.isFIFO(), made.mode & 0o777]).toEqual([true, 0o622]);
    // An owner that the user namespace does not map.
    expect(device("pipe2", { mode: abi.S_IFIFO | 0o622, uid: 12345 })).toBe("EINVAL in fchownat");
  });
});

/** The shared tmpfs for covered directories; gives its descriptor. */
function emptyTmpfs(): number {
  const fs = sys(abi.SYS_fsopen, "tmpfs", abi.FSOPEN_CLOEXEC);
  expect(sys(abi.SYS_fsconfig, fs, abi.FSCONFIG_CMD_CREATE, 0, 0, 0)).toBe(0);
  const fd = sys(abi.SYS_fsmount, fs, abi.FSMOUNT_CLOEXEC, abi.MOUNT_ATTR_RDONLY);
  sys(abi.SYS_close, fs);
  return fd;
}

describe.each([
  ["by clones of one tmpfs", false],
  ["by a tmpfs each, as before Linux 6.15", true],
])("MASK covers %s:", (_name, old) => {
  let empty = -1;
  const pipe = new Int32Array(2);

  beforeEach(() => {
    expect(device("null", NULL)).toBe("");
    mkdirSync(inRoot("dir"));
    writeFileSync(inRoot("dir/secret"), "secret");
    writeFileSync(inRoot("file"), "secret");
    // What open_tree refuses with EINVAL stands for a kernel that cannot clone a detached mount.
    sys(abi.SYS_pipe2, new Uint8Array(pipe.buffer), abi.O_CLOEXEC);
    empty = old ? pipe[0]! : emptyTmpfs();
  });

  afterEach(() => {
    if (!old) sys(abi.SYS_close, empty);
    for (const fd of pipe) sys(abi.SYS_close, fd);
  });

  const mask = (path: string) => outcome(abi.BUNC_OP_MASK, rootFd, path, empty);

  test("a directory, by one that is empty and cannot be written to", () => {
    const cwd = process.cwd();
    expect(mask("/dir")).toBe("");
    process.chdir(cwd);
    expect(readdirSync(inRoot("dir"))).toEqual([]);
    expect(() => writeFileSync(inRoot("dir/new"), "")).toThrow("EROFS");
  });

  test("a file, by the null device", () => {
    expect(mask("/file")).toBe("");
    expect(statSync(inRoot("file")).rdev).toBe(0x103);
    expect(readFileSync(inRoot("file"), "utf8")).toBe("");
  });

  test("two directories", () => {
    mkdirSync(inRoot("dir2"));
    const cwd = process.cwd();
    expect([mask("/dir"), mask("/dir2"), mask("/dir")]).toEqual(["", "", ""]);
    process.chdir(cwd);
    expect(mounted("dir2")).toMatchObject({ type: "tmpfs" });
  });

  test("nothing, where nothing is", () => {
    for (const path of ["/missing", "/missing/deep", "/file/below", "/dir/missing"])
      expect(mask(path)).toBe("");
  });

  test("what a link leads to, inside of the root", () => {
    symlinkSync("/file", inRoot("link"));
    symlinkSync("missing", inRoot("dangling"));
    symlinkSync(join(dir, "outside"), inRoot("away"));
    expect([mask("/link"), mask("/dangling"), mask("/away")]).toEqual(["", "", ""]);
    expect(readFileSync(inRoot("file"), "utf8")).toBe("");
    symlinkSync("loop", inRoot("loop"));
    expect(mask("/loop")).toBe("ELOOP in openat2");
  });

  test("no file by what only calls itself /dev/null (CVE-2025-31133)", () => {
    sys(abi.SYS_umount2, inRoot("dev/null"), abi.MNT_DETACH);
    writeFileSync(inRoot("dev/null"), "chosen by the image");
    expect(mask("/file")).toBe("EPERM in openat2 1");
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, inRoot("dev/null"), 0);
    expect(mask("/file")).toBe("ENOENT in openat2 1");
    symlinkSync("/dir/secret", inRoot("dev/null"));
    expect(mask("/file")).toBe("EPERM in openat2 1");
    expect(readFileSync(inRoot("file"), "utf8")).toBe("secret");
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, inRoot("dev/null"), 0);
    // Another device is not it, either.
    expect(device("null", { host: "/dev/zero" })).toBe("");
    expect(mask("/file")).toBe("EPERM in openat2 1");
  });
});

describe("READONLY", () => {
  const readonly = (path: string) => outcome(abi.BUNC_OP_READONLY, rootFd, path);

  test("binds a path over itself, and passes over what is not there", () => {
    mkdirSync(inRoot("dir"));
    writeFileSync(inRoot("dir/file"), "content");
    expect([readonly("/dir"), readonly("/dir/file")]).toEqual(["", ""]);
    expect(readFileSync(inRoot("dir/file"), "utf8")).toBe("content");
    expect(() => writeFileSync(inRoot("dir/new"), "")).toThrow("EROFS");
    for (const path of ["/missing", "/dir/file/below"]) expect(readonly(path)).toBe("");
  });

  test("keeps what is mounted below, and the attributes that are there", () => {
    expect(mount("/m", { type: "tmpfs", set: abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NOEXEC })).toBe("");
    mkdirSync(inRoot("m/sub"));
    expect(mount("/m/sub", { type: "tmpfs" })).toBe("");
    writeFileSync(inRoot("m/sub/file"), "below");
    expect(readonly("/m")).toBe("");
    expect(mounted("m")!.options).toEqual(expect.arrayContaining(["ro", "nosuid", "noexec"]));
    expect(readFileSync(inRoot("m/sub/file"), "utf8")).toBe("below");
  });
});

describe("streams", () => {
  /** What a descriptor refers to: inode, and the mount it was opened on. */
  const identity = (fd: number) =>
    readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").match(/mnt_id:\s*(\d+)/)![1];
  const nullStreams = () => outcome(abi.BUNC_OP_NULL_STREAMS, rootFd);
  let saved = -1;

  beforeEach(() => {
    saved = call(abi.SYS_fcntl, 0, abi.F_DUPFD_CLOEXEC, 10);
    const none = sys(abi.SYS_openat, abi.AT_FDCWD, "/dev/null", abi.O_RDWR | abi.O_CLOEXEC, 0);
    sys(abi.SYS_dup3, none, 0, 0);
    sys(abi.SYS_close, none);
  });

  afterEach(() => {
    sys(abi.SYS_dup3, saved, 0, 0);
    sys(abi.SYS_close, saved);
  });

  test("that are the host's null device become the container's", () => {
    const [before, out] = [identity(0), identity(1)];
    expect(device("null", NULL)).toBe("");
    expect(nullStreams()).toBe("");
    expect(identity(0)).not.toBe(before);
    expect(statSync("/proc/self/fd/0").rdev).toBe(0x103);
    expect(identity(1)).toBe(out);
  });

  test("do not become what only calls itself so", () => {
    const before = identity(0);
    expect(nullStreams()).toStartWith("ENOENT");
    writeFileSync(inRoot("dev/null"), "");
    expect(nullStreams()).toStartWith("EPERM");
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, inRoot("dev/null"), 0);
    symlinkSync("/dev/other", inRoot("dev/null"));
    expect(nullStreams()).toStartWith("ELOOP");
    // A fifo must not hold the start up.
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, inRoot("dev/null"), 0);
    expect(device("null", { mode: abi.S_IFIFO | 0o600 })).toBe("");
    expect(nullStreams()).toStartWith("EPERM");
    expect(identity(0)).toBe(before);
  });

  test("get an owner, where that can be", () => {
    expect(outcome(abi.BUNC_OP_OWN_STREAMS, 0)).toBe("");
    expect(outcome(abi.BUNC_OP_OWN_STREAMS, 54321)).toBe("");
  });
});

test("DROP_BOUNDING keeps what is asked for, and no capability beyond the last stops it", () => {
  const keep = (1 << abi.CAP_KILL) | (1 << abi.CAP_SYS_ADMIN);
  const bounding = () =>
    BigInt(`0x${readFileSync("/proc/thread-self/status", "utf8").match(/CapBnd:\s*(\w+)/)![1]}`);
  const before = bounding();
  expect(outcome(abi.BUNC_OP_DROP_BOUNDING, keep)).toBe("");
  expect(bounding()).toBe(before & BigInt(keep));
  expect(outcome(abi.BUNC_OP_DROP_BOUNDING, 0)).toBe("");
  expect(bounding()).toBe(0n);
});
