// linux.intelRdt. No machine of ours has resctrl, so something else plays it: a plain directory, or a hierarchy of cgroup
// v1, in whose directories there is a file "tasks", too. bunc finds it through a mountinfo with one line more. What the
// hardware makes of schemata cannot be seen here.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CallOptions } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, host, isBunc } from "../rig/runtime.ts";
import { bench, fakeImages, RESTORED } from "./criu.rig.ts";

const rig = useRig();

/** Runs a command that sees resctrl at a directory; `enter` is the command that enters the right mount namespace. */
function seeing(root: string, enter: string[]): Pick<CallOptions, "wrap"> {
  const script = `
    info=$(grep -vF " ${root} " /proc/self/mountinfo; echo "9999 1 0:999 / ${root} rw - resctrl resctrl rw")
    echo "$info" > "$1"; mount --bind "$1" /proc/$$/mountinfo; shift; exec "$@"`;
  return { wrap: [...enter, "sh", "-ec", script, "sh", join(rig.directory(), "mountinfo")] };
}

const APART = ["unshare", "-m", "--propagation", "private"];

/** A plain directory as resctrl, with a class of service "gold". */
function plain(): { root: string; gold: string; options: Pick<CallOptions, "wrap"> } {
  const root = rig.directory();
  const gold = join(root, "gold");
  for (const path of ["info/L3", "info/MB", "gold"]) mkdirSync(join(root, path), { recursive: true });
  for (const file of ["tasks", "schemata"]) writeFileSync(join(gold, file), "");
  return { root, gold, options: seeing(root, APART) };
}

const text = (path: string): string => readFileSync(path, "utf8");

buncDescribe("intelRdt", () => {
  test("is refused where there is no resctrl, in runc's words", async () => {
    const container = rig.container((config) => {
      config.linux.intelRdt = { closID: "gold" };
    });
    const { code, stderr } = await container.run();
    expect(code).toBe(1);
    expect(stderr).toContain("intelRdt is specified in config, but Intel RDT is not enabled");
  });

  test("a class that is there: shares, members, exec, update, delete", async () => {
    const { gold, options } = plain();
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
      config.linux.intelRdt = { closID: "gold", l3CacheSchema: "L3:0=f", schemata: ["MB:0=50"] };
    });
    await container.detach([], options);
    expect(text(join(gold, "tasks"))).toBe("0");
    expect(text(join(gold, "schemata"))).toBe("L3:0=f\nMB:0=50\n");
    const state = JSON.parse(text(join(rig.scratch.root, container.id, "state.json")));
    expect(state).toMatchObject({
      intel_rdt_path: gold,
      config: { intel_rdt: { closID: "gold", l3_cache_schema: "L3:0=f" } },
    });

    writeFileSync(join(gold, "tasks"), "");
    (await container.call("exec", "true")).ok();
    expect(text(join(gold, "tasks"))).toBe("0");

    const update = (...flags: string[]) => rig.call(["update", ...flags, container.id], options);
    (await update("--l3-cache-schema", "L3:0=ff", "--mem-bw-schema", "MB:1=20")).ok();
    expect(text(join(gold, "schemata"))).toBe("L3:0=ff\nMB:1=20\nMB:0=50\n");
    (await update("--mem-bw-schema", "MB:1=30")).ok();
    expect(text(join(gold, "schemata"))).toBe("L3:0=ff\nMB:1=30\nMB:0=50\n");
    const refused = await rig.call(["update", "--mem-bw-schema", "MB:1=30", container.id]);
    expect(refused.stderr).toContain("Intel RDT/MBA: memory bandwidth schema is not enabled");

    (await container.remove("--force")).ok();
    expect(existsSync(gold)).toBe(true);
  });

  test("update of a container without it", async () => {
    const { options } = plain();
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.detach();
    const { code, stderr } = await rig.call(["update", "--l3-cache-schema", "L3:0=f", container.id], options);
    expect(code).toBe(1);
    expect(stderr).toContain("updating a non-existent Intel RDT configuration is not supported");
  });

  test("shares that are refused end the launch and leave nothing", async () => {
    const { root, options } = plain();
    const container = rig.container((config) => {
      config.linux.intelRdt = { closID: "silver", l3CacheSchema: "L3:0=f" };
    });
    writeFileSync(join(root, "info/last_cmd_status"), "mask overflow\n");
    const { code, stderr } = await container.run([], options);
    expect(code).toBe(1);
    expect(stderr).toContain("Intel RDT");
    expect(container.cgroupDirectories()).toEqual([]);
  });

  test("CAT and MBA that the host lacks", async () => {
    const root = rig.directory();
    const container = rig.container((config) => {
      config.linux.intelRdt = { memBwSchema: "MB:0=50" };
    });
    const { stderr } = await container.run([], seeing(root, APART));
    expect(stderr).toContain("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
  });

  test("explain shows it", async () => {
    const container = rig.container((config) => {
      config.linux.intelRdt = { l3CacheSchema: "L3:0=f" };
    });
    const { stdout } = (await rig.call(["explain", "--bundle", container.bundle], { root: null })).ok();
    expect(stdout).toContain("/tasks");
    expect(stdout).toContain("schemata");
  });
});

let hierarchies = 0;

/** A hierarchy of cgroup v1 without controllers, mounted where only a process of the test sees it. */
async function hierarchy(): Promise<{ seen: string; options: Pick<CallOptions, "wrap"> }> {
  const root = rig.directory();
  // Every process of the machine has the name in its /proc/PID/cgroup, so it must not be one that the rig looks for.
  const name = `played-resctrl-${process.pid}-${++hierarchies}`;
  const script = `mount -t cgroup -o none,name=${name} cgroup ${root} && echo ready && exec sleep 600`;
  const holder = Bun.spawn([...APART, "sh", "-c", script], { stdin: "ignore", stdout: "pipe" });
  rig.defer(async () => {
    holder.kill("SIGKILL");
    await holder.exited;
    await waitUntilGone(name, root);
  });
  const { value } = await holder.stdout.getReader().read();
  expect(new TextDecoder().decode(value)).toBe("ready\n");
  const enter = ["nsenter", "-m", "-t", String(holder.pid)];
  return { seen: `/proc/${holder.pid}/root${root}`, options: seeing(root, enter) };
}

/**
 * A hierarchy outlives its last mount if it still had a cgroup then, even a removed one; another mount ends it, but one
 * that comes too early begins it anew.
 */
async function waitUntilGone(name: string, at: string): Promise<void> {
  const again = `mount -t cgroup -o none,name=${name} cgroup ${at} && umount ${at}`;
  for (let round = 0; text("/proc/self/cgroup").includes(`name=${name}:`); round++) {
    if (round === 100) throw new Error(`the hierarchy ${name} is still there`);
    if (round % 20 === 19) Bun.spawnSync([...APART, "sh", "-c", again]);
    await Bun.sleep(50);
  }
}

describe.skipIf(!host.cgroupV1 || !isBunc)("restore", () => {
  test("what criu restores is in the group; delete removes it", async () => {
    const { seen, options } = await hierarchy();
    const b = bench(rig, { steps: RESTORED }, (config) => {
      config.linux.intelRdt = {};
    });
    fakeImages(b);
    const { id, bundle } = b.container;
    const flags = ["--image-path", b.images, "--bundle", bundle];
    (await b.call(["restore", "--detach", ...flags, id], options)).ok();
    const { pid } = await b.container.state();
    expect(
      text(join(seen, id, "tasks"))
        .split("\n")
        .filter(Boolean),
    ).toEqual([String(pid)]);
    const state = JSON.parse(text(join(rig.scratch.root, id, "state.json")));
    expect(state.intel_rdt_path).toEndWith(`/${id}`);
    (await rig.call(["delete", "--force", id], options)).ok();
    expect(existsSync(join(seen, id))).toBe(false);
  });

  test("one that fails leaves no group, nor does one that is over", async () => {
    const { seen, options } = await hierarchy();
    const b = bench(rig, { steps: [{ start: true }, { exit: 3 }] }, (config) => {
      config.linux.intelRdt = {};
    });
    fakeImages(b);
    const { id, bundle } = b.container;
    const command = ["restore", "--image-path", b.images, "--bundle", bundle, id];
    const failed = await b.call(command, options);
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining("criu failed")]);
    expect(existsSync(join(seen, id))).toBe(false);
    expect(b.container.cgroupDirectories()).toEqual([]);
  });

  test("shares of a class are set, and a host without resctrl refuses it", async () => {
    const { gold, options } = plain();
    const b = bench(rig, { steps: RESTORED }, (config) => {
      config.linux.intelRdt = { closID: "gold", schemata: ["MB:0=50"] };
    });
    fakeImages(b);
    const { id, bundle } = b.container;
    const command = ["restore", "--detach", "--image-path", b.images, "--bundle", bundle, id];
    const refused = await b.call(command);
    expect(refused.stderr).toContain("intelRdt is specified in config, but Intel RDT is not enabled");
    expect(rig.states()).toEqual([]);
    (await b.call(command, options)).ok();
    expect([text(join(gold, "tasks")), text(join(gold, "schemata"))]).toEqual(["0", "MB:0=50\n"]);
    (await rig.call(["delete", "--force", id], options)).ok();
    expect(existsSync(gold)).toBe(true);
  });
});

describe.skipIf(!host.cgroupV1)("a group of the container's own", () => {
  test("it and what is executed in it are members; delete removes it", async () => {
    const { seen, options } = await hierarchy();
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
      config.linux.intelRdt = {};
    });
    await container.detach([], options);
    const group = join(seen, container.id);
    const members = () => text(join(group, "tasks")).split("\n").filter(Boolean);
    const { pid } = await container.state();
    expect(members()).toEqual([String(pid)]);
    (await rig.call(["exec", "-d", container.id, "sleep", "60"], options)).ok();
    expect(members().length).toBe(2);
    (await rig.call(["delete", "--force", container.id], options)).ok();
    expect(existsSync(group)).toBe(false);
    expect(existsSync(seen)).toBe(true);
  });

  test("run removes it", async () => {
    const { seen, options } = await hierarchy();
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.linux.intelRdt = {};
    });
    (await container.run([], options)).ok();
    expect(existsSync(join(seen, container.id))).toBe(false);
  });

  test("a launch that fails later removes it", async () => {
    const { seen, options } = await hierarchy();
    const container = rig.container((config) => {
      config.process.args = ["/no/such/program"];
      config.linux.intelRdt = {};
    });
    expect((await container.run([], options)).code).not.toBe(0);
    expect(existsSync(join(seen, container.id))).toBe(false);
    // What this hierarchy does not have: monitoring groups.
    container.config.process.args = ["true"];
    container.config.linux.intelRdt = { enableMonitoring: true };
    const { code, stderr } = await container.run([], options);
    expect(code).toBe(1);
    expect(stderr).toContain("unable to apply Intel RDT configuration");
    expect(existsSync(join(seen, container.id))).toBe(false);
  });
});
