// Limits hold: what a program inside meets, and what the cgroup says outside. See also cgroups.test.ts and update.test.ts.
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { repository } from "../rig/repository.ts";
import { useRig } from "../rig/rig.ts";
import { buncTestUnless, host, runtime, systemdDriver, testUnless } from "../rig/runtime.ts";

const rig = useRig();
const v1 = host.cgroupV1;

/** A line "name value" of a file of the container's cgroup. */
function entry(container: Container, controller: string, file: string, name: string): number {
  const text = container.cgroupFile(controller, file);
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN);
}

describe("cpu", () => {
  test("a program that only computes gets its quota", async () => {
    const container = rig.container((config) => {
      config.linux.resources!.cpu = { quota: 5_000, period: 50_000 };
      config.process.args = ["sh", "-c", "while :; do :; done"];
    });
    await container.detach();
    const controller = v1 ? "cpu" : "unified";
    // In microseconds.
    const used = () =>
      v1
        ? Number(container.cgroupFile("cpuacct", "cpuacct.usage")) / 1000
        : entry(container, "unified", "cpu.stat", "usage_usec");
    for (let i = 0; i < 400 && entry(container, controller, "cpu.stat", "nr_throttled") < 3; i++)
      await Bun.sleep(50);
    const [start, before] = [performance.now(), used()];
    await Bun.sleep(1500);
    const share = (used() - before) / ((performance.now() - start) * 1000);
    expect(entry(container, controller, "cpu.stat", "nr_throttled")).toBeGreaterThanOrEqual(3);
    // A tenth of a processor; periods at both ends count whole.
    expect(share).toBeGreaterThan(0);
    expect(share).toBeLessThan(0.2);
  });
});

describe("hugetlb", () => {
  const pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  const free = existsSync(pages) ? Number(readFileSync(pages, "utf8")) : 0;
  const controller = v1 ? "hugetlb" : "unified";
  const missing = !host.cgroups.has(controller)
    ? "no hugetlb controller"
    : free < 4
      ? `${free} huge pages of 2 MB on this machine`
      : undefined;

  testUnless(missing, "one page more than allowed is refused", async () => {
    const container = rig.container((config) => {
      config.linux.resources!.hugepageLimits = [{ pageSize: "2MB", limit: 2 << 20 }];
    });
    // mmap(2): PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB.
    const map = (size: number) => `mmap 0 ${size} 1 ${0x40022} -1 0`;
    const [one, two] = await container.systemCalls(map(2 << 20), map(2 << 20));
    expect(one!.error).toBe("");
    expect(two!.error).toBe("ENOMEM");
  });
});

/** The whole disk that a directory's file system is on, as "major:minor"; undefined for one of no disk. */
function diskOf(directory: string): string | undefined {
  const { dev } = statSync(directory);
  // The kernel's encoding (makedev(3)), which is what Linux has for all small numbers.
  const number = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
  const block = `/sys/dev/block/${number}`;
  if (!existsSync(block)) return undefined;
  return existsSync(`${block}/partition`) ? readFileSync(`${block}/../dev`, "utf8").trim() : number;
}

describe("block I/O", () => {
  mkdirSync(join(repository, "build"), { recursive: true });
  const data = mkdtempSync(join(repository, "build/limits-"));
  afterAll(() => rmSync(data, { recursive: true, force: true }));
  const disk = diskOf(data);
  const missing = disk ? undefined : `${data} is on no disk`;

  testUnless(missing, "writing to a disk takes as long as its throttle says", async () => {
    const [major, minor] = disk!.split(":").map(Number) as [number, number];
    const rate = 512 << 10;
    const container = rig.container((config) => {
      config.linux.resources!.blockIO = { throttleWriteBpsDevice: [{ major, minor, rate }] };
      config.mounts.push({ destination: "/data", type: "bind", source: data, options: ["bind"] });
      config.process.args = ["sleep", "60"];
    });
    await container.detach();
    expect(
      v1
        ? container.cgroupFile("blkio", "blkio.throttle.write_bps_device")
        : container.cgroupFile("unified", "io.max"),
    ).toBe(v1 ? `${disk} ${rate}` : `${disk} rbps=max wbps=${rate} riops=max wiops=max`);
    const start = performance.now();
    const dd = ["dd", "if=/dev/zero", "of=/data/file", "bs=64k", "count=24", "oflag=direct"];
    (await rig.call(["exec", container.id, "busybox", ...dd])).ok();
    // 1.5 MB at 0.5 MB a second; the kernel may let the first slice pass at once.
    expect(performance.now() - start).toBeGreaterThan(2000);
    expect(statSync(join(data, "file")).size).toBe(24 << 16);
  });
});

describe("bunc in a container", () => {
  const missing = v1 ? "cgroup v1" : systemdDriver ? "no systemd in the container" : undefined;

  buncTestUnless(missing, "limits what it starts below its own cgroup", async () => {
    const inner = rig.container((config) => {
      config.linux.resources = { pids: { limit: 7 }, memory: { limit: 32 << 20 } };
      config.linux.cgroupsPath = "/inner/one";
      config.process.args = [
        "sh",
        "-c",
        "cat /proc/self/cgroup; (for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait) 2>&1",
      ];
    });
    inner.write();
    const own = "/sys/fs/cgroup";
    const outer = rig.container((config) => {
      for (const set of ["bounding", "effective", "permitted"] as const)
        config.process.capabilities![set] = NEEDED.map((name) => `CAP_${name}`);
      Object.assign(config.linux, { maskedPaths: [], readonlyPaths: [] });
      config.linux.resources = { devices: [{ allow: true, access: "rwm" }] };
      config.linux.namespaces.push({ type: "cgroup" });
      const mounted = ["/tmp", own];
      config.mounts = config.mounts.filter(({ destination }) => !mounted.includes(destination));
      config.mounts.push(
        { destination: own, type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev"] },
        { destination: "/tmp", type: "tmpfs", source: "tmpfs" },
      );
      // The same paths inside as outside: what bunc is linked with, itself, and the bundle.
      const shared = ["/lib", "/lib64", "/usr/lib", runtime, inner.bundle];
      for (const path of new Set(shared))
        config.mounts.push({ destination: path, type: "bind", source: path, options: ["rbind"] });
      const bunc = `${runtime} --root /tmp/state`;
      const script = [
        // A cgroup with processes has no controllers for those below it.
        `mkdir ${own}/own && echo 0 > ${own}/own/cgroup.procs`,
        `${bunc} create --bundle ${inner.bundle} x > /tmp/out 2>&1 || cat /tmp/out`,
        `cat ${own}/inner/one/pids.max ${own}/inner/one/memory.max`,
        `${bunc} start x; while ${bunc} state x | grep -q running; do sleep 0.2; done`,
        `cat /tmp/out; ${bunc} delete x; ls -d ${own}/inner/one 2>&1`,
      ];
      config.process.args = ["sh", "-c", script.join("\n")];
    });
    // The last command of the script is to fail.
    const { stdout, stderr } = await outer.run();
    expect(stderr).toBe("");
    expect(stdout).toContain(`7\n${32 << 20}\n`);
    // In the cgroup namespace of the outer container.
    expect(stdout).toContain("0::/inner/one\n");
    expect(stdout).toMatch(/can't fork|Resource temporarily unavailable/);
    expect(stdout).toContain(`${own}/inner/one: No such file or directory`);
  });
});

/** What a runtime does takes these. */
const NEEDED = [
  ...[
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SYS_RESOURCE",
    "SYS_PTRACE",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "MKNOD",
    "CHOWN",
  ],
  ...[
    "FOWNER",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "KILL",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "AUDIT_WRITE",
    "BPF",
  ],
];
