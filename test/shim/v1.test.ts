// The shim of containerd 0.2 as its daemon uses it: a folder with process.json and fifos, and files as answers.
import { expect, test } from "bun:test";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe, runtime } from "../rig/runtime.ts";

const rig = useRig();

/** What the daemon does for one process. */
class Daemon {
  readonly folder: string;
  readonly binary: string;
  private shim: ReturnType<typeof Bun.spawn> | undefined;

  constructor(
    readonly container: Container,
    readonly name = "init",
    readonly program = runtime,
  ) {
    this.folder = join(rig.scratch.bundles, `${container.id}-${name}`);
    mkdirSync(this.folder);
    this.binary = join(this.folder, "containerd-shim");
    symlinkSync(runtime, this.binary);
    output(["mkfifo", join(this.folder, "exit"), join(this.folder, "control")]);
  }

  /** A fifo, read to its end. */
  reader(name: string): { path: string; text(): Promise<string> } {
    const path = join(this.folder, name);
    output(["mkfifo", path]);
    const reader = Bun.spawn(["cat", path], { stdin: "ignore", stdout: "pipe", env: rig.env });
    rig.defer(async () => {
      reader.kill("SIGKILL");
      await reader.exited;
    });
    const text = reader.stdout.text();
    return { path, text: () => text };
  }

  /** Starts the shim; resolves when it has said the pid, or has ended. */
  async start(more: Record<string, unknown> = {}): Promise<number> {
    const { container, folder } = this;
    container.write();
    const nothing = {
      containerdStdin: "/dev/null",
      containerdStdout: "/dev/null",
      containerdStderr: "/dev/null",
    };
    const process = {
      ...container.config.process,
      exec: false,
      ...nothing,
      runtimeArgs: ["--root", rig.scratch.root],
      noPivotRoot: false,
      checkpoint: "",
      rootUID: 0,
      rootGID: 0,
      ...more,
    };
    writeFileSync(
      join(folder, "process.json"),
      typeof more.raw === "string" ? more.raw : JSON.stringify(process),
    );
    // As the daemon: non-blocking, so that the shim's open for writing finds a reader.
    const exit = openSync(join(folder, "exit"), constants.O_RDONLY | constants.O_NONBLOCK);
    rig.defer(() => closeSync(exit));
    this.shim = Bun.spawn([this.binary, container.id, container.bundle, this.program], {
      cwd: folder,
      env: rig.env,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "inherit",
    });
    rig.defer(async () => {
      this.shim?.kill("SIGKILL");
      await this.shim?.exited;
    });
    for (let i = 0; i < 1000 && !existsSync(join(folder, "pid")) && this.shim.exitCode === null; i++)
      await Bun.sleep(10);
    return existsSync(join(folder, "pid")) ? Number(this.read("pid")) : 0;
  }

  read(name: string): string {
    return readFileSync(join(this.folder, name), "utf8");
  }

  control(line: string): void {
    writeFileSync(join(this.folder, "control"), line);
  }

  /** Waits for the shim's end; gives its code. */
  async end(): Promise<number> {
    return (await this.shim?.exited) ?? -1;
  }
}

const programs = { "itself as the runtime": runtime, "another runtime": "runc" };

for (const [words, program] of Object.entries(programs)) {
  buncDescribe(`with ${words}`, () => {
    test("a container: streams, start by the daemon, exit status, and nothing left", async () => {
      const container = rig.container((config) => {
        config.process.args = ["sh", "-c", "cat; echo err >&2; exit 12"];
      });
      const daemon = new Daemon(container, "init", program);
      const [out, err] = [daemon.reader("out"), daemon.reader("err")];
      const input = join(daemon.folder, "in");
      output(["mkfifo", input]);
      const pid = await daemon.start({
        containerdStdin: input,
        containerdStdout: out.path,
        containerdStderr: err.path,
      });
      expect(pid).toBeGreaterThan(1);
      output([program, "--root", rig.scratch.root, "start", container.id]);
      await Bun.spawn(["sh", "-c", `echo typed > ${input}`], { env: rig.env }).exited;
      daemon.control("0 0 0\n");
      expect(await daemon.end()).toBe(0);
      expect(daemon.read("exitStatus")).toBe("12");
      expect([await out.text(), await err.text()]).toEqual(["typed\n", "err\n"]);
      expect(rig.states()).toEqual([]);
    });

    test("exec beside it, with a terminal that is resized", async () => {
      const container = rig.container((config) => {
        config.process.args = ["sleep", "100"];
      });
      const init = new Daemon(container, "init", program);
      await init.start();
      output([program, "--root", rig.scratch.root, "start", container.id]);
      const exec = new Daemon(container, "e1", program);
      const out = exec.reader("out");
      const input = join(exec.folder, "in");
      output(["mkfifo", input]);
      const args = ["sh", "-c", "read x; stty size; exit 5"];
      await exec.start({
        exec: true,
        args,
        terminal: true,
        containerdStdin: input,
        containerdStdout: out.path,
      });
      exec.control("1 91 29\n");
      await Bun.spawn(["sh", "-c", `echo go > ${input}`], { env: rig.env }).exited;
      expect(await exec.end()).toBe(0);
      expect(exec.read("exitStatus")).toBe("5");
      expect((await out.text()).trim().split("\n").at(-1)!.trim()).toBe("29 91");
      output([program, "--root", rig.scratch.root, "kill", container.id, "KILL"]);
      expect(await init.end()).toBe(0);
      expect(init.read("exitStatus")).toBe("137");
      expect(rig.states()).toEqual([]);
    });

    test("an error of the runtime is in its log, and none of the shim's", async () => {
      const container = rig.container((config) => {
        config.process.args = ["/nowhere"];
      });
      const daemon = new Daemon(container, "init", program);
      expect(await daemon.start()).toBe(0);
      expect(await daemon.end()).toBe(0);
      const last = JSON.parse(daemon.read("log.json").trim().split("\n").at(-1)!);
      expect(last.level).toBe("error");
      expect(last.msg).toStartWith("runc create failed: ");
      expect(last.msg).toContain("/nowhere");
      // There, or the daemon does not look at the runtime's.
      expect(daemon.read("shim-log.json")).toBe("");
      expect(rig.states()).toEqual([]);
    });
  });
}

buncDescribe("an error of the shim", () => {
  test("is in its log, with a code of 1", async () => {
    for (const [more, words] of [
      [{ raw: "" }, "process.json: "],
      [{ raw: "[]" }, "process.json must be a JSON object"],
      [{ runtimeArgs: "x" }, "runtimeArgs must be a list of strings"],
      [{ containerdStdout: "/nonexistent/x" }, "open /nonexistent/x: no such file or directory"],
    ] as const) {
      const daemon = new Daemon(rig.container());
      expect(await daemon.start(more)).toBe(0);
      expect(await daemon.end()).toBe(1);
      expect(JSON.parse(daemon.read("shim-log.json").trim())).toMatchObject({
        level: "error",
        msg: expect.stringContaining(words),
      });
      expect(rig.states()).toEqual([]);
    }
  });

  test("a runtime that is not there, lines on control that are none", async () => {
    const missing = new Daemon(rig.container(), "init", "/nonexistent/runtime");
    expect(await missing.start()).toBe(0);
    expect(await missing.end()).toBe(1);
    expect(missing.read("shim-log.json")).toContain("cannot execute the runtime /nonexistent/runtime");
    const container = rig.container((config) => {
      config.process.args = ["sleep", "100"];
    });
    const daemon = new Daemon(container);
    await daemon.start();
    daemon.control(`garbage\n9 9 9\n1 x y\n${"z".repeat(5000)}\n`);
    const lines = () => daemon.read("shim-log.json").split("\n").length - 1;
    for (let i = 0; i < 200 && lines() <= 2; i++) await Bun.sleep(20);
    expect(lines()).toBeGreaterThan(2);
    (await container.call("start")).ok();
    (await container.call("kill", "KILL")).ok();
    expect(await daemon.end()).toBe(0);
    expect(daemon.read("exitStatus")).toBe("137");
  });
});
