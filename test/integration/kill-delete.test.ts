// `kill` and `delete`: every way to name a signal, what is killed, what is removed.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, host, isBunc, systemdDriver } from "../rig/runtime.ts";

const rig = useRig();

function sleeper(): Container {
  return rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
}

const alive = (pid: number): boolean => {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};

describe("kill", () => {
  test("takes a name with or without SIG in any case, or a number; SIGTERM without one", async () => {
    const signals: Record<string, string[]> = {
      HUP: ["HUP", "SIGHUP", "hup", "sighup", "SigHup", "1"],
      INT: ["INT", "2"],
      QUIT: ["sigquit", "3"],
      USR1: ["USR1", "10"],
      USR2: ["sigusr2", "12"],
      WINCH: ["WINCH", "28"],
      "34": ["34"],
      "64": ["64"],
    };
    const traps = Object.keys(signals).map((name) => `trap 'echo got ${name}' ${name}`);
    const container = rig.container((config) => {
      const script = `${traps.join("; ")}; trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done`;
      config.process.args = ["sh", "-c", script];
    });
    const result = await container.detach();
    await result.until("ready\n");
    let expected = "ready\n";
    for (const [name, spellings] of Object.entries(signals)) {
      for (const spelling of spellings) {
        (await container.call("kill", spelling)).ok();
        expected += `got ${name}\n`;
        expect(await result.until(expected)).toBe(expected);
      }
    }
    (await container.call("kill", "0")).ok(); // only asks whether it is there
    expect((await container.state()).status).toBe("running");
    (await container.call("kill")).ok();
    await container.waitFor("stopped");
  });

  test("ends a container that is created and not started, as any process", async () => {
    for (const signal of ["TERM", "INT", "HUP", "QUIT", "KILL"]) {
      const container = sleeper();
      const { pid } = (await container.create()) && (await container.state());
      (await container.call("kill", signal)).ok();
      await container.waitFor("stopped");
      expect(alive(pid)).toBe(false);
      (await container.call("delete")).ok();
    }
  });

  test("leaves a started init to its own handling of signals", async () => {
    const container = sleeper();
    await container.create();
    (await container.call("start")).ok();
    await container.waitFor("running");
    // sleep handles none, and the kernel keeps an init from what it does not handle.
    (await container.call("kill", "TERM")).ok();
    await Bun.sleep(200);
    expect((await container.state()).status).toBe("running");
  });

  test("refuses what is no signal, and a container that is not running", async () => {
    const container = sleeper();
    await container.create();
    for (const word of ["NOSUCH", "SIG", "SIGNOSUCH", "9x", " 9", "KILL "]) {
      const result = await container.call("kill", word);
      expect([word, result.code]).toEqual([word, 1]);
      expect(result.stderr.replaceAll('\\"', '"')).toContain(`unknown signal "${word}"`);
    }
    for (const number of ["65", "-1", "99999"]) {
      expect([number, (await container.call("kill", number)).code]).not.toEqual([number, 0]);
    }
    expect((await container.state()).status).toBe("created");
    // A created container can be killed; the program never runs.
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    for (const word of ["KILL", "0", "TERM"]) {
      const result = await container.call("kill", word);
      expect([word, result.code, result.stderr]).toEqual([
        word,
        1,
        expect.stringContaining("container not running"),
      ]);
    }
  });

  buncTest("--all is accepted and makes a stopped container no error", async () => {
    const container = sleeper();
    await container.detach();
    (await rig.call(["kill", "--all", container.id, "KILL"])).ok();
    await container.waitFor("stopped");
    (await rig.call(["kill", "-a", container.id, "0"])).ok();
  });

  test("KILL reaches every process of a container without a pid namespace of its own", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "sleep 61 & sleep 62 & echo $! ; wait"];
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
    });
    const result = await container.detach();
    const child = Number(await result.until("\n"));
    expect(alive(child)).toBe(true);
    (await rig.call(isBunc ? ["kill", container.id, "KILL"] : ["kill", "--all", container.id, "KILL"])).ok();
    await container.waitFor("stopped");
    // systemd removes a scope that is empty.
    if (!systemdDriver) expect(container.cgroupFile("unified", "cgroup.procs")).toBe("");
    expect(alive(child)).toBe(false);
  });
});

describe("delete", () => {
  test("of a created container kills it; --force of a running one too", async () => {
    for (const [prepare, flags] of [
      ["create", []],
      ["create", ["--force"]],
      ["detach", ["--force"]],
      ["detach", ["-f"]],
    ] as const) {
      const container = sleeper();
      await container[prepare]();
      const { pid } = await container.state();
      expect(alive(pid)).toBe(true);
      (await rig.call(["delete", ...flags, container.id])).ok();
      expect(alive(pid)).toBe(false);
      expect(rig.states()).toEqual([]);
      expect(container.cgroupDirectories()).toEqual([]);
      const state = await container.call("state");
      expect([state.code, state.stderr]).toEqual([1, expect.stringContaining("container does not exist")]);
    }
  });

  test("leaves an id that can be used again at once", async () => {
    const container = sleeper();
    for (let i = 0; i < 3; i++) {
      await container.detach();
      (await container.remove("--force")).ok();
    }
  });

  test("removes cgroups the container made in its own", async () => {
    const container = sleeper();
    await container.detach();
    const { pid } = await container.state();
    for (const controller of [host.cgroups.has("freezer") ? "freezer" : "unified", "unified"]) {
      const dir = join(container.cgroup(controller)!, "a", "b");
      mkdirSync(dir, { recursive: true });
      await Bun.write(join(dir, "cgroup.procs"), String(pid));
    }
    (await container.remove("--force")).ok();
    expect(container.cgroupDirectories()).toEqual([]);
  });

  test.each([["--force"], []])(
    "%s kills processes that outlived an init without a pid namespace",
    async (...flags) => {
      const container = rig.container((config) => {
        config.process.args = ["sh", "-c", "sleep 61 & sleep 62 & echo $!; wait"];
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
      });
      const result = await container.detach();
      const child = Number(await result.until("\n"));
      process.kill((await container.state()).pid, "SIGKILL");
      await container.waitFor("stopped");
      expect(alive(child)).toBe(true);
      const removed = await rig.call(["delete", ...flags, container.id]);
      if (!isBunc && removed.code !== 0) return; // runc 1.1 gives up here (its issue 4047)
      removed.ok();
      expect(alive(child)).toBe(false);
      expect(container.cgroupDirectories()).toEqual([]);
    },
  );

  test("keeps what others mounted and made in the bundle", async () => {
    const container = sleeper();
    container.file("data/", "");
    await Bun.write(join(container.rootfs, "data/kept"), "kept");
    await container.detach();
    (await container.remove("--force")).ok();
    expect(readFileSync(join(container.rootfs, "data/kept"), "utf8")).toBe("kept");
    expect(existsSync(container.path("config.json"))).toBe(true);
  });

  test("of a second container with the same id in another root does not touch the first", async () => {
    const container = sleeper();
    await container.detach();
    const other = join(rig.scratch.run, "other-root");
    (await rig.call(["delete", "--force", container.id], { root: other })).ok();
    expect((await container.state()).status).toBe("running");
    Bun.spawnSync(["rm", "-rf", other]);
  });
});
