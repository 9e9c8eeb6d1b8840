// src/cgroup on the hierarchies of this host: what is made, limited, frozen, killed and removed. No containers.
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type Cgroup, planCgroup } from "../../src/cgroup/cgroup.ts";
import type { CgroupfsGroup } from "../../src/cgroup/cgroupfs.ts";
import { attachedFilters } from "../../src/cgroup/filters.ts";
import { type Layout, parseLayout, readLayout } from "../../src/cgroup/layout.ts";
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
import type { CgroupPaths } from "../../src/cgroup/names.ts";
import { renderError } from "../../src/errors.ts";
import { Slots } from "../../src/launch/program.ts";
import { abi } from "../../src/linux/abi.gen.ts";
import { writeAll } from "../../src/linux/file.ts";
import { sys } from "../../src/linux/lib.ts";
import { HostState } from "../../src/linux/run-part.ts";
import type { LinuxResources, Spec } from "../../src/oci/config.ts";
import { startInit } from "./cgroup-view.ts";

const host = readLayout();
const root = process.getuid?.() === 0;
const v1 = root && (host.mode === "v1" || host.mode === "hybrid");
const tag = `bunc-cg-${process.pid}`;

/** A cgroup2 hierarchy alone, as a v2 host has it; on a hybrid host the one beside v1, with few controllers. */
function v2Layout(): Layout {
  const info = readFileSync("/proc/self/mountinfo", "utf8");
  return parseLayout(
    info
      .split("\n")
      .filter((line) => / - cgroup2 /.test(line))
      .join("\n"),
  );
}
const v2 = root && v2Layout().mode === "v2";

interface Wish {
  path?: string;
  resources?: LinuxResources;
  layout?: Layout;
}

function plan({ path = `/${tag}`, resources = {}, layout = host }: Wish = {}): CgroupfsGroup {
  const spec: Spec = { ociVersion: "1.3.0", linux: { cgroupsPath: path, resources } };
  return planCgroup({ spec, id: "unused", layout, slots: new Slots() }) as Cgroup as CgroupfsGroup;
}

/** Plans and makes; the descriptor for the birth is closed. */
function make(wish?: Wish): CgroupfsGroup {
  const group = plan(wish);
  close(group.create(new HostState()));
  return group;
}

function close(fd: number): void {
  if (fd >= 0) closeSync(fd);
}

function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return renderError(error);
  }
  throw new Error("no failure");
}

const read = (dir: string | undefined, file: string) => readFileSync(join(dir!, file), "utf8").trim();

const children: Bun.Subprocess[] = [];

/** A program that has entered cgroups. */
class Inside {
  out = "";
  private readonly reader;

  constructor(readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">) {
    this.reader = child.stdout.getReader();
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Reads on until the line is there. */
  async until(line: string): Promise<void> {
    while (!this.out.includes(`${line}\n`)) {
      const { value, done } = await this.reader.read();
      if (done) throw new Error(`ended without ${line}: ${await this.child.stderr.text()}`);
      this.out += new TextDecoder().decode(value);
    }
    this.out = this.out.slice(this.out.indexOf(`${line}\n`) + line.length + 1);
  }

  /** What it printed after the last line waited for, to its end. */
  async rest(): Promise<string> {
    for (;;) {
      const { value, done } = await this.reader.read();
      if (done) break;
      this.out += new TextDecoder().decode(value);
    }
    await this.child.exited;
    return this.out;
  }

  /** Kills it; resolves when it is gone. */
  async end(): Promise<void> {
    this.child.kill(9);
    await this.child.exited;
  }
}

/** Starts a program that enters cgroups first, by one file after the other. */
async function inside(files: readonly string[], program: string): Promise<Inside> {
  const enter = files.map((file) => `echo 0 > '${file}'`).join(" && ");
  const child = Bun.spawn(["sh", "-c", `${enter} && echo ready && ${program}`], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  const started = new Inside(child);
  await started.until("ready");
  return started;
}

const joined = (group: CgroupfsGroup) => [
  ...group.taskFiles(),
  ...(group.paths[""] === undefined ? [] : [join(group.paths[""], "cgroup.procs")]),
];

const there = (paths: CgroupPaths) => Object.values(paths).filter((path) => existsSync(path));

/** Everything of this test file, in all hierarchies. */
function leftovers(): string[] {
  const found: string[] = [];
  for (const { mountPoint } of [...host.v1, ...(host.v2 ? [host.v2] : [])]) {
    for (const name of readdirSync(mountPoint)) if (name.startsWith(tag)) found.push(join(mountPoint, name));
  }
  return found;
}

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill(9);
  }
  for (const path of leftovers()) {
    for (const file of ["freezer.state", "cgroup.freeze"]) {
      if (existsSync(join(path, file)))
        writeFileSync(join(path, file), file === "freezer.state" ? "THAWED" : "0");
    }
    destroy({ devices: path });
  }
  expect(leftovers()).toEqual([]);
});

const control = join(v2Layout().v2?.mountPoint ?? "", "cgroup.subtree_control");
const enabled = v2 ? readFileSync(control, "utf8").trim().split(" ") : [];

// The way to a cgroup of v2 is left as it was, too.
afterAll(() => {
  if (!v2) return;
  for (const name of readFileSync(control, "utf8").trim().split(" ")) {
    if (name && !enabled.includes(name)) writeFileSync(control, `-${name}`);
  }
});

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
    destroy(paths);
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

  test("relative paths lie below the caller's cgroup", () => {
    const group = plan({ path: `${tag}-rel` });
    const own = readFileSync("/proc/self/cgroup", "utf8");
    const memory = /:memory:(.*)\n/.exec(own)![1]!;
    expect(group.paths.memory).toEndWith(`${memory === "/" ? "" : memory}/${tag}-rel`);
    close(group.create(new HostState()));
    expect(there(group.paths)).toEqual(Object.values(group.paths));
    destroy(group.paths);
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
  test("an id alone", () => {
    const spec: Spec = { ociVersion: "1.3.0" };
    const group = planCgroup({ spec, id: `${tag}-id`, layout: readLayout(), slots: new Slots() });
    close(group.create(new HostState()));
    try {
      expect(there(group.paths)).toEqual(Object.values(group.paths));
    } finally {
      destroy(group.paths);
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
    second.undo();
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

  test("a frozen cgroup, and one below a frozen one", () => {
    const first = make();
    freeze(first.paths);
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
    freeze(first.paths);
    expect(isFrozen(below.paths)).toBeFalse();
    thaw(first.paths);
    destroy(below.paths);
  });

  test("freezes, thaws, kills what is frozen", async () => {
    const group = make();
    const child = await inside(joined(group), "while :; do :; done");
    freeze(group.paths);
    const ticks = () => readFileSync(`/proc/${child.pid}/stat`, "utf8").split(" ")[13];
    const before = ticks();
    await Bun.sleep(50);
    expect(ticks()).toBe(before);
    thaw(group.paths);
    await Bun.sleep(50);
    expect(ticks()).not.toBe(before);
    freeze(group.paths);
    expect(killAll(group.paths)).toBeTrue();
    expect(await child.child.exited).toBe(137);
    destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
    expect(killAll(group.paths)).toBeFalse();
    expect(processes(group.paths)).toEqual([]);
    expect(isFrozen(group.paths)).toBeFalse();
    thaw(group.paths);
    expect(oomKills(group.paths)).toBe(0);
    destroy(group.paths);
  });

  test("all processes die, also those that keep forking", async () => {
    const group = make({ resources: {} });
    const child = await inside(joined(group), "while :; do sh -c 'sleep 60 & sleep 60' & sleep 0.001; done");
    await Bun.sleep(100);
    expect(processes(group.paths).length).toBeGreaterThan(5);
    destroy(group.paths);
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
    destroy(group.paths);
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
    destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
  });

  test("on failure only what was made is taken back", () => {
    const main = (group: Cgroup) => group.paths.devices ?? group.paths[""]!;
    const wish = { path: `/${tag}/p/q/r`, resources: { cpu: { cpus: "9999" } } };
    if (host.mode !== "v2") expect(failure(() => make(wish))).toContain("linux.resources.cpu.cpus");
    expect(leftovers()).toEqual([]);
    const outer = make({ path: `/${tag}/p` });
    const group = make({ path: `/${tag}/p/q/r` });
    group.undo();
    group.undo();
    expect(existsSync(main(outer))).toBeTrue();
    expect(existsSync(`${main(outer)}/q`)).toBeFalse();
  });

  test("names that are files of a cgroup, and the longest name", () => {
    const message = failure(() => make({ path: "/cgroup.procs" }));
    expect(message).toContain("not a directory");
    expect(statSync(`${(host.v2 ?? host.v1[0])!.mountPoint}/cgroup.procs`).isFile()).toBeTrue();
    const long = `${tag}-${"x".repeat(255 - tag.length - 1)}`;
    const group = make({ path: `/${long}` });
    destroy(group.paths);
    expect(there(group.paths)).toEqual([]);
  });

  test("a cgroup that cannot be removed is named, with who is in it", () => {
    // This process cannot kill itself here: it leaves itself out.
    const dir = join((host.v2 ?? host.v1[0])!.mountPoint, `${tag}-self`);
    mkdirSync(dir);
    const back = join((host.v2 ?? host.v1[0])!.mountPoint, "cgroup.procs");
    writeFileSync(join(dir, "cgroup.procs"), String(process.pid));
    try {
      const message = failure(() => removeAll({ devices: dir }, 50, () => killAll({ devices: dir })));
      expect(message).toStartWith(`rmdir ${dir}: device or resource busy`);
      expect(message).toContain(`processes are still in it: ${process.pid}`);
    } finally {
      writeFileSync(back, String(process.pid));
      rmdirSync(dir);
    }
  });
});

describe.skipIf(!v2)("v2", () => {
  const layout = v2Layout();
  const procs = (group: CgroupfsGroup) => [join(group.paths[""]!, "cgroup.procs")];

  test("controllers are enabled on the way, and devices filtered by BPF", async () => {
    const group = make({ layout, path: `/${tag}/a` });
    expect(read(group.paths[""], "cgroup.controllers")).toBe(offered.join(" "));
    group.limit(new HostState());
    expect(attachedFilters(group.paths[""]!).length).toBe(1);
    const probe = "head -c0 /dev/null && echo null; head -c0 /dev/kmsg && echo kmsg; exit 0";
    const child = await inside(procs(group), probe);
    expect(await child.rest()).toBe("null\n");
    expect(await child.child.stderr.text()).toContain("Operation not permitted");
    await child.child.exited;
    // Used again with other rules: the old filter goes.
    const resources = { devices: [{ allow: true, type: "c", major: 1, minor: 11, access: "rw" }] };
    const second = make({ layout, path: `/${tag}/a`, resources });
    second.limit(new HostState());
    expect(attachedFilters(group.paths[""]!).length).toBe(1);
    const allowed = await inside(procs(second), probe);
    expect(await allowed.rest()).toBe("null\nkmsg\n");
    await allowed.child.exited;
    destroy(second.paths);
    expect(there(second.paths)).toEqual([]);
  });

  test("all devices allowed", async () => {
    const group = make({ layout, resources: { devices: [{ allow: true, access: "rwm" }] } });
    group.limit(new HostState());
    const child = await inside(procs(group), "head -c0 /dev/kmsg && echo kmsg");
    expect(await child.rest()).toBe("kmsg\n");
  });

  test("below a threaded cgroup", () => {
    const outer = join(layout.v2!.mountPoint, tag);
    mkdirSync(outer);
    mkdirSync(join(outer, "t"));
    writeFileSync(join(outer, "t/cgroup.type"), "threaded");
    expect(read(outer, "cgroup.type")).toBe("domain threaded");
    const wish = { layout, path: `/${tag}/a/b` };
    const group = plan(wish);
    const fd = group.create(new HostState());
    expect(read(group.paths[""], "cgroup.type")).toBe("threaded");
    const init = startInit(group, fd);
    try {
      expect(readFileSync(`/proc/${init.pid}/cgroup`, "utf8")).toContain(`0::/${tag}/a/b\n`);
      expect(processes(group.paths)).toEqual([init.pid]);
    } finally {
      init.kill();
      close(fd);
    }
    group.undo();
    expect(readdirSync(outer).filter((name) => name === "a")).toEqual([]);
    if (!layout.v2 || !read(layout.v2.mountPoint, "cgroup.controllers").includes("hugetlb")) return;
    const sizes = readdirSync(outer).filter((name) => /^hugetlb\..*\.max$/.test(name));
    const pageSize = sizes[0]?.split(".")[1] ?? "2MB";
    const message = failure(() => make({ ...wish, resources: { hugepageLimits: [{ pageSize, limit: 0 }] } }));
    expect(message).toContain("with domain controllers -- it is not a domain");
    expect(readdirSync(outer).filter((name) => name === "a")).toEqual([]);
  });

  const offered = v2 ? read(layout.v2!.mountPoint, "cgroup.controllers").split(" ") : [];
  const whole = ["memory", "cpu", "cpuset", "pids"].every((name) => offered.includes(name));

  // On a hybrid host these controllers are in v1.
  test.skipIf(!whole)("every limit", async () => {
    const resources = {
      memory: { limit: 8388608, swap: 16777216, reservation: 4194304 },
      cpu: { shares: 512, period: 50000, quota: 25000, burst: 1000, cpus: "0", mems: "0" },
      pids: { limit: 20 },
      unified: { "memory.high": "6291456", "cpu.weight.nice": "3" },
    };
    const group = make({ layout, path: `/${tag}/a/b`, resources });
    const dir = group.paths[""];
    expect(read(dir, "memory.max")).toBe("8388608");
    expect(read(dir, "memory.low")).toBe("4194304");
    expect(read(dir, "memory.high")).toBe("6291456");
    if (existsSync(join(dir!, "memory.swap.max"))) expect(read(dir, "memory.swap.max")).toBe("8388608");
    expect([read(dir, "cpuset.cpus"), read(dir, "cpuset.mems")]).toEqual(["0", "0"]);
    expect([read(dir, "cpu.max"), read(dir, "pids.max")]).toEqual(["max 100000", "max"]);
    group.limit(new HostState());
    expect([read(dir, "cpu.max"), read(dir, "cpu.max.burst")]).toEqual(["25000 50000", "1000"]);
    expect(read(dir, "pids.max")).toBe("20");
    expect(read(dir, "cpu.weight.nice")).toBe("3");
    const idle = make({ layout, path: `/${tag}/idle`, resources: { cpu: { shares: 1024, idle: 1 } } });
    idle.limit(new HostState());
    expect(read(idle.paths[""], "cpu.idle")).toBe("1");
  });

  test.skipIf(!offered.includes("memory"))("the kernel's OOM killer is noticed", async () => {
    const group = make({ layout, resources: { memory: { limit: 4194304, swap: 4194304 } } });
    expect(oomKills(group.paths)).toBe(0);
    const child = await inside(procs(group), "exec tail /dev/zero");
    expect(await child.child.exited).toBe(137);
    expect(oomKills(group.paths)).toBe(1);
    const again = { limit: 4096, swap: 4096, checkBeforeUpdate: true };
    const message = failure(() => make({ layout, resources: { memory: again } }));
    if (message !== "") expect(message).toMatch(/^rejecting memory(\+swap)? limit 4096 <= usage \d+/);
  });

  test("the cgroup of a mapped user is that user's, as far as the kernel lists it", () => {
    const spec: Spec = {
      ociVersion: "1.3.0",
      process: { user: { uid: 5, gid: 0 }, cwd: "/", args: ["x"] },
      mounts: [{ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["rw"] }],
      linux: {
        cgroupsPath: `/${tag}/owned`,
        namespaces: [{ type: "cgroup" }, { type: "user" }],
        uidMappings: [{ containerID: 0, hostID: 100000, size: 10 }],
      },
    };
    const group = planCgroup({ spec, id: "unused", layout, slots: new Slots() });
    close(group.create(new HostState()));
    const dir = group.paths[""]!;
    const owner = (file: string) => statSync(join(dir, file)).uid;
    expect([
      owner("."),
      owner("cgroup.procs"),
      owner("cgroup.subtree_control"),
      owner("cgroup.threads"),
    ]).toEqual([100005, 100005, 100005, 100005]);
    expect([owner("cgroup.freeze"), owner("cgroup.max.depth"), owner("..")]).toEqual([0, 0, 0]);
  });

  test("a limit whose controller is there", () => {
    if (!offered.includes("hugetlb")) return;
    const resources = {
      hugepageLimits: [{ pageSize: "2MB", limit: 4194304 }],
      unified: { "hugetlb.2MB.max": "2097152" },
    };
    const group = make({ layout, resources });
    group.limit(new HostState());
    expect(read(group.paths[""], "hugetlb.2MB.max")).toBe("2097152");
    expect(read(group.paths[""], "hugetlb.2MB.rsvd.max")).toBe("4194304");
    const wrong = { unified: { "hugetlb.2MB.max": "many" } };
    const bad = make({ layout, path: `/${tag}/bad`, resources: wrong });
    const message = failure(() => bad.limit(new HostState()));
    expect(message).toContain(
      `unable to set unified resource "hugetlb.2MB.max": failed to write "many": invalid argument`,
    );
    expect(message).toContain("linux.resources.unified.hugetlb.2MB.max");
  });
});

describe.skipIf(!root || host.mode !== "hybrid")("a private view of this host", () => {
  /** Runs a script in a mount namespace of its own that was changed by `prepare`; gives what it printed. */
  async function view(prepare: string, script: string): Promise<string> {
    const file = new URL("./cgroup-view.ts", import.meta.url).pathname;
    const child = Bun.spawn(
      [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-ec",
        `${prepare}; exec "$@"`,
        "sh",
        process.execPath,
        file,
        tag,
        script,
      ],
      { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
    );
    const out = await child.stdout.text();
    expect(await child.exited).toBe(0);
    return out;
  }

  const onlyV2 =
    "mkdir -p /tmp/$$.cg && mount --bind /sys/fs/cgroup/unified /tmp/$$.cg && umount -R /sys/fs/cgroup && " +
    "mount --move /tmp/$$.cg /sys/fs/cgroup && rmdir /tmp/$$.cg";

  test("cgroup2 alone", async () => {
    const out = JSON.parse(await view(onlyV2, "cycle"));
    expect(out).toMatchObject({ mode: "v2", paths: { "": `/sys/fs/cgroup/${tag}/v` }, left: [] });
    expect(out.where).toContain(`0::/${tag}/v\n`);
  });

  test("everything read-only", async () => {
    const readonly = "for m in /sys/fs/cgroup/*; do mount -o remount,bind,ro $m; done";
    const out = await view(readonly, "fail");
    expect(out).toContain("unable to apply cgroup configuration: mkdir /sys/fs/cgroup/");
    expect(out).toContain("read-only file system");
    expect(out).toContain("mounted read-write");
  });

  test("no devices controller, and no cgroups at all", async () => {
    expect(await view("umount /sys/fs/cgroup/devices", "fail")).toContain("mountpoint for devices not found");
    expect(await view("umount -R /sys/fs/cgroup", "fail")).toContain("no cgroup mount found in mountinfo");
  });

  test("plain directories and links in the place of hierarchies are not believed", async () => {
    const fake =
      "umount /sys/fs/cgroup/pids && mkdir -p /sys/fs/cgroup/pids && ln -sfn memory /sys/fs/cgroup/rdma";
    const out = JSON.parse(await view(`${fake}; trap 'rm -f /sys/fs/cgroup/rdma' EXIT`, "cycle"));
    expect(out.paths.pids).toBeUndefined();
    expect(out.paths.rdma).toBeUndefined();
    expect(out.left).toEqual([]);
  });
});
