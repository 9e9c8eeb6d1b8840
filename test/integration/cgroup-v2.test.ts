// src/cgroup on cgroup2: a v2 host's, or on a hybrid host the hierarchy beside v1, which has few controllers; and in
// changed views of a hybrid host (mount namespaces). No containers.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { planCgroup } from "../../src/cgroup/cgroup.ts";
import type { CgroupfsGroup } from "../../src/cgroup/cgroupfs.ts";
import { attachedFilters } from "../../src/cgroup/filters.ts";
import { destroy, oomKills, processes } from "../../src/cgroup/live.ts";
import { Slots } from "../../src/launch/program.ts";
import { HostState } from "../../src/linux/run-part.ts";
import type { Spec } from "../../src/oci/config.ts";
import {
  cleanUp,
  close,
  failure,
  host,
  inside,
  make,
  plan,
  read,
  root,
  tag,
  there,
  v2,
  v2Layout,
} from "./cgroup-rig.ts";
import { startInit } from "./cgroup-view.ts";

cleanUp();

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
    await destroy(second.paths);
    expect(there(second.paths)).toEqual([]);
  });

  test("all devices allowed", async () => {
    const group = make({ layout, resources: { devices: [{ allow: true, access: "rwm" }] } });
    group.limit(new HostState());
    const child = await inside(procs(group), "head -c0 /dev/kmsg && echo kmsg");
    expect(await child.rest()).toBe("kmsg\n");
  });

  test("below a threaded cgroup", async () => {
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
    await group.undo();
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
  });

  test.skipIf(!offered.includes("memory"))(
    "checkBeforeUpdate: a cgroup that uses more already is refused",
    async () => {
      const group = make({ layout });
      const file = `/dev/shm/${tag}`;
      const child = await inside(procs(group), `head -c 1000000 /dev/zero > ${file}`);
      try {
        await child.rest();
        const memory = { limit: 4096, swap: 4096, checkBeforeUpdate: true };
        const message = failure(() => make({ layout, resources: { memory } }));
        expect(message).toMatch(/^rejecting memory\+swap limit 4096 <= usage \d+/);
        const limit = failure(() => make({ layout, resources: { memory: { ...memory, swap: -1 } } }));
        expect(limit).toMatch(/^rejecting memory limit 4096 <= usage \d+/);
        expect(there(group.paths)).toEqual(Object.values(group.paths));
      } finally {
        rmSync(file);
      }
    },
  );

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
    const readonly = "for m in /sys/fs/cgroup/*; do ! mountpoint -q $m || mount -o remount,bind,ro $m; done";
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
