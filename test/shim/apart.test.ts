// A container whose config.json is long: what takes time for it is done in a process apart, and the shim serves others.
import { expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { Connection, refusal, Shim, shimOf } from "./rig.ts";

const rig = useRig();
const RUNNING = 2;

/** Adds four megabytes that nobody reads, and some mounts and variables. */
function lengthen({ config }: Container): void {
  const annotations: Record<string, string> = {};
  for (let i = 0; i < 40_000; i++) annotations[`org.example.number-${i}`] = "x".repeat(80);
  config.annotations = annotations;
  for (let i = 0; i < 100; i++) config.process.env.push(`NUMBER_${i}=${"y".repeat(1000)}`);
  for (let i = 0; i < 200; i++) {
    config.mounts.push({
      destination: `/m/${i}`,
      type: "tmpfs",
      source: "tmpfs",
      options: ["ro", "size=4k"],
    });
  }
}

/** Another container of a shim, with a connection of its own. */
async function beside(shim: Shim, args: string[], edit: (container: Container) => void): Promise<Shim> {
  const container = rig.container((config, made) => {
    config.process.args = args;
    edit(made);
  });
  const other = new Shim(rig, container);
  other.connection = await Connection.open(shim.socket);
  return other;
}

const children = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);

function isApart(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes("-apart");
  } catch {
    return false;
  }
}

/** The process that works for the shim, which stands still from now on. */
async function stopped(shim: number): Promise<number> {
  for (let i = 0; i < 20_000; i++) {
    const found = children(shim).find(isApart);
    if (found) {
      process.kill(found, "SIGSTOP");
      return found;
    }
    await new Promise(setImmediate);
  }
  throw new Error("no process apart was seen");
}

buncDescribe("a long config.json", () => {
  test("keeps nobody waiting: with its process stopped, the other container of the pod is served", async () => {
    const first = await shimOf(rig, ["sleep", "100"], { BUNC_SHIM_IDLE: "0" });
    await first.create();
    await first.begin();
    const shim = await first.pid();
    const second = await beside(first, ["sh", "-c", "trap 'exit 5' TERM; sleep 100 & wait"], lengthen);
    const order: string[] = [];
    /** What is asked while a call of the second container cannot go on. */
    const meanwhile = async (name: string, call: Promise<unknown>) => {
      const done = call.then(() => order.push(name));
      const worker = await stopped(shim);
      expect(await first.state()).toMatchObject({ status: RUNNING });
      await first.exec(name, ["sh", "-c", "exit 3"]);
      await first.begin(name);
      expect((await first.wait(name)).exit_status).toBe(3);
      await first.delete(name);
      order.push("others");
      process.kill(worker, "SIGCONT");
      await done;
      expect(order.splice(0)).toEqual(["others", name]);
    };
    let pid = 0;
    await meanwhile(
      "create",
      second.create().then((answer) => (pid = answer.pid)),
    );
    expect(await second.state()).toMatchObject({ status: 1, pid });
    await second.begin();
    await second.exec("e", ["sh", "-c", "echo $NUMBER_99 | wc -c; ls /m | wc -l; exit 9"], {});
    await meanwhile("exec", second.begin("e"));
    expect((await second.wait("e")).exit_status).toBe(9);
    const proto = await import("../../src/shim/proto/task.gen.ts");
    // An integer that JavaScript's JSON cannot write.
    const value = new TextEncoder().encode('{"pids":{"limit":17},"memory":{"limit":9223372036854771712}}');
    const update = { id: second.container.id, resources: { type_url: "x", value } };
    await meanwhile("update", second.task("Update", proto.writeUpdateTaskRequest, update, proto.readEmpty));
    expect(second.container.cgroupFile("pids", "pids.max")).toBe("17");
    const state = (await second.container.state()).annotations!;
    expect(Object.keys(state).length).toBe(40_000);
    await second.kill(15);
    expect((await second.wait()).exit_status).toBe(5);
    await second.delete("e");
    await second.delete();
    await first.events.until("/tasks/delete");
    const mine = first.events.all.filter(({ fields }) => fields.container_id === second.container.id);
    expect(mine.map(({ topic }) => topic.slice("/tasks/".length))).toEqual([
      "create",
      "start",
      "exec-added",
      "exec-started",
      "exit",
      "exit",
      "delete",
    ]);
    expect(children(shim).filter(isApart)).toEqual([]);
    second.connection.close();
  });

  test("makes the same container: streams, a terminal, limits, exit codes", async () => {
    const script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask; cat /proc/self/comm; exit 4";
    const said: string[] = [];
    for (const edit of [() => {}, lengthen]) {
      const shim = await shimOf(rig, ["sh", "-c", `${script}`], {}, (made) => {
        made.config.process.rlimits = [];
        edit(made);
      });
      const out = shim.fifo("out");
      const started = await shim.create({ stdout: out.path });
      await shim.begin();
      expect((await shim.wait()).exit_status).toBe(4);
      expect(await shim.delete()).toMatchObject({ pid: started.pid, exit_status: 4 });
      said.push(await out.text());
      await shim.shutdown();
    }
    expect(said[0]).toContain("\n");
    expect(said[1]).toBe(said[0]!);
    // Which sleeps between the calls.
    const drowsy = { BUNC_SHIM_IDLE: "50" };
    const shim = await shimOf(rig, ["sh", "-c", "tty; sleep 100"], drowsy, (made) => {
      made.config.process.terminal = true;
      lengthen(made);
    });
    const [out, more] = [shim.fifo("tty"), shim.fifo("more")];
    await shim.create({ stdout: out.path, terminal: true });
    await shim.begin();
    await Bun.sleep(300);
    await shim.exec("e", ["sh", "-c", "tty"], { stdout: more.path, terminal: true });
    await shim.begin("e");
    expect((await shim.wait("e")).exit_status).toBe(0);
    await shim.delete("e");
    const codes = await Promise.all(
      [1, 2, 3, 4].map(async (code) => {
        await shim.exec(`e${code}`, ["sh", "-c", `exit ${code}`]);
        await shim.begin(`e${code}`);
        return (await shim.wait(`e${code}`)).exit_status;
      }),
    );
    expect(codes).toEqual([1, 2, 3, 4]);
    await shim.kill(9);
    expect((await shim.wait()).exit_status).toBe(137);
    await shim.delete();
    expect((await out.text()).trim()).toMatch(/^\/dev\/(pts\/0|console)$/);
    expect((await more.text()).trim()).toMatch(/^\/dev\/pts\/\d+$/);
  });

  test("and a long process of exec in a container with a short one", async () => {
    const shim = await shimOf(rig, ["sleep", "100"], { BUNC_SHIM_IDLE: "0" });
    await shim.create();
    await shim.begin();
    const env = Array.from({ length: 300 }, (_, i) => `LONG_${i}=${"z".repeat(1000)}`);
    const { process: own } = shim.container.config;
    // Nearly as much as a request can hold, of which most is in a field that there is not.
    const padding = Array(250_000).fill(1234567890);
    const spec = { ...own, padding, env: [...own.env, ...env], args: ["sh", "-c", "exit $" + "{#LONG_299}"] };
    const value = new TextEncoder().encode(JSON.stringify(spec));
    await shim.exec("e", [], { spec: { type_url: "x", value } });
    const begun = shim.begin("e");
    const worker = await stopped(await shim.pid());
    expect(await shim.state()).toMatchObject({ status: RUNNING });
    process.kill(worker, "SIGCONT");
    await begun;
    expect((await shim.wait("e")).exit_status).toBe(1000 & 0xff);
    // What is refused is refused in the same words.
    const bad = new TextEncoder().encode(JSON.stringify({ ...spec, cwd: "relative" }));
    await shim.exec("bad", [], { spec: { type_url: "x", value: bad } });
    const [code, message] = await refusal(shim.begin("bad"));
    expect([code, message]).toEqual([
      2,
      expect.stringMatching(/^OCI runtime exec failed: exec failed: .*cwd/),
    ]);
  });

  test("whose process is killed: the call fails, nothing is left, the shim goes on", async () => {
    const first = await shimOf(rig, ["sleep", "100"], { BUNC_SHIM_IDLE: "0" });
    await first.create();
    await first.begin();
    const second = await beside(first, ["sleep", "100"], lengthen);
    const created = refusal(second.create());
    process.kill(await stopped(await first.pid()), "SIGKILL");
    const [code, message] = await created;
    expect([code, message]).toEqual([
      2,
      expect.stringContaining("the process that works on a long config.json was killed by signal 9"),
    ]);
    expect(await refusal(second.state())).toEqual([5, "container not created: not found"]);
    // containerd does this when a create has failed.
    const { code: deleted } = await second.command(["-bundle", second.container.bundle, "delete"]);
    expect(deleted).toBe(0);
    expect(rig.states()).toEqual([first.container.id]);
    expect(await first.state()).toMatchObject({ status: RUNNING });
    await second.create();
    await second.begin();
    await second.kill(9);
    await second.wait();
    await second.delete();
  });

  test("or one that cannot be used, is one clear error", async () => {
    const shim = await shimOf(rig, ["true"]);
    const { bundle } = shim.container;
    const file = join(bundle, "config.json");
    const good = readFileSync(file, "utf8");
    const sized = (size: number) => () => {
      writeFileSync(file, "");
      truncateSync(file, size);
    };
    const openFifo = () => {
      output(["mkfifo", file]);
      const fd = openSync(file, "r+");
      rig.defer(() => closeSync(fd));
    };
    const prefix = "OCI runtime create failed: runc create failed: ";
    for (const [name, make, words, code] of [
      ["absent", () => {}, "JSON specification file config.json not found", 5],
      ["empty", () => writeFileSync(file, ""), "config.json is empty", 2],
      ["not JSON", () => writeFileSync(file, "{]"), "invalid JSON: ", 2],
      [
        "long and not JSON",
        () => writeFileSync(file, `${good}${" ".repeat(300_000)}]`),
        "after the end of the value at line",
        2,
      ],
      [
        "long and not valid",
        () => writeFileSync(file, `{"ociVersion": 7${" ".repeat(300_000)}}`),
        "ociVersion",
        2,
      ],
      ["of 64 MB that are no JSON", sized(64 << 20), "invalid JSON: ", 2],
      ["of more than 64 MB", sized((64 << 20) + 1), "config.json is longer than 64 MB", 2],
      ["of more than 4 GB", sized(2 ** 32 + 100), "config.json is longer than 64 MB", 2],
      ["endless", () => symlinkSync("/dev/zero", file), "config.json is longer than 64 MB", 2],
      ["a directory", () => mkdirSync(file), "config.json: is a directory", 2],
      ["a fifo that nobody writes to", () => output(["mkfifo", file]), "config.json is empty", 2],
      ["a fifo whose writer waits", openFifo, "config.json: it is a pipe, which is not waited for", 2],
    ] as const) {
      rmSync(file, { recursive: true, force: true });
      make();
      const [told, message] = await refusal(shim.create());
      expect([name, told, message]).toEqual([name, code, expect.stringContaining(words)]);
      expect(message).toStartWith(prefix);
      expect([name, message.split("\n").length, message.length < 500]).toEqual([name, 1, true]);
    }
    rmSync(file);
    writeFileSync(file, good);
    await shim.create();
    await shim.begin();
    expect((await shim.wait()).exit_status).toBe(0);
    await shim.delete();
  });
});
