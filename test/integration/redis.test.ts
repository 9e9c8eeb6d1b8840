// The redis bundle of containerd's early tutorials: a config of OCI 0.4.0, its root filesystem from Debian's package.
import { describe, expect, test } from "bun:test";
import { connect, createServer } from "node:net";
import { redisConfig } from "../bundles/redis.ts";
import type { Config } from "../rig/config.ts";
import { useRig } from "../rig/rig.ts";
import { redisRootfs } from "../rig/rootfs.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** A TCP port that nothing listens on. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve((address as { port: number }).port));
    });
  });
}

/** Sends text to a port of this host and returns the first answer; "" when nobody answers. */
function ask(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    socket.setTimeout(2000, () => socket.destroy());
    socket.on("data", (data) => {
      resolve(data.toString());
      socket.destroy();
    });
    socket.on("error", () => resolve(""));
    socket.on("close", () => resolve(""));
  });
}

async function answersPing(port: number): Promise<boolean> {
  for (let i = 0; i < 200; i++) {
    if ((await ask(port, "PING\r\n")) === "+PONG\r\n") return true;
    await Bun.sleep(50);
  }
  return false;
}

describe("redis-server in the host's network", () => {
  async function check(edit: (config: Config) => void): Promise<void> {
    const port = await freePort();
    const container = rig.container((config, it) => {
      redisConfig(config, it, port);
      edit(config);
    }, redisRootfs);
    const listener = await rig.listener("recvtty");
    await container.create(["--console-socket", listener.path]);
    expect(await ask(port, "PING\r\n")).toBe(""); // not started yet
    (await container.call("start")).ok();
    expect(await answersPing(port)).toBe(true);
    expect(await ask(port, "SET key 1\r\n")).toBe("+OK\r\n");
    expect(await ask(port, "CONFIG GET bind\r\n")).toContain("0.0.0.0");
    expect(await listener.until("Ready to accept connections")).toContain(`Port: ${port}`);
    expect((await container.state()).status).toBe("running");
    // On a read-only root it cannot save its data, and refuses to end at SIGTERM.
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    (await container.remove()).ok();
    expect(await ask(port, "PING\r\n")).toBe("");
  }

  buncTest("answers PING: the config of OCI 0.4.0 as it stands", async () => {
    await check(() => {});
  });

  test("answers PING: the same in today's form", async () => {
    await check((config) => {
      config.ociVersion = "1.0.2";
      config.process.user = { uid: 0, gid: 0 };
      const names = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
      config.process.capabilities = { bounding: names, effective: names, permitted: names };
      delete config.linux.devices;
    });
  });

  test("interactively, on a terminal: Ctrl-C reaches it, and run ends when it does", async () => {
    const port = await freePort();
    const container = rig.container((config, it) => {
      redisConfig(config, it, port);
      if (isBunc) return;
      config.process.user = { uid: 0, gid: 0 };
      config.process.capabilities = {};
    }, redisRootfs);
    const pty = rig.pty(["run", "--bundle", container.bundle, container.id]);
    await pty.until("Ready to accept connections");
    expect(await ask(port, "PING\r\n")).toBe("+PONG\r\n");
    pty.type("\u0003");
    await pty.until("Received SIGINT");
    await ask(port, "SHUTDOWN NOSAVE\r\n");
    expect(await pty.exited()).toBe(0);
    expect(pty.text).toContain("bye bye");
  });
});
