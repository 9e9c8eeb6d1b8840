import { describe, expect, test } from "bun:test";
import type { LinuxDevice, LinuxDeviceCgroup, Spec } from "../oci/config.ts";
import { deviceFilter, ruleText } from "./devices.ts";

function filterOf(rules?: LinuxDeviceCgroup[], devices?: LinuxDevice[]) {
  const resources = rules === undefined ? undefined : { devices: rules };
  const spec = { ociVersion: "1.3.0", linux: { resources, devices } } as Spec;
  const { allow, exceptions } = deviceFilter(spec);
  return { allow, list: exceptions.map(ruleText) };
}

const DEFAULTS = [
  "b *:* m",
  "c *:* m",
  "c 1:3 rwm",
  "c 1:5 rwm",
  "c 1:7 rwm",
  "c 1:8 rwm",
  "c 1:9 rwm",
  "c 5:0 rwm",
  "c 5:2 rwm",
  "c 10:200 rwm",
  "c 136:* rwm",
];
const DENY_ALL = { allow: false, access: "rwm" };

describe("deviceFilter", () => {
  test("without rules everything but runc's defaults is denied", () => {
    for (const rules of [undefined, [], [DENY_ALL], [{ allow: false, type: "a", access: "rwm" }]]) {
      expect(filterOf(rules)).toEqual({ allow: false, list: DEFAULTS });
    }
  });

  test("the short way for that gives what the emulator gives", () => {
    // A rule that says nothing new, but keeps deviceFilter from taking the short way.
    const rules = [DENY_ALL, { allow: false, type: "c", major: 7, minor: 7, access: "r" }];
    expect(filterOf(rules)).toEqual({ allow: false, list: DEFAULTS });
  });

  test("order matters", () => {
    const fuse = { allow: true, type: "c", major: 10, minor: 229, access: "rw" };
    expect(filterOf([DENY_ALL, fuse]).list).toContain("c 10:229 rw");
    expect(filterOf([fuse, DENY_ALL]).list).toEqual(DEFAULTS);
    const fuseOff = { ...fuse, allow: false, access: "w" };
    expect(filterOf([DENY_ALL, fuse, fuseOff]).list).toContain("c 10:229 r");
    expect(filterOf([DENY_ALL, fuse, { ...fuseOff, access: "rw" }]).list).not.toContain("c 10:229 r");
    expect(filterOf([fuseOff, DENY_ALL, fuse]).list).toContain("c 10:229 rw");
  });

  test("access of rules for the same devices adds up", () => {
    const disk = { allow: true, type: "b", major: 8, minor: 0 };
    expect(
      filterOf([
        { ...disk, access: "r" },
        { ...disk, access: "mw" },
      ]).list,
    ).toContain("b 8:0 rwm");
  });

  test("all devices allowed: only what is denied afterwards is an exception", () => {
    const all = { allow: true, access: "rwm" };
    expect(filterOf([all])).toEqual({ allow: true, list: [] });
    expect(filterOf([DENY_ALL, { ...all, access: "r" }])).toEqual({ allow: true, list: [] });
    const disk = { allow: false, type: "b", major: 8, minor: -1, access: "rw" };
    expect(filterOf([all, disk])).toEqual({ allow: true, list: ["b 8:* rw"] });
    // The defaults are allowed after the bundle's rules, so a denied /dev/null is allowed again, as in runc.
    const noNull = { allow: false, type: "c", major: 1, minor: 3, access: "rwm" };
    expect(filterOf([all, noNull])).toEqual({ allow: true, list: [] });
  });

  test("wildcards in one number, sorted by major, minor and type", () => {
    const rule = (type: string, major: number | undefined, minor: number | undefined) => ({
      allow: true,
      type,
      ...(major === undefined ? {} : { major }),
      ...(minor === undefined ? {} : { minor }),
      access: "r",
    });
    const { list } = filterOf([rule("c", 9, undefined), rule("b", undefined, 9), rule("c", undefined, 9)]);
    expect(list.filter((text) => text.endsWith(" r"))).toEqual(["b *:9 r", "c *:9 r", "c 9:* r"]);
  });

  test("a device of the bundle replaces the default of its path", () => {
    const { list } = filterOf([], [{ path: "/dev/null", type: "c", major: 1, minor: 3 }]);
    expect(list).toEqual(DEFAULTS.filter((text) => text !== "c 1:3 rwm"));
  });

  test("a hole in a wildcard rule is refused, as cgroup v1 would ignore it", () => {
    const tty = { allow: true, type: "c", major: 4, access: "rw" };
    const hole = { allow: false, type: "c", major: 4, minor: 1, access: "w" };
    const run = () => filterOf([DENY_ALL, tty, hole]);
    expect(run).toThrow(
      `unable to remove 'allow' exception: cannot punch hole in existing wildcard rule "c 4:* rw" with "c 4:1 w"`,
    );
    try {
      run();
    } catch (error) {
      expect(error).toMatchObject({ fields: { path: "linux.resources.devices[2]", code: "config" } });
    }
    // Another access or another type is no hole.
    expect(filterOf([DENY_ALL, tty, { ...hole, access: "m" }]).list).toContain("c 4:* rw");
    expect(filterOf([DENY_ALL, tty, { ...hole, type: "b" }]).list).toContain("c 4:* rw");
    // The defaults would be holes in this one.
    const allowed = [
      { allow: true, access: "rwm" },
      { allow: false, type: "c", major: 1, access: "rwm" },
    ];
    expect(() => filterOf(allowed)).toThrow("unable to remove 'deny' exception");
  });

  test("letters that are none are passed over beside others", () => {
    const rule = { allow: true, type: "c", major: 7, minor: 7 };
    const strange = filterOf([DENY_ALL, { ...rule, access: "rwa" }]).list;
    expect(strange).toEqual(filterOf([DENY_ALL, { ...rule, access: "rw" }]).list);
  });

  test("malformed rules, each with its place", () => {
    for (const [rule, words, field] of [
      [{ allow: true }, "device access at 1 field cannot be empty", "access"],
      [{ allow: true, access: "" }, "device access at 1 field cannot be empty", "access"],
      [{ allow: true, access: "x" }, 'unknown device access "x"', "access"],
      [{ allow: true, access: "r", type: "p" }, 'invalid cgroup device type "p"', "type"],
      [{ allow: true, access: "r", type: "u" }, 'invalid cgroup device type "u"', "type"],
      [{ allow: true, access: "r", type: "c", major: -2 }, "invalid device number -2", "major"],
      [
        { allow: true, access: "r", type: "c", minor: 4294967296 },
        "invalid device number 4294967296",
        "minor",
      ],
      [
        { allow: true, access: "r", type: "c", minor: 2n ** 63n - 1n },
        "invalid device number 9223372036854775807",
        "minor",
      ],
    ] as const) {
      try {
        filterOf([DENY_ALL, rule as LinuxDeviceCgroup]);
        expect.unreachable();
      } catch (error) {
        expect(String(error)).toContain(words);
        expect(error).toMatchObject({ fields: { path: `linux.resources.devices[1].${field}` } });
      }
    }
  });

  test("the largest numbers", () => {
    const rule = { allow: true, type: "b", major: 4294967295, minor: 4294967295, access: "r" };
    expect(filterOf([rule]).list).toContain("b 4294967295:4294967295 r");
  });
});
