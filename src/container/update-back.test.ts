import { expect, test } from "bun:test";
import { resourcesBefore } from "./update-back.ts";

const NONE = -2;
const reader = (files: Record<string, string>) => (path: string) => files[path] ?? NONE;

const V2 = reader({
  "/c/memory.max": "max\n",
  "/c/memory.swap.max": "4096\n",
  "/c/memory.low": "0\n",
  "/c/cpu.weight": "100\n",
  "/c/cpu.idle": "0\n",
  "/c/cpu.max": "max 100000\n",
  "/c/cpu.max.burst": "0\n",
  "/c/cpuset.cpus": "\n",
  "/c/cpuset.mems": "0\n",
  "/cpuset.cpus.effective": "0-3\n",
  "/c/pids.max": "9\n",
  "/c/io.bfq.weight": "default 100\n8:0 200\n",
  "/c/memory.high": "max\n",
  "/c/cgroup.procs": "1\n",
  "/memory.max": "7\n",
});

test("cgroup v2: what was to change as the kernel has it, the rest as in the state", () => {
  const tried = {
    memory: { limit: 5, reservation: 4, checkBeforeUpdate: true },
    cpu: { shares: 7, quota: 8, burst: 9, idle: 1, cpus: "0", mems: "0" },
    pids: { limit: 3 },
    blockIO: { weight: 30 },
    unified: { "memory.high": "6", "cgroup.procs": "0", "../memory.max": "1", "hugetlb.2MB.max": "0" },
  };
  const old = {
    memory: { limit: 1, checkBeforeUpdate: true },
    hugepageLimits: [{ pageSize: "2MB", limit: 0 }],
  };
  expect(resourcesBefore(old, tried, { "": "/c" }, V2)).toEqual({
    memory: { limit: undefined, swap: undefined, reservation: undefined },
    cpu: {
      quota: -1,
      period: 100000,
      burst: 0,
      idle: 0,
      shares: undefined,
      cpus: undefined,
      mems: undefined,
    },
    pids: {},
    blockIO: { weight: undefined },
    hugepageLimits: [{ pageSize: "2MB", limit: 0 }],
    unified: {
      "memory.max": "max",
      "memory.swap.max": "4096",
      "memory.low": "0",
      "cpu.weight": "100",
      "cpuset.cpus": "0-3",
      "cpuset.mems": "0",
      "pids.max": "9",
      "io.bfq.weight": "default 100\n8:0 200",
      "memory.high": "max",
    },
  });
});

test("nothing was to change: the state", () => {
  const old = { memory: { limit: 1 }, cpu: { shares: 5 }, pids: { limit: 4 } };
  expect(resourcesBefore(old, {}, { "": "/c" }, V2)).toEqual({ ...old, blockIO: {}, unified: {} });
});

test("an idle group has no weight to go back to", () => {
  const idle = reader({ "/c/cpu.idle": "1\n", "/c/cpu.weight": "0\n" });
  expect(resourcesBefore({}, { cpu: { idle: 0, shares: 9 } }, { "": "/c" }, idle)).toMatchObject({
    cpu: { idle: 1 },
    unified: {},
  });
});

test("cgroup v1", () => {
  const paths = { devices: "/d", memory: "/m", cpu: "/p", cpuset: "/s", pids: "/i", blkio: "/b" };
  const files = reader({
    "/m/memory.limit_in_bytes": "9223372036854771712\n",
    "/m/memory.memsw.limit_in_bytes": "8192\n",
    "/p/cpu.shares": "1024\n",
    "/p/cpu.cfs_quota_us": "-1\n",
    "/p/cpu.cfs_period_us": "100000\n",
    "/s/cpus": "0-3\n",
    "/i/pids.max": "max\n",
    "/b/blkio.bfq.weight": "100\n",
  });
  const tried = {
    memory: { limit: 5 },
    cpu: { shares: 7, period: 8, cpus: "0" },
    pids: { limit: 3 },
    blockIO: { weight: 30 },
  };
  expect(resourcesBefore({}, tried, paths, files)).toEqual({
    memory: { limit: -1, swap: 8192 },
    cpu: { shares: 1024, quota: -1, period: 100000, burst: undefined, idle: undefined, cpus: "0-3" },
    pids: { limit: -1 },
    blockIO: { weight: 100 },
    unified: undefined,
  });
});

test("a throttle of another device is lifted", () => {
  const old = { blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 5 }] } };
  const tried = {
    blockIO: {
      throttleReadBpsDevice: [
        { major: 8, minor: 0, rate: 6 },
        { major: 8, minor: 16, rate: 7 },
      ],
      throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 8 }],
    },
  };
  expect(resourcesBefore(old, tried, {}, reader({})).blockIO).toEqual({
    throttleReadBpsDevice: [
      { major: 8, minor: 0, rate: 5 },
      { major: 8, minor: 16, rate: 0 },
    ],
    throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 0 }],
  });
});
