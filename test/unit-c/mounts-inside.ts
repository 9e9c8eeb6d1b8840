/** MOUNT and MOUNT_ATTR of c/mount.c on real mounts; see inside.ts for how this is executed. */
import { beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { dir, inRoot, mode, mount, mounted, outcome, rootFd, useRoot } from "./inside.ts";

useRoot();

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
      expect([path, mount(path, { source: "/etc", flags })]).toEqual([path, "EPERM in fstatfs"]);
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
