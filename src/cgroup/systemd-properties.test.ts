// The property table of runc's docs/systemd.md, both columns of it.
import { describe, expect, test } from "bun:test";
import type { LinuxResources, Spec } from "../oci/config.ts";
import { deviceFilter } from "./devices.ts";
import { unitNames } from "./systemd-names.ts";
import {
  annotationProperties,
  dropIdleWeight,
  limitProperties,
  listBits,
  roundQuota,
  unitProperties,
} from "./systemd-properties.ts";

const INFINITY = 2n ** 64n - 1n;
const V2 = { v2: true, version: () => 257 };
const V1 = { v2: false, version: () => 247 };

type Host = typeof V2;

/** Names and values, those that are set early before a bar. */
function shown(resources: LinuxResources, host: Host = V2, devices = false): unknown[] {
  const spec = { ociVersion: "1.3.0", linux: { resources } } as Spec;
  const { early, late } = limitProperties(resources, devices ? deviceFilter(spec) : undefined, host);
  const values = (list: typeof early) => list.map(({ name, value }) => [name, value]);
  return [...values(early), "|", ...values(late)];
}

const everything: LinuxResources = {
  memory: { limit: 8192, reservation: 4096, swap: 12288 },
  cpu: { shares: 1024, quota: 50000, period: 100000, cpus: "0-1", mems: "0" },
  pids: { limit: 20 },
};

describe("limits", () => {
  test("v2", () => {
    expect(shown(everything)).toEqual([
      ["MemoryMax", 8192n],
      ["MemoryLow", 4096n],
      ["MemorySwapMax", 4096n],
      ["AllowedCPUs", [3]],
      ["AllowedMemoryNodes", [1]],
      "|",
      ["CPUWeight", 100n],
      ["CPUQuotaPeriodUSec", 100000n],
      ["CPUQuotaPerSecUSec", 500000n],
      ["TasksMax", 20n],
    ]);
  });

  test("v1", () => {
    expect(shown({ ...everything, blockIO: { weight: 300 } }, V1)).toEqual([
      ["MemoryLimit", 8192n],
      ["AllowedCPUs", [3]],
      ["AllowedMemoryNodes", [1]],
      "|",
      ["CPUShares", 1024n],
      ["CPUQuotaPeriodUSec", 100000n],
      ["CPUQuotaPerSecUSec", 500000n],
      ["BlockIOWeight", 300n],
      ["TasksMax", 20n],
    ]);
  });

  test("none, unlimited, and least", () => {
    expect(shown({})).toEqual(["|"]);
    expect(shown({ memory: { limit: 0 }, cpu: { shares: 0, quota: 0, period: 0 } })).toEqual(["|"]);
    expect(shown({ memory: { limit: -1, swap: -1 }, cpu: { quota: -1 }, pids: { limit: -1 } })).toEqual([
      ["MemoryMax", INFINITY],
      ["MemorySwapMax", INFINITY],
      "|",
      ["CPUQuotaPerSecUSec", INFINITY],
      ["TasksMax", INFINITY],
    ]);
    expect(shown({ pids: { limit: 0 } })).toEqual(["|", ["TasksMax", 1n]]);
    expect(shown({ cpu: { period: 50000 } })).toEqual([
      "|",
      ["CPUQuotaPeriodUSec", 50000n],
      ["CPUQuotaPerSecUSec", INFINITY],
    ]);
  });

  test("old versions of systemd are not given what they do not know", () => {
    const at = (version: number) => ({ v2: true, version: () => version });
    const cpu = { quota: 1000, period: 10000, cpus: "0" };
    expect(shown({ cpu }, at(241))).toEqual(["|", ["CPUQuotaPerSecUSec", 100000n]]);
    expect(shown({ cpu: { idle: 1, shares: 1024 } }, at(251))).toEqual(["|", ["CPUWeight", 100n]]);
    expect(shown({ cpu: { idle: 1, shares: 1024 } }, at(252))).toEqual(["|", ["CPUWeight", 0n]]);
    expect(shown({ cpu: { idle: 0, shares: 1024 } }, at(252))).toEqual(["|", ["CPUWeight", 100n]]);
  });

  test("the version is not asked for without need", () => {
    const host = {
      v2: true,
      version: (): number => {
        throw new Error("asked");
      },
    };
    const { cpus: _, mems: __, period: ___, ...cpu } = everything.cpu!;
    expect(shown({ ...everything, cpu }, host)).toHaveLength(7);
    expect(shown({}, host, true)).toHaveLength(4);
  });

  test("a quota between two percents is raised, for both the unit and the cgroup", () => {
    const resources = { cpu: { quota: 12345, period: 100000 } };
    expect(shown(resources)).toContainEqual(["CPUQuotaPerSecUSec", 130000n]);
    expect(roundQuota(resources)).toEqual({ cpu: { quota: 13000, period: 100000 } });
    for (const quota of [0, -1, 13000]) expect(roundQuota({ cpu: { quota } })).toEqual({ cpu: { quota } });
    expect(roundQuota({ cpu: { quota: 1, period: 1000000 } })).toEqual({
      cpu: { quota: 10000, period: 1000000 },
    });
  });
});

describe("unified", () => {
  test("files that have a property", () => {
    const unified = {
      "memory.high": "100",
      "memory.min": " max\n",
      "memory.swap.max": "0",
      "cpuset.cpus": "8",
      "pids.max": "0",
      "cpu.weight": "50",
      "cpu.max": "max",
      "io.weight": "10",
      "hugetlb.2MB.max": "0",
    };
    expect(shown({ unified })).toEqual([
      ["MemoryHigh", 100n],
      ["MemoryMin", INFINITY],
      ["MemorySwapMax", 0n],
      ["AllowedCPUs", [0, 1]],
      "|",
      ["TasksMax", 1n],
      ["CPUWeight", 50n],
      ["CPUQuotaPeriodUSec", 100000n],
      ["CPUQuotaPerSecUSec", INFINITY],
    ]);
    expect(shown({ unified: { "cpu.max": "2000 10000" } })).toEqual([
      "|",
      ["CPUQuotaPeriodUSec", 10000n],
      ["CPUQuotaPerSecUSec", 200000n],
    ]);
    expect(shown({ unified: { "cpu.idle": "1", "cpu.weight": "50" } })).toEqual(["|", ["CPUWeight", 0n]]);
  });

  test.each([
    ["a/b.c", "1", "must be a file name (no slashes)"],
    ["memory", "1", "must be in the form CONTROLLER.PARAMETER"],
    [".max", "1", "must be in the form CONTROLLER.PARAMETER"],
    ["memory.max", "much", 'neither a number nor "max"'],
    ["memory.max", "-1", 'neither a number nor "max"'],
    ["cpu.max", "", "value invalid"],
    ["cpu.max", "1 2 3", "value invalid"],
    ["cpuset.cpus", "x", "is no list"],
  ])("%s: %j", (key, value, message) => {
    expect(() => shown({ unified: { [key]: value } })).toThrow(message);
  });
});

describe("lists of cpus", () => {
  test("as bits", () => {
    expect(listBits("0", "p")).toEqual([1]);
    expect(listBits(" 1, 3-5,,", "p")).toEqual([0b111010]);
    expect(listBits("17", "p")).toEqual([0, 0, 2]);
  });
  test.each(["", ",", "5-3", "a", "-1", "1-", "99999999", "0-99999999999999999999"])(
    "%j is refused",
    (list) => {
      expect(() => listBits(list, "p")).toThrow(/is no list|is an empty list/);
    },
  );
});

describe("devices", () => {
  const policy = (devices: object[], host: Host = V2) => {
    const resources = { devices } as LinuxResources;
    return shown(resources, host, true).slice(1);
  };
  const none = ["DeviceAllow", []];

  test("the default: denied but for the standard ones", () => {
    expect(policy([{ allow: false, access: "rwm" }])).toEqual([
      none,
      ["DevicePolicy", "strict"],
      [
        "DeviceAllow",
        [
          ["block-*", "m"],
          ["char-*", "m"],
          ["/dev/char/1:3", "rwm"],
          ["/dev/char/1:5", "rwm"],
          ["/dev/char/1:7", "rwm"],
          ["/dev/char/1:8", "rwm"],
          ["/dev/char/1:9", "rwm"],
          ["/dev/char/5:0", "rwm"],
          ["/dev/char/5:2", "rwm"],
          ["/dev/char/10:200", "rwm"],
          ["char-136", "rwm"],
        ],
      ],
    ]);
  });

  test("all allowed", () => {
    const rules = [{ allow: true, access: "rwm" }];
    expect(policy(rules)).toEqual([none, ["DevicePolicy", "auto"]]);
    expect(policy(rules, V1)).toEqual([none, ["DevicePolicy", "auto"]]);
  });

  test("what systemd cannot say is left to bunc's own filter; v1 denies all meanwhile", () => {
    const exceptAll = [
      { allow: true, access: "rwm" },
      { allow: false, type: "b", major: 8, minor: 0, access: "rwm" },
    ];
    expect(policy(exceptAll)).toEqual([none, ["DevicePolicy", "auto"]]);
    expect(policy(exceptAll, V1)).toEqual([none, ["DevicePolicy", "strict"]]);
    const anyMajor = [{ allow: true, type: "c", minor: 3, access: "r" }];
    expect(policy(anyMajor)).toEqual([none, ["DevicePolicy", "auto"]]);
    expect(policy(anyMajor, V1)[1]).toEqual(["DevicePolicy", "strict"]);
  });
});

describe("a unit", () => {
  const properties = (cgroupsPath: string, more: Partial<Spec> = {}, host: Host = V2) => {
    const spec = { ociVersion: "1.3.0", ...more, linux: { ...more.linux, cgroupsPath } } as Spec;
    const list = unitProperties(spec, unitNames(spec, "c1", false), 42, host);
    return Object.fromEntries(list.map(({ name, type, value }) => [name, [type, value]]));
  };

  test("a scope around init", () => {
    expect(properties("a.slice:p:n")).toEqual({
      Description: ["s", "libcontainer container n"],
      Slice: ["s", "a.slice"],
      Delegate: ["b", 1],
      PIDs: ["au", [42]],
      MemoryAccounting: ["b", 1],
      CPUAccounting: ["b", 1],
      IOAccounting: ["b", 1],
      TasksAccounting: ["b", 1],
      DefaultDependencies: ["b", 0],
    });
    expect(properties(":p:n", {}, V1).BlockIOAccounting).toEqual(["b", 1]);
  });

  test("a slice has no process and no delegation", () => {
    const slice = properties("a.slice:p:a-n.slice");
    expect(slice.Wants).toEqual(["as", ["a.slice"]]);
    expect([slice.Slice, slice.Delegate, slice.PIDs]).toEqual([undefined, undefined, undefined]);
  });

  test("memory.oom.group must be said at the start", () => {
    const linux = { resources: { unified: { "memory.oom.group": "1" } } };
    expect(properties("", { linux }).OOMPolicy).toEqual(["s", "kill"]);
    expect(properties("", { linux }, { v2: true, version: () => 252 }).OOMPolicy).toBeUndefined();
  });
});

describe("annotations", () => {
  const one = (key: string, value: string) =>
    annotationProperties({ [`org.systemd.property.${key}`]: value })[0];

  test("are properties", () => {
    expect(one("TimeoutStopUSec", "uint64 123456789")).toEqual({
      name: "TimeoutStopUSec",
      type: "t",
      value: 123456789n,
    });
    expect(one("CollectMode", "'inactive-or-failed'")).toEqual({
      name: "CollectMode",
      type: "s",
      value: "inactive-or-failed",
    });
    expect(annotationProperties({ "org.other": "x" })).toEqual([]);
    expect(annotationProperties(undefined)).toEqual([]);
  });

  test("seconds become microseconds", () => {
    expect(one("TimeoutStopSec", "uint32 5")).toEqual({
      name: "TimeoutStopUSec",
      type: "t",
      value: 5000000n,
    });
    expect(one("TimeoutStopSec", "1.5")).toEqual({ name: "TimeoutStopUSec", type: "t", value: 1500000n });
    expect(one("FooSEC", "1")).toMatchObject({ name: "FooSEC" });
    expect(() => one("TimeoutStopSec", "'soon'")).toThrow("value parse error: not a number");
  });

  test.each([
    ["A", "1", "name incorrect: too short"],
    ["Memory_Max", "1", "name incorrect: contains non-alphabetic character"],
    ["MemoryMax", "much", 'value parse error: "much" is no value'],
  ])("%s=%s", (key, value, message) => {
    expect(() => one(key, value)).toThrow(message);
  });
});

test("an idle group has no weight, however the two are asked for", () => {
  const drop = (resources: LinuxResources) => {
    const warnings: string[] = [];
    const left = dropIdleWeight(resources, (message) => warnings.push(message));
    return [left, warnings.length];
  };
  expect(drop({ cpu: { idle: 1, shares: 9 } })).toEqual([{ cpu: { idle: 1 } }, 1]);
  expect(drop({ cpu: { shares: 9 }, unified: { "cpu.idle": "1\n", "cpu.weight": "8" } })).toEqual([
    { cpu: {}, unified: { "cpu.idle": "1\n" } },
    2,
  ]);
  const both = { cpu: { idle: 0, shares: 9 }, unified: { "cpu.idle": "0", "cpu.weight": "8" } };
  expect(drop(both)).toEqual([both, 0]);
});
