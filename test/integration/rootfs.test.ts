// The root filesystem: read-only or not, nothing of the host's left, propagation, --no-pivot.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import { mountAt, parseMountInfo } from "../rig/mountinfo.ts";
import { type CallOptions, useRig } from "../rig/rig.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** What the container's mount table is, for a config. */
async function mounts(edit: (config: Config) => void, flags: string[] = [], options: CallOptions = {}) {
  const container = rig.container((config) => {
    config.process.args = ["cat", "/proc/self/mountinfo"];
    edit(config);
  });
  return parseMountInfo((await container.run(flags, options)).ok().stdout);
}

test("holds the config's mounts and none of the host's", async () => {
  const table = await mounts(() => {});
  const points = table.map(({ point }) => point).filter((point) => !point.startsWith("/sys/fs/cgroup/"));
  const expected = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
  // readonlyPaths and maskedPaths become mounts too, where the path exists.
  const masked = [
    "/proc/acpi",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/sys/firmware",
    "/proc/asound",
  ];
  const files = ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats"];
  const more = ["/proc/sched_debug", "/proc/scsi", "/proc/sysrq-trigger"];
  const covered = [...masked, ...files, ...more].filter((path) => existsSync(path));
  expect(points.sort()).toEqual([...expected, ...covered].sort());
  expect(mountAt(table, "/").options).toContain("ro");
});

describe("readonly", () => {
  const script = "echo x >/opt/new; echo $?; mkdir /etc/dir; echo $?; echo y >/dev/shm/z; echo $?";

  test("true: nothing can be written below /, other mounts are as they are", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", script];
    });
    const result = (await container.run()).ok();
    expect(result.stdout).toBe("1\n1\n0\n");
    expect(result.stderr).toContain("Read-only file system");
    expect(existsSync(join(container.rootfs, "opt/new"))).toBe(false);
  });

  test("false: what is written is in the bundle's rootfs", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
    });
    expect(await container.shell(script)).toBe("0\n0\n0\n");
    expect(readFileSync(join(container.rootfs, "opt/new"), "utf8")).toBe("x\n");
    expect(statSync(join(container.rootfs, "etc/dir")).isDirectory()).toBe(true);
    expect(statSync(container.rootfs).mode & 0o777).toBe(0o755);
  });
});

test("nothing of the host can be reached: not by .., /proc/1/root, nor a descriptor", async () => {
  const container = rig.container();
  const host = statSync("/");
  const text = await container.shell(
    "for p in / /.. /../.. /proc/1/root /proc/1/cwd /proc/self/root/..; do stat -c %d:%i $p/; done; ls /proc/self/fd",
  );
  const lines = text.trim().split("\n");
  const own = lines[0]!;
  expect(own).not.toBe(`${host.dev}:${host.ino}`);
  expect(own).toBe(`${statSync(container.rootfs).dev}:${statSync(container.rootfs).ino}`);
  expect(lines.slice(0, 6)).toEqual(Array(6).fill(own));
  expect(lines.slice(6)).toEqual(["0", "1", "2", "3"]); // 3 is ls reading the directory
});

describe("root.path", () => {
  test("may be absolute, and outside the bundle", async () => {
    const container = rig.container();
    const other = rig.container();
    other.file("etc/marker", "other\n");
    container.config.root.path = other.rootfs;
    expect(await container.output("cat", "/etc/marker")).toBe("other\n");
    container.config.root.path = `../${other.id}/rootfs`;
    expect(await container.output("cat", "/etc/marker")).toBe("other\n");
    container.config.root.path = "./rootfs/";
    expect(await container.output("ls", "/etc")).not.toContain("marker");
  });

  test("that is a file is an error, with the path", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.root.path = "config.json";
    });
    const result = await container.run();
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(isBunc ? "config.json" : "not a directory");
  });
});

describe("--no-pivot", () => {
  test("the root is the rootfs all the same, and the host's is out of reach", async () => {
    const container = rig.container();
    const script = "stat -c %i / /.. /proc/1/root/; cat /proc/1/mountinfo; mount | grep -c bundles";
    container.config.process.args = ["sh", "-c", script];
    const result = await container.run(["--no-pivot"]);
    const lines = result.stdout.split("\n");
    const inode = String(statSync(container.rootfs).ino);
    expect(lines.slice(0, 3)).toEqual([inode, inode, inode]);
    const table = parseMountInfo(result.stdout);
    expect(mountAt(table, "/").options).toContain("ro");
    expect(mountAt(table, "/proc").type).toBe("proc");
  });

  test("refuses propagation that would be unsafe without pivot_root", async () => {
    const container = rig.container((config) => {
      config.linux.rootfsPropagation = "private";
      config.process.args = ["true"];
    });
    const result = await container.run(["--no-pivot"]);
    // Words of runc 1.2 on; 1.1 runs it.
    if (isBunc) {
      expect(result.code).toBe(1);
      expect(result.stderr).toContain("not safe without pivot_root");
    }
  });
});

describe("rootfsPropagation", () => {
  // Shared, but not with the host, whose mounts may be shared, too.
  const unshare = (propagation: string) => ["unshare", "-m", "--propagation", propagation];
  const shared = [...unshare("private"), ...unshare("shared")];
  const kinds = (propagation: string[]): string =>
    propagation
      .map((field) => field.split(":")[0])
      .sort()
      .join("+") || "private";

  test("sets the propagation of /", async () => {
    for (const [value, expected] of [
      [undefined, /^(private|master)$/],
      ["private", /^private$/],
      ["slave", /^master$/],
      ["shared", isBunc ? /^(master\+)?shared$/ : /^private$/], // runc 1.1 did not get this right
      ...(isBunc ? ([["unbindable", /^unbindable$/]] as const) : []), // an error in runc 1.1
    ] as const) {
      const edit = (config: Config): void => {
        if (value !== undefined) config.linux.rootfsPropagation = value;
      };
      const table = await mounts(edit, [], { wrap: shared });
      expect([value, kinds(mountAt(table, "/").propagation)]).toEqual([
        value,
        expect.stringMatching(expected),
      ]);
    }
  });

  test("slave: what the host mounts later below the rootfs appears; private: it does not", async () => {
    for (const [value, seen] of [
      ["slave", "seen\n"],
      ["private", "unseen\n"],
    ] as const) {
      const container = rig.container((config) => {
        const wait = "while ! test -e /dev/shm/go; do sleep 0.02; done";
        config.process.args = ["sh", "-c", `${wait}; test -e /mnt/there && echo seen || echo unseen`];
        config.linux.rootfsPropagation = value;
        const signal = rig.directory();
        config.mounts.find(({ destination }) => destination === "/dev/shm")!.source = signal;
        const shm = config.mounts.find(({ destination }) => destination === "/dev/shm")!;
        Object.assign(shm, { type: "bind", options: ["bind"] });
      });
      // The mount namespace of the shell goes away with it; the tmpfs lives on only where it propagated to.
      const script = '"$@" && mount -t tmpfs late "$0/mnt" && : >"$0/mnt/there" && : >"$SIGNAL/go"';
      const signal = container.config.mounts.find(({ destination }) => destination === "/dev/shm")!.source!;
      const options = { wrap: [...shared, "sh", "-c", script, container.rootfs], env: { SIGNAL: signal } };
      const result = await container.detach([], options);
      expect([value, await result.until("een\n")]).toEqual([value, seen]);
    }
  });

  test("what a container mounts never reaches the host", async () => {
    const container = rig.container((config) => {
      config.linux.rootfsPropagation = "shared";
      const caps = ["CAP_SYS_ADMIN"];
      config.process.capabilities = { bounding: caps, effective: caps, permitted: caps };
      // Whether the tmpfs came through is asked in the shared namespace the runtime ran in.
      config.process.args = [
        "sh",
        "-c",
        "mount -t tmpfs escaped /mnt && grep -c escaped /proc/self/mountinfo",
      ];
    });
    const script = '"$@"; grep -c escaped /proc/self/mountinfo';
    const result = await container.run([], { wrap: [...shared, "sh", "-c", script, "sh"] });
    expect(result.stdout).toBe("1\n0\n");
  });

  // runc refuses such a rootfs.
  buncTest("nor does it where a symbolic link leads to the rootfs, on another mount", async () => {
    for (const value of ["private", "rprivate", "slave", "shared", "unbindable"]) {
      const place = rig.directory();
      const container = rig.container((config, it) => {
        config.linux.rootfsPropagation = value;
        config.process.args = ["echo", "ran"];
        mkdirSync(join(place, "deep"));
        renameSync(it.rootfs, join(place, "deep/rootfs"));
        symlinkSync(join(place, "deep/rootfs"), it.rootfs);
      });
      const script = 'mount --bind "$0" "$0" && "$@"; grep -c " $0/" /proc/self/mountinfo';
      const result = await container.run([], { wrap: [...shared, "sh", "-c", script, place] });
      expect([value, result.stdout, result.stderr]).toEqual([value, "ran\n0\n", ""]);
    }
  });
});

buncTest(
  "a rootfs with hostile names in /proc, /sys and /dev is refused, and nothing is made where they point",
  async () => {
    for (const name of ["proc", "sys", "dev"]) {
      const outside = rig.directory();
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.root.readonly = false;
      });
      Bun.spawnSync(["rmdir", join(container.rootfs, name)]);
      symlinkSync(outside, join(container.rootfs, name));
      mkdirSync(join(container.rootfs, outside), { recursive: true });
      const result = await container.run();
      if (name !== "dev") {
        expect([name, result.code]).toEqual([name, 1]);
        expect(result.stderr).toContain("must be mounted on ordinary directory");
      }
      expect(Bun.spawnSync(["ls", "-A", outside]).stdout.toString()).toBe("");
    }
  },
);
