// What is passed by descriptor or socket: --preserve-fds, LISTEN_FDS, NOTIFY_SOCKET, --pidfd-socket.
import { describe, expect, test } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Listener } from "../rig/helper.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** Opens `count` files with the texts "0", "1", ...; they are closed after the test. */
function files(count: number): { fds: number[]; paths: string[] } {
  const dir = rig.directory();
  const paths = Array.from({ length: count }, (_, i) => join(dir, String(i)));
  const fds = paths.map((path, i) => {
    writeFileSync(path, String(i));
    return openSync(path, "r+");
  });
  rig.defer(() => fds.forEach((fd) => void closeSync(fd)));
  return { fds, paths };
}

describe("--preserve-fds", () => {
  test("N: the descriptors 3 to 2+N are the program's; more are not", async () => {
    const container = rig.container((config) => {
      config.process.args = [
        "sh",
        "-c",
        "cat /proc/self/fd/3 /proc/self/fd/4; ls /proc/self/fd | tr '\\n' ' '; echo new >&4",
      ];
    });
    const { fds, paths } = files(4);
    const result = (await container.run(["--preserve-fds", "2"], { fds })).ok();
    expect(result.stdout).toBe("010 1 2 3 4 5 "); // 5 is ls reading the directory
    expect(readFileSync(paths[1]!, "utf8")).toContain("new");
    expect((await container.report([], { fds })).fds.map(({ fd }) => fd)).toEqual([0, 1, 2]);
    const three = await container.report(["--preserve-fds=3"], { fds });
    expect(three.fds.map(({ fd, target }) => [fd, target])).toEqual([
      [0, expect.anything()],
      [1, expect.anything()],
      [2, expect.anything()],
      [3, paths[0]],
      [4, paths[1]],
      [5, paths[2]],
    ]);
  });

  test("of a descriptor that is not open is an error, and so is what is no number", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const { fds } = files(1);
    const result = await container.run(["--preserve-fds", "3"], { fds });
    if (isBunc) {
      // runc checks too, but finds descriptors that its language runtime has open for itself.
      expect(result.code).toBe(1);
      expect(result.stderr).toContain("unable to stat preserved-fd 1 (of 3)");
    }
    for (const number of ["x", "1.5"]) {
      expect((await container.run(["--preserve-fds", number], { fds })).code).not.toBe(0);
    }
    expect(rig.states()).toEqual([]);
  });

  test("with create: the descriptors are there after start", async () => {
    const container = rig.container((config) => {
      config.process.args = ["cat", "/proc/self/fd/3"];
    });
    const { fds } = files(1);
    const created = await container.create(["--preserve-fds", "1"], { fds });
    (await container.call("start")).ok();
    expect(await created.until("0")).toBe("0");
  });
});

describe("LISTEN_FDS", () => {
  const environment = (env: string[]): Record<string, string> =>
    Object.fromEntries(env.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));

  /** LISTEN_PID must be the runtime's own pid, which only an exec in the same process knows. */
  const wrap = (count: number) => ["sh", "-c", `export LISTEN_FDS=${count} LISTEN_PID=$$; exec "$@"`, "sh"];

  test("are passed on, with LISTEN_PID as the container sees it; --preserve-fds come after them", async () => {
    const container = rig.container();
    const { fds, paths } = files(4);
    const report = await container.report(["--preserve-fds", "1"], { fds, wrap: wrap(2) });
    expect(environment(report.env)).toMatchObject({ LISTEN_FDS: "2", LISTEN_PID: "1" });
    expect(report.fds.slice(3).map(({ target }) => target)).toEqual(paths.slice(0, 3));
  });

  test("for another process are not", async () => {
    const container = rig.container();
    const { fds } = files(2);
    const report = await container.report([], { fds, env: { LISTEN_FDS: "2", LISTEN_PID: "1" } });
    expect(environment(report.env)).not.toHaveProperty("LISTEN_FDS");
    expect(report.fds.length).toBe(3);
  });
});

describe("NOTIFY_SOCKET", () => {
  /** BARRIER=1 carries a descriptor whose closing the runtime waits for; runc 1.1 does not send it. */
  async function barrier(listener: Listener): Promise<void> {
    if (!isBunc) return;
    const message = await listener.message();
    expect(message.text).toBe("BARRIER=1");
    expect(message.fds.length).toBe(1);
  }

  test("run: READY is passed to the host with the pid to watch", async () => {
    const container = rig.container((config, { rootfs }) => {
      // The program sees the socket where the runtime says, and only its own READY goes through.
      config.process.args = [
        "sh",
        "-c",
        "ls $NOTIFY_SOCKET; test-helper send 'STATUS=warming up'; test-helper send READY=1; exec sleep 60",
      ];
      config.root.readonly = true;
      Bun.spawnSync(["mkdir", "-p", join(rootfs, "run/notify")]);
    });
    const listener = await rig.listener("datagrams");
    const running = rig.spawn(["run", "--bundle", container.bundle, container.id], {
      env: { NOTIFY_SOCKET: listener.path },
    });
    expect((await listener.message()).text).toBe("READY=1\n");
    const main = await listener.message();
    expect(main.text).toMatch(/^MAINPID=\d+\n$/);
    const { pid } = await container.waitFor("running");
    expect([String(pid), String(running.pid)]).toContain(main.text.trim().split("=")[1]!);
    await barrier(listener);
    expect(running.now.stdout).toBe("/run/notify/notify.sock\n");
    (await container.call("kill", "KILL")).ok();
    expect((await running.done).code).toBe(137);
  });

  test("create and start: start returns when the container is ready, and its main process is the container's", async () => {
    const container = rig.container((config, { rootfs }) => {
      config.process.args = ["sh", "-c", "sleep 0.3; test-helper send READY=1; exec sleep 60"];
      Bun.spawnSync(["mkdir", "-p", join(rootfs, "run/notify")]);
    });
    const listener = await rig.listener("datagrams");
    const env = { NOTIFY_SOCKET: listener.path };
    await container.create([], { env });
    const before = Date.now();
    (await rig.call(["start", container.id], { env })).ok();
    expect(Date.now() - before).toBeGreaterThan(250);
    expect((await listener.message()).text).toBe("READY=1\n");
    expect((await listener.message()).text).toBe(`MAINPID=${(await container.state()).pid}\n`);
    await barrier(listener);
  });

  buncTest("a container that ends without being ready does not hang the command", async () => {
    const container = rig.container((config, { rootfs }) => {
      config.process.args = ["sleep", "0.2"];
      Bun.spawnSync(["mkdir", "-p", join(rootfs, "run/notify")]);
    });
    const listener = await rig.listener("datagrams");
    const env = { NOTIFY_SOCKET: listener.path };
    (await container.run(["--detach"], { env, timeout: 10 })).ok();
    await container.waitFor("stopped");
  });

  buncTest("in a foreground run of a short program, too", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "test-helper send READY=1; exit 3"];
      config.root.readonly = false;
    });
    const listener = await rig.listener("datagrams");
    const result = await container.run([], { env: { NOTIFY_SOCKET: listener.path }, timeout: 10 });
    expect(result.code).toBe(3);
    expect((await listener.message()).text).toBe("READY=1\n");
  });
});

buncDescribe("--pidfd-socket", () => {
  test("create and run send a descriptor of the container's init", async () => {
    for (const [command, flags] of [
      ["create", []],
      ["run", ["--detach"]],
    ] as const) {
      const container = rig.container((config) => {
        config.process.args = ["sleep", "60"];
      });
      const listener = await rig.listener("recvfd");
      (await container.start(command, [...flags, "--pidfd-socket", listener.path])).ok();
      const message = await listener.message();
      const { pid } = await container.state();
      expect(message.fds).toEqual([expect.objectContaining({ pid })]);
      expect(message.text).toContain("standard"); // runc's name for the descriptor of an init
      await listener.write("9\n");
      expect(await listener.line<{ errno: number }>()).toMatchObject({ sent: 9, errno: 0 });
      await container.waitFor("stopped");
      (await container.remove()).ok();
    }
  });

  test("that nobody listens on is an error, and nothing is left", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const result = await container.start("create", ["--pidfd-socket", "/no/such/socket"]);
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("/no/such/socket")]);
    expect(rig.states()).toEqual([]);
  });
});

test("standard streams that are closed become /dev/null; files and pipes stay what they are", async () => {
  const container = rig.container();
  const wrap = ["sh", "-c", 'exec "$@" <&-', "sh"];
  const report = await container.report([], { wrap });
  expect(report.fds.map(({ fd }) => fd)).toEqual([0, 1, 2]);
  const out = join(rig.directory(), "out");
  container.config.process.args = ["test-helper", "report"];
  (await container.detach([], { wrap: ["sh", "-c", `exec "$@" >${out} 2>&1 </dev/null`, "sh"] })).ok();
  await container.waitFor("stopped");
  const detached = JSON.parse(readFileSync(out, "utf8"));
  expect(detached.fds.map(({ target }: { target: string }) => target)).toEqual(["/dev/null", out, out]);
  expect(existsSync(out) && statSync(out).uid).toBe(0);
});
