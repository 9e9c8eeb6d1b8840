// Every system call that bunc itself makes for a command fails once. The command then fails with one line that can be
// read, or does without what was refused; it does not hang, and `delete --force` removes whatever is left.
import { expect, setDefaultTimeout, test } from "bun:test";
import { useRig } from "../rig/rig.ts";
import { defaultBundle, terminalBundle, userBundle } from "./bundles.ts";
import { ConsoleSocket } from "./console.ts";
import { type Launch, type Outcome, Walker } from "./walk.ts";

const rig = useRig();
const walker = new Walker(rig);
setDefaultTimeout(120_000);

const EIO = 5;

/** Whether the outcome is one that a caller can understand. */
function expectReadable(what: string, { code, stderr, errors }: Outcome): void {
  expect([what, code === 0 || code === 1]).toEqual([what, true]);
  expect([what, stderr]).not.toEqual([
    what,
    expect.stringMatching(/TypeError|undefined|is not a|NaN|\n.*\n/),
  ]);
  if (code !== 0) expect([what, errors.length + (stderr ? 1 : 0)]).not.toEqual([what, 0]);
}

const bundles = {
  "the default spec": defaultBundle,
  "a terminal and hooks": terminalBundle,
  "a user namespace": userBundle,
};

for (const [name, make] of Object.entries(bundles)) {
  for (const command of ["run", "create"] as const) {
    test(`${command}: ${name}`, async () => {
      const { terminal, ...walked } = make(rig);
      const { container } = walked;
      const socket = terminal && command === "create" ? new ConsoleSocket(rig) : undefined;
      const launch: Launch = {
        ...walked,
        command,
        pty: command === "run" && Boolean(terminal),
        flags: socket ? ["--console-socket", socket.path] : [],
      };
      const { calls } = await walker.list(launch);
      expect(calls.length).toBeGreaterThan(30);
      for (const [n, call] of calls.entries()) {
        const what = `${n} ${call}`;
        const outcome = await walker.launch(launch, `sys:${n}:${EIO}`);
        expectReadable(what, outcome);
        await walker.clear(container);
        await walker.expectNothingLeft(`${what}: ${outcome.errors}`);
        socket?.expectClosed();
      }
    });
  }
}
