// User namespaces: mappings, ownership, what works in one and what does not, joining one.
import { describe, expect, test } from "bun:test";
import {
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Config, IdMapping } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, CAP_SYS_RESOURCE, host, isBunc, testUnless } from "../rig/runtime.ts";

const rig = useRig();

const uids: IdMapping[] = [{ containerID: 0, hostID: 100000, size: 65536 }];
const gids: IdMapping[] = [
  { containerID: 0, hostID: 200000, size: 1000 },
  { containerID: 1000, hostID: 300000, size: 1 },
];

/** A container in a user namespace with the mappings above, its rootfs' directories owned by its root. */
function mapped(edit: (config: Config, container: Container) => void = () => {}): Container {
  return rig.container((config, container) => {
    config.linux.namespaces.push({ type: "user" });
    config.linux.uidMappings = uids;
    config.linux.gidMappings = gids;
    edit(config, container);
    own(container.rootfs);
  });
}

/** Gives the directories (not the programs, which all root filesystems share) to the mapped root. */
function own(dir: string): void {
  lchownSync(dir, 100000, 200000);
  for (const entry of readdirSync(dir, { withFileTypes: true }))
    if (entry.isDirectory()) own(join(dir, entry.name));
}

/** The rows of a map file, as numbers. */
const rows = (text: string): number[][] =>
  text
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number));

describe("with mappings", () => {
  testUnless(
    host.capable(CAP_SYS_RESOURCE) ? undefined : "no CAP_SYS_RESOURCE",
    "hard limits above bunc's own, of the program and of an exec",
    async () => {
      const container = mapped((config) => {
        config.process.args = ["sleep", "60"];
        config.process.rlimits = [
          { type: "RLIMIT_MEMLOCK", soft: 1 << 30, hard: 1 << 30 },
          { type: "RLIMIT_NOFILE", soft: 10, hard: 5000 },
        ];
      });
      const wrap = ["sh", "-c", 'ulimit -l 64; ulimit -n 2000; exec "$0" "$@"'];
      await container.detach([], { wrap });
      const { pid } = await container.state();
      const exec = await rig.call(["exec", container.id, "cat", "/proc/self/limits"], { wrap });
      for (const text of [readFileSync(`/proc/${pid}/limits`, "utf8"), exec.ok().stdout]) {
        expect(text).toMatch(/^Max locked memory +1073741824 +1073741824 /m);
        expect(text).toMatch(/^Max open files +10 +5000 /m);
      }
    },
  );
  buncTest("a joined one, beside a network namespace of the host that it has no rights over", async () => {
    const owner = mapped((config) => {
      config.process.args = ["sleep", "60"];
    });
    await owner.detach();
    const { pid } = await owner.state();
    const network = await rig.background(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 60"]);
    const joined = mapped((config) => {
      const paths: Record<string, string> = {
        user: `/proc/${pid}/ns/user`,
        network: `/proc/${network.pid}/ns/net`,
      };
      config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
        paths[type] ? { type, path: paths[type]! } : { type },
      );
      delete config.linux.uidMappings;
      delete config.linux.gidMappings;
      // A sysfs of that network may not be mounted from here.
      config.mounts = config.mounts.filter(({ type }) => type !== "sysfs" && type !== "cgroup");
      config.process.args = ["sh", "-c", "readlink /proc/self/ns/user; readlink /proc/self/ns/net"];
    });
    const links = [`/proc/${pid}/ns/user`, `/proc/${network.pid}/ns/net`].map((path) => readlinkSync(path));
    expect((await joined.output()).trim().split("\n")).toEqual(links);
  });

  buncTest("a time namespace has its offsets, also when it is another container that is joined", async () => {
    const offsets = { monotonic: { secs: 7881, nanosecs: 2718281 }, boottime: { secs: -5, nanosecs: 3 } };
    const container = mapped((config) => {
      config.linux.namespaces.push({ type: "time" });
      config.linux.timeOffsets = offsets;
      config.process.args = ["sh", "-c", "cat /proc/self/timens_offsets; exec sleep 60"];
    });
    const lines = [
      ["monotonic", "7881", "2718281"],
      ["boottime", "-5", "3"],
    ];
    const clocks = (text: string) =>
      text
        .trim()
        .split("\n")
        .map((line) => line.split(/\s+/));
    const result = await container.detach();
    expect(clocks(await result.until(" 3\n"))).toEqual(lines);
    const { pid } = await container.state();
    const joined = mapped((config) => {
      const path = (type: string) => `/proc/${pid}/ns/${type}`;
      config.linux.namespaces = config.linux.namespaces
        .filter(({ type }) => type !== "user")
        .concat({ type: "user", path: path("user") }, { type: "time", path: path("time") });
      delete config.linux.uidMappings;
      delete config.linux.gidMappings;
    });
    expect(clocks(await joined.output("cat", "/proc/self/timens_offsets"))).toEqual(lines);
  });

  test("root inside is the mapped user outside; maps are as configured", async () => {
    const container = mapped((config) => {
      config.process.args = [
        "sh",
        "-c",
        "cat /proc/self/uid_map; echo; cat /proc/self/gid_map; exec sleep 60",
      ];
      config.process.user.additionalGids = [5, 1000];
    });
    const result = await container.detach();
    const { pid } = await container.state();
    const [uidMap, gidMap] = (await result.until(" 1\n")).split("\n\n");
    expect(rows(uidMap!)).toEqual([[0, 100000, 65536]]);
    expect(rows(gidMap!)).toEqual([
      [0, 200000, 1000],
      [1000, 300000, 1],
    ]);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(status).toMatch(/^Uid:\t100000\t100000\t100000\t100000$/m);
    expect(status).toMatch(/^Gid:\t200000\t200000\t200000\t200000$/m);
    expect(status).toMatch(/^Groups:\t200005 300000 $/m);
    expect(readFileSync(`/proc/${pid}/setgroups`, "utf8")).toBe("allow\n");
  });

  test("ids, capabilities, devices, mounts and hostname are as without", async () => {
    const container = mapped((config) => {
      config.hostname = "mapped";
      config.process.user = { uid: 1000, gid: 1000 };
    });
    const report = await container.report();
    expect(report).toMatchObject({
      pid: 1,
      uid: [1000, 1000, 1000],
      gid: [1000, 1000, 1000],
      uts: ["mapped", "(none)", "x86_64"],
    });
    expect(report.status.CapBnd).toBe("0000000020000420");
    container.config.process.user = { uid: 0, gid: 0 };
    const text = await container.shell(
      `echo x >/dev/null && echo null; head -c 3 /dev/zero | wc -c; test -c /dev/tty && echo tty
      cat /proc/1/comm; stat -c %u:%g / /dev /proc /dev/null /dev/shm; cat /proc/mounts`,
    );
    // The device nodes are binds of the host's, whose owner has no number here. (crun 1.8 gives the host's /dev/null,
    // being its standard input, to the container's root.)
    expect(statSync("/dev/null")).toMatchObject({ uid: 0, gid: 0 });
    expect(text).toMatch(/^null\n3\ntty\nsh\n0:0\n0:0\n\d+:\d+\n65534:65534\n0:0\n/);
    for (const path of ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]) {
      expect(text).toMatch(new RegExp(` ${path} `));
    }
  });

  test("files made inside belong to the mapped user outside", async () => {
    const container = mapped((config) => {
      config.root.readonly = false;
    });
    await container.shell("echo x >/opt/file; mkdir /opt/dir");
    const file = statSync(join(container.rootfs, "opt/file"));
    expect([file.uid, file.gid]).toEqual([100000, 200000]);
  });

  test("root inside has no power over what is not mapped", async () => {
    const container = mapped((config) => {
      const all = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_MKNOD"];
      config.process.capabilities = { bounding: all, effective: all, permitted: all };
      config.root.readonly = false;
    });
    container.file("etc/host-owned", "x", 0o600);
    const text = await container.shell(
      "(cat /etc/host-owned; mknod /opt/sda b 8 0; chown 70000 /opt; umount /proc) 2>&1; ls /opt",
    );
    const lines = text.trim().split("\n");
    expect(lines[0]).toContain("Permission denied");
    expect(lines[1]).toContain("Operation not permitted");
    expect(lines[2]).toMatch(/Invalid argument|invalid/);
    expect(existsSync(join(container.rootfs, "opt/sda"))).toBe(false);
  });

  test("a bind's source that only the host's root can reach is mounted", async () => {
    const secret = rig.directory();
    await Bun.write(join(secret, "inner/file"), "readable\n");
    output(["chmod", "0700", secret]);
    const container = mapped((config) => {
      config.root.readonly = false;
      config.mounts.push({ destination: "/mnt", source: join(secret, "inner"), options: ["bind"] });
    });
    expect(await container.output("cat", "/mnt/file")).toBe("readable\n");
  });

  test("the host's mounts are locked: not writable again, not taken away, and what one covers stays covered", async () => {
    const dir = rig.directory();
    const top = join(dir, "top");
    mkdirSync(join(top, "below"), { recursive: true });
    writeFileSync(join(top, "below/covered"), "secret\n");
    output(["mount", "-t", "tmpfs", "-o", "mode=777", "bunc-test", join(top, "below")]);
    output(["mount", "--bind", top, top]);
    output(["mount", "-t", "tmpfs", "-o", "mode=777", "bunc-test", join(top, "below")]);
    const readonly = join(dir, "readonly");
    mkdirSync(readonly);
    output(["mount", "-t", "tmpfs", "-o", "mode=777,nosuid", "bunc-test", readonly]);
    mkdirSync(join(readonly, "dir"), { mode: 0o777 });
    output(["mount", "-o", "remount,bind,ro", readonly]);
    try {
      const container = mapped((config) => {
        const all = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"];
        config.process.capabilities = { bounding: all, effective: all, permitted: all };
        config.mounts.push(
          { destination: "/mnt", source: readonly, options: ["bind"] },
          { destination: "/srv", source: join(readonly, "dir"), options: ["rbind"] },
          { destination: "/opt", source: top, options: ["rbind"] },
        );
      });
      const text = await container.shell(`
        for m in /mnt /srv; do
          mount -o remount,bind,rw $m && echo remounted
          touch $m/new $m/dir/new && echo written
        done
        umount /opt/below && echo uncovered
        umount -l /opt/below && echo uncovered
        cat /opt/below/covered
        awk '$5 == "/mnt" { print $6 }' /proc/self/mountinfo
      `);
      expect(text).toBe("ro,nosuid,relatime\n");
      // A bind of the top alone would show what is covered below it.
      container.config.mounts.at(-1)!.options = ["bind"];
      const refused = await container.run();
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("invalid argument");
      // What is asked for by name, against the lock, is an error, not a mount that is read-only all the same.
      container.config.mounts.splice(-3, 3, {
        destination: "/mnt",
        source: readonly,
        options: ["bind", "rw"],
      });
      expect((await container.run()).stderr).toContain("operation not permitted");
    } finally {
      for (const place of [readonly, join(top, "below"), top, join(top, "below")]) output(["umount", place]);
    }
  });

  test("a terminal belongs to the user inside", async () => {
    const container = mapped((config) => {
      config.process.terminal = true;
      config.process.user = { uid: 1000, gid: 1000 };
      config.process.args = ["sh", "-c", "stat -c %u:%g $(tty); echo end"];
    });
    const listener = await rig.listener("recvtty");
    await container.detach(["--console-socket", listener.path]);
    await listener.message();
    expect(await listener.until("end")).toContain("1000:5");
    await container.waitFor("stopped");
  });

  test("hooks of the host run as the host's root, those of the container in the namespace", async () => {
    const log = join(rig.directory(), "log");
    const hook = (name: string) => [
      { path: "/bin/sh", args: ["sh", "-c", `echo ${name} $(id -u) $(cat /proc/self/uid_map) >>${log}`] },
    ];
    await Bun.write(log, "");
    output(["chmod", "0666", log]);
    const container = mapped((config) => {
      config.process.args = ["true"];
      config.hooks = { createRuntime: hook("createRuntime"), createContainer: hook("createContainer") };
    });
    (await container.run()).ok();
    const lines = readFileSync(log, "utf8").trim().split("\n");
    expect(lines[0]).toBe("createRuntime 0 0 0 4294967295");
    expect(lines[1]).toBe("createContainer 0 0 100000 65536");
  });
});

test("the user namespace of another container can be joined, its mappings with it", async () => {
  const target = mapped((config) => {
    config.process.args = ["sleep", "60"];
  });
  await target.detach();
  const { pid } = await target.state();
  const joiner = mapped((config) => {
    const path = `/proc/${pid}/ns/user`;
    config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
      type === "user" ? { type, path } : { type },
    );
    delete config.linux.uidMappings;
    delete config.linux.gidMappings;
  });
  if (!isBunc) {
    // runc 1.1 wants the mappings as well.
    joiner.config.linux.uidMappings = uids;
    joiner.config.linux.gidMappings = gids;
  }
  const text = await joiner.shell("readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map");
  const [link, id, map] = text.split("\n");
  expect(link).toBe(output(["readlink", `/proc/${pid}/ns/user`]).trim());
  expect(id).toBe("0");
  expect(rows(map!)).toEqual([[0, 100000, 65536]]);
});

describe("errors", () => {
  const cases: [string, (config: Config) => void, RegExp][] = [
    [
      "an overlap",
      (c) => c.linux.uidMappings!.push({ containerID: 5, hostID: 5, size: 5 }),
      /uid_map|uidMappings/,
    ],
    [
      "a size of 0",
      (c) => Object.assign(c.linux, { gidMappings: [{ containerID: 0, hostID: 1, size: 0 }] }),
      /gid_map|gidMappings/,
    ],
    ["a user that is not mapped", (c) => Object.assign(c.process.user, { uid: 70000 }), /uid|user/i],
    ["a group that is not mapped", (c) => Object.assign(c.process.user, { gid: 1001 }), /gid|group/i],
  ];
  buncTest.each(cases)("%s names the mapping or the id", async (_, edit, words) => {
    const container = mapped((config) => {
      config.process.args = ["true"];
      config.linux.uidMappings = [...uids];
      edit(config);
    });
    const result = await container.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(words)]);
    expect(rig.states()).toEqual([]);
  });
});
