// Root filesystems whose links and files stand in the way of mounts, masks and sysctls. CVE numbers are those of the
// runtime that once fell for it.
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capabilityNames, capabilitySets } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, host, isBunc } from "../rig/runtime.ts";
import { escapes, makeVictim, putLink, survive, withoutMounts } from "./hostile-ground.ts";

const rig = useRig();
const everything = capabilityNames.filter((_, number) => host.capable(number));

/** A container that may write to its rootfs. */
function writable(...args: string[]): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    config.process.args = args.length ? args : ["true"];
  });
}

/** A file to be bound, and what it says. */
function source(text: string): string {
  const path = join(rig.directory(), "source");
  writeFileSync(path, text);
  return path;
}

describe("a file is bound onto a link that leads nowhere yet", () => {
  // Images have /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf; engines bind a file there.
  for (const [target, made] of Object.entries({
    "../run/made/here": "run/made/here",
    "/run/made/here": "run/made/here",
    "../../../../../../run/made/here": "run/made/here",
    "./../run//made/./here": "run/made/here",
    second: "etc/third/file",
  })) {
    test(`${target}: the file is made inside of the rootfs`, async () => {
      const container = writable("cat", "/etc/resolv.conf");
      container.config.mounts.push({
        destination: "/etc/resolv.conf",
        source: source("bound\n"),
        options: ["bind"],
      });
      putLink(container, "etc/resolv.conf", target);
      putLink(container, "etc/second", "third/file");
      const result = (await survive(container)).ok();
      expect(result.stdout).toBe("bound\n");
      expect(readFileSync(join(container.rootfs, made), "utf8")).toBe("");
    });
  }

  test("it is the host's file that the link names, by whatever way: that is not touched", async () => {
    for (const prefix of Object.values(escapes(""))) {
      for (const name of ["victim", "new"]) {
        const victim = makeVictim(rig);
        const container = writable("cat", "/etc/resolv.conf");
        container.config.mounts.push({
          destination: "/etc/resolv.conf",
          source: source("bound\n"),
          options: ["bind"],
        });
        putLink(container, "etc/resolv.conf", `${prefix}${victim.dir}/${name}`);
        const result = await survive(container);
        if (result.code === 0) expect(result.stdout).toBe("bound\n");
        victim.expectUntouched();
      }
    }
  });

  buncTest("links in a circle, too many of them, and names that are too long are errors", async () => {
    const container = writable();
    container.config.mounts.push({ destination: "/etc/link0", source: source(""), options: ["bind"] });
    for (const [links, target, code] of [
      [1, "link0", 1],
      [30, "end", 0],
      [45, "end", 1],
      [1, "x".repeat(300), 1],
      [1, `${"x/".repeat(100)}end`, 0],
      [1, "missing/../end", 1],
    ] as const) {
      for (let i = 0; i < links; i++)
        putLink(container, `etc/link${i}`, i + 1 < links ? `link${i + 1}` : target);
      const result = await survive(container);
      expect([links, target.slice(0, 20), result.code]).toEqual([links, target.slice(0, 20), code]);
      if (code) expect(result.stderr).toContain("mounts[7].destination");
      output(["rm", "-rf", join(container.rootfs, "etc/end")]);
    }
  });
});

describe("the way to a mount point leads through a link", () => {
  for (const [how, prefix] of Object.entries(escapes(""))) {
    test(`${how}: tmpfs, binds and cgroups are mounted inside, or not at all`, async () => {
      const victim = makeVictim(rig);
      const container = writable();
      container.config.mounts.push(
        { destination: "/way/tmpfs/deep", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup"] },
        { destination: "/way/file", source: source("x"), options: ["bind"] },
        { destination: "/way/dir", source: rig.directory(), options: ["rbind"] },
        { destination: "/way/cgroup", type: "cgroup", source: "cgroup" },
        { destination: "/way", type: "tmpfs", source: "tmpfs" },
      );
      putLink(container, "way", prefix + victim.dir);
      await survive(container);
      victim.expectUntouched();
    });
  }

  buncTest("into /proc: refused", async () => {
    for (const target of ["/proc", "/proc/self", "../proc/sys", "/proc/1", "/proc/sys/kernel/core_pattern"]) {
      for (const mount of [
        { destination: "/way", type: "tmpfs", source: "tmpfs" },
        { destination: "/way", source: rig.directory(), options: ["bind"] },
        { destination: "/way", source: source("x"), options: ["bind"] },
      ]) {
        const container = writable();
        container.config.mounts.push(mount);
        putLink(container, "way", target);
        const result = await survive(container);
        expect([target, mount.type, result.code]).toEqual([target, mount.type, 1]);
        expect(result.stderr).toContain("mounts[7].");
      }
    }
  });

  test("as /sys/fs/cgroup: the hierarchies are mounted inside", async () => {
    const victim = makeVictim(rig);
    const container = writable();
    withoutMounts(container, "/sys");
    container.config.mounts.push({ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup" });
    putLink(container, "sys/fs/cgroup", `../../../../../..${victim.dir}`);
    await survive(container);
    victim.expectUntouched();
  });
});

describe("/proc is not a proc (runc CVE-2019-16884, CVE-2023-27561)", () => {
  test("a volume over it, or a tmpfs, is refused", async () => {
    const fake = rig.directory();
    mkdirSync(join(fake, "self/attr"), { recursive: true });
    for (const mount of [
      { destination: "/proc", source: fake, options: ["rbind"] },
      { destination: "/proc", type: "tmpfs", source: "tmpfs" },
      { destination: "/proc/sys", source: fake, options: ["bind"] },
      { destination: "/proc/self/attr", type: "tmpfs", source: "tmpfs" },
    ]) {
      const container = writable();
      withoutMounts(container, "/proc");
      container.config.mounts.unshift(mount);
      const result = await survive(container);
      expect([mount.destination, mount.type, result.code]).toEqual([mount.destination, mount.type, 1]);
    }
    expect(entries(fake)).toEqual(["self"]);
  });

  buncTest("files of the image below it are neither read nor written: sysctls go to the kernel", async () => {
    const container = writable(
      "sh",
      "-c",
      "cat /proc/sys/net/ipv4/ip_forward; mount -t proc proc /proc && cat /proc/sys/net/ipv4/ip_forward",
    );
    const { config } = container;
    withoutMounts(container, "/proc");
    config.linux.maskedPaths = config.linux.readonlyPaths = [];
    config.process.capabilities = capabilitySets(...everything);
    config.linux.sysctl = { "net.ipv4.ip_forward": "1", "kernel.domainname": "set.example" };
    for (const [path, text] of [
      ["proc/sys/net/ipv4/ip_forward", "fake"],
      ["proc/self/oom_score_adj", "fake"],
      ["proc/self/timens_offsets", "fake"],
      ["proc/self/attr/exec", "fake"],
      ["proc/self/cgroup", "0::/../../../"],
      ["proc/self/mountinfo", "1 1 0:1 / / rw - fake fake rw"],
    ] as const) {
      output(["mkdir", "-p", join(container.rootfs, path, "..")]);
      container.file(path, `${text}\n`);
    }
    const before = readFileSync("/proc/sys/net/ipv4/ip_forward", "utf8");
    const result = await survive(container);
    expect(result.stdout).toBe("fake\n1\n");
    for (const path of ["self/oom_score_adj", "self/timens_offsets", "self/attr/exec"]) {
      expect(readFileSync(join(container.rootfs, "proc", path), "utf8")).toBe("fake\n");
    }
    expect(readFileSync("/proc/sys/net/ipv4/ip_forward", "utf8")).toBe(before);
    expect(readFileSync("/proc/sys/kernel/domainname", "utf8")).not.toBe("set.example\n");
  });
});

describe("masked and read-only paths", () => {
  test("that lead out of the rootfs change nothing there", async () => {
    for (const prefix of Object.values(escapes(""))) {
      const victim = makeVictim(rig);
      const container = writable();
      container.config.linux.maskedPaths = ["/out", "/out/victim", "/file"];
      container.config.linux.readonlyPaths = ["/out", "/file", "/proc/self/root/etc"];
      putLink(container, "out", prefix + victim.dir);
      putLink(container, "file", prefix + victim.file);
      await survive(container);
      victim.expectUntouched();
    }
  });

  buncTest("that are not there, or lead nowhere, are passed over", async () => {
    const container = writable();
    container.config.linux.maskedPaths = ["/none", "/etc/passwd/none", "/dangling", "/dangling/more"];
    container.config.linux.readonlyPaths = container.config.linux.maskedPaths;
    putLink(container, "dangling", "/nowhere");
    expect((await survive(container)).ok().stderr).toBe("");
  });

  buncTest("cover all directories by one tmpfs", async () => {
    const container = writable();
    const names = ["one", "two", "three"];
    for (const name of names) {
      container.file(`${name}/`);
      container.file(`${name}/secret`, "secret");
    }
    container.config.linux.maskedPaths = names.map((name) => `/${name}`);
    container.config.process.args = ["sh", "-c", "stat -c %d /one /two /three; ls /one /two /three"];
    const [first, ...rest] = (await survive(container)).ok().stdout.trim().split("\n");
    expect(Number(first)).toBeGreaterThan(0);
    expect(rest.filter(Boolean)).toEqual([first!, first!, "/one:", "/three:", "/two:"]);
  });

  buncTest("cover fifos, devices and sockets too, without opening them", async () => {
    const container = writable("sh", "-c", "cat /things/fifo /things/device; echo end");
    output(["mkdir", join(container.rootfs, "things")]);
    output(["mkfifo", join(container.rootfs, "things/fifo")]);
    output(["mknod", join(container.rootfs, "things/device"), "c", "240", "99"]);
    container.config.linux.maskedPaths = ["/things/fifo", "/things/device"];
    container.config.linux.readonlyPaths = ["/things/fifo", "/things/device"];
    const result = (await survive(container)).ok();
    expect(result.stdout).toBe("end\n");
    expect(result.stderr).toBe("");
  });
});

describe("the rootfs itself", () => {
  test("with a link as the first directory of every path of the bundle stays where it is", async () => {
    const victim = makeVictim(rig);
    const container = writable("sh", "-c", `cat ${victim.file}; ls ${victim.dir}`);
    // The bundle's own path, as seen from inside.
    putLink(container, victim.dir.split("/")[1]!, "/proc/1/root");
    const result = await survive(container);
    expect(result.stdout).not.toContain(victim.secret);
    victim.expectUntouched();
    if (isBunc) expect(result.code).not.toBe(125);
  });
});
