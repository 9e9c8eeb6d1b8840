import { expect, test } from "bun:test";
import { line } from "../cgroup/testing.ts";
import type { LibcontainerCgroup } from "./libcontainer.ts";
import { compileUpdate } from "./update.ts";
import { mergeResources, resourcesOf } from "./update-config.ts";

const OLD: LibcontainerCgroup = {
  devices: [],
  memory: 100,
  memory_swap: 200,
  cpu_shares: 100,
  cpu_weight: 17,
  cpu_quota: 5000,
  cpu_period: 10000,
  cpuset_cpus: "0",
  pids_limit: 20,
  blkio_throttle_read_bps_device: [
    { major: 8, minor: 0, rate: 1 },
    { major: 8, minor: 0, rate: 2 },
  ],
};

const merged = (update: Parameters<typeof mergeResources>[1]) => mergeResources(OLD, update);

test("nothing: only what is kept stays", () => {
  const { cpu_quota: _q, cpu_period: _p, cpuset_cpus: _c, pids_limit: _l, ...kept } = OLD;
  expect(merged({})).toEqual(kept);
});

test("one of quota and period leaves the other", () => {
  expect(merged({ cpu: { quota: 7000 } })).toMatchObject({ cpu_quota: 7000, cpu_period: 10000 });
  expect(merged({ cpu: { period: 20000 } })).toMatchObject({ cpu_quota: 5000, cpu_period: 20000 });
  expect(merged({ cpu: { period: 1, quota: -1 } })).toMatchObject({ cpu_quota: -1, cpu_period: 1 });
});

test("no memory limit lifts that of swap; idle forgets the shares; 0 is a value of pids, idle and burst", () => {
  const result = merged({ memory: { limit: -1 }, cpu: { idle: 0, burst: 0 }, pids: { limit: 0 } });
  expect(result).toMatchObject({ memory: -1, cpu_idle: 0, cpu_burst: 0, pids_limit: 0 });
  for (const key of ["memory_swap", "cpu_shares", "cpu_weight"] as const) expect(key in result).toBeFalse();
});

test("the last entry of a device is changed, another device is added", () => {
  const throttleReadBpsDevice = [
    { major: 8, minor: 0, rate: 9 },
    { major: 8, minor: 16, rate: 3 },
  ];
  expect(merged({ blockIO: { throttleReadBpsDevice } }).blkio_throttle_read_bps_device).toEqual([
    { major: 8, minor: 0, rate: 1 },
    { major: 8, minor: 0, rate: 9 },
    { major: 8, minor: 16, rate: 3 },
  ]);
});

test("what is written, in the directories of the state alone; no device rules", () => {
  const paths = Object.fromEntries(
    ["devices", "cpuset", "memory", "cpu", "pids"].map((name) => [name, `/${name}`]),
  );
  const cgroup = mergeResources(
    { devices: [{ type: 97, major: -1, minor: -1, permissions: "rwm", allow: true }] },
    { memory: { limit: 5 }, cpu: { cpus: "0", shares: 20 }, pids: { limit: -1 } },
  );
  expect(compileUpdate(resourcesOf(cgroup), paths).ops.map(line)).toEqual([
    "/cpuset/cpuset.cpus < 0 ?ENOENT ok+1",
    "/cpuset/cpus < 0",
    "/memory/memory.limit_in_bytes < 5",
    "/cpu/cpu.shares < 20",
    "/pids/pids.max < max",
  ]);
  expect(() => compileUpdate(resourcesOf(cgroup), { devices: "/devices" })).toThrow(
    "cannot set cpuset limit: container could not join or create cgroup",
  );
});
