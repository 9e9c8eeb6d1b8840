// bunc is killed with SIGKILL while it creates or runs a container: `delete --force` removes whatever is left of it,
// at once and not only when init has noticed.
import { expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, runtime } from "../rig/runtime.ts";
import { defaultBundle, fullBundle, joinedBundle, terminalBundle, userBundle } from "./bundles.ts";
import { ConsoleSocket } from "./console.ts";
import { faulty, type Launch, Walker } from "./walk.ts";

const rig = useRig();
const walker = new Walker(rig);
setDefaultTimeout(120_000);

const bundles = {
  "the default spec": defaultBundle,
  "a terminal and hooks": terminalBundle,
  "a user namespace": userBundle,
  "joined namespaces": joinedBundle,
  "nearly everything else": fullBundle,
};

for (const [name, make] of Object.entries(bundles)) {
  for (const command of ["create", "run"] as const) {
    test(`before each of its system calls: ${command}: ${name}`, async () => {
      const { terminal, ...walked } = make(rig);
      const { container } = walked;
      container.config.process.args = ["sleep", "60"];
      const socket = terminal ? new ConsoleSocket(rig) : undefined;
      const flags = [
        ...(socket ? ["--console-socket", socket.path] : []),
        ...(command === "run" ? ["--detach"] : []),
      ];
      const launch: Launch = { ...walked, command, flags };
      const { calls } = await walker.list(launch);
      expect(calls.length).toBeGreaterThan(30);
      for (const [n, call] of calls.entries()) {
        const what = `${n} ${call}`;
        await walker.launch(launch, `kill:${n}`);
        const removed = await walker.call(["delete", "--force", container.id]);
        expect([what, removed.code, removed.errors, removed.warnings]).toEqual([what, 0, [], []]);
        await walker.expectNothingLeft(what);
        socket?.expectClosed();
      }
    });
  }
}

test("while init runs a hook, which ends with it", async () => {
  for (const shared of [false, true]) {
    const { container } = defaultBundle(rig);
    const started = join(container.bundle, "started");
    container.config.hooks = {
      createContainer: [{ path: "/bin/sh", args: ["sh", "-c", `echo >${started}; exec sleep 60`] }],
    };
    if (shared) container.config.linux.namespaces = [{ type: "mount" }, { type: "uts" }];
    container.write();
    const args = [faulty, "--root", rig.scratch.root, "create", "--bundle", container.bundle, container.id];
    const child = Bun.spawn(args, {
      env: rig.env,
      cwd: rig.scratch.dir,
      stdio: ["ignore", "ignore", "ignore"],
    });
    while (!existsSync(started) && child.exitCode === null) await Bun.sleep(2);
    expect(child.exitCode).toBeNull();
    child.kill("SIGKILL");
    await child.exited;
    const removed = await walker.call(["delete", "--force", container.id]);
    expect([removed.code, removed.errors, removed.warnings]).toEqual([0, [], []]);
    await walker.expectNothingLeft(
      `killed in a hook; pid namespace ${shared ? "of the host" : "of its own"}`,
    );
  }
});

/** Waits for a time far shorter than timers can, without giving others the processor. */
function spin(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

const STEP = 0.25;
const LAST = 20;

buncDescribe("at any moment", () => {
  for (const command of ["create", "run"] as const) {
    test(command, async () => {
      const { container } = fullBundle(rig);
      container.config.process.args = ["sleep", "60"];
      container.write();
      const args = [runtime, "--root", rig.scratch.root, command, "--bundle", container.bundle, container.id];
      for (let delay = 0; delay < LAST; delay += STEP) {
        const child = Bun.spawn(args, {
          env: rig.env,
          cwd: rig.scratch.dir,
          stdio: ["ignore", "ignore", "ignore"],
        });
        spin(delay);
        child.kill("SIGKILL");
        await child.exited;
        // Not the container's: the cache of filters, half written; the next launch replaces it.
        for (const file of rig.states().filter((state) => state.startsWith("..seccomp-"))) {
          rmSync(join(rig.scratch.root, file));
        }
        const removed = await walker.call(["delete", "--force", container.id]);
        expect([delay, removed.code, removed.errors, removed.warnings]).toEqual([delay, 0, [], []]);
        await walker.expectNothingLeft(`${command} killed after ${delay} ms`);
      }
    });
  }
});
