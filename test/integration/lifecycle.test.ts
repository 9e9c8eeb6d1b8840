// The life of a container as any runc tutorial shows it, and the exact output of state and list.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, host, isBunc, systemdDriver } from "../rig/runtime.ts";

const rig = useRig();

/** A container whose program sleeps until it is killed. */
function sleeper(): Container {
  return rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
}

const list = async (...flags: string[]): Promise<string> => (await rig.call(["list", ...flags])).ok().stdout;

/** The table `list` prints: columns at least 12 wide, 3 spaces between them, no spaces after the last. */
function table(rows: string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(12, ...rows.map((row) => row[column]!.length + 3)));
  const line = (row: string[]): string =>
    row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!))).join("");
  return `${rows.map(line).join("\n")}\n`;
}

const header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

describe("the tutorial", () => {
  test("create, list, start, list, stop, list, delete, list", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "trap 'exit 3' TERM; echo started; while :; do sleep 0.05; done"];
    });
    const created = await container.create();
    expect(created.stdout + created.stderr).toBe("");
    const state = await container.state();
    expect(state.status).toBe("created");
    const { pid } = state;
    // The process exists, in its namespaces and cgroup, and has not executed the program.
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain(`:${container.cgroupPath}\n`);
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).not.toContain("trap");
    const owner = output(["id", "-un"]).trim();
    const row = (status: string, shown: number): string[] => [
      container.id,
      String(shown),
      status,
      container.bundle,
      state.created,
      owner,
    ];
    expect(await list()).toBe(table([header, row("created", pid)]));

    const started = (await container.call("start")).ok();
    expect(started.stdout + started.stderr).toBe("");
    expect(await created.until("started")).toBe("started\n");
    expect(await container.state()).toEqual({ ...state, status: "running" });
    expect(await list()).toBe(table([header, row("running", pid)]));
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toContain("trap");

    (await container.call("kill")).ok(); // SIGTERM
    expect(await container.waitFor("stopped")).toEqual({ ...state, status: "stopped", pid: 0 });
    expect(await list()).toBe(table([header, row("stopped", 0)]));

    (await container.call("delete")).ok();
    expect(await list()).toBe(table([header]));
    expect(rig.states()).toEqual([]);
    expect(container.cgroupDirectories()).toEqual([]);
  });

  test("state prints exactly these bytes", async () => {
    const container = sleeper();
    container.config.annotations = { "org.example.b": "2 & <3>", "org.example.a": "1" };
    await container.create();
    const text = (await container.call("state")).ok().stdout;
    const { pid, created, ociVersion } = JSON.parse(text);
    // Go's encoder escapes <, > and &, and sorts the keys of a map.
    const bytes = `{
  "ociVersion": "${ociVersion}",
  "id": "${container.id}",
  "pid": ${pid},
  "status": "created",
  "bundle": "${container.bundle}",
  "rootfs": "${container.rootfs}",
  "created": "${created}",
  "annotations": {
    "org.example.a": "1",
    "org.example.b": "2 \\u0026 \\u003c3\\u003e"
  },
  "owner": ""
}`;
    expect(text).toBe(bytes);
    expect(created).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
    expect(Math.abs(Date.parse(created) - Date.now())).toBeLessThan(60_000);
    expect(existsSync(`/proc/${pid}`)).toBe(true);
  });

  test("list: json in one line, ids only, empty, unknown format", async () => {
    expect(await list("--format", "json")).toBe("null\n");
    expect(await list("-q")).toBe("");
    const [first, second] = [sleeper(), sleeper()];
    await first.create();
    await second.detach();
    const states = [await first.state(), await second.state()].map((state) => ({ ...state, owner: "root" }));
    expect(await list("--format", "json")).toBe(`${JSON.stringify(states)}\n`);
    expect(await list("-f", "json")).toBe(`${JSON.stringify(states)}\n`);
    expect(await list("-q")).toBe(`${first.id}\n${second.id}\n`);
    expect(await list("--quiet")).toBe(`${first.id}\n${second.id}\n`);
    const bad = await rig.call(["list", "--format", "xml"]);
    expect(bad.code).toBe(1);
    expect(bad.stderr).toContain("invalid format option");
  });

  buncTest("list: a --root that does not exist is an error", async () => {
    const missing = await rig.call(["list"], { root: `${rig.scratch.dir}/absent` });
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain("no such file or directory");
    expect(existsSync(`${rig.scratch.dir}/absent`)).toBe(false);
  });

  test("list: what is no container is skipped with a warning", async () => {
    const container = sleeper();
    await container.create();
    for (const name of ["a-file", "broken"]) {
      rig.defer(() => rmSync(join(rig.scratch.root, name), { recursive: true, force: true }));
    }
    await Bun.write(join(rig.scratch.root, "a-file"), "");
    await Bun.write(join(rig.scratch.root, "broken", "state.json"), "{");
    const result = (await rig.call(["list", "-q"])).ok();
    expect(result.stdout).toBe(`${container.id}\n`);
    expect(result.stderr).toContain("broken");
  });
});

describe("the state directory", () => {
  test("lies below --root with the modes runc uses, and holds runc's fields", async () => {
    const container = sleeper();
    await container.create();
    const dir = join(rig.scratch.root, container.id);
    expect(statSync(dir).mode & 0o7777).toBe(0o711);
    const saved = JSON.parse(readFileSync(join(dir, "state.json"), "utf8"));
    const { pid } = await container.state();
    expect(saved).toMatchObject({ id: container.id, init_process_pid: pid });
    expect(saved.config.rootfs).toBe(container.rootfs);
    const cgroup = systemdDriver ? { Systemd: true, name: container.id } : { path: `/${container.id}` };
    expect(saved.config.cgroups).toMatchObject(cgroup);
    expect(saved.namespace_paths.NEWPID).toBe(`/proc/${pid}/ns/pid`);
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    expect(String(saved.init_process_start)).toBe(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]!);
    expect(statSync(join(dir, "exec.fifo")).isFIFO()).toBe(true);
    (await container.call("start")).ok();
    expect(existsSync(join(dir, "exec.fifo"))).toBe(false);
  });

  test("XDG_RUNTIME_DIR does not matter to root, --root is made when it is missing", async () => {
    const container = sleeper();
    container.write();
    const root = join(rig.scratch.run, "made", "here");
    rig.defer(() => rmSync(join(rig.scratch.run, "made"), { recursive: true, force: true }));
    const options = { root };
    (await rig.call(["create", "--bundle", container.bundle, container.id], options)).ok();
    expect(existsSync(join(root, container.id, "state.json"))).toBe(true);
    expect(await list("-q")).toBe("");
    (await rig.call(["delete", "--force", container.id], options)).ok();
    expect(entries(root)).toEqual([]);
  });

  test("a pid that now belongs to another process: the container is stopped, the other process is left alone", async () => {
    const container = sleeper();
    await container.create();
    const file = join(rig.scratch.root, container.id, "state.json");
    await Bun.sleep(50); // start times are counted in hundredths of a second
    const other = await rig.background(["sh", "-c", "echo; exec sleep 60"]);
    process.kill((await container.state()).pid, "SIGKILL");
    const saved = JSON.parse(readFileSync(file, "utf8"));
    await Bun.write(file, JSON.stringify({ ...saved, init_process_pid: other.pid }));
    expect(await container.state()).toMatchObject({ status: "stopped", pid: 0 });
    const kill = await container.call("kill", "KILL");
    expect(kill.code).toBe(1);
    expect(kill.stderr).toContain("container not running");
    (await container.remove("--force")).ok();
    expect(readFileSync(`/proc/${other.pid}/cmdline`, "utf8")).toContain("sleep");
  });
});

describe("statuses", () => {
  const freezer = host.cgroups.has("freezer") ? ["freezer", "freezer.state", "FROZEN"] : undefined;
  const [controller, file, frozen] = freezer ?? ["unified", "cgroup.freeze", "1"];

  /** Freezes a cgroup. The v1 freezer can stay in FREEZING for good; thawing and trying again is what runtimes do. */
  async function freeze(path: string): Promise<void> {
    for (let i = 0; i < 100; i++) {
      await Bun.write(path, frozen!);
      await Bun.sleep(10);
      if (readFileSync(path, "utf8").trim() === frozen) return;
      if (freezer !== undefined) await Bun.write(path, "THAWED");
    }
    throw new Error(`${path} is still ${readFileSync(path, "utf8").trim()}`);
  }

  test("a frozen cgroup is paused; start is refused, delete --force works", async () => {
    const container = sleeper();
    await container.detach();
    await freeze(join(container.cgroup(controller!)!, file!));
    expect((await container.waitFor("paused")).pid).toBeGreaterThan(1);
    const start = await container.call("start");
    expect(start.code).toBe(1);
    expect(start.stderr).toContain("cannot start a container in the paused state");
    const plain = await container.call("delete");
    expect(plain.code).toBe(1);
    expect(plain.stderr).toContain(`cannot delete container ${container.id} that is not stopped: paused`);
    (await container.remove("--force")).ok();
    expect(rig.states()).toEqual([]);
  });

  test("a killed init is stopped even when nobody has reaped it yet", async () => {
    const container = sleeper();
    await container.create();
    const { pid } = await container.state();
    process.kill(pid, "SIGKILL");
    expect((await container.waitFor("stopped")).pid).toBe(0);
    const start = await container.call("start");
    expect(start.code).toBe(1);
    expect(start.stderr).toContain("cannot start a container that has stopped");
    (await container.call("delete")).ok();
  });

  test("the config is read once: what is changed after create has no effect", async () => {
    const container = rig.container((config) => {
      config.process.args = ["echo", "first"];
    });
    const created = await container.create();
    container.config.process.args = ["echo", "second"];
    container.write();
    (await container.call("start")).ok();
    expect(await created.until("\n")).toBe("first\n");
  });
});

test(`the version is told in the form callers parse${isBunc ? "" : " (runc's)"}`, async () => {
  const lines = (await rig.call(["--version"], { root: null })).ok().stdout.split("\n");
  expect(lines[0]).toMatch(/^runc version \d+\.\d+\.\d+/);
  expect(lines.some((line) => /^commit: \S+/.test(line))).toBe(true);
  expect(lines.some((line) => /^spec: 1\.\d+\.\d+/.test(line))).toBe(true);
  const short = (await rig.call(["-v"], { root: null })).ok().stdout.split("\n");
  expect(short[0]).toBe(lines[0]!);
});
