// The Task service on real containers: what containerd asks, in its order, and what it is told.
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { decode, encode } from "../../src/shim/proto/codec.ts";
import { writeTableOptions } from "../../src/shim/proto/task.gen.ts";
import { hookKinds } from "../rig/config.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, host, testUnless } from "../rig/runtime.ts";
import { refusal, type Shim, shimOf } from "./rig.ts";

const rig = useRig();
const RUNNING = 2;
const STOPPED = 3;

buncDescribe("hooks", () => {
  test("of all kinds run, and the files of run.oci.hooks take what they write", async () => {
    const log = join(rig.directory(), "hooks");
    const shim = await shimOf(rig, ["true"], {}, ({ config }) => {
      config.hooks = Object.fromEntries(
        hookKinds.map((kind) => [
          kind,
          [{ path: "/bin/busybox", args: ["sh", "-c", `echo ${kind}; echo ${kind} >&2`] }],
        ]),
      );
      config.annotations = { "run.oci.hooks.stdout": log, "run.oci.hooks.stderr": `${log}.err` };
    });
    await shim.create();
    expect(readFileSync(log, "utf8")).toBe("prestart\ncreateRuntime\ncreateContainer\n");
    await shim.begin();
    await shim.wait();
    await shim.delete();
    for (const file of [log, `${log}.err`])
      expect(readFileSync(file, "utf8").trim().split("\n").sort()).toEqual([...hookKinds].sort());
    const fds = `/proc/${await shim.pid()}/fd`;
    const held = readdirSync(fds).map((fd) => readlinkSync(join(fds, fd)));
    expect(held.filter((path) => path.startsWith(log))).toEqual([]);
  });
  test("whose file cannot be opened refuse the task", async () => {
    const shim = await shimOf(rig, ["true"], {}, ({ config }) => {
      config.hooks = { poststart: [{ path: "/bin/true" }] };
      config.annotations = { "run.oci.hooks.stdout": "/no/such/file" };
    });
    const [, message] = await refusal(shim.create());
    expect(message).toContain("open /no/such/file: no such file or directory");
    expect(rig.states()).toEqual([]);
  });
});

/** Options as CRI passes them to a runtime whose options it does not know: the table of its configuration. */
buncDescribe("a table of options", () => {
  function create(shim: Shim, table: string) {
    const config_body = new TextEncoder().encode(`Root = '${dirname(rig.scratch.root)}'\n${table}`);
    const value = encode(writeTableOptions, { config_body });
    return shim.create({ options: { type_url: "runtimeoptions.v1.Options", value } });
  }

  test("is heeded: the container is in the root that it says", async () => {
    const shim = await shimOf(rig, ["true"]);
    const { pid } = await create(shim, "NoNewKeyring = true\n");
    expect(rig.states()).toEqual([shim.container.id]);
    expect(await shim.begin()).toEqual({ pid });
    await shim.wait();
    await shim.delete();
    expect(rig.states()).toEqual([]);
  });

  test("with a wrong value refuses the task", async () => {
    const [, message] = await refusal(create(await shimOf(rig, ["true"]), "SystemdCgroup = 1\n"));
    expect(message).toContain("SystemdCgroup must be true or false");
    expect(rig.states()).toEqual([]);
  });

  const systemd = existsSync("/run/systemd/system") ? "systemd runs here" : undefined;
  testUnless(
    systemd,
    "or the form of the path asks for systemd's driver, refused where that does not run",
    async () => {
      const unit = `bunc.slice:test:${rig.unique()}`;
      const shim = await shimOf(rig, ["true"], {}, ({ config }) => {
        config.linux.cgroupsPath = unit;
      });
      for (const table of ["SystemdCgroup = true\n", ""]) {
        const [, message] = await refusal(create(shim, table));
        expect(message).toContain("systemd not running on this host");
      }
      expect(rig.states()).toEqual([]);
      // Said otherwise, it is the name of a directory, as with runc.
      const { pid } = await create(shim, "SystemdCgroup = false\n");
      expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain(`/${unit}\n`);
      await shim.begin();
      await shim.wait();
      await shim.delete();
    },
  );
});

buncDescribe("a task", () => {
  test("from create to shutdown: answers, events, files, and nothing left", async () => {
    const shim = await shimOf(rig, ["sh", "-c", "echo out; echo err >&2; exit 7"]);
    const [out, err] = [shim.fifo("out"), shim.fifo("err")];
    const { pid } = await shim.create({ stdout: out.path, stderr: err.path });
    expect(readFileSync(shim.container.path("init.pid"), "utf8")).toBe(String(pid));
    expect(await shim.state()).toMatchObject({ id: shim.container.id, pid, status: 1, stdout: out.path });
    const ended = shim.wait();
    expect(await shim.begin()).toEqual({ pid });
    const { exit_status, exited_at } = await ended;
    expect(exit_status).toBe(7);
    expect(Math.abs(exited_at!.seconds - Date.now() / 1000)).toBeLessThan(60);
    expect(await shim.state()).toMatchObject({ status: STOPPED, exit_status: 7, exited_at });
    expect([await out.text(), await err.text()]).toEqual(["out\n", "err\n"]);
    expect(await shim.delete()).toEqual({ pid, exit_status: 7, exited_at });
    expect(rig.states()).toEqual([]);
    const server = await shim.pid();
    await shim.shutdown();
    await shim.events.until("/tasks/delete");
    expect(shim.events.topics()).toEqual(["create", "start", "exit", "delete"]);
    expect(shim.events.all[2]!.fields).toEqual({
      container_id: shim.container.id,
      id: shim.container.id,
      pid,
      exit_status: 7,
      exited_at,
    });
    for (let i = 0; i < 100 && existsSync(`/proc/${server}/cwd`); i++) await Bun.sleep(20);
    expect([existsSync(`/proc/${server}/cwd`), existsSync(shim.socket)]).toEqual([false, false]);
    // containerd runs `delete` also when all went well.
    expect(await shim.command(["-bundle", shim.container.bundle, "delete"])).toMatchObject({
      code: 0,
      stderr: "",
    });
  });

  test("a program that cannot be found: the words of the runtime, and nothing left", async () => {
    const shim = await shimOf(rig, ["/nowhere"]);
    const [code, message] = await refusal(shim.create());
    expect(code).toBe(2);
    expect(message).toStartWith(
      "OCI runtime create failed: runc create failed: unable to start container process: ",
    );
    expect(message).toContain('exec: "/nowhere": stat /nowhere: no such file or directory');
    expect(rig.states()).toEqual([]);
    expect(await refusal(shim.state())).toEqual([5, "container not created: not found"]);
    // It can be tried again.
    shim.container.config.process.args = ["true"];
    shim.container.write();
    await shim.create();
    await shim.begin();
    expect((await shim.wait()).exit_status).toBe(0);
    await shim.delete();
  });

  test("is stopped by kill, and not killed twice", async () => {
    const shim = await shimOf(rig, ["sleep", "100"]);
    await shim.create();
    await shim.begin();
    expect(await refusal(shim.delete())).toEqual([2, "cannot delete a running process"]);
    expect(await refusal(shim.create())).toEqual([6, `container ${shim.container.id}: already exists`]);
    await shim.kill(15);
    await shim.kill(9);
    expect((await shim.wait()).exit_status).toBe(137);
    expect(await refusal(shim.kill(9))).toEqual([5, "process already finished: not found"]);
    await shim.delete();
    expect(await refusal(shim.delete())).toEqual([5, "container not created: not found"]);
  });

  test("created and never started can be deleted", async () => {
    const shim = await shimOf(rig, ["true"]);
    await shim.create();
    const { exit_status } = await shim.delete();
    expect(exit_status).toBe(137);
    expect(rig.states()).toEqual([]);
  });

  test("pause, resume, update, pids, in both versions of the service", async () => {
    const shim = await shimOf(rig, ["sleep", "100"]);
    const { pid } = await shim.create();
    await shim.begin();
    await shim.simple("Pause");
    expect(await shim.state()).toMatchObject({ status: 4 });
    await shim.simple("Resume");
    expect(await shim.state()).toMatchObject({ status: RUNNING });
    expect(shim.events.topics()).toEqual(["create", "start", "paused", "resumed"]);
    const proto = await import("../../src/shim/proto/task.gen.ts");
    const value = new TextEncoder().encode(JSON.stringify({ pids: { limit: 17 } }));
    const id = shim.container.id;
    await shim.task(
      "Update",
      proto.writeUpdateTaskRequest,
      { id, resources: { type_url: "x", value } },
      proto.readEmpty,
      3,
    );
    expect(shim.container.cgroupFile("pids", "pids.max")).toBe("17");
    const { processes } = await shim.task("Pids", proto.writeTaskRequest, { id }, proto.readPidsResponse, 3);
    expect(processes.map((found) => found.pid)).toEqual([pid]);
    const { stats } = await shim.task("Stats", proto.writeTaskRequest, { id }, proto.readStatsResponse, 3);
    const version = host.cgroupV1 ? "v1" : "v2";
    expect(stats!.type_url).toBe(`io.containerd.cgroups.${version}.Metrics`);
    const { readMetrics } = await import(`../../src/shim/proto/metrics-${version}.gen.ts`);
    const { pids, memory } = decode(readMetrics, stats!.value!) as {
      pids: object;
      memory: { usage: object };
    };
    expect(pids).toEqual({ current: 1, limit: 17 });
    expect(memory.usage).toBeTruthy();
    const bad = new TextEncoder().encode('{"pids": {"limit": "many"}}');
    const wrong = shim.task(
      "Update",
      proto.writeUpdateTaskRequest,
      { id, resources: { type_url: "x", value: bad } },
      proto.readEmpty,
    );
    expect((await refusal(wrong))[1]).toContain("pids.limit");
  });

  test("what outlives init in a shared pid namespace is killed, and init's exit is the last", async () => {
    const shim = await shimOf(rig, ["sh", "-c", "sleep 1000 & sleep 0.5"], {}, ({ config }) => {
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
    });
    const out = shim.fifo("out");
    await shim.create({ stdout: out.path });
    await shim.exec("e", ["sleep", "100"]);
    await shim.begin();
    await shim.begin("e");
    await shim.wait();
    expect((await shim.wait("e")).exit_status).toBe(137);
    // Its reader sees the end, so nobody has the fifo any more.
    expect(await out.text()).toBe("");
    await shim.events.until("/tasks/exit", 2);
    expect(shim.events.topics().slice(-2)).toEqual(["exit[e]", "exit"]);
    await shim.delete();
  });
});

buncDescribe("memory that runs out", () => {
  test("is told of, before the exit, also by a shim that slept", async () => {
    for (const env of [{ BUNC_SHIM_IDLE: "0" }, { BUNC_SHIM_IDLE: "50" }]) {
      const script = "sleep 0.6; (dd if=/dev/zero bs=64M count=1 of=/dev/null); exit 3";
      const shim = await shimOf(rig, ["sh", "-c", script], env, ({ config }) => {
        config.linux.resources = { ...config.linux.resources, memory: { limit: 12 << 20, swap: 12 << 20 } };
      });
      await shim.create();
      await shim.begin();
      const ended = shim.wait();
      await shim.events.until("/tasks/oom");
      await ended;
      await shim.events.until("/tasks/exit");
      expect(shim.events.topics()).toEqual(["create", "start", "oom", "exit"]);
      await shim.delete();
    }
  });

  test("again and again, while containerd is away, pushes nothing else out", async () => {
    const dd = "(dd if=/dev/zero bs=64M count=1 of=/dev/null) 2>/dev/null";
    const script = `for i in 1 2 3 4 5 6; do ${dd}; done; exit 3`;
    const shim = await shimOf(rig, ["sh", "-c", script], { BUNC_SHIM_IDLE: "0" }, ({ config }) => {
      config.linux.resources = { ...config.linux.resources, memory: { limit: 12 << 20, swap: 12 << 20 } };
    });
    await shim.create();
    await shim.events.until("/tasks/create");
    shim.events.close();
    await shim.begin();
    expect((await shim.wait()).exit_status).toBe(3);
    shim.events.open();
    await shim.events.until("/tasks/exit");
    expect(shim.events.topics()).toEqual(["create", "start", "oom", "exit"]);
    await shim.delete();
  });
});

buncDescribe("a process of exec", () => {
  test("has its own streams, environment, exit code and events", async () => {
    const shim = await shimOf(rig, ["sleep", "100"]);
    await shim.create();
    await shim.begin();
    const [out, input] = [shim.fifo("eo"), shim.inputFifo("ei")];
    await shim.exec("e1", ["sh", "-c", "cat; exit 9"], { stdin: input, stdout: out.path });
    expect(await shim.state("e1")).toMatchObject({ status: 1, pid: 0, exec_id: "e1" });
    expect(await refusal(shim.exec("e1", ["true"]))).toEqual([6, "id e1: already exists"]);
    const { pid } = await shim.begin("e1");
    await shim.type(input, "first\n");
    // A client that has gone is no end of the input.
    await shim.type(input, "second\n");
    expect(await shim.state("e1")).toMatchObject({ status: RUNNING, pid });
    const proto = await import("../../src/shim/proto/task.gen.ts");
    const close = { id: shim.container.id, exec_id: "e1", stdin: true };
    await shim.task("CloseIO", proto.writeCloseIORequest, close, proto.readEmpty);
    expect((await shim.wait("e1")).exit_status).toBe(9);
    expect(await out.text()).toBe("first\nsecond\n");
    expect(await shim.delete("e1")).toMatchObject({ pid, exit_status: 9 });
    expect((await refusal(shim.state("e1")))[0]).toBe(5);
    expect(shim.events.topics()).toEqual([
      "create",
      "start",
      "exec-added[e1]",
      "exec-started[e1]",
      "exit[e1]",
    ]);
  });

  test("that cannot be executed is told of, and can be deleted", async () => {
    const shim = await shimOf(rig, ["sleep", "100"]);
    await shim.create();
    await shim.begin();
    await shim.exec("e", ["/nowhere"]);
    const [code, message] = await refusal(shim.begin("e"));
    expect(code).toBe(2);
    expect(message).toStartWith("OCI runtime exec failed: exec failed: ");
    expect(message).toContain("no such file or directory");
    expect(await shim.state("e")).toMatchObject({ status: STOPPED });
    await shim.delete("e");
    await shim.exec("e", ["true"]);
    await shim.begin("e");
    expect((await shim.wait("e")).exit_status).toBe(0);
  });

  test("many at once, each with its own code", async () => {
    const shim = await shimOf(rig, ["sleep", "100"]);
    await shim.create();
    await shim.begin();
    const codes = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        await shim.exec(`e${i}`, ["sh", "-c", `exit ${i}`]);
        await shim.begin(`e${i}`);
        const { exit_status } = await shim.wait(`e${i}`);
        await shim.delete(`e${i}`);
        return exit_status;
      }),
    );
    expect(codes).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });
});
