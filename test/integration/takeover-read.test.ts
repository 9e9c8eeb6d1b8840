// bunc's own functions, called in this process, on containers that Debian's runc made.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deleteContainer } from "../../src/container/delete.ts";
import { loadState } from "../../src/container/info.ts";
import { killContainer } from "../../src/container/kill.ts";
import { listContainers } from "../../src/container/list.ts";
import { startContainer } from "../../src/container/start.ts";
import type { State } from "../../src/container/state.ts";
import { readState } from "../../src/container/store.ts";
import * as abi from "../../src/linux/abi.gen.ts";
import type { Config } from "../rig/config.ts";
import { helperBinary, Listener } from "../rig/helper.ts";
import { findCgroups } from "../rig/leaks.ts";
import { putProgram } from "../rig/rootfs.ts";
import {
  compact,
  message,
  mounts,
  ok,
  paths,
  present,
  SLEEP,
  untilExists,
  useTakeover,
} from "./takeover.rig.ts";

const { create, fresh, own, root, runc, scratch, status, until } = useTakeover();

describe.skipIf(!present)("containers of runc", () => {
  test("state and list say what runc says", async () => {
    const first = create(SLEEP, (config) => {
      config.annotations = { "org.example.b": "x=y", "org.example.a": "" };
    });
    const second = create(SLEEP);
    ok(runc("start", second.id));
    for (const { id } of [first, second]) {
      const theirs = JSON.parse(ok(runc("state", id)));
      expect(loadState(root, id)).toEqual(theirs);
    }
    const { containers, errors } = listContainers(root);
    expect(errors).toEqual([]);
    expect(containers as unknown[]).toEqual(JSON.parse(ok(runc("list", "-f", "json"))));
    expect(containers.map((container) => container.status)).toEqual(["created", "running"]);
  });

  test("every field runc fills is in bunc's state, but for the reviewed ones", () => {
    const made = create(SLEEP, (config) => {
      config.annotations = { a: "b" };
      config.linux.resources = {
        ...config.linux.resources,
        memory: { limit: 67108864 },
        pids: { limit: 50 },
        cpu: { quota: 50000, period: 100000 },
      };
      config.hooks = { poststop: [{ path: "/bin/true", args: ["true"], env: ["A=1"], timeout: 5 }] };
    });
    const ours = compact(own(made)) as State;
    const theirs = compact(readState(root, made.id)) as State;
    const known = new Set(paths(ours));
    // Reviewed: nothing.
    expect(paths(theirs).filter((path) => !known.has(path))).toEqual([]);
    ours.config.version = theirs.config.version;
    expect(ours).toMatchObject(theirs);
  });

  test("start", async () => {
    const { id, bundle } = create("echo started >/begun; exec sleep 60");
    await startContainer(root, id);
    await untilExists(join(bundle, "rootfs/begun"));
    expect(status(id)).toBe("running");
    expect(JSON.parse(ok(runc("state", id))).status).toBe("running");
    expect(existsSync(join(root, id, "exec.fifo"))).toBe(false);
    expect(await message(startContainer(root, id))).toBe("cannot start an already running container");
  });

  test("start of one that was killed", async () => {
    const { id } = create(SLEEP);
    process.kill(loadState(root, id).pid, "SIGKILL");
    await until(id, "stopped");
    expect(await message(startContainer(root, id))).toBe("cannot start a container that has stopped");
  });

  test("poststart hooks are not run again: runc did at create", async () => {
    const out = join(scratch.output, `hook${fresh()}`);
    const { id } = create(SLEEP, (config) => {
      config.hooks = { poststart: [{ path: "/bin/sh", args: ["sh", "-c", `echo ran >>${out}`] }] };
    });
    await startContainer(root, id);
    expect(readFileSync(out, "utf8")).toBe("ran\n");
  });

  test("start waits for READY=1 where $NOTIFY_SOCKET asks for it", async () => {
    const path = join(scratch.bundles, `s${fresh()}`);
    const listener = new Listener([helperBinary(), "datagrams", path], path, {});
    await listener.line();
    const { id } = create(
      "sleep 0.3; test-helper send READY=1; exec sleep 60",
      (_, rootfs) => {
        putProgram(helperBinary(), scratch.store, join(rootfs, "bin/test-helper"));
        mkdirSync(join(rootfs, "run/notify"), { recursive: true });
      },
      { NOTIFY_SOCKET: path },
    );
    process.env.NOTIFY_SOCKET = path;
    try {
      const before = performance.now();
      await startContainer(root, id);
      expect(performance.now() - before).toBeGreaterThan(250);
      expect((await listener.message()).text).toBe("READY=1\n");
      expect((await listener.message()).text).toBe(`MAINPID=${loadState(root, id).pid}\n`);
    } finally {
      delete process.env.NOTIFY_SOCKET;
      await listener.close();
      rmSync(path, { force: true });
    }
    // The socket in the state directory is removed with it.
    await deleteContainer(root, id, true);
  });

  test("kill", async () => {
    const { id, bundle } = create(
      "trap 'echo usr1 >>/got' USR1; trap 'exit 0' TERM; echo >/ready; while :; do sleep 0.02; done",
    );
    await startContainer(root, id);
    await untilExists(join(bundle, "rootfs/ready"));
    await killContainer(root, id, 0);
    await killContainer(root, id, abi.SIGUSR1);
    await untilExists(join(bundle, "rootfs/got"));
    await killContainer(root, id, abi.SIGTERM);
    await until(id, "stopped");
    expect(loadState(root, id)).toMatchObject({ pid: 0, status: "stopped" });
    expect(await message(async () => killContainer(root, id, abi.SIGKILL))).toBe("container not running");
  });

  const shared = (config: Config) => {
    config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
  };

  test("KILL reaches all processes of a container that shares its pid namespace", async () => {
    const { id } = create("sleep 61 & sleep 62 & wait", shared);
    const procs = join(mounts.get("memory") ?? mounts.get("unified")!, id, "cgroup.procs");
    await startContainer(root, id);
    for (let i = 0; readFileSync(procs, "utf8").trim().split("\n").length < 3 && i < 500; i++)
      await Bun.sleep(10);
    await killContainer(root, id, abi.SIGKILL);
    await until(id, "stopped");
    for (let i = 0; readFileSync(procs, "utf8") !== "" && i < 500; i++) await Bun.sleep(10);
    expect(readFileSync(procs, "utf8")).toBe("");
  });

  test("delete kills what outlived an init that shared its pid namespace", async () => {
    const { id } = create("sleep 61 & sleep 62 & wait", shared);
    await startContainer(root, id);
    const { pid } = loadState(root, id);
    await Bun.sleep(100);
    process.kill(pid, "SIGKILL");
    await until(id, "stopped");
    await deleteContainer(root, id, false);
    expect(readdirSync(root)).toEqual([]);
  });

  test("delete: created, stopped, running with force", async () => {
    const created = create(SLEEP);
    await deleteContainer(root, created.id, false);
    const running = create(SLEEP);
    await startContainer(root, running.id);
    expect(await message(deleteContainer(root, running.id, false))).toBe(
      `cannot delete container ${running.id} that is not stopped: running`,
    );
    await deleteContainer(root, running.id, true);
    const stopped = create("exit 0");
    await startContainer(root, stopped.id);
    await until(stopped.id, "stopped");
    await deleteContainer(root, stopped.id, false);
    expect(readdirSync(root)).toEqual([]);
    expect(ok(runc("list", "-q"))).toBe("");
  });

  test("poststop hooks of runc's container", async () => {
    const out = join(scratch.output, `hook${fresh()}`);
    const { id, bundle } = create(SLEEP, (config) => {
      config.hooks = {
        poststop: [
          { path: "/bin/sh", args: ["sh", "-c", `cat >${out}; env >>${out}`], env: ["A=1"], timeout: 5 },
          { path: "/bin/false" },
        ],
      };
      config.annotations = { a: "b" };
    });
    const warnings: string[] = [];
    await deleteContainer(root, id, false, { warn: (line) => warnings.push(line) });
    const said = readFileSync(out, "utf8");
    expect(said).toStartWith(
      `{"ociVersion":"1.3.0","id":"${id}","status":"stopped","bundle":"${bundle}","annotations":{"a":"b"}}`,
    );
    expect(said).toContain("A=1");
    expect(warnings.length).toBe(1);
    expect(warnings[0]).toStartWith("error running poststop hook #1: exit status 1, stdout: , stderr: ");
  });

  test.skipIf(!mounts.has("freezer"))("paused: told, refused to start, deleted with force", async () => {
    const { id } = create(SLEEP);
    await startContainer(root, id);
    ok(runc("pause", id));
    expect(loadState(root, id)).toMatchObject({
      status: "paused",
      pid: JSON.parse(ok(runc("state", id))).pid,
    });
    expect(await message(startContainer(root, id))).toBe("cannot start a container in the paused state");
    expect(await message(deleteContainer(root, id, false))).toBe(
      `cannot delete container ${id} that is not stopped: paused`,
    );
    // SIGTERM waits until it is thawed; SIGKILL thaws.
    await killContainer(root, id, abi.SIGKILL);
    await until(id, "stopped");
    await deleteContainer(root, id, false);
    const other = create(SLEEP);
    await startContainer(root, other.id);
    ok(runc("pause", other.id));
    await deleteContainer(root, other.id, true);
  });

  test("cgroups that the container made are removed with it", async () => {
    const { id } = create(SLEEP);
    await startContainer(root, id);
    const { pid } = loadState(root, id);
    for (const controller of ["memory", "unified"]) {
      const mount = mounts.get(controller);
      if (!mount) continue;
      mkdirSync(join(mount, id, "a/b"), { recursive: true });
      writeFileSync(join(mount, id, "a/b/cgroup.procs"), String(pid));
    }
    await deleteContainer(root, id, true);
    expect(findCgroups(scratch.tag)).toEqual([]);
  });

  test("a state that runc has damaged", async () => {
    const { id } = create(SLEEP);
    const file = join(root, id, "state.json");
    const text = readFileSync(file, "utf8");
    writeFileSync(file, text.slice(0, 2000));
    expect(await message(async () => loadState(root, id))).toStartWith(
      `${file} cannot be read: invalid JSON`,
    );
    const { containers, errors } = listContainers(root);
    expect([containers, errors.length]).toEqual([[], 1]);
    writeFileSync(file, text);
  });
});
