// bunc's shim under Debian's containerd and its client ctr.
import { expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { resizeSeen } from "../rig/client.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { Containerd, IMAGE } from "./containerd.rig.ts";

const rig = useRig();

async function started(): Promise<Containerd> {
  const containerd = new Containerd(rig);
  await containerd.start();
  await containerd.importImage();
  return containerd;
}

/** Nothing of the containers: no shim, no state, no mount, no socket. */
async function expectNothing(containerd: Containerd): Promise<void> {
  await containerd.emptied();
  const state = `/run/containerd/runc/${containerd.namespace}`;
  expect(existsSync(state) ? readdirSync(state) : []).toEqual([]);
}

buncDescribe("ctr", () => {
  test("runs, execs, pauses, measures, kills, removes", async () => {
    const containerd = await started();
    expect(await containerd.run(["--rm"], "one", "sh", "-c", "echo out; echo err >&2; exit 9")).toMatchObject(
      {
        code: 9,
        stdout: "out\n",
        stderr: expect.stringContaining("err\n"),
      },
    );
    expect((await containerd.run(["-d"], "two", "sleep", "1000")).code).toBe(0);
    const exec = (id: string, ...command: string[]) =>
      containerd.ctr("task", "exec", "--exec-id", id, "two", ...command);
    expect(await exec("e1", "sh", "-c", "hostname; exit 3")).toMatchObject({ code: 3 });
    expect((await exec("e2", "/nowhere")).stderr).toContain("no such file or directory");
    expect((await containerd.ctr("task", "pause", "two")).code).toBe(0);
    expect((await containerd.ctr("task", "ls")).stdout).toContain("PAUSED");
    expect((await containerd.ctr("task", "resume", "two")).code).toBe(0);
    expect((await containerd.ctr("task", "metrics", "two")).stdout).toMatch(/pids.current\s+1\s/);
    expect((await containerd.ctr("task", "ps", "two")).stdout.trim().split("\n")).toHaveLength(2);
    expect((await containerd.ctr("task", "kill", "-s", "KILL", "two")).code).toBe(0);
    for (let i = 0; i < 100 && !(await containerd.ctr("task", "ls")).stdout.includes("STOPPED"); i++)
      await Bun.sleep(20);
    expect((await containerd.ctr("task", "rm", "two")).stderr).toContain("exit code 137");
    expect((await containerd.ctr("container", "rm", "two")).code).toBe(0);
    const missing = await containerd.run(["--rm"], "three", "/nowhere");
    expect(missing.stderr).toContain('exec: "/nowhere": stat /nowhere: no such file or directory');
    await containerd.ctr("container", "rm", "three");
    await expectNothing(containerd);
  });

  test("attaches, again and again, with and without a terminal", async () => {
    const containerd = await started();
    const script = "trap 'exit 8' TERM; while true; do echo tick; sleep 0.05; done";
    expect((await containerd.run(["-d"], "plain", "sh", "-c", script)).code).toBe(0);
    for (let i = 0; i < 2; i++) {
      const client = containerd.terminal("task", "attach", "plain");
      await client.until("tick\r\ntick");
      await client.close();
    }
    // Without a reader it goes on as far as the pipe allows; the next reader gets it.
    const last = containerd.ctr("task", "attach", "plain");
    await Bun.sleep(300);
    expect((await containerd.ctr("task", "kill", "plain")).code).toBe(0);
    expect(await last).toMatchObject({ code: 8, stdout: expect.stringMatching(/^(tick\n)+$/) });

    const run = ["run", "-d", "-t", ...containerd.runFlags, IMAGE, "tty"];
    expect(await containerd.terminal(...run, "sh", "-c", "echo up; exec sh").exited()).toBe(0);
    for (let i = 0; i < 2; i++) {
      const client = containerd.terminal("task", "attach", "tty");
      client.type(`echo number $((40 + ${i})); tty; stty size\n`);
      await client.until(`number ${40 + i}`);
      await client.until("/dev/pts/0");
      await client.until("30 100");
      expect(client.raw).toBe(true);
      await client.close();
    }
    const client = containerd.terminal("task", "attach", "tty");
    client.type("exit 5\n");
    expect(await client.exited()).toBe(5);
    // The one that saw the end has removed the task.
    for (const id of ["plain", "tty"]) {
      expect((await containerd.ctr("container", "rm", id)).code).toBe(0);
    }
    await expectNothing(containerd);
  });

  test("runs and execs on a terminal", async () => {
    const containerd = await started();
    const shell = containerd.terminal("run", "--rm", "-t", ...containerd.runFlags, IMAGE, "one", "sh");
    await shell.until("/ # ");
    await resizeSeen(shell);
    const exec = containerd.terminal("task", "exec", "-t", "--exec-id", "e", "one", "sh");
    await exec.until("/ # ");
    exec.type("tty; exit 6\n");
    await exec.until("/dev/pts/1");
    expect(await exec.exited()).toBe(6);
    shell.type("exit 4\n");
    expect(await shell.exited()).toBe(4);
    await expectNothing(containerd);
  });

  test("forty containers at once, twice: each with its own exit code, and nothing left", async () => {
    const containerd = await started();
    for (let round = 0; round < 2; round++) {
      const codes = await Promise.all(
        Array.from(
          { length: 40 },
          async (_, i) => (await containerd.run(["--rm"], `c${i}`, "sh", "-c", `exit ${i}`)).code,
        ),
      );
      expect(codes).toEqual(Array.from({ length: 40 }, (_, i) => i));
      await expectNothing(containerd);
    }
  });
});

buncDescribe("containerd", () => {
  test("that was killed finds its containers again", async () => {
    const containerd = await started();
    await containerd.run(["-d"], "stays", "sh", "-c", "trap 'exit 17' TERM; while true; do sleep 0.05; done");
    const shims = containerd.shims();
    // Long enough for the shim to fall asleep.
    await Bun.sleep(2500);
    await containerd.kill();
    await containerd.start();
    expect((await containerd.ctr("task", "ls")).stdout).toContain("RUNNING");
    expect(containerd.shims()).toEqual(shims);
    expect(await containerd.ctr("task", "exec", "--exec-id", "e", "stays", "echo", "here")).toMatchObject({
      code: 0,
      stdout: "here\n",
    });
    await containerd.ctr("task", "kill", "stays");
    for (let i = 0; i < 100 && !(await containerd.ctr("task", "ls")).stdout.includes("STOPPED"); i++)
      await Bun.sleep(20);
    expect((await containerd.ctr("task", "rm", "stays")).stderr).toContain("exit code 17");
    await containerd.ctr("container", "rm", "stays");
    await expectNothing(containerd);
  });

  test("cleans after a shim that was killed", async () => {
    const containerd = await started();
    await containerd.run(["-d"], "orphan", "sleep", "1000");
    for (const pid of containerd.shims()) process.kill(pid, "SIGKILL");
    for (let i = 0; i < 250 && (await containerd.ctr("task", "ls", "-q")).stdout.trim() !== ""; i++)
      await Bun.sleep(20);
    await expectNothing(containerd);
    await containerd.ctr("container", "rm", "orphan");
  });
});

test("the rig's containerd is Debian's", () => {
  expect(Bun.which("containerd")).toBe("/usr/bin/containerd");
});
