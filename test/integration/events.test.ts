// `events`: what the statistics say of a container that is known to have done something, and that OOM kills are told of.
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import type { Running } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { host, systemdDriver } from "../rig/runtime.ts";

const rig = useRig();

/** A container whose program waits. */
function sleeper(resources: object = {}): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    config.process.args = ["sleep", "60"];
    Object.assign(config.linux.resources!, resources);
  });
}

interface Line {
  type: string;
  id: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it looks for.
  data?: any;
}

function lines(text: string): Line[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
}

async function stats(container: Container): Promise<NonNullable<Line["data"]>> {
  const [line, ...more] = lines((await container.call("events", "--stats")).ok().stdout);
  expect([line!.type, line!.id, more]).toEqual(["stats", container.id, []]);
  return line!.data;
}

/** `events`, once it watches: the first statistics have come. */
async function watch(container: Container, interval = "20ms"): Promise<Running> {
  const running = rig.spawn(["events", "--interval", interval, container.id]);
  await running.now.until('"stats"');
  return running;
}

/** Whether containers here have the controller. */
async function has(controller: string, file: string): Promise<boolean> {
  const container = sleeper();
  await container.create();
  const dir = container.cgroup(controller);
  const found = dir !== undefined && existsSync(join(dir, file));
  (await container.remove("--force")).ok();
  return found;
}

const memory = await has("memory", host.cgroupV1 ? "memory.limit_in_bytes" : "memory.max");
const pids = await has("pids", "pids.max");
const io = await has("blkio", host.cgroupV1 ? "blkio.throttle.io_service_bytes_recursive" : "io.stat");

/** Uses more memory than there is. */
const HOG = ["dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"];
const LIMITED = { memory: { limit: 32 << 20, swap: 32 << 20 } };

describe("--stats", () => {
  test("has every part that runc shows, in its order", async () => {
    const container = sleeper();
    await container.detach();
    const data = await stats(container);
    expect(Object.keys(data)).toEqual([
      "cpu",
      "cpuset",
      "memory",
      "pids",
      "blkio",
      "hugetlb",
      "intel_rdt",
      "network_interfaces",
    ]);
    expect(data.intel_rdt).toEqual({});
    expect(data.network_interfaces).toBeNull();
    expect(data.cpu.usage.total).toBeGreaterThan(0);
    if (host.cgroupV1) {
      expect(data.cpu.usage.percpu.length).toBeGreaterThan(0);
      expect(data.cpuset.mems).toEqual([0]);
    }
  });

  test("counts the time of a program that computes, in user mode", async () => {
    const container = sleeper();
    await container.detach();
    const before = (await stats(container)).cpu.usage;
    (await container.call("exec", "timeout", "0.5", "sh", "-c", "while :; do :; done")).ok(143);
    const after = (await stats(container)).cpu.usage;
    expect(after.total - before.total).toBeGreaterThan(100_000_000);
    expect(after.user - before.user).toBeGreaterThan(50_000_000);
  });

  test.skipIf(!memory)("shows the limit of memory and what is used of it", async () => {
    const container = sleeper(LIMITED);
    await container.detach();
    const before = (await stats(container)).memory;
    expect(before.usage.limit).toBe(32 << 20);
    (await container.call("exec", "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=8")).ok();
    const after = (await stats(container)).memory;
    expect(after.usage.usage - before.usage.usage).toBeGreaterThan(7 << 20);
    expect(after.usage.usage).toBeLessThanOrEqual(32 << 20);
    expect(after.cache).toBeGreaterThan(7 << 20);
    expect(Object.keys(after.raw).length).toBeGreaterThan(20);
  });

  test.skipIf(!pids)("shows the limit of processes, and how many there are", async () => {
    const container = sleeper({ pids: { limit: 7 } });
    await container.detach();
    expect((await stats(container)).pids).toEqual({ current: 1, limit: 7 });
    (await container.call("update", "--pids-limit", "-1")).ok();
    (await rig.call(["exec", "--detach", container.id, "sleep", "60"])).ok();
    expect((await stats(container)).pids).toEqual({ current: 2 });
  });

  test.skipIf(!io)("counts what is written to a disk", async () => {
    const container = sleeper();
    await container.detach();
    const written = async (): Promise<number> =>
      ((await stats(container)).blkio.ioServiceBytesRecursive ?? [])
        .filter(({ op }: { op: string }) => op === "Write")
        .reduce((sum: number, { value = 0 }: { value?: number }) => sum + value, 0);
    const before = await written();
    (await container.call("exec", "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=4", "conv=fsync")).ok();
    expect((await written()) - before).toBeGreaterThanOrEqual(4 << 20);
  });

  test("of a created and of a paused container", async () => {
    const container = sleeper();
    await container.create();
    expect((await stats(container)).cpu.usage.total).toBeGreaterThan(0);
    (await container.call("start")).ok();
    (await container.call("pause")).ok();
    expect((await stats(container)).cpu.usage.total).toBeGreaterThan(0);
    (await container.call("resume")).ok();
  });
});

describe.skipIf(!memory)("OOM", () => {
  test("is told of when a process of the container is killed", async () => {
    const container = sleeper(LIMITED);
    await container.detach();
    const running = await watch(container);
    (await container.call("exec", ...HOG)).ok(137);
    await running.now.until('"oom"');
    expect(running.now.stdout).toContain(`{"type":"oom","id":"${container.id}"}\n`);
    // The container goes on, and so do the events.
    const count = lines(running.now.stdout).length;
    for (let i = 0; lines(running.now.stdout).length <= count; i++) {
      expect(i).toBeLessThan(500);
      await Bun.sleep(10);
    }
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    (await container.remove()).ok();
    (await running.done).ok();
    expect(lines(running.now.stdout).filter(({ type }) => type === "oom")).toHaveLength(1);
  });

  test("of the container's only process comes before the end", async () => {
    const container = sleeper(LIMITED);
    const hog = HOG.join(" ");
    container.config.process.args = ["sh", "-c", `while [ ! -e /go ]; do sleep 0.01; done; exec ${hog}`];
    await container.detach();
    const running = await watch(container);
    container.file("go");
    const done = (await running.done).ok();
    const told = lines(done.stdout).filter(({ type }) => type === "oom");
    expect(told).toEqual([{ type: "oom", id: container.id }]);
    expect((await container.state()).status).toBe("stopped");
  });

  test("is nothing that the end of a container that is deleted is taken for", async () => {
    const container = sleeper(LIMITED);
    await container.detach();
    const running = await watch(container);
    (await container.remove("--force")).ok();
    const done = (await running.done).ok();
    expect(new Set(lines(done.stdout).map(({ type }) => type))).toEqual(new Set(["stats"]));
  });

  test("or not: statistics come at the interval, until the container has ended", async () => {
    const container = sleeper();
    await container.detach();
    const started = performance.now();
    const running = await watch(container, "250ms");
    await Bun.sleep(600);
    const count = lines(running.now.stdout).length;
    const most = Math.ceil((performance.now() - started) / 250);
    expect(count).toBeGreaterThanOrEqual(2);
    expect(count).toBeLessThanOrEqual(most);
    (await container.call("kill", "KILL")).ok();
    (await running.done).ok();
  });
});

describe("errors", () => {
  test("of the interval", async () => {
    const container = sleeper();
    await container.create();
    for (const flags of [["--interval", "0s"], ["--interval=-1s"], ["--stats", "--interval", "0"]]) {
      const result = await rig.call(["events", ...flags, container.id]);
      expect([result.code, result.stdout]).toEqual([1, ""]);
      expect(result.stderr).toContain("duration interval must be greater than 0");
    }
    const result = await rig.call(["events", "--interval", "5", container.id]);
    expect(result.code).toBe(1);
    expect(result.stdout).toStartWith('Incorrect Usage: invalid value "5" for flag -interval: parse error\n');
  });

  test("of a container that has stopped, or does not exist", async () => {
    const container = sleeper();
    container.config.process.args = ["true"];
    await container.detach();
    await container.waitFor("stopped");
    for (const flags of [[], ["--stats"]]) {
      const result = (await rig.call(["events", ...flags, container.id])).ok(1);
      expect(result.stderr).toContain(`container with id ${container.id} is not running`);
      const absent = (await rig.call(["events", ...flags, rig.unique()])).ok(1);
      expect(absent.stderr).toContain("container does not exist");
    }
  });

  test.skipIf(memory || systemdDriver)("without the memory controller nobody tells of OOM", async () => {
    const container = sleeper();
    await container.detach();
    const result = (await container.call("events")).ok(1);
    expect(result.stderr).toContain("unable to add inotify watch: no such file or directory");
    expect(Object.keys(await stats(container))).toContain("memory");
  });
});
