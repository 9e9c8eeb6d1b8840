/** Id mappings: what is checked and written. Those of an ordinary user, by newuidmap, are in test/integration. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { CLONE_NEWUSER } from "../linux/abi.gen.ts";
import type { LinuxIDMapping } from "../oci/config.ts";
import { failure } from "../testing.ts";
import { applyIdMaps, checkIdMaps, isCovered, mapText, writeIdMaps } from "./ids.ts";
import { Init } from "./init-channel.ts";

const isRoot = process.getuid?.() === 0;
const all: LinuxIDMapping[] = [{ containerID: 0, hostID: 100000, size: 65536 }];

describe("mappings are refused", () => {
  const cases: [string, LinuxIDMapping[], string, string][] = [
    ["none", [], "linux.uidMappings", "has no mapping"],
    ["of no ids", [{ containerID: 0, hostID: 1, size: 0 }], "linux.uidMappings[0].size", "must not be 0"],
    [
      "that overlap inside",
      [...all, { containerID: 65535, hostID: 0, size: 1 }],
      "linux.uidMappings[1].containerID",
      "overlaps the mapping at [0]",
    ],
    [
      "that overlap outside",
      [...all, { containerID: 65536, hostID: 165535, size: 1 }],
      "linux.uidMappings[1].hostID",
      "overlaps the mapping at [0]",
    ],
    [
      "beyond the last id",
      [{ containerID: 0, hostID: 4294967294, size: 2 }],
      "linux.uidMappings[0].hostID",
      "beyond the last one",
    ],
    [
      "that are too many",
      Array.from({ length: 341 }, (_, i) => ({ containerID: i, hostID: i, size: 1 })),
      "linux.uidMappings",
      "the kernel takes 340 at most",
    ],
  ];
  test.each(cases)("%s", (_, uid, path, words) => {
    const { message, fields } = failure(() => checkIdMaps({ uid, gid: all, path: "linux" }));
    expect([fields.path, message]).toEqual([path, expect.stringContaining(words)]);
    // Not even tried.
    expect(failure(() => writeIdMaps(-1, { uidMappings: uid, gidMappings: all }, 0)).message).toBe(message);
  });

  test("of groups, under the mount that has them", () => {
    const { fields } = failure(() => checkIdMaps({ uid: all, gid: [], path: "mounts[3]" }));
    expect(fields.path).toBe("mounts[3].gidMappings");
  });
});

test("the limits themselves are fine", () => {
  const many = Array.from({ length: 340 }, (_, i) => ({ containerID: i, hostID: i, size: 1 }));
  expect(() =>
    checkIdMaps({ uid: many, gid: [{ containerID: 0, hostID: 0, size: 4294967295 }], path: "linux" }),
  ).not.toThrow();
  expect(mapText([...all, { containerID: 65536, hostID: 0, size: 1 }])).toBe("0 100000 65536\n65536 0 1\n");
});

test("whether ids have numbers in a namespace", () => {
  const map = "         0     100000      1000\n      1000     200000       500\n      2000 5 10\n";
  const covered = (hostID: number, size: number) => isCovered({ containerID: 0, hostID, size }, map);
  expect([covered(0, 1500), covered(999, 2), covered(2000, 10)]).toEqual([true, true, true]);
  expect([covered(0, 1501), covered(1499, 2), covered(100000, 1), covered(2005, 6)]).toEqual(
    Array(4).fill(false),
  );
  expect(covered(0, 1)).toBe(true);
  expect(isCovered(all[0]!, "")).toBe(false);
  expect(isCovered({ containerID: 0, hostID: 0, size: 4294967295 }, "0 0 4294967295\n")).toBe(true);
});

describe.skipIf(!isRoot)("as root", () => {
  const inNamespace = (run: (pid: number) => void) => {
    const init = Init.spawn({ flags: CLONE_NEWUSER, firstFd: 3, fds: [], preserve: 0 });
    try {
      run(init.pid);
    } finally {
      init.kill();
    }
  };
  const rows = (file: string) =>
    readFileSync(file, "utf8")
      .trim()
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number));

  test("all ranges are written, and groups may be set", () => {
    inNamespace((pid) => {
      const uid = Array.from({ length: 200 }, (_, i) => ({ containerID: i, hostID: 1000 + 2 * i, size: 1 }));
      writeIdMaps(pid, { uidMappings: uid, gidMappings: all }, 0);
      expect(rows(`/proc/${pid}/uid_map`)).toEqual(
        uid.map(({ containerID, hostID }) => [containerID, hostID, 1]),
      );
      expect(rows(`/proc/${pid}/gid_map`)).toEqual([[0, 100000, 65536]]);
      expect(readFileSync(`/proc/${pid}/setgroups`, "utf8")).toBe("allow\n");
      const again = failure(() => writeIdMaps(pid, { uidMappings: uid, gidMappings: all }, 0));
      expect(again.fields).toMatchObject({ path: "linux.uidMappings", errno: "EPERM" });
    });
  });

  test("more than the kernel reads at once is explained", () => {
    inNamespace((pid) => {
      const uid = Array.from({ length: 340 }, (_, i) => ({
        containerID: 2 * i,
        hostID: 4000000000 + 2 * i,
        size: 1,
      }));
      const { message, fields } = failure(() => applyIdMaps(pid, { uid, gid: all, path: "mounts[1]" }, 0));
      expect(message).toContain("cannot apply mounts[1].uidMappings: write /proc/");
      expect(fields).toMatchObject({ errno: "EINVAL", path: "mounts[1].uidMappings" });
      expect(fields.hint).toContain("join neighbouring ranges");
    });
  });

  test("a process that is gone is told", () => {
    let gone = 0;
    inNamespace((pid) => {
      gone = pid;
    });
    expect(failure(() => writeIdMaps(gone, { uidMappings: all, gidMappings: all }, 0)).fields.errno).toBe(
      "ENOENT",
    );
  });
});
