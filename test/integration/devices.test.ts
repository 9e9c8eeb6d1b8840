// Device nodes and the rules that say which may be opened.
import { describe, expect, test } from "bun:test";
import { existsSync, lstatSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capabilitySets } from "../rig/config.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** Number of a device as stat prints it with %t:%T. */
const number = (major: number, minor: number): string => `${major.toString(16)}:${minor.toString(16)}`;

describe("by default", () => {
  test("the nodes and symlinks of the spec are there, usable by anybody, and no others", async () => {
    const container = rig.container((config) => {
      config.process.user = { uid: 1000, gid: 1000 };
    });
    const text = await container.shell(
      `cd /dev; stat -c '%n %F %a %u:%g %t:%T' null zero full random urandom tty
      for l in ptmx fd stdin stdout stderr core; do echo $l $(readlink $l); done; ls
      echo x >null; head -c 2 zero | od -An -c; echo x 2>&1 >full; head -c 4 urandom | wc -c`,
    );
    const node = (name: string, minor: number, major = 1): string =>
      `${name} character special file 666 0:0 ${number(major, minor)}`;
    const lines = text.split("\n");
    expect(lines.slice(0, 6)).toEqual([
      node("null", 3),
      node("zero", 5),
      node("full", 7),
      node("random", 8),
      node("urandom", 9),
      node("tty", 0, 5),
    ]);
    expect(lines[6]).toMatch(/^ptmx (\/dev\/)?pts\/ptmx$/);
    expect(lines.slice(7, 11)).toEqual([
      "fd /proc/self/fd",
      "stdin /proc/self/fd/0",
      "stdout /proc/self/fd/1",
      "stderr /proc/self/fd/2",
    ]);
    const all = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split(
      " ",
    );
    const rest = lines.slice(12);
    const listed = rest.slice(
      0,
      rest.findIndex((line) => line.includes("\\0")),
    );
    expect(listed.filter((name) => name !== "core")).toEqual(all.filter((name) => name !== "core"));
    expect(text).toContain("No space left on device");
    expect(lines.at(-2)).toBe("4");
  });

  test("terminals work: /dev/ptmx makes a new one in the container's own devpts", async () => {
    const container = rig.container();
    const text = await container.shell(
      "script=$(ls /dev/pts); echo $script; test -c /dev/pts/ptmx && echo ptmx; ls -l /dev/ptmx | cut -c1",
    );
    expect(text).toBe("ptmx\nptmx\nl\n");
  });

  test("without a /dev mount they are made in the rootfs, which must be writable", async () => {
    const container = rig.container((config) => {
      config.mounts = config.mounts.filter(({ destination }) => !destination.startsWith("/dev"));
      config.root.readonly = false;
    });
    expect(await container.shell("echo x >/dev/null; stat -c %t:%T /dev/zero; readlink /dev/fd")).toBe(
      "1:5\n/proc/self/fd\n",
    );
    expect(statSync(join(container.rootfs, "dev/null")).isCharacterDevice()).toBe(true);
    // A second run meets what the first made.
    expect(await container.shell("stat -c %t:%T /dev/zero")).toBe("1:5\n");
  });

  buncTest(
    "a /dev of the rootfs that is a symlink, or holds symlinks, does not lead out (CVE-2026-41579)",
    async () => {
      for (const hostile of ["dev", "dev/null", "dev/ptmx", "dev/fd"]) {
        const outside = rig.directory();
        writeFileSync(join(outside, "victim"), "untouched", { mode: 0o600 });
        const container = rig.container((config) => {
          config.mounts = config.mounts.filter(({ destination }) => !destination.startsWith("/dev"));
          config.root.readonly = false;
          config.process.args = ["true"];
        });
        const target = hostile === "dev" ? outside : join(outside, "victim");
        Bun.spawnSync(["rm", "-rf", join(container.rootfs, hostile)]);
        Bun.spawnSync(["ln", "-s", target, join(container.rootfs, hostile)]);
        await container.run();
        expect([hostile, readdirSync(outside)]).toEqual([hostile, ["victim"]]);
        const victim = lstatSync(join(outside, "victim"));
        expect([hostile, victim.isFile(), victim.size, victim.mode & 0o777]).toEqual([
          hostile,
          true,
          9,
          0o600,
        ]);
      }
    },
  );
});

describe("linux.devices", () => {
  test("are made with their type, number, mode and owner, anywhere in the rootfs", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.linux.devices = [
        { path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o640, uid: 12, gid: 34 },
        { path: "/dev/blk", type: "b", major: 8, minor: 0, fileMode: 0o600 },
        { path: "/dev/pipe", type: "p", fileMode: 0o622 },
        { path: "/dev/deep/er/u", type: "u", major: 1, minor: 5 },
        { path: "/opt/elsewhere", type: "c", major: 1, minor: 3, fileMode: 0o666 },
        // Also a default device; runc 1.1 then no longer allows it.
        ...(isBunc ? [{ path: "/dev/null", type: "c", major: 1, minor: 3, fileMode: 0o666 }] : []),
      ];
      const umask = { umask: 0o077 };
      Object.assign(config.process.user, umask);
    });
    const text = await container.shell(
      "stat -c '%n %F %a %u:%g %t:%T' /dev/fuse /dev/blk /dev/pipe /dev/deep/er/u /opt/elsewhere /dev/null",
    );
    const lines = text.trim().split("\n");
    expect(lines[0]).toBe(`/dev/fuse character special file 640 12:34 ${number(10, 229)}`);
    expect(lines[1]).toBe(`/dev/blk block special file 600 0:0 ${number(8, 0)}`);
    expect(lines[2]).toBe("/dev/pipe fifo 622 0:0 0:0");
    expect(lines[3]).toMatch(/^\/dev\/deep\/er\/u character special file \d+ 0:0 1:5$/);
    expect(lines[4]).toBe("/opt/elsewhere character special file 666 0:0 1:3");
    expect(lines[5]).toBe("/dev/null character special file 666 0:0 1:3");
  });

  test("an existing file that is something else is an error", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.process.args = ["true"];
      config.linux.devices = [{ path: "/opt/taken", type: "c", major: 1, minor: 3 }];
    });
    container.file("opt/taken", "a file");
    const result = await container.run();
    if (isBunc) {
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("/opt/taken")]);
      expect(result.stderr).toContain("linux.devices[0]");
    }
    expect(lstatSync(join(container.rootfs, "opt/taken")).isFile()).toBe(true);
  });

  test("of an unknown type, or with a relative path, are errors", async () => {
    for (const device of [
      { path: "/dev/x", type: "q", major: 1, minor: 3 },
      { path: "/dev/x", major: 1, minor: 3 },
    ]) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.devices = [device];
      });
      const result = await container.run();
      expect([device, result.code]).toEqual([device, 1]);
      expect(rig.states()).toEqual([]);
    }
  });
});

describe("linux.resources.devices", () => {
  /** Which of the nodes can be opened for reading, writing, and made. Nodes are made before the rules apply. */
  async function access(rules: unknown[], extra: unknown[] = []): Promise<Record<string, string>> {
    const nodes = { full: [1, 7], kmsg: [1, 11], fuse: [10, 229], "loop-control": [10, 237] } as const;
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.linux.resources!.devices = rules;
      config.process.capabilities = capabilitySets("CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_SYSLOG");
      config.linux.devices = [
        ...Object.entries(nodes).map(([name, [major, minor]]) => ({
          path: `/dev/t-${name}`,
          type: "c",
          major,
          minor,
          fileMode: 0o666,
        })),
        ...extra,
      ];
    });
    const opens = Object.keys(nodes).flatMap((name) => [
      `openat -100 /dev/t-${name} 0x800`,
      `openat -100 /dev/t-${name} 0x801`,
    ]);
    const S_IFCHR = 0o020000;
    const makes = Object.entries(nodes).map(
      ([name, [major, minor]]) => `mknodat -100 /opt/${name} ${S_IFCHR | 0o600} ${(major << 8) | minor}`,
    );
    const results = await container.systemCalls(...opens, ...makes);
    return Object.fromEntries(
      Object.keys(nodes).map((name, i) => {
        const flag = (index: number, letter: string): string =>
          results[index]!.error === "EPERM" ? "" : letter;
        return [name, flag(2 * i, "r") + flag(2 * i + 1, "w") + flag(opens.length + i, "m")];
      }),
    );
  }

  test("deny all leaves the default devices; what is allowed again can be used as allowed", async () => {
    expect(await access([{ allow: false, access: "rwm" }])).toEqual({
      full: "rwm",
      kmsg: "m",
      fuse: "m",
      "loop-control": "m",
    });
    expect(
      await access([
        { allow: false, access: "rwm" },
        { allow: true, type: "c", major: 10, minor: 229, access: "rw" },
        { allow: true, type: "c", major: 1, minor: 11, access: "r" },
      ]),
    ).toEqual({ full: "rwm", kmsg: "rm", fuse: "rwm", "loop-control": "m" });
  });

  test("rules apply in order", async () => {
    const rules = [
      { allow: false, access: "rwm" },
      { allow: true, type: "c", major: 10, access: "rwm" },
      { allow: true, type: "c", major: 1, minor: 11, access: "rw" },
      { allow: false, type: "c", major: 1, minor: 11, access: "w" },
    ];
    const expected = { full: "rwm", fuse: "rwm", "loop-control": "rwm", kmsg: "rm" };
    expect(await access(rules)).toEqual(expected);
  });

  test("a denial inside an allowed wildcard holds, or is refused as cgroup v1 cannot do it", async () => {
    const rules = [
      { allow: false, access: "rwm" },
      { allow: true, type: "c", major: 10, access: "rwm" },
      { allow: false, type: "c", major: 10, minor: 237, access: "w" },
    ];
    const outcome = await access(rules).catch((error: Error) => error.message);
    if (typeof outcome === "string") {
      expect(outcome).toMatch(/wildcard/);
      if (isBunc) expect(outcome).toContain("linux.resources.devices[2]");
    } else {
      expect(outcome["loop-control"]).toBe("rm");
    }
  });

  test("allow all gives all; without rules the defaults apply", async () => {
    expect(await access([{ allow: true, access: "rwm" }])).toMatchObject({
      fuse: "rwm",
      kmsg: "rwm",
      full: "rwm",
    });
    expect(await access([])).toMatchObject({ full: "rwm", kmsg: "m", fuse: "m" });
  });

  test("a device of linux.devices is not usable for being listed", async () => {
    expect(
      (
        await access(
          [{ allow: false, access: "rwm" }],
          [{ path: "/dev/x", type: "c", major: 10, minor: 237 }],
        )
      )["loop-control"],
    ).toBe("m");
  });

  test("the rules are those of the cgroup: a process that joins it later has them too", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.detach();
    const dirs = container.cgroupDirectories();
    const enter = dirs.map((dir) => `echo $$ >${dir}/cgroup.procs`).join("; ");
    const probe = Bun.spawnSync([
      "sh",
      "-c",
      `${enter}; : </dev/null && echo null; : </dev/fuse && echo fuse`,
    ]);
    if (existsSync("/dev/fuse")) expect(probe.stderr.toString()).toContain("Operation not permitted");
    expect(probe.stdout.toString()).toBe("null\n");
  });

  test("a rule with an unknown type or access is an error", async () => {
    for (const rule of [
      { allow: true, type: "z", access: "r" },
      ...(isBunc ? [{ allow: true, type: "c", access: "x" }] : []),
    ]) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.resources!.devices = [rule];
      });
      const result = await container.run();
      expect([rule, result.code]).toEqual([rule, 1]);
      if (isBunc) expect(result.stderr).toContain("linux.resources.devices[0]");
    }
  });
});
