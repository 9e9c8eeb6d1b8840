// Terminals: --console-socket for detached containers, and the interactive `run` on the caller's terminal.
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import type { Report } from "../rig/helper.ts";
import type { Pty } from "../rig/pty.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** A container with a terminal whose program is a shell script. */
function onTerminal(script: string, size?: { height: number; width: number }): Container {
  return rig.container((config) => {
    config.process.terminal = true;
    config.process.args = ["sh", "-c", script];
    if (size !== undefined) config.process.consoleSize = size;
  });
}

describe("--console-socket", () => {
  test("gets one descriptor of the terminal's master side; the program has the other as its only terminal", async () => {
    const container = onTerminal("test-helper report; read line; echo you said $line; exec sleep 60", {
      height: 33,
      width: 111,
    });
    const listener = await rig.listener("recvtty");
    await container.create(["--console-socket", listener.path]);
    const message = await listener.message();
    expect(message.text).toMatch(isBunc ? /^\/dev\/pts\/\d+$|^\/dev\/ptmx$/ : /^(\/dev\/)?(pts\/\d+|ptmx)/);
    expect(message.fds.length).toBe(1);
    expect(message.fds[0]!.tty).toMatchObject({ rows: 33, cols: 111 });
    expect(message.fds[0]!.target).toMatch(/ptmx$/);
    (await container.call("start")).ok();
    const report = JSON.parse(await listener.until("}\r\n")) as Report;
    expect(report).toMatchObject({ ctty: true, foreground: 1, sid: 1, tty: { rows: 33, cols: 111 } });
    expect(report.fds.map(({ fd }) => fd)).toEqual([0, 1, 2]);
    for (const { target } of report.fds) expect(target).toMatch(/^\/dev\/pts\/\d+$/);
    // What is typed is echoed and read.
    await listener.write("hello\n");
    expect(await listener.until("you said hello\r\n")).toBe("hello\r\nyou said hello\r\n");
    expect((await container.state()).status).toBe("running");
  });

  test("the terminal is /dev/console, owned by the user and the tty group; job control works", async () => {
    const container = onTerminal(
      "trap 'echo INT; exit' INT; stat -c '%u:%g %a %t:%T' $(tty) /dev/console; grep -c ' /dev/console ' /proc/mounts; echo on >/dev/console; while :; do sleep 0.02; done",
    );
    container.config.process.user = { uid: 1000, gid: 1000 };
    const listener = await rig.listener("recvtty");
    await container.detach(["--console-socket", listener.path]);
    await listener.message();
    const text = await listener.until("on\r\n");
    const [tty, console, mounts] = text.split("\r\n");
    expect(tty).toMatch(/^1000:5 620 88:[0-9a-f]+$/);
    expect(console).toBe(tty!);
    expect(mounts).toBe("1");
    await listener.write("\u0003"); // the line discipline turns it into SIGINT
    await listener.until("INT\r\n");
    await container.waitFor("stopped");
  });

  test("a message carries the terminal even when the program ends at once", async () => {
    const container = onTerminal("echo short");
    const listener = await rig.listener("recvtty");
    await container.detach(["--console-socket", listener.path]);
    await listener.message();
    expect(await listener.until("short\r\n")).toBe("short\r\n");
    expect(await listener.exited).toBe(0);
    await container.waitFor("stopped");
  });

  test("that nobody listens on is an error, and nothing is left", async () => {
    const container = onTerminal("true");
    const result = await container.start("create", [
      "--console-socket",
      join(rig.scratch.dir, "absent.sock"),
    ]);
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("no such file or directory")]);
    expect(rig.states()).toEqual([]);
  });

  test("with a relative path is taken from the bundle, as runc does", async () => {
    const container = onTerminal("echo through");
    const listener = await rig.listener("recvtty");
    const relative = `..${listener.path.slice(rig.scratch.bundles.length)}`;
    await container.detach(["--console-socket", relative], { cwd: rig.scratch.tmp });
    await listener.message();
    await listener.until("through");
  });

  test("consoleSize without a terminal is ignored", async () => {
    const container = rig.container((config) => {
      config.process.consoleSize = { height: 33, width: 111 };
    });
    expect((await container.report()).tty).toBeNull();
  });
});

describe("run on a terminal", () => {
  const run = (container: Container, size: { rows?: number; cols?: number } = {}): Pty =>
    rig.pty(["run", "--bundle", container.bundle, container.id], size);

  test("relays both ways in raw mode, restores the caller's terminal, returns the exit code", async () => {
    const container = onTerminal("echo ready; read line; echo got $line; exit 23");
    const pty = run(container);
    const before = pty.localFlags;
    await pty.until("ready\r\n");
    expect(pty.raw).toBe(true);
    pty.type("a line\r");
    // One echo, by the container's terminal; lines end in CR LF exactly once, since ONLCR is off on one of the two.
    expect(await pty.until("got a line")).toBe("a line\r\ngot a line");
    expect(await pty.exited()).toBe(23);
    expect(pty.text).toBe("\r\n");
    expect(pty.localFlags).toBe(before);
    expect(rig.states()).toEqual([]);
    expect(container.cgroupDirectories()).toEqual([]);
  });

  buncTest("without a mount namespace it is one of the host's", async () => {
    const container = rig.container((config) => {
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "mount");
      config.linux.maskedPaths = [];
      config.linux.readonlyPaths = [];
      config.process.terminal = true;
      config.process.args = ["sh", "-c", "test -t 0 && test -t 1 && stty size && exit 5"];
    });
    const pty = run(container, { rows: 31, cols: 99 });
    expect(await pty.exited()).toBe(5);
    expect(pty.text).toBe("31 99\r\n");
  });

  test("the container's terminal does not turn LF into CR LF; the caller's does", async () => {
    const container = onTerminal("stty -a; printf 'x\\ny\\n'");
    const pty = run(container);
    expect(await pty.exited()).toBe(0);
    expect(pty.text).toMatch(/[\s;]-onlcr/);
    expect(pty.text).toEndWith("x\r\ny\r\n");
  });

  test("the window has the caller's size, and follows it", async () => {
    // The size is polled: a runtime may set the first one a moment after the program has started.
    const watch = 'n=$(stty size); test "$n" = "$s" || echo "size $n"; s=$n; sleep 0.02';
    const container = onTerminal(`trap 'echo winch' WINCH; while :; do ${watch}; done`);
    const pty = run(container, { rows: 41, cols: 133 });
    await pty.until("size 41 133");
    await Bun.sleep(50);
    pty.text = "";
    pty.resize(99, 55);
    expect(await pty.until("size 55 99")).toContain("winch");
    pty.resize(80, 24);
    await pty.until("size 24 80");
    (await container.call("kill", "KILL")).ok();
    expect(await pty.exited()).toBe(137);
  });

  test("control characters reach the program, not the runtime", async () => {
    // A loop of short sleeps: a signal that hits a shell's child between fork and exec is lost with the child.
    const loop = 'while test -z "$go"; do sleep 0.02; done';
    const container = onTerminal(`trap 'echo INT; go=1' INT; echo ready; ${loop}; cat; echo eof; exit 4`);
    const pty = run(container);
    await pty.until("ready");
    pty.type("\u0003");
    await pty.until("INT");
    pty.type("\u0004");
    await pty.until("eof");
    expect(await pty.exited()).toBe(4);
  });

  test("a program killed by Ctrl-C ends run with 130", async () => {
    const container = onTerminal("sleep 60 & trap 'kill $!; exit 130' INT; echo ready; wait");
    const pty = run(container);
    await pty.until("ready");
    pty.type("\u0003");
    expect(await pty.exited()).toBe(130);
  });

  test("large output arrives whole, also when the program ends right after it", async () => {
    const container = onTerminal("seq 1 20000; printf end");
    const pty = run(container);
    expect(await pty.exited()).toBe(0);
    const lines = pty.text.split("\r\n");
    expect(lines.length).toBe(20001);
    expect([lines[0], lines[19999], lines[20000]]).toEqual(["1", "20000", "end"]);
  });

  test("a signal for the runtime goes to the program; the terminal is restored", async () => {
    const container = onTerminal("trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    const pty = run(container);
    const before = pty.localFlags;
    await pty.until("ready");
    process.kill(pty.pid, "SIGTERM");
    await pty.until("term");
    expect(await pty.exited()).toBe(9);
    expect(pty.localFlags).toBe(before);
  });

  test("a failure to start leaves the terminal as it was", async () => {
    const container = onTerminal("true");
    container.config.process.args = ["no-such-program"];
    container.write();
    const pty = run(container);
    const before = pty.localFlags;
    expect(await pty.exited()).toBe(1);
    expect(pty.text).toContain("executable file not found");
    expect(pty.localFlags).toBe(before);
  });

  test("without a terminal to relay to is an error", async () => {
    const container = onTerminal("true");
    const result = await container.run([], { wrap: ["setsid", "-w"] });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/\/dev\/tty|console|terminal/);
    expect(rig.states()).toEqual([]);
  });

  test("when the runtime is killed, the program's terminal hangs up and the container can be deleted", async () => {
    const container = onTerminal("trap 'exit 5' HUP; echo ready; while :; do sleep 0.02; done");
    const pty = run(container);
    await pty.until("ready");
    await pty.close(); // SIGKILL
    await container.waitFor("stopped");
    (await container.remove()).ok();
    expect(rig.states()).toEqual([]);
  });

  test("a program without a terminal on a terminal: plain streams, no raw mode", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "test -t 0 && echo terminal; echo ready; read line; echo got $line"];
    });
    container.write();
    const pty = run(container);
    await pty.until("ready\r\n");
    expect(pty.raw).toBe(false);
    pty.type("x\n");
    await pty.until("got x");
    expect(await pty.exited()).toBe(0);
  });
});
