// `update`: the limits of a container change in its cgroups and for its program, and in its state; all of them or none.
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, host } from "../rig/runtime.ts";
import { ok, present, SLEEP, useTakeover } from "./takeover.rig.ts";

const rig = useRig();
const { create, root, runc } = useTakeover();
const v1 = host.cgroupV1;

function sleeper(resources: Config["linux"]["resources"] = {}): Container {
  return rig.container((config) => {
    config.process.args = ["sleep", "60"];
    config.linux.resources = { ...config.linux.resources, ...resources };
  });
}

/** The files of one limit on this host. */
const limitOf = (container: Container) => ({
  memory: () =>
    v1
      ? container.cgroupFile("memory", "memory.limit_in_bytes")
      : container.cgroupFile("unified", "memory.max"),
  pids: () => container.cgroupFile(v1 ? "pids" : "unified", "pids.max"),
  cpu: () =>
    v1
      ? `${container.cgroupFile("cpu", "cpu.cfs_quota_us")} ${container.cgroupFile("cpu", "cpu.cfs_period_us")}`
      : container.cgroupFile("unified", "cpu.max"),
});

describe("update", () => {
  test("memory, up and down, with swap and without; what is not named stays", async () => {
    const container = sleeper({ memory: { limit: 32 << 20, swap: 64 << 20 }, pids: { limit: 20 } });
    await container.create();
    const { memory, pids, cpu } = limitOf(container);
    (await container.call("update", "--memory", "50M")).ok();
    expect([memory(), pids()]).toEqual([String(50 << 20), "20"]);
    for (const [limit, swap] of [
      [100, 200],
      [30, 50],
      [60, 80],
    ] as const) {
      (await container.call("update", "--memory", `${limit}m`, "--memory-swap", `${swap}MiB`)).ok();
      expect(memory()).toBe(String(limit << 20));
      if (v1) expect(container.cgroupFile("memory", "memory.memsw.limit_in_bytes")).toBe(String(swap << 20));
    }
    (await container.call("start")).ok();
    (await container.call("update", "--pids-limit", "0", "--cpu-quota", "30000")).ok();
    expect([pids(), cpu()]).toEqual(["1", "30000 100000"]);
    (await container.call("update", "--cpu-period", "50000", "--pids-limit", "-1")).ok();
    expect([pids(), cpu()]).toEqual(["max", "30000 50000"]);
    (await container.call("update", "--cpu-quota", "-1")).ok();
    expect(cpu()).toBe(v1 ? "-1 50000" : "max 50000");
    (await container.call("update", "--memory", "-1")).ok();
    expect(v1 ? Number(memory()) > 2 ** 60 : memory() === "max").toBe(true);
  });

  test("a file of resources, other flags are ignored; the wrong ones are told", async () => {
    const container = sleeper();
    await container.detach();
    const { memory, pids } = limitOf(container);
    const file = container.path("resources.json");
    writeFileSync(file, '{"memory":{"limit":41943040},"pids":{"limit":9},"cpu":{"cpus":"0"}}');
    (await container.call("update", "--resources", file, "--pids-limit", "3")).ok();
    expect([memory(), pids()]).toEqual([String(40 << 20), "9"]);
    expect(container.cgroupFile(v1 ? "cpuset" : "unified", "cpuset.cpus")).toBe("0");
    for (const [text, words] of [
      ['{"memory":{"limit":"many"}}', "memory.limit"],
      ["{", "invalid JSON"],
      ["[]", "must be an object"],
    ] as const) {
      writeFileSync(file, text);
      const result = await container.call("update", "-r", file);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(words);
    }
    expect((await container.call("update", "-r", "/nowhere")).stderr).toContain("no such file or directory");
    for (const [flag, value, words] of [
      ["--memory", "5x", "invalid value for memory: invalid suffix: 'x'"],
      ["--cpu-share", "-1", "invalid value for cpu-share: strconv.ParseUint: parsing"],
    ] as const) {
      const result = await container.call("update", flag, value);
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(words)]);
    }
    expect([memory(), pids()]).toEqual([String(40 << 20), "9"]);
  });

  buncTest("a limit that is refused changes nothing, in the cgroups nor in the state", async () => {
    const container = sleeper({ memory: { limit: 32 << 20 } });
    await container.detach();
    const { memory, pids } = limitOf(container);
    const state = join(rig.scratch.root, container.id, "state.json");
    const file = (v1Name: string, v2Name: string) =>
      v1 ? container.cgroupFile(v1Name.split(".")[0]!, v1Name) : container.cgroupFile("unified", v2Name);
    const others = () => [
      file("cpu.shares", "cpu.weight"),
      file("cpuset.cpus", "cpuset.cpus.effective"),
      file("memory.soft_limit_in_bytes", "memory.low"),
      file("cpu.cfs_quota_us", "cpu.max"),
    ];
    // A limit that a former update set is not in the state, when a later one does not name it.
    (await container.call("update", "--pids-limit", "30")).ok();
    (await container.call("update", "--memory", "40m")).ok();
    const before = readFileSync(state, "utf8");
    const had = others();
    const flags = [
      "--memory",
      "64m",
      "--memory-reservation",
      "8m",
      "--pids-limit",
      "9",
      "--cpu-share",
      "300",
    ];
    const result = await container.call("update", ...flags, "--cpuset-cpus", "0", "--cpu-period", "1");
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("linux.resources.cpu.period");
    expect(memory()).toBe(String(40 << 20));
    expect(readFileSync(state, "utf8")).toBe(before);
    expect(pids()).toBe("30");
    expect(others()).toEqual(had);
    expect(result.stderr).not.toContain("Setting back");
  });

  test("a program inside meets the new limit", async () => {
    const container = rig.container((config) => {
      config.process.args = [
        "sh",
        "-c",
        "echo ready; (while :; do /bin/sleep 0.05; done) 2>&1; exec sleep 60",
      ];
    });
    const result = await container.detach();
    await result.until("ready\n");
    (await container.call("update", "--pids-limit", "2")).ok();
    await result.until("fork");
  });

  test("not of a container that has ended, or is none", async () => {
    const container = sleeper();
    await container.create();
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    expect((await container.call("update", "--pids-limit", "5")).stderr).toContain("container not running");
    (await container.remove()).ok();
    expect((await container.call("update", "--pids-limit", "5")).stderr).toContain(
      "container does not exist",
    );
  });

  buncTest("Intel RDT without resctrl: runc's words", async () => {
    const container = sleeper();
    await container.create();
    for (const [flag, words] of [
      ["--l3-cache-schema", "Intel RDT/CAT: l3 cache schema is not enabled"],
      ["--mem-bw-schema", "Intel RDT/MBA: memory bandwidth schema is not enabled"],
    ] as const) {
      expect((await container.call("update", flag, "L3:0=f")).stderr).toContain(words);
    }
  });
});

describe.skipIf(!present || !v1)("with runc", () => {
  buncTest("bunc updates a container of runc's, which runc updates on", async () => {
    const { id } = create(SLEEP, (config) => {
      config.linux.resources = {
        ...config.linux.resources,
        pids: { limit: 50 },
        memory: { limit: 32 << 20 },
      };
    });
    const read = (controller: string, file: string) =>
      readFileSync(join(host.cgroups.get(controller)!, id, file), "utf8").trim();
    (await rig.call(["--root", root, "update", "--memory", "48m", "--pids-limit", "40", id])).ok();
    expect([read("memory", "memory.limit_in_bytes"), read("pids", "pids.max")]).toEqual([
      String(48 << 20),
      "40",
    ]);
    ok(runc("update", "--cpu-share", "300", id));
    // runc writes all it knows again: the memory limit is the one that bunc has recorded.
    expect([read("memory", "memory.limit_in_bytes"), read("cpu", "cpu.shares")]).toEqual([
      String(48 << 20),
      "300",
    ]);
    ok(runc("delete", "--force", id));
  });
});
