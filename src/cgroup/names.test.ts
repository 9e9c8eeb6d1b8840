import { describe, expect, test } from "bun:test";
import { cleanGroupPath, groupDirs, innerPath, parentsOf, pathsOf } from "./names.ts";
import { type Host, HYBRID, layoutOf, NESTED, SEPARATE, V2 } from "./testing.ts";

const paths = (host: Host, cgroupsPath?: string) =>
  pathsOf(groupDirs(layoutOf(host), innerPath(cgroupsPath, "c1")));

describe("cleanGroupPath", () => {
  for (const [path, clean] of [
    ["", ""],
    ["a", "a"],
    ["a/b//c/", "a/b/c"],
    ["./a/../b", "b"],
    ["../../etc", "etc"],
    ["..", ""],
    [".", ""],
    ["/", "/"],
    ["/../../..", "/"],
    ["/a/../../b", "/b"],
    ["//a//", "/a"],
    ["..a/b..", "..a/b.."],
  ]) {
    test(JSON.stringify(path), () => expect(cleanGroupPath(path!)).toBe(clean!));
  }
});

describe("innerPath", () => {
  test("the id where there is no path", () => {
    expect(innerPath(undefined, "c1")).toBe("c1");
    expect(innerPath("", "c1")).toBe("c1");
    expect(innerPath("../..", "c1")).toBe("c1");
  });
  test("what the kernel could not make is refused, with the field", () => {
    for (const [path, words] of [
      ["/", "root of the cgroup hierarchies"],
      ["/..", "root of the cgroup hierarchies"],
      ["/a\nb", "newline"],
      ["/a\0b", "NUL"],
      [`/a/${"x".repeat(256)}`, "256 bytes; 255 are the most"],
      [`/a/${"é".repeat(128)}`, "256 bytes"],
      [`/${"abcdefgh/".repeat(500)}x`, "too long"],
    ] as const) {
      try {
        innerPath(path, "c1");
        expect.unreachable();
      } catch (error) {
        expect(String(error)).toContain(words);
        expect(error).toMatchObject({ fields: { code: "config", path: "linux.cgroupsPath" } });
        expect(String(error).length).toBeLessThan(300);
      }
    }
  });
  test("255 bytes are allowed, and any other byte", () => {
    const name = "é".repeat(127);
    expect(innerPath(`/${name}`, "c1")).toBe(`/${name}`);
    expect(innerPath("/a b\t\\c:d", "c1")).toBe("/a b\t\\c:d");
  });
});

describe("groupDirs", () => {
  test("absolute: below each mount point", () => {
    expect(paths(SEPARATE, "/pods/p1")).toEqual({
      cpu: "/sys/fs/cgroup/cpu/pods/p1",
      cpuset: "/sys/fs/cgroup/cpuset/pods/p1",
      memory: "/sys/fs/cgroup/memory/pods/p1",
      devices: "/sys/fs/cgroup/devices/pods/p1",
      freezer: "/sys/fs/cgroup/freezer/pods/p1",
      pids: "/sys/fs/cgroup/pids/pods/p1",
    });
  });
  test("relative: below the caller's own cgroup", () => {
    expect(paths(SEPARATE)).toMatchObject({
      cpu: "/sys/fs/cgroup/cpu/c1",
      memory: "/sys/fs/cgroup/memory/jobs/a/c1",
    });
    expect(paths(SEPARATE, "x/../y").memory).toBe("/sys/fs/cgroup/memory/jobs/a/y");
  });
  test("hybrid: one directory for controllers that are together; cgroup2 at its top, as in runc", () => {
    expect(paths(HYBRID)).toEqual({
      "name=systemd": "/sys/fs/cgroup/systemd/user.slice/a.scope/c1",
      cpu: "/sys/fs/cgroup/cpu,cpuacct/c1",
      cpuacct: "/sys/fs/cgroup/cpu,cpuacct/c1",
      devices: "/sys/fs/cgroup/devices/user.slice/c1",
      memory: "/sys/fs/cgroup/memory/user.slice/c1",
      "": "/sys/fs/cgroup/unified/c1",
    });
    expect(groupDirs(layoutOf(HYBRID), "c1").map(({ optional }) => optional)).toEqual([
      true,
      false,
      false,
      false,
      true,
    ]);
  });
  test("v2: relative means beside the caller's own cgroup", () => {
    expect(paths(V2, "/a/b")).toEqual({ "": "/sys/fs/cgroup/a/b" });
    expect(paths(V2)).toEqual({ "": "/sys/fs/cgroup/user.slice/c1" });
    expect(paths({ ...V2, self: "0::/\n" })).toEqual({ "": "/sys/fs/cgroup/c1" });
    expect(paths({ ...V2, self: "0::/init.scope\n" })).toEqual({ "": "/sys/fs/cgroup/c1" });
  });
  test("nested", () => {
    expect(paths(NESTED)).toEqual({
      memory: "/sys/fs/cgroup/memory/c1",
      devices: "/sys/fs/cgroup/devices/sub/c1",
      freezer: "/sys/fs/cgroup/freezer/c1",
    });
    expect(paths(NESTED, "/x").devices).toBe("/sys/fs/cgroup/devices/x");
  });
  test("named hierarchies but systemd's are left alone", () => {
    const extra = "70 31 0:70 / /sys/fs/cgroup/elogind rw - cgroup cgroup rw,name=elogind\n";
    expect(Object.keys(paths({ ...SEPARATE, mountinfo: SEPARATE.mountinfo + extra }))).not.toContain(
      "name=elogind",
    );
  });
  test("directories above the cgroup that may have to be made", () => {
    const [dir] = groupDirs(layoutOf(V2), "/a/b/c");
    expect(parentsOf(dir!)).toEqual(["/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"]);
    const [own] = groupDirs(layoutOf(V2), "c1");
    expect(parentsOf(own!)).toEqual([]);
    const memory = groupDirs(layoutOf(SEPARATE), "x/y").find(({ names }) => names.includes("memory"));
    expect(parentsOf(memory!)).toEqual(["/sys/fs/cgroup/memory/jobs/a/x"]);
  });
});
