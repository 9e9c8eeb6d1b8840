// checkpoint and restore for real, where criu works: in the virtual machine of `make vm-test`.
import { expect } from "bun:test";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { useRig } from "../rig/rig.ts";
import { systemdDriver } from "../rig/runtime.ts";
import {
  COUNT,
  call,
  checkpoint,
  count,
  counting,
  expectGoesOn,
  paths,
  places,
  realTest,
  restore,
  restoreArgs,
  started,
  until,
} from "./checkpoint.rig.ts";

const rig = useRig();

realTest("a container is saved, gone, and there again; twice", async () => {
  const container = counting(rig);
  await started(container);
  const { created } = await container.state();
  for (let round = 0; round < 2; round++) {
    const where = places(rig);
    (await checkpoint(container, where)).ok();
    expect((await container.call("state")).stderr).toContain("container does not exist");
    expect(container.cgroupDirectories()).toEqual([]);
    expect(rig.states()).toEqual([]);
    const stopped = count(container);
    (await restore(container, where)).ok();
    await expectGoesOn(container, stopped);
  }
  const state = await container.state();
  expect(Date.parse(state.created)).toBeGreaterThan(Date.parse(created));
  expect(readFileSync(`/proc/${state.pid}/cgroup`, "utf8")).toContain(container.id);
  (await container.call("pause")).ok();
  (await container.call("resume")).ok();
  (await container.call("kill", "KILL")).ok();
  await container.waitFor("stopped");
  (await container.remove()).ok();
});

realTest("--leave-running, and a paused container", async () => {
  const container = counting(rig);
  await started(container);
  const where = places(rig);
  (await checkpoint(container, where, "--leave-running")).ok();
  await expectGoesOn(container, count(container));
  (await container.call("pause")).ok();
  const paused = count(container);
  (await checkpoint(container, where)).ok();
  expect(rig.states()).toEqual([]);
  (await restore(container, where)).ok();
  await expectGoesOn(container, paused);
});

realTest("--pre-dump, and a checkpoint of what has changed since", async () => {
  const container = counting(rig);
  await started(container);
  const where = places(rig);
  const first = join(where.images, "../first");
  (await call(rig, ["checkpoint", "--pre-dump", "--image-path", first, container.id])).ok();
  await expectGoesOn(container, count(container));
  (await checkpoint(container, where, "--parent-path", "../first")).ok();
  expect(readlinkSync(join(where.images, "parent"))).toBe("../first");
  const stopped = count(container);
  (await restore(container, where)).ok();
  await expectGoesOn(container, stopped);
});

realTest("in the foreground, restore ends as the container does", async () => {
  const container = rig.container((config) => {
    config.root.readonly = false;
    const wait = "until [ -e /go ]; do sleep 0.1; done; exit 7";
    config.process.args = ["sh", "-c", `exec </dev/null >/dev/null 2>&1; echo 1 >/count; ${wait}`];
  });
  await container.detach();
  await until("there", () => existsSync(join(container.rootfs, "count")));
  const where = places(rig);
  (await checkpoint(container, where)).ok();
  const running = rig.spawn(["restore", ...restoreArgs(container, where)], { timeout: 120 });
  await container.waitFor("running", 90);
  container.file("go");
  expect((await running.done).code).toBe(7);
  expect(rig.states()).toEqual([]);
  expect(container.cgroupDirectories()).toEqual([]);
});

realTest("standard streams that are pipes become those of restore", async () => {
  const container = rig.container((config) => {
    config.process.args = ["sh", "-c", "while read line; do echo said $line; done"];
  });
  const where = places(rig);
  const out = join(rig.directory(), "out");
  // Pipes whose other ends are held here: the fifo is only for reaching them.
  const piped = (fifo: string): { wrap: string[]; input: number } => {
    Bun.spawnSync(["mkfifo", fifo]);
    const input = openSync(fifo, "r+");
    rig.defer(() => closeSync(input));
    return { wrap: ["sh", "-c", `cat ${fifo} | "$@" 2>&1 | cat >>${out}; true`, "sh"], input };
  };
  const first = piped(`${out}-1`);
  rig.spawn(["run", "-d", "--bundle", container.bundle, container.id], { wrap: first.wrap });
  await container.waitFor("running", 90);
  (await checkpoint(container, where)).ok();
  const second = piped(`${out}-2`);
  rig.spawn(["restore", "-d", ...restoreArgs(container, where)], { wrap: second.wrap });
  await container.waitFor("running", 90);
  writeSync(second.input, "hello\n");
  await until("answered", () => readFileSync(out, "utf8").includes("said hello"));
});

realTest(
  "standard streams that are fifos: the host's become those of restore, the container's stay",
  async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      const loop = "while read line; do echo said $line; done";
      config.process.args = ["sh", "-c", `mkfifo /own; exec 2<>/own; ${loop}`];
    });
    const dir = rig.directory();
    const streams = (name: string): { wrap: string[]; input: number; output: string } => {
      const paths = [join(dir, `${name}-in`), join(dir, `${name}-out`)];
      Bun.spawnSync(["mkfifo", ...paths]);
      // Both ends are held, so that nobody waits in open(2).
      const [input, held] = paths.map((path) => openSync(path, "r+"));
      const output = join(dir, `${name}-said`);
      const reader = Bun.spawn(["cat", paths[1]!], { stdout: Bun.file(output), env: rig.env });
      rig.defer(async () => {
        reader.kill("SIGKILL");
        await reader.exited;
        closeSync(input!);
        closeSync(held!);
      });
      return { wrap: ["sh", "-c", `exec "$@" <${paths[0]} >${paths[1]}`, "sh"], input: input!, output };
    };
    const before = streams("before");
    (await call(rig, ["run", "-d", "--bundle", container.bundle, container.id], { wrap: before.wrap })).ok();
    writeSync(before.input, "one\n");
    await until("answered", () => readFileSync(before.output, "utf8").includes("said one"));
    const where = places(rig);
    (await checkpoint(container, where)).ok();
    const after = streams("after");
    (await call(rig, ["restore", "-d", ...restoreArgs(container, where)], { wrap: after.wrap })).ok();
    writeSync(after.input, "two\n");
    await until("answered", () => readFileSync(after.output, "utf8").includes("said two"));
    const { pid } = await container.state();
    expect(readlinkSync(`/proc/${pid}/fd/2`)).toBe("/own");
  },
);

realTest("a terminal, by the console socket and by the caller's own", async () => {
  const container = rig.container((config) => {
    config.process.terminal = true;
    config.process.args = ["sh", "-c", "while read line; do echo said $line; done; exit 5"];
  });
  const before = await rig.listener("recvtty");
  await container.detach(["--console-socket", before.path]);
  await before.message();
  await before.write("one\n");
  await before.until("said one");
  const first = places(rig);
  (await checkpoint(container, first)).ok();
  const after = await rig.listener("recvtty");
  (await restore(container, first, "--console-socket", after.path)).ok();
  await after.message();
  await after.write("two\n");
  await after.until("said two");
  const second = places(rig);
  (await checkpoint(container, second)).ok();
  const pty = rig.pty(["restore", ...restoreArgs(container, second)]);
  await container.waitFor("running", 90);
  pty.type("three\n");
  await pty.until("said three", 90);
  pty.type(String.fromCharCode(4)); // the end of its input
  expect(await pty.exited(90)).toBe(5);
  expect(rig.states()).toEqual([]);
});

realTest("what criu cannot save is told in one line, and the container goes on", async () => {
  const container = counting(rig, (config) => {
    // Its standard output is a file of the host.
    config.process.args = ["sh", "-c", COUNT.replace(">/dev/null 2>&1", "2>/dev/null")];
  });
  await started(container);
  const where = places(rig);
  const result = await checkpoint(container, where);
  expect(result.code).toBe(1);
  expect(result.stderr.trim().split("\n")).toHaveLength(1);
  expect(result.stderr).toMatch(/criu failed: type (DUMP|NOTIFY) errno \d+: \(criu\/[a-z-]+\.c:\d+\): /);
  expect(result.stderr).toContain(`${where.work}/dump.log`);
  await expectGoesOn(container, count(container));
});

realTest("images that are damaged leave nothing behind", async () => {
  const container = counting(rig);
  await started(container);
  const where = places(rig);
  (await checkpoint(container, where)).ok();
  const core = readdirSync(where.images).find((name) => name.startsWith("core-"))!;
  const image = join(where.images, core);
  const bytes = readFileSync(image);
  writeFileSync(image, bytes.subarray(0, bytes.length / 2));
  const result = await restore(container, where);
  expect([result.code, result.stderr.trim().split("\n").length]).toEqual([1, 1]);
  expect(result.stderr).toContain("criu failed: type RESTORE");
  expect(rig.states()).toEqual([]);
  expect(container.cgroupDirectories()).toEqual([]);
  writeFileSync(image, bytes);
  (await restore(container, where)).ok();
  await expectGoesOn(container, 1);
});

realTest("established TCP connections need --tcp-established, or settings of criu's own", async () => {
  const settings = join(rig.directory(), "criu.conf");
  writeFileSync(settings, "");
  const container = counting(rig, (config) => {
    config.annotations = { "org.criu.config": settings };
    const quiet = "exec </dev/null >/dev/null 2>&1";
    const client = "(while :; do sleep 1; done) | nc 127.0.0.1 7777";
    config.process.args = [
      "sh",
      "-c",
      `${quiet}; nc -ll -p 7777 -e cat & sleep 1; ${client} & sleep 1; ${COUNT}`,
    ];
  });
  await started(container);
  const [first, second] = [places(rig), places(rig)];
  const refused = await checkpoint(container, first);
  expect(refused.stderr).toContain("Connected TCP socket, consider using --tcp-established option");
  await expectGoesOn(container, count(container));
  (await checkpoint(container, first, "--tcp-established")).ok();
  (await restore(container, first, "--tcp-established")).ok();
  await expectGoesOn(container, 1);
  writeFileSync(settings, "tcp-established\n");
  (await checkpoint(container, second)).ok();
  (await restore(container, second)).ok();
  await expectGoesOn(container, 1);
});

realTest("Debian's runc restores images of bunc, and bunc those of runc", async () => {
  const runc = Bun.which("runc", { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" });
  if (runc === null) throw new Error("no runc on this machine: apt-get install runc");
  const driver = systemdDriver ? ["--systemd-cgroup"] : [];
  const other = (...args: string[]): void => {
    const ran = Bun.spawnSync([runc, ...driver, "--root", rig.scratch.root, ...args], {
      env: rig.env,
      stdio: ["ignore", "ignore", "pipe"],
    });
    if (ran.exitCode !== 0) throw new Error(`runc ${args[0]}: ${ran.stderr}`);
  };
  const container = counting(rig);
  await started(container);
  const [first, second, third] = [places(rig), places(rig), places(rig)];
  (await checkpoint(container, first)).ok();
  other("restore", "-d", ...restoreArgs(container, first));
  await expectGoesOn(container, 1);
  // What runc has restored bunc saves, and the reverse.
  (await checkpoint(container, second)).ok();
  (await restore(container, second)).ok();
  await expectGoesOn(container, 1);
  other("checkpoint", ...paths(third), container.id);
  (await restore(container, third)).ok();
  await expectGoesOn(container, 1);
});
