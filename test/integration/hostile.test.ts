// Root filesystems and programs that attack the runtime: each attack fails and the host is untouched. The rootfs is
// hostile, config.json and the caller are trusted. CVE numbers are those of the runtime that once fell for it.
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capabilityNames, capabilitySets } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { entries } from "../rig/leaks.ts";
import type { CallOptions } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, host, isBunc, runtime } from "../rig/runtime.ts";

const rig = useRig();

/** A file of the host outside every rootfs, and whether anything touched it. */
function victim(): { path: string; dir: string; check: () => void } {
  const dir = rig.directory();
  const path = join(dir, "victim");
  writeFileSync(path, "untouched\n", { mode: 0o600 });
  const before = statSync(path);
  const check = (): void => {
    expect(readFileSync(path, "utf8")).toBe("untouched\n");
    const { mode, uid, gid, mtimeMs, ino } = statSync(path);
    expect({ mode, uid, gid, mtimeMs, ino }).toEqual({
      mode: before.mode,
      uid: before.uid,
      gid: before.gid,
      mtimeMs: before.mtimeMs,
      ino: before.ino,
    });
    expect(entries(dir)).toEqual(["victim"]);
  };
  return { path, dir, check };
}

/** Replaces something in a rootfs by a symlink. */
function link(container: Container, path: string, target: string): void {
  const full = join(container.rootfs, path);
  output(["rm", "-rf", full]);
  mkdirSync(join(full, ".."), { recursive: true });
  symlinkSync(target, full);
}

/** Runs a container that may fail but must neither hang nor leave anything. */
async function survive(container: Container, options: CallOptions = {}) {
  const result = await container.run([], { timeout: 10, ...options });
  expect(rig.states()).toEqual([]);
  expect(container.cgroupDirectories()).toEqual([]);
  return result;
}

const digest = (path: string): string => output(["sha256sum", path]).split(" ")[0]!;
const everything = capabilityNames.filter((_, number) => host.capable(number));

describe("the runtime's own executable (runc CVE-2019-5736)", () => {
  test("is not what a waiting init runs, and what it runs cannot be written from inside", async () => {
    const before = digest(runtime);
    const waiting = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await waiting.create();
    const { pid } = await waiting.state();
    expect(readlinkSync(`/proc/${pid}/exe`)).not.toBe(runtime);
    const [exe, own] = [statSync(`/proc/${pid}/exe`), statSync(runtime)];
    // runc 1.1 shows a read-only bind of its own file instead.
    if (isBunc) expect([exe.dev, exe.ino]).not.toEqual([own.dev, own.ino]);
    // An attacker in the same pid namespace, with every capability there is.
    const attacker = rig.container((config) => {
      config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
        type === "pid" ? { type, path: `/proc/${pid}/ns/pid` } : { type },
      );
      config.process.capabilities = capabilitySets(...everything);
      config.process.args = [
        "sh",
        "-c",
        "readlink /proc/1/exe; (echo broken >/proc/1/exe) 2>&1; (echo broken >>/proc/1/exe) 2>&1; true",
      ];
    });
    const result = await attacker.run();
    expect(result.stdout).toMatch(/Text file busy|not permitted|denied|Read-only/);
    expect(digest(runtime)).toBe(before);
    (await waiting.call("start")).ok();
    expect((await waiting.state()).status).toBe("running");
  });

  test("is not run again by a program that is a script for /proc/self/exe", async () => {
    const before = digest(runtime);
    const container = rig.container((config, it) => {
      config.process.args = ["/entry"];
      config.process.capabilities = capabilitySets(...everything);
      it.file("entry", "#!/proc/self/exe list\n", 0o755);
    });
    const result = await survive(container);
    expect(result.stdout).not.toContain("STATUS"); // the host's list of containers
    expect(digest(runtime)).toBe(before);
  });
});

describe("symlinks where the runtime makes or opens something", () => {
  test("in /dev, for every name it makes there, with a terminal and without (crun CVE-2026-88264, runc CVE-2025-52565)", async () => {
    for (const terminal of [false, true]) {
      for (const name of [
        "console",
        "null",
        "zero",
        "ptmx",
        "fd",
        "stdin",
        "pts/0",
        "pts",
        "shm",
        "mqueue",
      ]) {
        const { path, check } = victim();
        const container = rig.container((config) => {
          config.mounts = config.mounts.filter(({ destination }) => !destination.startsWith("/dev"));
          config.root.readonly = false;
          config.process.terminal = terminal;
          config.process.args = ["true"];
        });
        link(container, `dev/${name}`, path);
        if (terminal) {
          const pty = rig.pty(["run", "--bundle", container.bundle, container.id]);
          expect(await pty.exited()).toBeGreaterThanOrEqual(0);
        } else {
          await survive(container);
        }
        check();
      }
    }
  });

  test("as the target of masked and read-only paths", async () => {
    const { path, check } = victim();
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.linux.maskedPaths = ["/mask", "/deep/mask"];
      config.linux.readonlyPaths = ["/fix"];
    });
    link(container, "mask", path);
    link(container, "fix", path);
    link(container, "deep", "../../../../../../..");
    await survive(container);
    check();
    expect(output(["cat", "/proc/self/mountinfo"])).not.toContain(path);
  });

  test("as directories on the way to a mount point, absolute and with many ..", async () => {
    for (const target of ["absolute", "../../../../../../../../../../..", "/proc/self/root", "/proc/1/cwd"]) {
      const { dir, check } = victim();
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.root.readonly = false;
        config.mounts.push(
          { destination: "/way/new/point", type: "tmpfs", source: "x" },
          { destination: `/way${dir}/inside`, source: "/etc/hostname", options: ["bind"] },
        );
      });
      link(container, "way", target === "absolute" ? dir : target);
      await survive(container);
      check();
    }
  });

  test("as /proc and /sys (runc CVE-2019-19921)", async () => {
    for (const name of ["proc", "sys"]) {
      const { dir, check } = victim();
      const container = rig.container((config) => {
        config.process.args = ["true"];
      });
      link(container, name, dir);
      expect((await survive(container)).code).not.toBe(0);
      check();
    }
  });

  test("as the working directory, and in loops", async () => {
    const { dir, check } = victim();
    const container = rig.container((config) => {
      config.process.args = ["touch", "made-here"];
      config.process.cwd = "/work/below";
      config.root.readonly = false;
      config.process.capabilities = capabilitySets(...everything);
    });
    link(container, "work", dir);
    await survive(container);
    check();
    link(container, "work", "work");
    const loop = await survive(container);
    expect([loop.code, loop.stderr]).toEqual([
      1,
      expect.stringMatching(/too many levels of symbolic links|ELOOP|file exists|not a directory/),
    ]);
  });
});

describe("a masked path over a /dev/null that is not one (runc CVE-2025-31133)", () => {
  buncTest("is empty or an error, never another file", async () => {
    const { path, check } = victim();
    for (const prepare of [
      (dir: string) => symlinkSync("/proc/sys/kernel/core_pattern", join(dir, "null")),
      (dir: string) => symlinkSync(path, join(dir, "null")),
      (dir: string) => writeFileSync(join(dir, "null"), "planted"),
    ]) {
      const dev = rig.directory();
      prepare(dev);
      const container = rig.container((config) => {
        config.mounts = config.mounts.filter(({ destination }) => !destination.startsWith("/dev"));
        config.mounts.push({ destination: "/dev", source: dev, options: ["bind"] });
        config.linux.maskedPaths = ["/proc/timer_list"];
        config.process.args = ["sh", "-c", "cat /proc/timer_list | wc -c"];
      });
      const result = await survive(container);
      if (result.code === 0) expect(result.stdout).toBe("0\n");
      check();
    }
  });
});

describe("files that do not end or do not answer", () => {
  buncTest("as /etc/passwd: the HOME look-up neither hangs nor reads the host's", async () => {
    const makers: Record<string, (path: string) => void> = {
      fifo: (path) => void output(["mkfifo", path]),
      endless: (path) => void output(["mknod", path, "c", "1", "5"]),
      directory: (path) => void mkdirSync(path),
      absolute: (path) => symlinkSync("/etc/passwd", path),
      host: (path) => symlinkSync("../../../../../../../../../../etc/passwd", path),
      magic: (path) => symlinkSync("/proc/self/root/etc/passwd", path),
      huge: (path) => writeFileSync(path, `${"x".repeat(50_000_000)}:x:0:0::/wrong:\n`),
    };
    for (const [name, make] of Object.entries(makers)) {
      const container = rig.container((config) => {
        config.process.args = ["sh", "-c", "echo $HOME"];
        config.process.user = { uid: 1, gid: 1 }; // "daemon" of the host has a home of its own
      });
      const path = join(container.rootfs, "etc/passwd");
      output(["rm", path]);
      make(path);
      const result = await survive(container);
      if (result.code === 0) expect([name, result.stdout]).toEqual([name, "/\n"]);
      else expect([name, result.stderr]).toEqual([name, expect.stringContaining("passwd")]);
    }
  });

  buncTest("below a tmpcopyup: fifos, sockets and devices are left out, links are not followed", async () => {
    const { path, check } = victim();
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.mounts.push({ destination: "/data", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup"] });
    });
    const data = container.file("data/", "");
    writeFileSync(join(data, "file"), "kept\n");
    output(["mkfifo", join(data, "fifo")]);
    output(["mknod", join(data, "zero"), "c", "1", "5"]);
    symlinkSync(path, join(data, "link"));
    symlinkSync("..", join(data, "up"));
    container.config.process.args = [
      "sh",
      "-c",
      "cat /data/file; readlink /data/link /data/up; test -f /data/link && echo followed; true",
    ];
    const result = await survive(container);
    expect(result.code).toBe(0);
    expect(result.stdout).toStartWith("kept\n");
    expect(result.stdout).not.toContain("followed");
    check();
  });

  test("as the program: a fifo, a directory, a device", async () => {
    const container = rig.container((config) => {
      config.process.args = ["/fifo"];
    });
    output(["mkfifo", "-m", "755", join(container.rootfs, "fifo")]);
    // The look-up refuses the last two; the fifo is executable, and refused by the kernel.
    for (const [program, code] of [
      ["/fifo", 255],
      ["/etc", 1],
      ["/dev/zero", 1],
    ] as const) {
      container.config.process.args = [program];
      const result = await survive(container);
      expect([program, result.code]).toEqual([program, code]);
      expect(result.stderr).toMatch(/permission denied|is a directory/);
    }
  });
});

describe("the bundle directory as the current directory", () => {
  buncTest("configuration files of Bun in it are not read", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const marker = container.path("marker");
    writeFileSync(container.path("evil.js"), `require("fs").writeFileSync(${JSON.stringify(marker)}, "ran")`);
    writeFileSync(container.path("bunfig.toml"), 'preload = ["./evil.js"]\n');
    writeFileSync(container.path(".env"), "BUNC_TEST_ENV=read\nXDG_RUNTIME_DIR=/nonexistent\n");
    writeFileSync(container.path("tsconfig.json"), "not json");
    writeFileSync(container.path("package.json"), "{");
    (await rig.call(["run", container.id], { cwd: container.bundle })).ok();
    expect(entries(container.bundle)).not.toContain("marker");
    output(["rm", container.path(".env")]); // the rig takes hidden files for temporary ones of the runtime
  });

  test("which is gone, or may not be read, is no crash", async () => {
    const container = rig.container((config) => {
      config.process.args = ["echo", "fine"];
    });
    const gone = rig.directory();
    const wrap = ["sh", "-c", `cd ${gone} && rmdir ${gone} && exec "$@"`, "sh"];
    container.write();
    const result = await rig.call(["run", "--bundle", container.bundle, container.id], { wrap });
    expect([result.code === 0 ? result.stdout : result.stderr]).not.toEqual([""]);
  });
});
