// `exec` with a terminal: on the caller's, for a console socket, and what fails.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Container } from "../rig/container.ts";
import type { Report } from "../rig/helper.ts";
import type { Pty } from "../rig/pty.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest } from "../rig/runtime.ts";

const rig = useRig();

async function running(): Promise<Container> {
  const container = rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
  await container.detach();
  return container;
}

const onTerminal = ({ id }: Container, script: string, size: { rows?: number; cols?: number } = {}): Pty =>
  rig.pty(["exec", "-t", id, "sh", "-c", script], size);

describe("on the caller's terminal", () => {
  test("relays both ways in raw mode, restores it, returns the exit code", async () => {
    const pty = onTerminal(await running(), "echo ready; read line; echo got $line; exit 23");
    const before = pty.localFlags;
    await pty.until("ready\r\n");
    expect(pty.raw).toBe(true);
    pty.type("a line\r");
    expect(await pty.until("got a line")).toBe("a line\r\ngot a line");
    expect(await pty.exited()).toBe(23);
    expect(pty.localFlags).toBe(before);
  });

  buncTest(
    "in a container without a mount namespace: its root is the container's, the pty one of the host's",
    async () => {
      const container = rig.container((config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "mount");
        config.mounts = [];
        delete config.linux.maskedPaths;
        delete config.linux.readonlyPaths;
        config.process.args = ["sleep", "60"];
      });
      await container.detach();
      container.file("only-here", "inside");
      const pty = onTerminal(container, "test -t 0 && test -t 1 && pwd && cat /only-here /../only-here");
      expect(await pty.exited()).toBe(0);
      expect(pty.text).toBe("/\r\ninsideinside");
      const plain = (await container.call("exec", "cat", "/only-here")).ok();
      expect(plain.stdout).toBe("inside");
    },
  );

  test("an interactive shell: Ctrl-C ends what runs in it, Ctrl-Z stops it, fg goes on, exit ends it", async () => {
    const container = await running();
    const pty = rig.pty(["exec", "-t", "-e", "PS1=shell> ", container.id, "sh", "-i"]);
    await pty.until("shell> ");
    pty.type("sleep 55\r");
    await pty.until("sleep 55\r\n");
    await untilRuns(container, "sleep 55");
    pty.type("\u0003");
    await pty.until("shell> ");
    pty.type("echo status $?\r");
    await pty.until("status 130\r\n");
    pty.type("sleep 56\r");
    await untilRuns(container, "sleep 56");
    pty.type("\u001a");
    await pty.until("Stopped");
    await pty.until("shell> ");
    pty.type("fg\r");
    await pty.until("sleep 56\r\n");
    await Bun.sleep(50);
    pty.type("\u0003");
    await pty.until("shell> ");
    pty.type("exit 7\r");
    expect(await pty.exited()).toBe(7);
  });

  test("the window has the caller's size, and follows it", async () => {
    const watch = 'n=$(stty size); test "$n" = "$s" || echo "size $n"; s=$n; sleep 0.02';
    const script = `trap 'exit 3' TERM; while :; do ${watch}; done`;
    const pty = onTerminal(await running(), script, { rows: 41, cols: 133 });
    await pty.until("size 41 133");
    pty.resize(99, 55);
    await pty.until("size 55 99");
    process.kill(pty.pid, "SIGTERM");
    expect(await pty.exited()).toBe(3);
  });

  test("is the controlling one, in a session of its own, with nothing else open", async () => {
    const container = await running();
    const pty = rig.pty(["exec", "-t", container.id, "test-helper", "report"], { rows: 30, cols: 90 });
    expect(await pty.exited()).toBe(0);
    const report = JSON.parse(pty.text) as Report;
    expect(report).toMatchObject({ ctty: true, tty: { rows: 30, cols: 90 } });
    expect(report.fds.map(({ fd }) => fd)).toEqual([0, 1, 2]);
  });

  test("a file of --process can ask for it", async () => {
    const container = await running();
    const file = container.path("process.json");
    await Bun.write(
      file,
      JSON.stringify({
        terminal: true,
        consoleSize: { height: 12, width: 34 },
        user: { uid: 1000, gid: 1000 },
        args: ["sh", "-c", "tty; stat -c %u:%g $(tty); exit 4"],
        cwd: "/",
        env: ["PATH=/bin"],
      }),
    );
    const pty = rig.pty(["exec", "-p", file, container.id]);
    expect(await pty.exited()).toBe(4);
    expect(pty.text).toMatch(/^\/dev\/pts\/\d+\r\n1000:5\r\n$/);
  });

  test("is left as it was by a failure to start", async () => {
    const container = await running();
    const pty = rig.pty(["exec", "-t", container.id, "no-such-program"]);
    const before = pty.localFlags;
    expect(await pty.exited()).toBe(255);
    expect(pty.text).toContain("executable file not found in $PATH");
    expect(pty.localFlags).toBe(before);
  });
});

/** Waits until a program runs in the container. */
async function untilRuns(container: Container, command: string): Promise<void> {
  for (let round = 0; ; round++) {
    const { stdout } = (await rig.call(["exec", container.id, "ps", "-o", "args"])).ok();
    if (stdout.split("\n").some((line) => line.trim() === command)) return;
    if (round > 100) throw new Error(`${command} does not run: ${stdout}`);
  }
}

describe("for a console socket", () => {
  test("detached: the socket gets the master, the pid file the pid", async () => {
    const container = await running();
    const listener = await rig.listener("recvtty");
    const file = container.path("exec.pid");
    const args = ["-t", "-d", "--console-socket", listener.path, "--pid-file", file, container.id];
    (await rig.call(["exec", ...args, "sh", "-c", "read line; echo you said $line; exec sleep 60"])).ok();
    const message = await listener.message();
    expect(message.fds.length).toBe(1);
    expect(message.fds[0]!.target).toMatch(/ptmx$/);
    await listener.write("hello\n");
    expect(await listener.until("you said hello\r\n")).toBe("hello\r\nyou said hello\r\n");
    const status = readFileSync(`/proc/${readFileSync(file, "utf8")}/status`, "utf8");
    expect(status).toMatch(/^NSpid:\s+\d+\s+2$/m);
  });

  test("in the foreground: the exit code comes back, the terminal is the socket's", async () => {
    const container = await running();
    const listener = await rig.listener("recvtty");
    const args = ["-t", "--console-socket", listener.path, container.id];
    const result = await rig.call(["exec", ...args, "sh", "-c", "echo there; exit 6"]);
    expect([result.code, result.stdout]).toEqual([6, ""]);
    await listener.message();
    expect(await listener.until("there\r\n")).toBe("there\r\n");
  });

  test("what cannot be is refused", async () => {
    const container = await running();
    const cases: [string[], string][] = [
      [["-t", "-d"], "cannot allocate tty if runc will detach without setting console socket"],
      [
        ["--console-socket", "/nonexistent"],
        "cannot use console socket if runc will not detach or allocate tty",
      ],
      [["-t", "-d", "--console-socket", "/nonexistent"], "no such file or directory"],
      [["-t"], "provided file is not a console"],
    ];
    for (const [flags, words] of cases) {
      const result = await rig.call(["exec", ...flags, container.id, "true"], { wrap: ["setsid", "-w"] });
      expect([flags, result.code]).toEqual([flags, 255]);
      expect(result.stderr).toContain(words);
    }
    const { stdout } = (await rig.call(["exec", container.id, "ps", "-o", "comm"])).ok();
    expect(stdout.trim().split("\n")).toEqual(["COMMAND", "sleep", "ps"]);
  });
});
