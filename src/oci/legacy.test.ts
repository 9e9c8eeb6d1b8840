import { describe, expect, test } from "bun:test";
import { redisConfig } from "../bundle/examples.ts";
import { isOldVersion, normalise, normaliseProcess, normaliseResources } from "./legacy.ts";

function normalised<T>(value: T): T {
  const copy = structuredClone(value);
  expect(normalise(copy)).toEqual([]);
  return copy;
}

test("the redis config of 0.4.0", () => {
  const { process, linux, hooks } = normalised(redisConfig()) as Record<string, Record<string, unknown>>;
  const flat = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
  expect(process!.capabilities).toEqual({ bounding: flat, effective: flat, permitted: flat });
  expect(process!.user).toEqual({ uid: 0, gid: 0 });
  expect(process!.oomScoreAdj).toBe(100);
  expect(linux).toEqual({
    resources: { devices: [{ allow: false, access: "rwm" }], memory: { disableOOMKiller: false } },
    namespaces: [{ type: "pid" }, { type: "ipc" }, { type: "uts" }, { type: "mount" }],
    devices: null,
  });
  expect(hooks).toEqual({});
});

describe("versions", () => {
  test.each([
    ["0.3.0", true],
    ["0.6.0-dev", true],
    ["1.0.0-rc5-dev", true],
    ["1.0.0", false],
    ["1.0.2-dev", false],
    ["1.3.0", false],
    [5, false],
    [undefined, false],
  ])("%p", (ociVersion, old) => {
    expect(isOldVersion({ ociVersion })).toBe(old);
  });
});

describe("platform", () => {
  test("linux, absent or empty is this one", () => {
    for (const platform of [{ os: "linux", arch: "arm64" }, {}, { os: "" }, null, undefined, 5]) {
      expect(normalise({ ociVersion: "0.4.0", platform })).toEqual([]);
    }
  });

  test("another is a problem", () => {
    expect(normalise({ platform: { os: "windows" } })).toEqual([
      { path: "platform.os", message: '"windows" is not supported; this runtime runs linux' },
    ]);
  });
});

describe("shapes", () => {
  test("fields of the process that were in linux", () => {
    const { process, linux } = normalised({
      process: { user: { uid: 1, gid: 2 }, rlimits: [{ type: "RLIMIT_CORE" }] },
      linux: {
        capabilities: ["CAP_KILL"],
        rlimits: [],
        noNewPrivileges: true,
        apparmorProfile: "a",
        selinuxProcessLabel: "b",
        rootfsPropagation: "",
      } as Record<string, unknown>,
    }) as { process: Record<string, unknown>; linux: Record<string, unknown> };
    expect(process).toEqual({
      user: { uid: 1, gid: 2 },
      rlimits: [{ type: "RLIMIT_CORE" }],
      capabilities: { bounding: ["CAP_KILL"], effective: ["CAP_KILL"], permitted: ["CAP_KILL"] },
      noNewPrivileges: true,
      apparmorProfile: "a",
      selinuxLabel: "b",
    } as never);
    expect(linux).toEqual({});
  });

  test("the sets made of a flat list are separate lists", () => {
    const process = { capabilities: ["CAP_KILL"] as unknown };
    normaliseProcess(process);
    const { bounding, effective, permitted } = process.capabilities as Record<string, string[]>;
    effective!.push("CAP_CHOWN");
    expect([bounding, permitted]).toEqual([["CAP_KILL"], ["CAP_KILL"]]);
  });

  test("device types as numbers of letters", () => {
    const { linux } = normalised({
      linux: {
        devices: [{ type: 99 }, { type: "b" }, { type: 3 }],
        resources: { devices: [{ type: 97 }, { type: null }] },
      },
    });
    expect(linux.devices).toEqual([{ type: "c" }, { type: "b" }, { type: 3 }] as never);
    expect(linux.resources.devices).toEqual([{ type: "a" }, { type: null }] as never);
  });

  test("blkio names, and unsigned limits only of old versions", () => {
    const resources = () => ({
      blockIO: { blkioWeight: 10, blkioThrottleReadIOPSDevice: [], weight: undefined },
      memory: { limit: 2n ** 64n - 1n, swap: 2n ** 63n, kernel: 5n },
      cpu: { quota: 2n ** 64n - 1n, shares: 2n ** 64n - 1n },
    });
    const old = normalised({ ociVersion: "1.0.0-rc1", linux: { resources: resources() } }).linux.resources;
    expect(old).toEqual({
      blockIO: { weight: 10, throttleReadIOPSDevice: [] },
      memory: { limit: -1, swap: -(2n ** 63n), kernel: 5n },
      cpu: { quota: -1, shares: 2n ** 64n - 1n },
    } as never);
    expect(
      normalised({ ociVersion: "1.0.0", linux: { resources: resources() } }).linux.resources.memory.limit,
    ).toBe(2n ** 64n - 1n);
  });

  test("disableOOMKiller does not replace what memory says", () => {
    const resources = { disableOOMKiller: true, memory: { disableOOMKiller: false } };
    normaliseResources(resources);
    expect(resources).toEqual({ memory: { disableOOMKiller: false } } as never);
  });

  test("one system call per entry, and the filter that is none", () => {
    const seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ name: "kill" }, { names: ["a"], name: "b" }, 5],
    };
    expect(normalised({ linux: { seccomp } }).linux.seccomp.syscalls).toEqual([
      { names: ["kill"] },
      { names: ["a"], name: "b" },
      5,
    ] as never);
    for (const none of [
      {},
      { defaultAction: "" },
      { defaultAction: null, syscalls: [] },
      { syscalls: null },
    ]) {
      expect(normalised({ linux: { seccomp: none } })).toEqual({ linux: {} } as never);
    }
    const kept = { linux: { seccomp: { defaultAction: "", syscalls: [{}] } } };
    expect(normalised(kept)).toEqual(kept);
  });

  test("anything else is left to the schema, and nothing throws", () => {
    for (const junk of [null, 5, "x", [], [[]], true]) {
      normalise(junk);
      normalise({ process: junk, linux: junk, platform: junk });
      normalise({
        ociVersion: "0.1.0",
        process: { capabilities: junk, user: junk },
        linux: { resources: junk, seccomp: junk, devices: [junk] },
      });
      normalise({
        ociVersion: "0.1.0",
        linux: { resources: { devices: junk, memory: junk, cpu: junk, blockIO: junk } },
      });
      normalise({ linux: { seccomp: { syscalls: [junk], defaultAction: junk } } });
    }
  });
});
