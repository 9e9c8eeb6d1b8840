// Every operation of a launch fails once: after each the error names the operation, and no process, mount, cgroup, state
// directory, temporary file or connection to the console socket is left.
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Rig, useRig } from "../rig/rig.ts";
import {
  defaultBundle,
  fullBundle,
  joinedBundle,
  terminalBundle,
  userBundle,
  type Walked,
} from "./bundles.ts";
import { ConsoleSocket } from "./console.ts";
import { errnoFor, expectNamed, type Launch, type Operation, Walker } from "./walk.ts";

const rig = useRig();
const walker = new Walker(rig);
setDefaultTimeout(120_000);

const bundles: Record<string, (rig: Rig) => Walked> = {
  "the default spec": defaultBundle,
  "a terminal and hooks of all kinds": terminalBundle,
  "a user namespace with mappings": userBundle,
  "joined namespaces": joinedBundle,
  "nearly everything else": fullBundle,
};

const fault = (op: Operation): string => `${op.side}:${op.index}:${errnoFor(op.call)[0]}`;
const count = { launches: 0, operations: 0 };
afterAll(() => console.log(`injected a failure into ${count.operations} operations`));

for (const [name, make] of Object.entries(bundles)) {
  describe(name, () => {
    test("run", async () => {
      const { terminal, ...walked } = make(rig);
      const launch: Launch = { ...walked, command: "run", pty: terminal ?? false };
      const { operations } = await walker.list(launch);
      expect(operations.length).toBeGreaterThan(100);
      for (const op of operations) {
        count.operations++;
        const outcome = await walker.launch(launch, fault(op));
        await walker.expectNothingLeft(fault(op));
        if (op.optional && outcome.code === 0) continue;
        if (op.path.startsWith("hooks.poststop")) {
          // The container is gone by then: its exit code counts (runtime.md, lifecycle step 13).
          expect(outcome.code).toBe(0);
          expectNamed(op, outcome.warnings[0]);
          continue;
        }
        // What the kernel refuses to execute is the program's end: stderr has its words alone.
        const program = op.call === "execve";
        expect([fault(op), outcome.code]).toEqual([fault(op), program ? 255 : 1]);
        expect(outcome.errors).toHaveLength(1);
        expectNamed(op, outcome.errors[0]);
        if (program) expect(outcome.errors[0]).toStartWith(outcome.stderr.trimEnd());
        else expect(outcome.stderr).toBe(`${outcome.errors[0]}\n`);
      }
    });

    test("create, and start after it", async () => {
      const { terminal, ...walked } = make(rig);
      const { container } = walked;
      const socket = terminal ? new ConsoleSocket(rig) : undefined;
      const launch: Launch = {
        ...walked,
        command: "create",
        flags: socket ? ["--console-socket", socket.path] : [],
      };
      const { operations } = await walker.list(launch);
      const reported = operations.findLast((op) => op.call === "report")!.index;
      const told = operations.findLast((op) => op.call === "errors_to")!.index;
      for (const op of operations) {
        count.operations++;
        const outcome = await walker.launch(launch, fault(op));
        if (op.side === "init" && op.index > reported) {
          expect([fault(op), outcome.code, outcome.errors]).toEqual([fault(op), 0, []]);
          const start = await walker.call(["start", container.id]);
          expect([fault(op), start.code]).toEqual([fault(op), 1]);
          // Until failures go to the fifo, nobody can be told why.
          if (op.index <= told)
            expect(start.errors[0]).toMatch(/already dead|has stopped|failed at operation/);
          else expectNamed(op, start.errors[0]);
          const state = await container.state();
          expect([state.status, state.pid]).toEqual(["stopped", 0]);
          const removed = await walker.call(["delete", container.id]);
          expect([fault(op), removed.code, removed.errors]).toEqual([fault(op), 0, []]);
        } else if (op.optional && outcome.code === 0) {
          await walker.clear(container);
        } else {
          expect([fault(op), outcome.code]).toEqual([fault(op), 1]);
          expect(outcome.errors).toHaveLength(1);
          expectNamed(op, outcome.errors[0]);
          expect(outcome.stderr).toBe(`${outcome.errors[0]}\n`);
        }
        await walker.expectNothingLeft(fault(op));
        socket?.expectClosed();
      }
    });
  });
}

test("the hooks of start and delete", async () => {
  const { container } = terminalBundle(rig);
  const socket = new ConsoleSocket(rig);
  container.config.process.args = ["sleep", "60"];
  container.write();
  const hook = (kind: string, index: number): Operation => ({
    side: "host",
    index,
    call: "hook",
    phase: "hooks",
    path: `hooks.${kind}[0]`,
    about: `error running ${kind} hook #0`,
    optional: false,
  });
  const flags = ["--console-socket", socket.path, "--bundle", container.bundle, container.id];
  for (const op of [hook("poststart", 0), hook("poststop", 0)]) {
    const isStart = op.path.startsWith("hooks.poststart");
    const created = await walker.call(["create", ...flags]);
    expect([created.code, created.errors]).toEqual([0, []]);
    const started = await walker.call(["start", container.id], isStart ? fault(op) : "");
    if (isStart) {
      expect(started.code).toBe(1);
      expectNamed(op, started.errors[0]);
    } else {
      expect([started.code, started.errors]).toEqual([0, []]);
      expect((await walker.call(["kill", container.id, "KILL"])).code).toBe(0);
    }
    await container.waitFor("stopped");
    const removed = await walker.call(["delete", container.id], isStart ? "" : fault(op));
    expect([removed.code, removed.errors]).toEqual([0, []]);
    if (!isStart) expectNamed(op, removed.warnings[0] ?? removed.stderr);
    await walker.expectNothingLeft(op.path);
    socket.expectClosed();
  }
});
