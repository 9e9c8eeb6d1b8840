// Debian's runc on states that bunc wrote, and bunc on what its own create left behind when it was killed.
import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deleteContainer } from "../../src/container/delete.ts";
import { loadState } from "../../src/container/info.ts";
import { parseState } from "../../src/container/state.ts";
import { claimText, stateText } from "../../src/container/state-text.ts";
import { createStateDir } from "../../src/container/store.ts";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { closeFd } from "../../src/linux/process.ts";
import type { Config } from "../rig/config.ts";
import { findCgroups } from "../rig/leaks.ts";
import { busybox } from "../rig/rootfs.ts";
import { type Made, mounts, ok, present, SLEEP, useTakeover } from "./takeover.rig.ts";

const { create, fresh, own, root, runc, scratch, status, until } = useTakeover();

describe.skipIf(!present)("runc on bunc's state", () => {
  /** A container of runc whose state.json is now bunc's. */
  function adopted(script: string, edit?: (config: Config) => void): Made {
    const made = create(script, edit);
    writeFileSync(join(root, made.id, "state.json"), stateText(own(made)));
    return made;
  }

  test("reads, starts, pauses, enters, limits, kills and deletes", async () => {
    const { id } = adopted(SLEEP, (config) => {
      config.annotations = { a: "b" };
      config.linux.resources = { ...config.linux.resources, pids: { limit: 50 } };
    });
    const state = JSON.parse(ok(runc("state", id)));
    expect(loadState(root, id)).toEqual(state);
    expect(state).toMatchObject({ status: "created", annotations: { a: "b" } });
    ok(runc("start", id));
    expect(ok(runc("list", "-q"))).toBe(`${id}\n`);
    expect(ok(runc("exec", id, "sh", "-c", "echo inside; hostname"))).toStartWith("inside\n");
    ok(runc("pause", id));
    expect(status(id)).toBe("paused");
    ok(runc("resume", id));
    ok(runc("update", "--pids-limit", "60", id));
    // runc has written the state again: bunc's own part is gone, the rest is read all the same.
    expect(parseState(readFileSync(join(root, id, "state.json"), "utf8"), "").bunc).toBeUndefined();
    expect(loadState(root, id)).toMatchObject({ status: "running", annotations: { a: "b" } });
    ok(runc("kill", id, "KILL"));
    await until(id, "stopped");
    ok(runc("delete", id));
    expect(readdirSync(root)).toEqual([]);
  });

  test("its poststop hooks run when runc deletes", () => {
    const out = join(scratch.output, `hook${fresh()}`);
    const { id } = adopted(SLEEP, (config) => {
      config.hooks = { poststop: [{ path: "/bin/sh", args: ["sh", "-c", `echo ran >${out}`], timeout: 5 }] };
    });
    ok(runc("delete", "--force", id));
    expect(readFileSync(out, "utf8")).toBe("ran\n");
  });
});

describe.skipIf(!present)("delete --force of what a killed create left", () => {
  /** A state without a process, whose cgroups exist. */
  function half(): { id: string; paths: Record<string, string> } {
    const id = `${scratch.tag}-${fresh()}`;
    const cgroups: Record<string, string> = {};
    for (const controller of ["memory", "devices", "freezer", "unified"]) {
      const mount = mounts.get(controller);
      if (mount) cgroups[controller === "unified" ? "" : controller] = join(mount, id);
    }
    for (const path of Object.values(cgroups)) mkdirSync(path);
    const dir = createStateDir(root, id);
    dir.makeFifo(0, 0);
    const created = "2026-11-20T00:00:00Z";
    dir.saveText(claimText({ id, bundle: "/b", rootfs: "/b/rootfs", created, cgroupPaths: cgroups }));
    writeFileSync(join(dir.path, ".state.json"), "{");
    dir.close();
    return { id, paths: cgroups };
  }

  const enter = (cgroups: Record<string, string>, pid: number) => {
    for (const path of Object.values(cgroups)) writeFileSync(join(path, "cgroup.procs"), String(pid));
  };

  test("its cgroups and the bunc-init in them", async () => {
    const { id, paths: cgroups } = half();
    // A program that runs from a memfd named bunc-init, as the real one does.
    const memfd = sys(abi.SYS_memfd_create, "bunc-init", 0);
    await Bun.write(`/proc/self/fd/${memfd}`, Bun.file(busybox()));
    const init = Bun.spawn([`/proc/${process.pid}/fd/${memfd}`, "60"], { argv0: "sleep" });
    closeFd(memfd);
    enter(cgroups, init.pid);
    await deleteContainer(root, id, true, {
      warn: (line) => {
        throw new Error(line);
      },
    });
    expect(await init.exited).toBe(137);
    expect(findCgroups(scratch.tag)).toEqual([]);
    expect(readdirSync(root)).toEqual([]);
  });

  test("runc sees a stopped container and deletes it, too", () => {
    const { id } = half();
    expect(JSON.parse(ok(runc("state", id)))).toMatchObject({ id, status: "stopped", pid: 0 });
    expect(loadState(root, id)).toMatchObject({ id, status: "stopped", pid: 0 });
    ok(runc("delete", "--force", id));
    expect(findCgroups(scratch.tag)).toEqual([]);
  });

  test("but nobody else's process", async () => {
    const { id, paths: cgroups } = half();
    const other = Bun.spawn(["sleep", "60"]);
    try {
      enter(cgroups, other.pid);
      const warnings: string[] = [];
      await deleteContainer(root, id, true, { warn: (line) => warnings.push(line) });
      expect(warnings.length).toBe(1);
      expect(other.exitCode).toBeNull();
      expect(readdirSync(root)).toEqual([]);
    } finally {
      other.kill("SIGKILL");
      await other.exited;
      for (const path of Object.values(cgroups)) rmdirSync(path);
    }
  });
});
