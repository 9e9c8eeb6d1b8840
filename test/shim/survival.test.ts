// What a shim survives, and what survives a shim: sleep, kill -9, a containerd that comes back, and much work.
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { abi } from "../../src/linux/abi.gen.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { Connection, type Shim, shimOf } from "./rig.ts";

const rig = useRig();
const IDLE = { BUNC_SHIM_IDLE: "100" };

/** Whether the process is bunc-init now and has come to its ppoll(2): asleep. Before that it still closes descriptors. */
function asleep(pid: number): boolean {
  if (!existsSync(`/proc/${pid}/task`)) return false;
  if (!readFileSync(`/proc/${pid}/maps`, "utf8").includes("memfd:bunc-init")) return false;
  return readFileSync(`/proc/${pid}/syscall`, "utf8").startsWith(`${abi.SYS_ppoll} `);
}

async function untilAsleep(pid: number): Promise<void> {
  for (let i = 0; i < 500 && !asleep(pid); i++) await Bun.sleep(20);
  expect(asleep(pid)).toBe(true);
}

function descriptors(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`);
}

/** Kilobytes that are the process's own. */
function privateDirty(pid: number): number {
  return Number(/Private_Dirty:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))![1]);
}

async function running(
  args: string[],
  env: Record<string, string> = IDLE,
): Promise<{ shim: Shim; pid: number; server: number }> {
  const shim = await shimOf(rig, args, env);
  const { pid } = await shim.create();
  await shim.begin();
  return { shim, pid, server: await shim.pid() };
}

buncDescribe("a shim that sleeps", () => {
  test("has less than 200 kB, wakes for a call, and is the same process with the same task", async () => {
    const { shim, pid, server } = await running(["sleep", "1000"]);
    await untilAsleep(server);
    expect(privateDirty(server)).toBeLessThan(200);
    expect(readFileSync(`/proc/${server}/comm`, "utf8")).toBe("containerd-shim\n");
    expect(await shim.state()).toMatchObject({ status: 2, pid });
    expect(await shim.pid()).toBe(server);
    expect(readFileSync(`/proc/${server}/comm`, "utf8")).toBe("containerd-shim\n");
    await shim.kill(9);
    expect((await shim.wait()).exit_status).toBe(137);
    await shim.delete();
  });

  test("answers a Wait that was asked before it slept, and reaps and tells the end", async () => {
    const { shim, server } = await running(["sh", "-c", "sleep 1.5; exit 5"]);
    const ended = shim.wait();
    await untilAsleep(server);
    expect((await ended).exit_status).toBe(5);
    await shim.events.until("/tasks/exit");
    expect(shim.events.topics()).toEqual(["create", "start", "exit"]);
    await shim.delete();
  });

  test("keeps the streams: fifos, and a terminal with what is typed into it", async () => {
    const shim = await shimOf(rig, ["sh", "-c", "while read x; do echo got $x; done; exit 6"], IDLE);
    const [out, input] = [shim.fifo("out"), shim.inputFifo("in")];
    await shim.create({ stdin: input, stdout: out.path });
    await shim.begin();
    const [terminalOut, terminalIn] = [shim.fifo("to"), shim.inputFifo("ti")];
    const streams = { stdin: terminalIn, stdout: terminalOut.path, terminal: true };
    await shim.exec("t", ["sh", "-c", "stty -echo; read x; echo saw $x; exit 8"], streams);
    await shim.begin("t");
    const server = await shim.pid();
    await untilAsleep(server);
    await shim.type(input, "one\n");
    await untilAsleep(server);
    await shim.type(terminalIn, "two\n");
    expect((await shim.wait("t")).exit_status).toBe(8);
    await shim.delete("t");
    // What is typed before stty has run is echoed.
    expect((await terminalOut.text()).trim()).toEndWith("saw two");
    await untilAsleep(server);
    const proto = await import("../../src/shim/proto/task.gen.ts");
    await shim.task(
      "CloseIO",
      proto.writeCloseIORequest,
      { id: shim.container.id, stdin: true },
      proto.readEmpty,
    );
    expect((await shim.wait()).exit_status).toBe(6);
    expect(await out.text()).toBe("got one\n");
    await shim.delete();
  });

  test("does not sleep on more than it would read again", async () => {
    const { shim, server } = await running(["sleep", "1000"]);
    // Processes that are not started yet; each request is shorter than the longest message of ttrpc.
    const long = "x".repeat(4_000_000);
    for (let i = 0; i < 17; i++) await shim.exec(`e${i}`, ["true", long]);
    await Bun.sleep(1000);
    expect(asleep(server)).toBe(false);
    expect(await shim.state()).toMatchObject({ status: 2 });
    for (let i = 0; i < 17; i++) await shim.delete(`e${i}`);
    await untilAsleep(server);
    expect(await shim.pid()).toBe(server);
  });

  test("takes new connections, and orphans, and ends on SIGTERM", async () => {
    const { shim, server } = await running(["sleep", "1000"]);
    await untilAsleep(server);
    const second = await Connection.open(shim.socket);
    shim.connection = second;
    expect(await shim.pid()).toBe(server);
    await untilAsleep(server);
    process.kill(server, "SIGTERM");
    for (let i = 0; i < 200 && existsSync(shim.socket); i++) await Bun.sleep(20);
    expect(existsSync(shim.socket)).toBe(false);
  });

  test("is as small after a hundred processes of exec as before, with no descriptor more", async () => {
    const { shim, server } = await running(["sleep", "1000"]);
    await untilAsleep(server);
    const before = { memory: privateDirty(server), fds: descriptors(server).length };
    for (let round = 0; round < 10; round++) {
      await Promise.all(
        Array.from({ length: 10 }, async (_, i) => {
          // Every other one has a terminal.
          await shim.exec(`e${i}`, ["true"], { terminal: i % 2 === 1 });
          await shim.begin(`e${i}`);
          await shim.wait(`e${i}`);
          await shim.delete(`e${i}`);
        }),
      );
    }
    await untilAsleep(server);
    expect(descriptors(server)).toHaveLength(before.fds);
    expect(privateDirty(server)).toBeLessThan(before.memory + 100);
  });
});

buncDescribe("a shim that was killed", () => {
  test("is followed by another over the running container: exec, kill and the exit code", async () => {
    const { shim, pid, server } = await running(
      ["sh", "-c", "trap 'exit 42' TERM; while true; do sleep 0.05; done"],
      {},
    );
    process.kill(server, "SIGKILL");
    await Bun.sleep(50);
    shim.connection.close();
    await shim.start();
    expect(await shim.pid()).not.toBe(server);
    expect(await shim.state()).toMatchObject({ pid, status: 2 });
    await shim.exec("e", ["sh", "-c", "exit 3"]);
    await shim.begin("e");
    expect((await shim.wait("e")).exit_status).toBe(3);
    const ended = shim.wait();
    await shim.kill(15);
    // Since Linux 6.15 the kernel tells the status of a process that is not one's own child.
    expect([42, 255]).toContain((await ended).exit_status);
    await shim.delete();
    expect(rig.states()).toEqual([]);
    await shim.shutdown();
  });

  test("is followed by another that starts what was only created", async () => {
    const shim = await shimOf(rig, ["true"]);
    await shim.create();
    process.kill(await shim.pid(), "SIGKILL");
    await Bun.sleep(50);
    shim.connection.close();
    await shim.start();
    expect(await shim.state()).toMatchObject({ status: 1 });
    await shim.begin();
    await shim.wait();
    await shim.delete();
  });
});
