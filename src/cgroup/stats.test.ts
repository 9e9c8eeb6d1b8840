import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventData, readStats, statsJson } from "./stats.ts";
import { pageSizeName } from "./stats-common.ts";
import { parseCount, parseList, plus, times } from "./stats-read.ts";

const top = mkdtempSync(join(tmpdir(), "bunc-stats-"));
afterAll(() => rmSync(top, { recursive: true }));
let counter = 0;

/** A directory with these files. */
function group(files: Record<string, string>): string {
  const dir = join(top, String(counter++));
  mkdirSync(dir);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

const shown = (paths: Record<string, string>) => JSON.parse(statsJson(eventData(readStats(paths))));

const V1 = () => ({
  devices: group({}),
  cpu: group({ "cpu.stat": "nr_periods 3\nnr_throttled 2\nthrottled_time 77\nnr_bursts 0\n" }),
  cpuacct: group({
    "cpuacct.usage": "5000000000\n",
    "cpuacct.stat": "user 12\nsystem 3\n",
    "cpuacct.usage_percpu": "4000000000 1000000000 \n",
    "cpuacct.usage_all": "cpu user system\n0 7 8\n1 9 10\n",
  }),
  cpuset: group({
    "cpuset.cpus": "0-2,7\n",
    "cpuset.mems": "0\n",
    "cpuset.cpu_exclusive": "0\n",
    "cpuset.sched_load_balance": "1\n",
    "cpuset.sched_relax_domain_level": "-1\n",
  }),
  memory: group({
    "memory.stat": "rss 10\ncache 4096\nhierarchical_memory_limit 9223372036854771712\n",
    "memory.usage_in_bytes": "8192\n",
    "memory.max_usage_in_bytes": "9000\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.failcnt": "6\n",
    "memory.kmem.usage_in_bytes": "5\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
  }),
  pids: group({ "pids.current": "2\n", "pids.max": "max\n" }),
  blkio: group({
    "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
    "blkio.bfq.io_serviced_recursive": "Total 0\n",
    "blkio.throttle.io_service_bytes_recursive": "8:16 Read 4096\n8:16 Total 4096\nTotal 4096\n",
    "blkio.throttle.io_serviced_recursive": "8:16 Read 1\nbroken\n8:x Read 1\n8:16 Write 0\nTotal 1\n",
  }),
  rdma: group({
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=3\n",
    "rdma.max": "mlx4_0 hca_handle=max hca_object=2000\n",
  }),
});

describe("v1", () => {
  test("what runc shows", () => {
    const data = shown(V1());
    expect(data.cpu).toEqual({
      usage: {
        total: 5000000000,
        percpu: [4000000000, 1000000000],
        percpu_kernel: [8, 10],
        percpu_user: [7, 9],
        kernel: 30000000,
        user: 120000000,
      },
      throttling: { periods: 3, throttledPeriods: 2, throttledTime: 77 },
    });
    expect(data.cpuset).toEqual({
      cpus: [0, 1, 2, 7],
      cpu_exclusive: 0,
      mems: [0],
      mem_hardwall: 0,
      mem_exclusive: 0,
      memory_migrate: 0,
      memory_spread_page: 0,
      memory_spread_slab: 0,
      memory_pressure: 0,
      sched_load_balance: 1,
      sched_relax_domain_level: -1,
    });
    expect(data.pids).toEqual({ current: 2 });
    // The scheduler bfq has counted nothing.
    expect(data.blkio).toEqual({
      ioServiceBytesRecursive: [
        { major: 8, minor: 16, op: "Read", value: 4096 },
        { major: 8, minor: 16, op: "Total", value: 4096 },
      ],
      ioServicedRecursive: [
        { major: 8, minor: 16, op: "Read", value: 1 },
        { major: 8, minor: 16, op: "Write" },
      ],
    });
    expect([data.hugetlb, data.intel_rdt, data.network_interfaces]).toEqual([{}, {}, null]);
  });

  test("integers of 64 bits are exact, and maps are in order", () => {
    const text = statsJson(eventData(readStats(V1())));
    expect(text).toContain(
      '"memory":{"cache":4096,"usage":{"limit":9223372036854771712,"usage":8192,"max":9000,"failcnt":6},' +
        '"kernel":{"limit":0,"usage":5,"failcnt":0},' +
        '"raw":{"cache":4096,"hierarchical_memory_limit":9223372036854771712,"rss":10}}',
    );
  });

  test("what runc does not show", () => {
    const stats = readStats(V1());
    expect(stats.version).toBe(1);
    expect(stats.memory?.events?.oom_kill).toBe(4);
    expect(stats.rdma).toEqual({
      current: [{ device: "mlx4_0", hcaHandles: 2, hcaObjects: 3 }],
      limit: [{ device: "mlx4_0", hcaHandles: 0xffffffff, hcaObjects: 2000 }],
    });
  });

  test("controllers that are not there", () => {
    const stats = readStats({ devices: "/nowhere", memory: "/nowhere", blkio: "/nowhere", cpu: "/nowhere" });
    expect(stats).toEqual({ version: 1 });
    expect(shown({ freezer: "/nowhere" })).toEqual({
      cpu: {},
      cpuset: expect.objectContaining({ cpu_exclusive: 0, sched_relax_domain_level: 0 }),
      memory: {},
      pids: {},
      blkio: {},
      hugetlb: {},
      intel_rdt: {},
      network_interfaces: null,
    });
  });
});

const PRESSURE =
  "some avg10=0.50 avg60=1.25 avg300=99.00 total=18446744073709551615\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

const V2 = (more: Record<string, string> = {}) =>
  group({
    "cpu.stat":
      "usage_usec 9223372036854776\nuser_usec 5\nsystem_usec 6\nnr_periods 1\nnr_throttled 1\nthrottled_usec 2\n",
    "cpu.pressure": PRESSURE,
    "memory.stat": "anon 1\nfile 2\n",
    "memory.current": "100\n",
    "memory.max": "max\n",
    "memory.peak": "200\n",
    "memory.swap.current": "11\n",
    "memory.swap.max": "50\n",
    "memory.events": "low 0\nhigh 0\nmax 1\noom 2\noom_kill 3\n",
    "pids.current": "2\n",
    "pids.max": "20\n",
    "io.stat":
      "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n8:0 \n:0 rbytes=1\n1:2 rbytes=x =3 wios\n",
    ...more,
  });

describe("v2", () => {
  test("what runc shows", () => {
    const data = shown({ "": V2() });
    expect(data.cpu.usage).toEqual({ total: expect.any(Number), kernel: 6000, user: 5000 });
    expect(data.cpu.throttling).toEqual({ periods: 1, throttledPeriods: 1, throttledTime: 2000 });
    // A line that is all zeros is left out.
    expect(Object.keys(data.cpu.psi)).toEqual(["some"]);
    expect(data.cpu.psi.some).toMatchObject({ avg10: 0.5, avg60: 1.25, avg300: 99 });
    expect(data.memory.cache).toBe(2);
    expect(data.pids).toEqual({ current: 2, limit: 20 });
    expect(data.blkio).toEqual({
      ioServiceBytesRecursive: [
        { major: 254, op: "Read", value: 4096 },
        { major: 254, op: "Write" },
      ],
      ioServicedRecursive: [
        { major: 254, op: "Read", value: 1 },
        { major: 254, op: "Write" },
      ],
    });
  });

  test("integers of 64 bits are exact", () => {
    const text = statsJson(eventData(readStats({ "": V2() })));
    expect(text).toContain('"total":9223372036854776000,');
    expect(text).toContain('"avg300":99,"total":18446744073709551615}');
    const limit = '"limit":18446744073709551615';
    expect(text).toContain(
      `"usage":{${limit},"usage":100,"max":200,"failcnt":0},"swap":{${limit},"usage":111,"failcnt":0}`,
    );
  });

  test("limits of memory and swap add up", () => {
    const stats = readStats({ "": V2({ "memory.max": "1000\n" }) });
    expect(stats.memory?.swap).toMatchObject({ limit: 1050, usage: 111 });
    expect(stats.memory?.swapOnly).toMatchObject({ limit: 50, usage: 11 });
    expect(stats.memory?.events?.oom_kill).toBe(3);
  });

  test("without the pids controller processes are counted", () => {
    expect(readStats({ "": group({ "cgroup.procs": "11\n12\n13\n" }) }).pids).toEqual({
      current: 3,
      limit: 0,
    });
  });

  test("no cgroup at all", () => {
    expect(readStats({})).toEqual({ version: 2 });
    expect(readStats({ "": "/nowhere" })).toEqual({ version: 2 });
  });

  test("files full of anything", () => {
    const junk = `${"\0\n \n= :\n__proto__ 5\n-\n--5\nsome\nfull avg10=x total=y\n"}${"9".repeat(30)} 1\nx ${"9".repeat(1 << 20)}\n`;
    const names =
      "cpu.stat memory.stat memory.current pids.current io.stat cpu.pressure memory.events cgroup.procs";
    const dir = group(Object.fromEntries(names.split(" ").map((name) => [name, junk])));
    const data = shown({ "": dir });
    expect(data.memory.raw.x).toBeUndefined();
    expect(data.pids).toEqual({});
    expect(data.blkio).toEqual({});
    const v1 = Object.fromEntries(
      ["devices", "cpu", "cpuacct", "memory", "blkio", "cpuset"].map((name) => [name, dir]),
    );
    expect(shown(v1).cpu.throttling).toBeUndefined();
  });
});

test("numbers", () => {
  expect(parseCount("0")).toBe(0);
  expect(parseCount("9007199254740991")).toBe(9007199254740991);
  expect(parseCount("9007199254740993")).toBe(9007199254740993n);
  expect(parseCount("18446744073709551615")).toBe(2n ** 64n - 1n);
  expect(parseCount("max")).toBe(2n ** 64n - 1n);
  expect(parseCount("-17")).toBe(0);
  for (const wrong of ["", "-", "18446744073709551616", "1e3", "0x1", " 1", "1.5", "9".repeat(100), "NaN"]) {
    expect(parseCount(wrong)).toBeUndefined();
  }
  expect(plus(2 ** 53 - 1, 2)).toBe(2n ** 53n + 1n);
  expect(times(2n ** 60n, 1000)).toBe(2n ** 60n * 1000n);
  expect(times(undefined, 1000)).toBeUndefined();
  expect(parseList("0-3,7\n")).toEqual([0, 1, 2, 3, 7]);
  expect(parseList("\n")).toEqual([]);
  for (const wrong of ["3-", "a", "0-99999999999", "1-2-3"]) expect(parseList(wrong)).toBeUndefined();
  expect([4, 2048, 1 << 20, 1 << 24].map(pageSizeName)).toEqual(["4KB", "2MB", "1GB", "16GB"]);
  expect(pageSizeName(Number("x"))).toBeUndefined();
});
