import { describe, expect, test } from "bun:test";
import {
  capabilitiesIn,
  mountOf,
  parseFilesystems,
  parseMounts,
  parseNumber,
  parseRanges,
  parseStatus,
} from "./parse.ts";

test("status", () => {
  const status =
    "Name:\tx\nCapEff:\t0000000000200080\nCapBnd:\t0000000000000001\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
  expect(parseStatus(status)).toEqual({
    effective: ["CAP_SETUID", "CAP_SYS_ADMIN"],
    bounding: ["CAP_CHOWN"],
    noNewPrivs: true,
    seccomp: 2,
  });
  expect(parseStatus("")).toEqual({ effective: [], bounding: [], noNewPrivs: false, seccomp: 0 });
});

test("capability masks that are none", () => {
  for (const mask of ["", "xyz", "-1", "00000000000000000000001"])
    expect(capabilitiesIn(mask, ["A"])).toEqual([]);
  expect(capabilitiesIn("ffffffffffffffff", ["A", "B"])).toEqual(["A", "B"]);
});

describe("subuid", () => {
  test("lines by name and by uid", () => {
    expect(parseRanges("u:100000:65536\nv:1:2\n1000:300000:10\n", "u", 1000)).toEqual([
      { first: 100000, count: 65536 },
      { first: 300000, count: 10 },
    ]);
  });
  test("a user without a name gets none of the lines without one", () => {
    expect(parseRanges(":1:2\n::\n", "", 5)).toEqual([]);
  });
  test("broken lines are passed over", () => {
    expect(parseRanges("u\nu:1\nu:x:5\nu:1:0\nu:1:2:3\nu:99999999999:5\n#u:1:2\n", "u", 7)).toEqual([]);
  });
});

describe("mountinfo", () => {
  const text = [
    "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "22 21 0:5 / /proc rw,nosuid - proc proc rw,hidepid=invisible",
    "23 21 0:6 / /a\\040b rw,noexec master:1 - tmpfs tmpfs rw",
    "broken",
    "",
  ].join("\n");
  const mounts = parseMounts(text);

  test("mounts with what matters", () => {
    expect(mounts.map(({ point, type }) => [point, type])).toEqual([
      ["/", "ext4"],
      ["/proc", "proc"],
      ["/a b", "tmpfs"],
    ]);
    expect(mounts[1]).toMatchObject({ options: ["rw", "nosuid"], superOptions: ["rw", "hidepid=invisible"] });
  });
  test("where a path lies", () => {
    expect(mountOf(mounts, "/a b/c")?.point).toBe("/a b");
    expect(mountOf(mounts, "/a bc")?.point).toBe("/");
    expect(mountOf(mounts, "/proc")?.point).toBe("/proc");
    expect(mountOf([], "/")).toBeUndefined();
  });
});

test("file systems that are there or can be loaded", () => {
  expect(
    parseFilesystems("nodev\ttmpfs\n\text4\n", "kernel/fs/overlayfs/overlay.ko.xz\nkernel/fs/fuse/fuse.ko\n"),
  ).toEqual(["tmpfs", "ext4", "overlay", "fuse"]);
  expect(parseFilesystems("", "")).toEqual([]);
});

test("numbers of /proc/sys", () => {
  expect([
    parseNumber("15000\n"),
    parseNumber("-1"),
    parseNumber("a"),
    parseNumber(""),
    parseNumber(-2),
  ]).toEqual([15000, -1, null, null, null]);
});
