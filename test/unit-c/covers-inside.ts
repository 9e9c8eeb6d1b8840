/**
 * DEVICE, MASK, READONLY, the standard streams and the bounding set of c/cover.c and c/composites.c; see inside.ts for how
 * this is executed.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { call } from "../../src/launch/testing-run.ts";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { device, dir, inRoot, mount, mounted, NULL, outcome, rootFd, useRoot } from "./inside.ts";

useRoot();

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

// Before Linux 6.15 the first directory gets the tmpfs itself: the VM's tests have such a kernel.
describe("MASK covers", () => {
  let empty = -1;

  beforeEach(() => {
    expect(device("null", NULL)).toBe("");
    mkdirSync(inRoot("dir"));
    writeFileSync(inRoot("dir/secret"), "secret");
    writeFileSync(inRoot("file"), "secret");
    empty = emptyTmpfs();
  });

  afterEach(() => {
    sys(abi.SYS_close, empty);
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
