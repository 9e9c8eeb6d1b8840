// Root filesystems whose /dev is an attack: a link, or nodes that are not what their names say, where no mount covers
// them. CVE numbers are those of the runtime that once fell for it.
import { describe, expect, test } from "bun:test";
import { lstatSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe, buncTest } from "../rig/runtime.ts";
import {
  escapes,
  makeVictim,
  mapped,
  putLink,
  survive,
  surviveOnTerminal,
  withoutMounts,
} from "./hostile-ground.ts";

const rig = useRig();

/** A container whose /dev is the image's. */
function bare(...args: string[]): Container {
  const container = rig.container((config) => {
    config.root.readonly = false;
    config.process.args = args.length ? args : ["true"];
    // The nodes that are tried may be such as the default rules deny.
    config.linux.resources = { devices: [{ allow: true, access: "rwm" }] };
  });
  withoutMounts(container, "/dev");
  return container;
}

/** What an image may put in the place of a device. Number 240:99 is nobody's: opening it is ENXIO. */
const PLANTED: Record<string, (path: string) => void> = {
  file: (path) => writeFileSync(path, "planted\n"),
  directory: (path) => mkdirSync(path),
  fifo: (path) => void output(["mkfifo", path]),
  "zero device": (path) => void output(["mknod", path, "c", "1", "5"]),
  "unknown device": (path) => void output(["mknod", path, "c", "240", "99"]),
  "block device": (path) => void output(["mknod", path, "b", "240", "99"]),
};

// runc 1.1 falls for these.
buncDescribe("/dev is a link to the host (runc CVE-2026-41579, crun CVE-2026-47766)", () => {
  for (const [how, write] of Object.entries(escapes("")).map(([name, prefix]) => [name, prefix] as const)) {
    test(`${how}: no node, link or mount is made there`, async () => {
      for (const user of [false, true]) {
        for (const tmpfs of [false, true]) {
          const victim = makeVictim(rig);
          const container = bare();
          if (tmpfs) container.config.mounts.push({ destination: "/dev", type: "tmpfs", source: "tmpfs" });
          container.config.linux.devices = [{ path: "/dev/sub/null", type: "c", major: 1, minor: 3 }];
          putLink(container, "dev", write + victim.dir);
          if (user) mapped(container);
          await survive(container);
          victim.expectUntouched();
        }
      }
    });
  }

  test("so is a directory of it that a device is to be made in", async () => {
    const victim = makeVictim(rig);
    const container = bare();
    container.config.linux.devices = [
      { path: "/dev/sub/null", type: "c", major: 1, minor: 3 },
      { path: "/elsewhere/fifo", type: "p" },
    ];
    putLink(container, "dev/sub", victim.dir);
    putLink(container, "elsewhere", `../../../../../../..${victim.dir}`);
    await survive(container);
    victim.expectUntouched();
  });
});

buncDescribe("what is planted as /dev/null", () => {
  for (const [what, plant] of Object.entries(PLANTED)) {
    test(`${what}: the program has no such standard stream, and no path is masked by it`, async () => {
      const container = bare("sh", "-c", "readlink /proc/self/fd/0; cat /proc/timer_list");
      container.config.linux.maskedPaths = ["/proc/timer_list"];
      plant(join(container.rootfs, "dev/null"));
      const result = await survive(container);
      expect(result.code).toBe(1);
      expect(result.stderr).toMatch(/null/);
      expect(result.stdout).not.toContain("planted");
    });
  }

  test("a link: neither followed nor bound", async () => {
    for (const target of Object.values(escapes(""))) {
      const victim = makeVictim(rig);
      const container = bare("cat", "/proc/timer_list");
      container.config.linux.maskedPaths = ["/proc/timer_list"];
      putLink(container, "dev/null", target + victim.file);
      const result = await survive(container);
      expect(result.code).not.toBe(0);
      expect(result.stdout).not.toContain(victim.secret);
      victim.expectUntouched();
    }
  });

  test("in a user namespace the host's is bound over it, or it is an error", async () => {
    for (const [what, plant] of Object.entries(PLANTED)) {
      const container = bare("sh", "-c", "stat -c %t:%T /dev/null /dev/zero");
      plant(join(container.rootfs, "dev/null"));
      const before = lstatSync(join(container.rootfs, "dev/null"));
      const result = await survive(mapped(container));
      if (what === "directory") expect([what, result.code]).toEqual([what, 1]);
      else expect([what, result.stderr, result.stdout]).toEqual([what, "", "1:3\n1:5\n"]);
      const after = lstatSync(join(container.rootfs, "dev/null"));
      expect([after.ino, after.mode, after.size]).toEqual([before.ino, before.mode, before.size]);
    }
  });
});

describe("with a terminal", () => {
  /** A devpts, and nothing else on /dev. */
  function withPts(...args: string[]): Container {
    const container = bare(...args);
    container.config.mounts.push({
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["newinstance", "ptmxmode=0666"],
    });
    return container;
  }

  buncTest("what is planted as /dev/console is covered, and not opened", async () => {
    for (const [what, plant] of Object.entries(PLANTED)) {
      const container = withPts("sh", "-c", "tty; echo typed >/dev/console");
      const path = join(container.rootfs, "dev/console");
      plant(path);
      const { code, text } = await surviveOnTerminal(container);
      if (what === "directory") expect([what, code]).toEqual([what, 1]);
      else expect([what, code, text.includes("typed")]).toEqual([what, 0, true]);
      if (what === "file") expect(readFileSync(path, "utf8")).toBe("planted\n");
    }
  });

  test("a link as /dev/console is not followed (crun CVE-2026-88264)", async () => {
    for (const target of Object.values(escapes(""))) {
      const victim = makeVictim(rig);
      const container = withPts("sh", "-c", "echo typed >/dev/console");
      putLink(container, "dev/console", target + victim.file);
      expect((await surviveOnTerminal(container)).code).not.toBe(0);
      victim.expectUntouched();
      putLink(container, "dev/console", `${target}${victim.dir}/made`);
      expect((await surviveOnTerminal(container)).code).not.toBe(0);
      victim.expectUntouched();
    }
  });

  buncTest("what is planted as /dev/pts/ptmx is no terminal (runc CVE-2025-52565)", async () => {
    const planted = {
      ...PLANTED,
      "multiplexer of no devpts": (path: string) => void output(["mknod", path, "c", "5", "2"]),
      "terminal of the host": (path: string) => void output(["mknod", path, "c", "5", "0"]),
    };
    for (const [what, plant] of Object.entries(planted)) {
      const container = bare();
      mkdirSync(join(container.rootfs, "dev/pts"));
      plant(join(container.rootfs, "dev/pts/ptmx"));
      const { code, text } = await surviveOnTerminal(container);
      expect([what, code]).toEqual([what, 1]);
      expect(text).toContain("/dev/pts/ptmx");
    }
  });

  buncTest("a link to the host's multiplexer, or as /dev/pts, gives no terminal of the host", async () => {
    for (const [path, target] of [
      ["dev/pts/ptmx", "/dev/ptmx"],
      ["dev/pts/ptmx", "/dev/pts/ptmx"],
      ["dev/pts", "/proc/1/root/dev/pts"],
      ["dev/pts", "../../../../../../dev/pts"],
    ] as const) {
      const container = bare("tty");
      putLink(container, path, target);
      const { code } = await surviveOnTerminal(container);
      expect([path, target, code]).toEqual([path, target, 1]);
    }
  });

  buncTest(
    "without a mount namespace nothing is mounted over /dev/console: it would be on the host",
    async () => {
      const container = bare("true");
      container.config.mounts = [];
      container.config.linux.namespaces = ["pid", "ipc", "uts", "network"].map((type) => ({ type }));
      container.config.linux.maskedPaths = container.config.linux.readonlyPaths = [];
      output(["mkdir", join(container.rootfs, "dev/pts")]);
      output([
        "mount",
        "-t",
        "devpts",
        "-o",
        "newinstance,ptmxmode=0666",
        "devpts",
        join(container.rootfs, "dev/pts"),
      ]);
      rig.defer(() => void output(["umount", join(container.rootfs, "dev/pts")]));
      const { code, text } = await surviveOnTerminal(container);
      expect([code, text]).toEqual([0, ""]);
      expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(
        join(container.rootfs, "dev/console"),
      );
    },
  );

  test("a link as /dev/pts below the devpts mount leads nowhere but into the rootfs", async () => {
    const victim = makeVictim(rig);
    const container = withPts("true");
    putLink(container, "dev/pts", victim.dir);
    await surviveOnTerminal(container);
    victim.expectUntouched();
  });
});

describe("what is planted as a link of /dev", () => {
  test("stays, or is an error", async () => {
    for (const name of ["fd", "stdin", "core", "ptmx"]) {
      for (const plant of Object.values(PLANTED)) {
        const container = bare();
        container.config.linux.maskedPaths = [];
        plant(join(container.rootfs, "dev", name));
        await survive(container);
      }
    }
  });
});
