import { describe, expect, test } from "bun:test";
import { Part, Slots } from "../launch/program.ts";
import type { Spec } from "../oci/config.ts";
import { planCgroup } from "./cgroup.ts";
import { groupOf, HYBRID, layoutOf, lines, NESTED, NONE, SEPARATE, V2 } from "./testing.ts";

const entered = (group: ReturnType<typeof groupOf>) => {
  const part = new Part();
  group.compileEnter(part);
  return lines(part);
};

describe("v1", () => {
  test("the directories of a container without a path of its own", () => {
    const C = "/sys/fs/cgroup";
    const group = groupOf(SEPARATE);
    expect(lines(group.compileCreate())).toEqual([
      `mkdirat . ${C}/cpu/c1 493 ?EEXIST`,
      `mkdirat . ${C}/cpuset/c1 493 ?EEXIST`,
      `open ${C}/cpuset/cpuset.cpus O_RDONLY = cpuset list`,
      "read <cpuset list> <cpuset list> 4096 = size of the list",
      "close <cpuset list>",
      "expect <size of the list> -4096 0 27",
      `${C}/cpuset/c1/cpuset.cpus < <cpuset list>`,
      `open ${C}/cpuset/cpuset.mems O_RDONLY = cpuset list`,
      "read <cpuset list> <cpuset list> 4096 = size of the list",
      "close <cpuset list>",
      "expect <size of the list> -4096 0 27",
      `${C}/cpuset/c1/cpuset.mems < <cpuset list>`,
      `mkdirat . ${C}/memory/jobs/a/c1 493 ?EEXIST`,
      `mkdirat . ${C}/devices/c1 493 ?EEXIST`,
      `mkdirat . ${C}/freezer/c1 493 ?EEXIST`,
      `open ${C}/freezer/c1/freezer.state O_RDONLY = freezer state ?ENOENT+4`,
      "pread64 <freezer state> <freezer state> 1 0",
      "close <freezer state>",
      "load <freezer state> 1 = first letter of the state",
      "expect <first letter of the state> 255 84 16",
      `mkdirat . ${C}/pids/c1 493 ?EEXIST`,
    ]);
    expect(group.bearsInit).toBeFalse();
  });

  test("directories above it, and a cpuset of its own", () => {
    const group = groupOf(SEPARATE, { cgroupsPath: "/p/q/c", resources: { cpu: { cpus: "1", mems: "0" } } });
    const ops = lines(group.compileCreate()).filter((text) => text.includes("/cpuset/"));
    expect(ops).toEqual([
      "mkdirat . /sys/fs/cgroup/cpuset/p 493 ?EEXIST",
      "open /sys/fs/cgroup/cpuset/cpuset.cpus O_RDONLY = cpuset list",
      "/sys/fs/cgroup/cpuset/p/cpuset.cpus < <cpuset list>",
      "open /sys/fs/cgroup/cpuset/cpuset.mems O_RDONLY = cpuset list",
      "/sys/fs/cgroup/cpuset/p/cpuset.mems < <cpuset list>",
      "mkdirat . /sys/fs/cgroup/cpuset/p/q 493 ?EEXIST",
      "open /sys/fs/cgroup/cpuset/p/cpuset.cpus O_RDONLY = cpuset list",
      "/sys/fs/cgroup/cpuset/p/q/cpuset.cpus < <cpuset list>",
      "open /sys/fs/cgroup/cpuset/p/cpuset.mems O_RDONLY = cpuset list",
      "/sys/fs/cgroup/cpuset/p/q/cpuset.mems < <cpuset list>",
      "mkdirat . /sys/fs/cgroup/cpuset/p/q/c 493 ?EEXIST",
      "/sys/fs/cgroup/cpuset/p/q/c/cpuset.cpus < 1",
      "/sys/fs/cgroup/cpuset/p/q/c/cpuset.mems < 0",
    ]);
    const values = group.compileCreate().ops.filter(({ path }) => path.startsWith("linux.resources"));
    expect(values.map(({ path }) => path)).toEqual(["linux.resources.cpu.cpus", "linux.resources.cpu.mems"]);
  });

  test("noprefix", () => {
    const host = { ...SEPARATE, mountinfo: SEPARATE.mountinfo.replace("rw,cpuset", "rw,cpuset,noprefix") };
    const ops = lines(groupOf(host).compileCreate());
    expect(ops).toContain("open /sys/fs/cgroup/cpuset/cpus O_RDONLY = cpuset list");
    expect(ops).toContain("/sys/fs/cgroup/cpuset/c1/mems < <cpuset list>");
  });

  test("init enters by itself: one thread, by tasks", () => {
    expect(entered(groupOf(SEPARATE)).slice(0, -1)).toEqual([
      "/sys/fs/cgroup/cpu/c1/tasks < 0",
      "/sys/fs/cgroup/cpuset/c1/tasks < 0",
      "/sys/fs/cgroup/memory/jobs/a/c1/tasks < 0",
      "/sys/fs/cgroup/devices/c1/tasks < 0",
      "/sys/fs/cgroup/freezer/c1/tasks < 0",
      "/sys/fs/cgroup/pids/c1/tasks < 0",
    ]);
    expect(entered(groupOf(SEPARATE)).at(-1)).toBe("sched_setaffinity 0 1024 <1024 bytes> ?any");
  });

  test("devices: all denied, then each exception", () => {
    const file = "/sys/fs/cgroup/devices/c1/devices";
    expect(lines(groupOf(SEPARATE).compileLimits())).toEqual([
      `${file}.deny < a *:* rwm`,
      `open ${file}.allow O_WRONLY = devices.allow`,
      "write <devices.allow> b *:* m 7",
      "write <devices.allow> c *:* m 7",
      "write <devices.allow> c 1:3 rwm 9",
      "write <devices.allow> c 1:5 rwm 9",
      "write <devices.allow> c 1:7 rwm 9",
      "write <devices.allow> c 1:8 rwm 9",
      "write <devices.allow> c 1:9 rwm 9",
      "write <devices.allow> c 5:0 rwm 9",
      "write <devices.allow> c 5:2 rwm 9",
      "write <devices.allow> c 10:200 rwm 12",
      "write <devices.allow> c 136:* rwm 11",
      "close <devices.allow>",
    ]);
    const all = groupOf(SEPARATE, { resources: { devices: [{ allow: true, access: "rwm" }] } });
    expect(lines(all.compileLimits())).toEqual([`${file}.allow < a *:* rwm`]);
  });

  test("each operation says what it belongs to", () => {
    const group = groupOf(SEPARATE, { resources: { memory: { limit: 5 }, pids: { limit: 5 } } });
    const enter = new Part();
    group.compileEnter(enter);
    for (const op of [...group.compileCreate().ops, ...group.compileLimits().ops, ...enter.ops]) {
      expect(op.phase).toBe("cgroup");
    }
    expect(group.compileCreate().ops.at(-1)?.path).toBe("linux.resources.memory.limit");
    expect(group.compileLimits().ops[0]?.path).toBe("linux.resources.pids.limit");
  });

  test("the same bundle and host give the same operations", () => {
    const twice = [0, 1].map(() => {
      const group = groupOf(HYBRID, { cgroupsPath: "/a/b", resources: { memory: { limit: 5 } } });
      return [lines(group.compileCreate()), lines(group.compileLimits()), entered(group)];
    });
    expect(twice[0]).toEqual(twice[1]!);
  });

  test("slots are given back", () => {
    const slots = new Slots();
    const spec = {
      ociVersion: "1.3.0",
      linux: { resources: { cpu: { quota: 5, period: 5, burst: 5 } } },
    } as Spec;
    const group = planCgroup({ spec, id: "c1", layout: layoutOf(SEPARATE), slots });
    for (let i = 0; i < 100; i++) group.compileCreate();
    expect(slots.take("next").index).toBeLessThan(8);
  });
});

describe("hybrid", () => {
  test("cgroup2 last, opened for the birth; what limits nothing may be refused", () => {
    const group = groupOf(HYBRID);
    const ops = lines(group.compileCreate());
    expect(ops).toEqual([
      "mkdirat . /sys/fs/cgroup/systemd/user.slice/a.scope/c1 493 ?any",
      "mkdirat . /sys/fs/cgroup/cpu,cpuacct/c1 493 ?EEXIST",
      "mkdirat . /sys/fs/cgroup/devices/user.slice/c1 493 ?EEXIST",
      "mkdirat . /sys/fs/cgroup/memory/user.slice/c1 493 ?EEXIST",
      "mkdirat . /sys/fs/cgroup/unified/c1 493 ?any",
      "open /sys/fs/cgroup/unified/c1 O_PATH|O_DIRECTORY = cgroup of init ?any",
    ]);
    expect(group.bearsInit).toBeTrue();
    expect(entered(group).slice(0, -1)).toEqual([
      "/sys/fs/cgroup/systemd/user.slice/a.scope/c1/tasks < 0 ?any",
      "/sys/fs/cgroup/cpu,cpuacct/c1/tasks < 0",
      "/sys/fs/cgroup/devices/user.slice/c1/tasks < 0",
      "/sys/fs/cgroup/memory/user.slice/c1/tasks < 0",
    ]);
    expect(group.taskFiles()).toEqual(
      entered(group)
        .slice(0, 4)
        .map((text) => text.split(" ")[0]!),
    );
    const part = new Part();
    group.compileEnter(part, [-1, 5, 6, 7]);
    expect(lines(part).slice(0, -1)).toEqual([
      "write 5 0 1",
      "close 5",
      "write 6 0 1",
      "close 6",
      "write 7 0 1",
      "close 7",
    ]);
  });
});

describe("v2", () => {
  test("controllers are enabled from the mount point down, all or one by one", () => {
    const group = groupOf({ ...V2, controllers: "cpu memory" }, { cgroupsPath: "/a/b" });
    expect(lines(group.compileCreate())).toEqual([
      "/sys/fs/cgroup/cgroup.subtree_control < +cpu +memory ?any ok+2",
      "/sys/fs/cgroup/cgroup.subtree_control < +cpu ?any",
      "/sys/fs/cgroup/cgroup.subtree_control < +memory ?any",
      "mkdirat . /sys/fs/cgroup/a 493 ?EEXIST",
      "open /sys/fs/cgroup/a/cgroup.type O_RDONLY = cgroup.type",
      "read <cgroup.type> <cgroup.type> 16 = size of the type",
      "close <cgroup.type>",
      "load <cgroup.type+4> 4 = type",
      "expect <type> -1 1763733097 2 ?ENOENT+1",
      "/sys/fs/cgroup/a/cgroup.type < threaded ?any",
      "/sys/fs/cgroup/a/cgroup.subtree_control < +cpu +memory ?any ok+2",
      "/sys/fs/cgroup/a/cgroup.subtree_control < +cpu ?any",
      "/sys/fs/cgroup/a/cgroup.subtree_control < +memory ?any",
      "mkdirat . /sys/fs/cgroup/a/b 493 ?EEXIST",
      "open /sys/fs/cgroup/a/b/cgroup.type O_RDONLY = cgroup.type",
      "read <cgroup.type> <cgroup.type> 16 = size of the type",
      "close <cgroup.type>",
      "load <cgroup.type+4> 4 = type",
      "expect <type> -1 1763733097 2 ?ENOENT+1",
      "/sys/fs/cgroup/a/b/cgroup.type < threaded ?any",
      "open /sys/fs/cgroup/a/b/cgroup.events O_RDONLY = freezer state ?ENOENT+4",
      "pread64 <freezer state> <freezer state> 1 19",
      "close <freezer state>",
      "load <freezer state> 1 = first letter of the state",
      "expect <first letter of the state> 255 48 16",
      "open /sys/fs/cgroup/a/b O_PATH|O_DIRECTORY = cgroup of init",
    ]);
    expect(entered(group)).toEqual(["sched_setaffinity 0 1024 <1024 bytes> ?any"]);
  });

  test("limits of whole processes need a domain", () => {
    const group = groupOf(V2, { resources: { memory: { limit: 5 } } });
    const ops = lines(group.compileCreate());
    expect(ops).toContain("expect <type> -1 683625 95");
    expect(ops.at(-2)).toBe("/sys/fs/cgroup/user.slice/c1/memory.max < 5");
  });

  test("devices: one program, loaded again when locked memory is short, and attached", () => {
    expect(lines(groupOf(V2).compileLimits())).toEqual([
      "open /sys/fs/cgroup/user.slice/c1 O_DIRECTORY = cgroup directory",
      "bpf 5 <bpf_attr: prog_load> 144 = device filter ?EPERM ok+2",
      "prlimit64 0 8 <rlimit> 0 ?any",
      "bpf 5 <bpf_attr: prog_load> 144 = device filter",
      "patch <bpf_attr: prog_attach+0> 4 0 <cgroup directory>",
      "patch <bpf_attr: prog_attach+4> 4 0 <device filter>",
      "bpf 8 <bpf_attr: prog_attach> 144",
      "close <device filter>",
      "close <cgroup directory>",
    ]);
  });

  test("the cgroup of a user with a writable mount and a namespace is given to that user", () => {
    const mounts = [{ destination: "/sys/fs/cgroup/", type: "cgroup", source: "cgroup", options: ["rw"] }];
    const linux = {
      namespaces: [{ type: "cgroup" as const }, { type: "user" as const }],
      uidMappings: [{ containerID: 0, hostID: 100000, size: 65536 }],
    };
    const user = { uid: 1000, gid: 0 };
    const process = { user, cwd: "/", args: ["x"] } as Spec["process"];
    const chowns = (more: Partial<Spec>, l: Spec["linux"] = linux, host = V2) =>
      lines(groupOf(host, l, more).compileCreate()).filter((text) => text.startsWith("fchownat"));
    expect(chowns({ mounts, process })).toEqual([
      "fchownat . /sys/fs/cgroup/user.slice/c1 101000 -1 0",
      "fchownat . /sys/fs/cgroup/user.slice/c1/cgroup.procs 101000 -1 0 ?ENOENT",
      "fchownat . /sys/fs/cgroup/user.slice/c1/cgroup.subtree_control 101000 -1 0 ?ENOENT",
      "fchownat . /sys/fs/cgroup/user.slice/c1/cgroup.threads 101000 -1 0 ?ENOENT",
    ]);
    expect(chowns({ mounts })[0]).toContain(" 100000 ");
    expect(chowns({ mounts, process }, { namespaces: [{ type: "cgroup" }] })[0]).toContain(" 1000 ");
    // Root of the host; a read-only mount; no mount; no namespace, or a joined one; an unmapped user; v1.
    expect(chowns({ mounts }, { namespaces: [{ type: "cgroup" }] })).toEqual([]);
    expect(chowns({ mounts: [{ ...mounts[0]!, options: ["ro"] }], process })).toEqual([]);
    expect(chowns({ process })).toEqual([]);
    expect(chowns({ mounts, process }, { ...linux, namespaces: [{ type: "user" }] })).toEqual([]);
    const joined = [{ type: "cgroup" as const, path: "/proc/1/ns/cgroup" }, { type: "user" as const }];
    expect(chowns({ mounts, process }, { ...linux, namespaces: joined })).toEqual([]);
    expect(chowns({ mounts, process }, { ...linux, uidMappings: [] })).toEqual([]);
    expect(chowns({ mounts, process }, linux, HYBRID)).toEqual([]);
  });
});

describe("hosts that cannot do it", () => {
  test("no cgroups", () => {
    expect(() => groupOf(NONE)).toThrow("no cgroup mount found in mountinfo");
  });
  test("v1 without the devices controller", () => {
    const host = { ...SEPARATE, mountinfo: SEPARATE.mountinfo.replace(/.*rw,devices\n/, "") };
    expect(() => groupOf(host)).toThrow("mountpoint for devices not found");
    // In a user namespace nobody could set it.
    const spec = { ociVersion: "1.3.0" } as Spec;
    const group = planCgroup({
      spec,
      id: "c1",
      layout: layoutOf(host),
      slots: new Slots(),
      userNamespace: true,
    });
    expect(lines(group.compileLimits())).toEqual([]);
  });
  test("nested: only what is mounted", () => {
    expect(Object.keys(groupOf(NESTED).paths)).toEqual(["memory", "devices", "freezer"]);
  });
});
