// Every operation of an exec, and every system call that bunc itself makes for it, fails once, and bunc is killed before
// each: the error names the operation, and nothing of the exec is left in the container, which goes on.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { defaultBundle, userBundle } from "./bundles.ts";
import { ConsoleSocket } from "./console.ts";
import { errnoFor, expectNamed, type Operation, type Outcome, Walker } from "./walk.ts";

const rig = useRig();
const walker = new Walker(rig);
setDefaultTimeout(120_000);

/** A kind of exec: how the container is made, and the process. */
interface Kind {
  make(): Container;
  flags(): string[];
  /** On the caller's terminal. */
  pty?: boolean;
}

const kinds: Record<string, Kind> = {
  "the default spec": { make: () => defaultBundle(rig).container, flags: () => [] },
  "a user namespace": { make: () => userBundle(rig).container, flags: () => ["--user", "5:6"] },
  "a filter, labels, limits": {
    make() {
      const { container } = defaultBundle(rig);
      container.config.process.rlimits = [{ type: "RLIMIT_CORE", soft: 1, hard: 2 }];
      container.config.process.scheduler = { policy: "SCHED_BATCH" };
      container.config.process.ioPriority = { class: "IOPRIO_CLASS_BE", priority: 3 };
      container.config.process.execCPUAffinity = { initial: "0", final: "0" };
      container.config.linux.seccomp = { defaultAction: "SCMP_ACT_ALLOW" };
      return container;
    },
    flags: () => ["--cwd", "/bin", "-g", "7"],
  },
  "the caller's terminal": { make: () => defaultBundle(rig).container, flags: () => ["-t"], pty: true },
};

/** The pids in a container's cgroups; those that are ending have a moment to go. */
async function processesOf(container: Container): Promise<number> {
  const { pid } = await container.state();
  const line = readFileSync(`/proc/${pid}/cgroup`, "utf8");
  const directory = container
    .cgroupDirectories()
    .find((path) => line.includes(path.slice(path.lastIndexOf("/"))))!;
  let count = 0;
  for (let round = 0; round < 100; round++) {
    count = readFileSync(join(directory, "cgroup.procs"), "utf8").split("\n").filter(Boolean).length;
    if (count <= 1) break;
    await Bun.sleep(5);
  }
  return count;
}

for (const [name, kind] of Object.entries(kinds)) {
  const run = (container: Container, fault: string): Promise<Outcome> =>
    walker.call(["exec", ...kind.flags(), container.id, "true"], fault, kind.pty);

  async function started(): Promise<{ container: Container; operations: Operation[]; calls: string[] }> {
    const container = kind.make();
    container.config.process.args = ["sleep", "300"];
    await container.detach();
    const file = join(rig.scratch.output, "list");
    rmSync(file, { force: true });
    const outcome = await run(container, `list:${file}`);
    expect([outcome.code, outcome.errors]).toEqual([0, []]);
    return { container, ...walker.read(file) };
  }

  test(`each operation fails: ${name}`, async () => {
    const { container, operations } = await started();
    expect(operations.length).toBeGreaterThan(25);
    for (const op of operations) {
      const fault = `${op.side}:${op.index}:${errnoFor(op.call)[0]}`;
      const outcome = await run(container, fault);
      expect([fault, await processesOf(container)]).toEqual([fault, 1]);
      if (op.optional && outcome.code === 0) continue;
      expect([fault, op.call, outcome.code]).toEqual([fault, op.call, 255]);
      expect([fault, outcome.errors.length]).toEqual([fault, 1]);
      expectNamed(op, outcome.errors[0]);
      expect(outcome.errors[0]).toStartWith("exec failed: ");
    }
    expect((await run(container, "")).code).toBe(0);
  });

  test(`each call of bunc's fails: ${name}`, async () => {
    const { container, calls } = await started();
    expect(calls.length).toBeGreaterThan(15);
    for (const [n, call] of calls.entries()) {
      const what = `${n} ${call}`;
      const { code, stderr, errors } = await run(container, `sys:${n}:5`);
      // The first is that of the log, before it is known what is to be done.
      expect([what, code === 0 || code === 255 || (n === 0 && code === 1)]).toEqual([what, true]);
      expect([what, stderr]).not.toEqual([what, expect.stringMatching(/TypeError|undefined|is not a|NaN/)]);
      if (code !== 0) expect([what, errors.length + (stderr ? 1 : 0)]).not.toEqual([what, 0]);
      expect([what, await processesOf(container)]).toEqual([what, 1]);
    }
    expect((await run(container, "")).code).toBe(0);
  });

  test(`bunc is killed before each of its calls: ${name}`, async () => {
    const { container, calls } = await started();
    for (const [n, call] of calls.entries()) {
      const what = `${n} ${call}`;
      await run(container, `kill:${n}`);
      // Either the program was executed and ends by itself, or what waits for its parent ends with that.
      expect([what, await processesOf(container)]).toEqual([what, 1]);
    }
    expect((await run(container, "")).code).toBe(0);
  });
}

test("a console socket is closed whatever fails", async () => {
  const { container } = defaultBundle(rig);
  container.config.process.args = ["sleep", "300"];
  await container.detach();
  const socket = new ConsoleSocket(rig);
  const file = join(rig.scratch.output, "list");
  const args = ["exec", "-t", "-d", "--console-socket", socket.path, container.id, "true"];
  expect((await walker.call(args, `list:${file}`)).code).toBe(0);
  for (const op of walker.read(file).operations) {
    const fault = `${op.side}:${op.index}:${errnoFor(op.call)[0]}`;
    const outcome = await walker.call(args, fault);
    expect([fault, await processesOf(container)]).toEqual([fault, 1]);
    if (!(op.optional && outcome.code === 0)) expectNamed(op, outcome.errors[0]);
    socket.expectClosed();
  }
});
