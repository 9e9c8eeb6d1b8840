// src/cgroup on the hierarchies of this host: what is made, limited, frozen, killed and removed. No containers.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, planCgroup } from "../../src/cgroup/cgroup.ts";
import { readLayout } from "../../src/cgroup/layout.ts";
import {
  destroy,
  freeze,
  isFrozen,
  killAll,
  oomKills,
  processes,
  removeAll,
  thaw,
} from "../../src/cgroup/live.ts";
import { renderError } from "../../src/errors.ts";
import { Slots } from "../../src/launch/program.ts";
import { abi } from "../../src/linux/abi.gen.ts";
import { writeAll } from "../../src/linux/file.ts";
import { sys } from "../../src/linux/lib.ts";
import { HostState } from "../../src/linux/run-part.ts";
import type { Spec } from "../../src/oci/config.ts";
import {
  cleanUp,
  close,
  failure,
  host,
  inside,
  joined,
  leftovers,
  make,
  plan,
  read,
  root,
  tag,
  there,
  v1,
} from "./cgroup-rig.ts";
import { startInit } from "./cgroup-view.ts";

cleanUp();

describe.skipIf(!v1)("v1", () => {
  test("makes, lets in, limits, removes", async () => {
    const resources = {
      memory: { limit: 8388608, swap: 16777216, reservation: 4194304, swappiness: 10 },
      cpu: { shares: 512, period: 50000, quota: 25000, cpus: "0", mems: "0" },
      pids: { limit: 20 },
    };
    const group = make({ path: `/${tag}/a/b`, resources });
    const { paths } = group;
    expect(Object.keys(paths)).toContain("devices");
    expect(there(paths)).toEqual(Object.values(paths));
    expect(read(paths.memory, "memory.limit_in_bytes")).toBe("8388608");
    expect(read(paths.memory, "memory.soft_limit_in_bytes")).toBe("4194304");
    expect(read(paths.memory, "memory.swappiness")).toBe("10");
    expect(read(paths.cpuset, "cpuset.cpus")).toBe("0");
    expect(read(paths.cpu, "cpu.shares")).toBe("1024");
    expect(read(paths.devices, "devices.list")).toBe("a *:* rwm");
    const child = await inside(joined(group), "exec sleep 60");
    const where = readFileSync(`/proc/${child.pid}/cgroup`, "utf8");
    for (const [name, path] of Object.entries(paths)) {
      expect(where).toMatch(new RegExp(`:([^:]*,)?${name}(,[^:]*)?:/${tag}/a/b\n`));
      expect(read(path, "cgroup.procs")).toBe(String(child.pid));
    }
    expect(processes(paths)).toEqual([child.pid]);
    group.limit(new HostState());
    expect(read(paths.cpu, "cpu.shares")).toBe("512");
    expect(read(paths.cpu, "cpu.cfs_quota_us")).toBe("25000");
    expect(read(paths.cpu, "cpu.cfs_period_us")).toBe("50000");
    expect(read(paths.pids, "pids.max")).toBe("20");
    expect(read(paths.devices, "devices.list")).toContain("c 136:* rwm");
    expect(read(paths.devices, "devices.list")).not.toContain("a *:*");
    await destroy(paths);
    expect(await child.child.exited).toBe(137);
    expect(there(paths)).toEqual([]);
    // The directories above stay, as in runc.
    expect(leftovers().length).toBe(new Set(Object.values(paths)).size);
  });

  test("placed from outside", async () => {
    const group = make();
    const child = await inside(["/dev/null"], "exec sleep 60");
    group.place(new HostState(), child.pid, false);
    expect(processes(group.paths)).toEqual([child.pid]);
    for (const path of Object.values(group.paths)) expect(read(path, "cgroup.procs")).toBe(String(child.pid));
  });

  test("relative paths lie below the caller's cgroup", async () => {
    const group = plan({ path: `${tag}-rel` });
    const own = readFileSync("/proc/self/cgroup", "utf8");
    const memory = /:memory:(.*)\n/.exec(own)![1]!;
    expect(group.paths.memory).toEndWith(`${memory === "/" ? "" : memory}/${tag}-rel`);
    close(group.create(new HostState()));
    expect(there(group.paths)).toEqual(Object.values(group.paths));
    await destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
  });

  test("device rules hold", async () => {
    const group = make();
    group.limit(new HostState());
    const probe = "head -c0 /dev/null && echo null; head -c0 /dev/kmsg && echo kmsg; exit 0";
    const child = await inside(joined(group), probe);
    expect(await child.rest()).toBe("null\n");
    expect(await child.child.stderr.text()).toContain("Operation not permitted");
    const resources = { devices: [{ allow: true, type: "c", major: 1, minor: 11, access: "r" }] };
    const second = make({ resources });
    second.limit(new HostState());
    const allowed = await inside(joined(second), probe);
    expect(await allowed.rest()).toBe("null\nkmsg\n");
  });

  test("a memory limit below what is used: how much that is, and nobody is harmed", async () => {
    mkdirSync(`/sys/fs/cgroup/memory/${tag}`);
    const tasks = `/sys/fs/cgroup/memory/${tag}/tasks`;
    const child = await inside(
      [tasks],
      "x=$(head -c 3000000 /dev/zero | tr '\\0' x) && echo full && while sleep 1; do :; done",
    );
    await child.until("full");
    const message = failure(() => make({ resources: { memory: { limit: 4096 } } }));
    expect(message).toMatch(/^unable to set memory limit to 4096 \(current usage: \d+, peak usage: \d+\)/);
    expect(message).toContain("linux.resources.memory.limit");
    expect(child.child.killed).toBeFalse();
    expect(read(`/sys/fs/cgroup/memory/${tag}`, "cgroup.procs").split("\n")).toContain(String(child.pid));
    expect(leftovers()).toEqual([`/sys/fs/cgroup/memory/${tag}`]);
  });

  test("the kernel's OOM killer is noticed", async () => {
    const group = make({ resources: { memory: { limit: 4194304, swap: 4194304 } } });
    expect(oomKills(group.paths)).toBe(0);
    const child = await inside(joined(group), "exec tail /dev/zero");
    expect(await child.child.exited).toBe(137);
    expect(oomKills(group.paths)).toBe(1);
  });
});

describe.skipIf(!root)("on any host", () => {
  test("an id alone", async () => {
    const spec: Spec = { ociVersion: "1.3.0" };
    const group = planCgroup({ spec, id: `${tag}-id`, layout: readLayout(), slots: new Slots() });
    close(group.create(new HostState()));
    try {
      expect(there(group.paths)).toEqual(Object.values(group.paths));
    } finally {
      await destroy(group.paths);
    }
    expect(there(group.paths)).toEqual([]);
  });

  test.each([false, true])(
    "bunc-init is born in cgroup2, and enters the rest by itself (user namespace: %p)",
    (user) => {
      const group = plan();
      const fd = group.create(new HostState());
      const init = startInit(group, fd, user);
      try {
        expect(fd >= 0).toBe(group.bearsInit);
        const where = readFileSync(`/proc/${init.pid}/cgroup`, "utf8");
        for (const [name, path] of Object.entries(group.paths)) {
          expect(where).toMatch(new RegExp(`:([^:]*,)?${name}(,[^:]*)?:/${tag}\n`));
          expect(read(path, "cgroup.procs")).toBe(String(init.pid));
        }
      } finally {
        init.kill();
        close(fd);
      }
      expect(processes(group.paths)).toEqual([]);
    },
  );

  test("directories are open to all, whatever the umask", () => {
    const before = process.umask(0o077);
    try {
      const group = make({ path: `/${tag}/x` });
      for (const path of Object.values(group.paths)) expect(statSync(path).mode & 0o777).toBe(0o755);
      expect(process.umask()).toBe(0o077);
    } finally {
      process.umask(before);
    }
  });

  test("a cgroup in which somebody is, here or below", async () => {
    const first = make();
    const child = await inside(joined(first), "exec sleep 60");
    expect(failure(() => make())).toStartWith("container's cgroup is not empty: 1 process(es) found");
    // Who failed takes nothing away that was there.
    const second = plan();
    failure(() => second.create(new HostState()));
    await second.undo();
    expect(processes(first.paths)).toEqual([child.pid]);
    expect(there(first.paths)).toEqual(Object.values(first.paths));
    await child.end();
    const main = first.paths.devices ?? first.paths[""]!;
    mkdirSync(join(main, "sub"));
    const below = await inside([join(main, "sub/cgroup.procs")], "exec sleep 60");
    expect(failure(() => make())).toStartWith("container's cgroup is not empty: 1 process(es) found");
    await below.end();
    // Empty, but there: it is used again.
    expect(there(make().paths)).toEqual(Object.values(first.paths));
  });

  test("a frozen cgroup, and one below a frozen one", async () => {
    const first = make();
    await freeze(first.paths);
    expect(isFrozen(first.paths)).toBeTrue();
    expect(failure(() => make())).toStartWith("container's cgroup unexpectedly frozen");
    expect(there(first.paths)).toEqual(Object.values(first.paths));
    const message = failure(() => make({ path: `/${tag}/below` }));
    expect(message).toStartWith("container's cgroup unexpectedly frozen");
    expect(existsSync(`${first.paths.freezer ?? first.paths[""]}/below`)).toBeFalse();
    thaw(first.paths);
    expect(isFrozen(first.paths)).toBeFalse();
    const below = make({ path: `/${tag}/below` });
    // What only stands still with the cgroup above is not paused itself.
    await freeze(first.paths);
    expect(isFrozen(below.paths)).toBeFalse();
    thaw(first.paths);
    await destroy(below.paths);
  });

  test("freezes, thaws, kills what is frozen", async () => {
    const group = make();
    const child = await inside(joined(group), "while :; do :; done");
    await freeze(group.paths);
    const ticks = () => readFileSync(`/proc/${child.pid}/stat`, "utf8").split(" ")[13];
    const before = ticks();
    await Bun.sleep(50);
    expect(ticks()).toBe(before);
    thaw(group.paths);
    await Bun.sleep(50);
    expect(ticks()).not.toBe(before);
    await freeze(group.paths);
    expect(await killAll(group.paths)).toBeTrue();
    expect(await child.child.exited).toBe(137);
    await destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
    expect(await killAll(group.paths)).toBeFalse();
    expect(processes(group.paths)).toEqual([]);
    expect(isFrozen(group.paths)).toBeFalse();
    thaw(group.paths);
    expect(oomKills(group.paths)).toBe(0);
    await destroy(group.paths);
  });

  test("all processes die, also those that keep forking", async () => {
    const group = make({ resources: {} });
    const child = await inside(joined(group), "while :; do sh -c 'sleep 60 & sleep 60' & sleep 0.001; done");
    for (let i = 0; i < 100 && processes(group.paths).length <= 5; i++) await Bun.sleep(50);
    expect(processes(group.paths).length).toBeGreaterThan(5);
    await destroy(group.paths);
    expect(await child.child.exited).toBe(137);
    expect(there(group.paths)).toEqual([]);
  });

  test("what the container made below its cgroups goes with them", async () => {
    const group = make();
    for (const path of new Set(Object.values(group.paths))) {
      for (const name of ["a", "a/b", "c", "c/d", "c/e", "with space", "with\ttab"])
        mkdirSync(join(path, name));
    }
    const main = group.paths.devices ?? group.paths[""]!;
    const child = await inside([join(main, "c/e/cgroup.procs")], "exec sleep 60");
    expect(processes(group.paths)).toEqual([child.pid]);
    await destroy(group.paths);
    expect(await child.child.exited).toBe(137);
    expect(there(group.paths)).toEqual([]);
  });

  test("names that are not UTF-8, or begin with what text leaves out", async () => {
    const group = make();
    const main = group.paths.devices ?? group.paths[""]!;
    const child = await inside(["/dev/null"], "exec sleep 60");
    for (const name of [[0xff, 0xfe, 0x78], [0xef, 0xbb, 0xbf, 0x78], [0x2e, 0x2e, 0x2e], [0xc3]]) {
      const path = Buffer.concat([Buffer.from(`${main}/`), Buffer.from(name)]);
      mkdirSync(path);
      mkdirSync(Buffer.concat([path, Buffer.from("/below")]));
      writeFileSync(Buffer.concat([path, Buffer.from("/below/cgroup.procs")]), String(child.pid));
    }
    expect(processes(group.paths)).toEqual([child.pid]);
    await destroy(group.paths);
    expect(await child.child.exited).toBe(137);
    expect(there(group.paths)).toEqual([]);
  });

  test("cgroups deeper than any path is long", async () => {
    const group = make();
    const main = group.paths.devices ?? group.paths[""]!;
    const name = "d".repeat(250);
    const child = await inside(["/dev/null"], "exec sleep 60");
    let fd = sys(abi.SYS_openat, abi.AT_FDCWD, main, abi.O_RDONLY | abi.O_DIRECTORY, 0);
    for (let depth = 0; depth < 40; depth++) {
      expect(sys(abi.SYS_mkdirat, fd, name, 0o755)).toBe(0);
      const below = sys(abi.SYS_openat, fd, name, abi.O_RDONLY | abi.O_DIRECTORY, 0);
      close(fd);
      fd = below;
    }
    const procs = sys(abi.SYS_openat, fd, "cgroup.procs", abi.O_WRONLY, 0);
    close(fd);
    expect(writeAll(procs, new TextEncoder().encode(String(child.pid)))).toBe(0);
    close(procs);
    expect(processes(group.paths)).toEqual([child.pid]);
    await destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
  });

  test("on failure only what was made is taken back", async () => {
    const main = (group: Cgroup) => group.paths.devices ?? group.paths[""]!;
    const wish = { path: `/${tag}/p/q/r`, resources: { cpu: { cpus: "9999" } } };
    if (host.mode !== "v2") expect(failure(() => make(wish))).toContain("linux.resources.cpu.cpus");
    expect(leftovers()).toEqual([]);
    const outer = make({ path: `/${tag}/p` });
    const group = make({ path: `/${tag}/p/q/r` });
    await group.undo();
    await group.undo();
    expect(existsSync(main(outer))).toBeTrue();
    expect(existsSync(`${main(outer)}/q`)).toBeFalse();
  });

  test("names that are files of a cgroup, and the longest name", async () => {
    const message = failure(() => make({ path: "/cgroup.procs" }));
    expect(message).toContain("not a directory");
    expect(statSync(`${(host.v2 ?? host.v1[0])!.mountPoint}/cgroup.procs`).isFile()).toBeTrue();
    const long = `${tag}-${"x".repeat(255 - tag.length - 1)}`;
    const group = make({ path: `/${long}` });
    await destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
  });

  test("a cgroup that cannot be removed is named, with who is in it", async () => {
    // This process cannot kill itself here: it leaves itself out.
    const dir = join((host.v2 ?? host.v1[0])!.mountPoint, `${tag}-self`);
    mkdirSync(dir);
    const back = join((host.v2 ?? host.v1[0])!.mountPoint, "cgroup.procs");
    writeFileSync(join(dir, "cgroup.procs"), String(process.pid));
    try {
      const removed = removeAll({ devices: dir }, 50, () => killAll({ devices: dir }));
      const message = renderError(
        await removed.then(
          () => new Error("no failure"),
          (error) => error,
        ),
      );
      expect(message).toStartWith(`rmdir ${dir}: device or resource busy`);
      expect(message).toContain(`processes are still in it: ${process.pid}`);
    } finally {
      writeFileSync(back, String(process.pid));
      rmdirSync(dir);
    }
  });
});
