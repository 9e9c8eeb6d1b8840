// Names of units and slices (systemd.slice(5), docs/systemd.md of runc).
import { describe, expect, test } from "bun:test";
import type { Spec } from "../oci/config.ts";
import { splitTypes } from "./systemd-bus.ts";
import { expandSlice, unitNames, unitOfPath, unitPath } from "./systemd-names.ts";

const named = (cgroupsPath: string | undefined, user = false, annotations?: Record<string, string>) =>
  unitNames({ ociVersion: "1.3.0", linux: { cgroupsPath }, annotations } as Spec, "c1", user);

describe("cgroupsPath", () => {
  test("absent or empty: a scope named after the container", () => {
    expect(named(undefined)).toMatchObject({ slice: "system.slice", unit: "runc-c1.scope" });
    expect(named("")).toEqual(named(undefined));
    expect(named(undefined, true)).toMatchObject({ slice: "user.slice", unit: "runc-c1.scope" });
  });

  test.each([
    ["machine.slice:docker:1234", "machine.slice", "docker-1234.scope", "/machine.slice/docker-1234.scope"],
    ["::", "system.slice", "-.scope", "/system.slice/-.scope"],
    ["-.slice:a:b", "-.slice", "a-b.scope", "/a-b.scope"],
    ["-:a:b", "-.slice", "a-b.scope", "/a-b.scope"],
    ["a-b.slice:p:n", "a-b.slice", "p-n.scope", "/a.slice/a-b.slice/p-n.scope"],
    ["pods.slice:ignored:pods-1.slice", "pods.slice", "pods-1.slice", "/pods.slice/pods-1.slice"],
    [":p:n:".slice(0, 4), "system.slice", "p-n.scope", "/system.slice/p-n.scope"],
  ])("%s", (path, slice, unit, at) => {
    const names = named(path);
    expect(names).toMatchObject({ slice, unit });
    expect(unitPath(names)).toBe(at);
  });

  test.each([
    [
      "/a/b",
      'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/a/b" instead',
    ],
    ["a:b", 'got "a:b" instead'],
    ["a.slice:b:c:d", 'got "a.slice:b:c:d" instead'],
    ["a:b:c", "invalid slice name: a"],
    ["a/b.slice:c:d", "invalid slice name: a/b.slice"],
    ["a--b.slice:c:d", "invalid slice name: a--b.slice"],
    ["-a.slice:c:d", "invalid slice name: -a.slice"],
    [".slice:c:d", "invalid slice name: .slice"],
    [":a:../../b", 'invalid unit name: "a-../../b.scope"'],
    [":a:b c", "invalid unit name"],
    [":a:b\n", "invalid unit name"],
    [`:a:${"x".repeat(300)}`, "invalid unit name"],
    [":a:x--y.slice", "invalid slice name: x--y.slice"],
  ])("%j is refused", (path, message) => {
    expect(() => named(path)).toThrow(message);
  });
});

test("a cgroup below the scope's", () => {
  const at = (subgroup: string) => unitPath(named(":a:b", false, { "run.oci.systemd.subgroup": subgroup }));
  expect(at("container")).toBe("/system.slice/a-b.scope/container");
  expect(at("")).toBe("/system.slice/a-b.scope");
  for (const wrong of ["..", ".", "a/b", "x".repeat(300)])
    expect(() => at(wrong)).toThrow("run.oci.systemd.subgroup");
});

test("slices", () => {
  expect(expandSlice("-.slice")).toBe("");
  expect(expandSlice("test-a-b.slice")).toBe("/test.slice/test-a.slice/test-a-b.slice");
});

test("the unit in a path", () => {
  expect(unitOfPath("/sys/fs/cgroup/system.slice/runc-a.scope")).toBe("runc-a.scope");
  expect(unitOfPath("/sys/fs/cgroup/system.slice/a-b.scope/container")).toBe("a-b.scope");
  expect(unitOfPath("/sys/fs/cgroup/pods.slice")).toBe("pods.slice");
  expect(unitOfPath("/sys/fs/cgroup/x")).toBeUndefined();
  expect(unitOfPath("")).toBeUndefined();
});

test("complete types of a signature", () => {
  expect(splitTypes("sa(ss)va{sv}aaut")).toEqual(["s", "a(ss)", "v", "a{sv}", "aau", "t"]);
  expect(splitTypes("((ss)s)u")).toEqual(["((ss)s)", "u"]);
  expect(splitTypes("")).toEqual([]);
});
