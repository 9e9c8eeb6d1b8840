// Mounts of every kind: filesystems, binds of files and directories, order, destinations, cgroups; and their errors.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mount } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { detach, entries } from "../rig/leaks.ts";
import { mountAt, parseMountInfo } from "../rig/mountinfo.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** A container with a writable root and the mounts added. */
function withMounts(...mounts: Mount[]): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    config.mounts.push(...mounts);
  });
}

describe("binds", () => {
  test("of directories and files, made when absent, from absolute and relative sources", async () => {
    const source = rig.directory();
    writeFileSync(join(source, "file"), "from the host\n");
    const container = withMounts(
      { destination: "/a/new/directory", source, options: ["bind"] },
      { destination: "/b/new/file", source: join(source, "file"), options: ["bind", "ro"] },
      { destination: "/etc/passwd", type: "bind", source: join(source, "file"), options: ["rbind"] },
      { destination: "/srv", type: "none", source: "beside", options: ["bind", "rw"] },
      { destination: "/c", source: "./config.json", options: ["bind", "ro"] },
    );
    mkdirSync(container.path("beside"));
    const text = await container.shell(
      "cat /a/new/directory/file /b/new/file /etc/passwd; echo x >/srv/written; head -c 1 /c; (echo y >/b/new/file) 2>&1; true",
    );
    expect(text).toStartWith(`${"from the host\n".repeat(3)}{`);
    expect(text).toContain("Read-only file system");
    expect(readFileSync(container.path("beside/written"), "utf8")).toBe("x\n");
    expect(readFileSync(join(source, "file"), "utf8")).toBe("from the host\n");
    // The mount points were made with the usual modes, the file empty.
    expect(statSync(join(container.rootfs, "a/new/directory")).mode & 0o7777).toBe(0o755);
    expect(readFileSync(join(container.rootfs, "b/new/file"), "utf8")).toBe("");
  });

  test("bind leaves out the mounts below the source, rbind takes them along", async () => {
    const source = rig.directory();
    mkdirSync(join(source, "sub"));
    output(["mount", "-t", "tmpfs", "inner", join(source, "sub")]);
    rig.defer(() => void detach(join(source, "sub")));
    writeFileSync(join(source, "sub/file"), "");
    const container = withMounts(
      { destination: "/mnt/plain", source, options: ["bind"] },
      { destination: "/mnt/all", source, options: ["rbind"] },
    );
    expect(await container.shell("ls -A /mnt/plain/sub; echo -; ls -A /mnt/all/sub")).toBe("-\nfile\n");
  });

  test("of special files: a socket, a fifo, a device", async () => {
    const source = rig.directory();
    output(["mkfifo", join(source, "fifo")]);
    const container = withMounts(
      { destination: "/mnt/fifo", source: join(source, "fifo"), options: ["bind"] },
      { destination: "/mnt/null", source: "/dev/null", options: ["bind"] },
    );
    expect(await container.shell("test -p /mnt/fifo && echo fifo; stat -c %t:%T /mnt/null")).toBe(
      "fifo\n1:3\n",
    );
  });

  test("of the host's /dev: it is used as it is, and stays as it was", async () => {
    const before = entries("/dev");
    const container = rig.container((config) => {
      config.mounts = config.mounts.filter(({ destination }) => !destination.startsWith("/dev"));
      config.mounts.push({ destination: "/dev", source: "/dev", options: ["rbind", "rslave"] });
    });
    const text = await container.shell("ls /dev; ls -l /dev/ptmx");
    expect(text.split("\n").slice(0, before.length)).toEqual(before);
    expect(entries("/dev")).toEqual(before);
  });

  test("of a missing source names the source, and the place in the config", async () => {
    const container = withMounts({ destination: "/mnt", source: "/no/such/source", options: ["bind"] });
    container.config.process.args = ["true"];
    const result = await container.run();
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("/no/such/source");
    expect(result.stderr).toContain("no such file or directory");
    if (isBunc) expect(result.stderr).toContain("mounts[7]");
    expect(rig.states()).toEqual([]);
  });

  test("of a directory onto a file, and of a file onto a directory, are errors", async () => {
    for (const [destination, source] of [
      ["/etc/passwd", "."],
      ["/etc", "config.json"],
    ] as const) {
      const container = withMounts({ destination, source, options: ["bind"] });
      container.config.process.args = ["true"];
      const result = await container.run();
      expect([destination, result.code]).toEqual([destination, 1]);
      expect(result.stderr).toContain("not a directory");
      expect(result.stderr).toContain(destination);
    }
  });

  buncTest("without the bind option are told how to be one", async () => {
    const container = withMounts({ destination: "/mnt", type: "bind", source: "/tmp", options: ["ro"] });
    container.config.process.args = ["true"];
    const result = await container.run();
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("mounts[7]");
    expect(result.stderr).toMatch(/bind\b.*\brbind/);
  });
});

describe("destinations", () => {
  test("that are or lie behind symlinks are resolved inside the rootfs", async () => {
    const outside = rig.directory();
    const container = withMounts(
      { destination: "/link/below", source: outside, options: ["bind"] },
      { destination: "/up/x", source: outside, options: ["bind"] },
      { destination: "/etc/hosts", source: "config.json", options: ["bind"] },
    );
    symlinkSync("/real/place", join(container.rootfs, "link"));
    mkdirSync(join(container.rootfs, "real/place"), { recursive: true });
    symlinkSync("../../../../../srv", join(container.rootfs, "up"));
    symlinkSync("/jump/hosts", join(container.rootfs, "etc/hosts")); // dangling
    const table = parseMountInfo(await container.output("cat", "/proc/self/mountinfo"));
    expect(mountAt(table, "/real/place/below").root).toContain(outside);
    expect(mountAt(table, "/srv/x").root).toContain(outside);
    expect(mountAt(table, "/jump/hosts").root).toContain("config.json");
    expect(entries(outside)).toEqual([]);
    expect(existsSync("/real") || existsSync("/jump")).toBe(false);
  });

  test("may be relative (to /) and may repeat; the listed order is kept", async () => {
    const [first, second] = [rig.directory(), rig.directory()];
    writeFileSync(join(first, "first"), "");
    mkdirSync(join(first, "inner"));
    writeFileSync(join(second, "second"), "");
    const container = withMounts(
      { destination: "mnt", source: first, options: ["bind"] },
      { destination: "/mnt/inner", source: second, options: ["bind"] },
      { destination: "/opt", source: second, options: ["bind"] },
      { destination: "/opt", source: first, options: ["bind"] },
    );
    const text = await container.shell("ls /mnt /mnt/inner /opt /opt/inner");
    expect(text).toBe("/mnt:\nfirst\ninner\n\n/mnt/inner:\nsecond\n\n/opt:\nfirst\ninner\n\n/opt/inner:\n");
  });

  test("in /proc are refused, except the proc filesystem itself", async () => {
    const words = /cannot be mounted because it is inside \/proc/;
    for (const destination of ["/proc/sys", "/proc/self/attr"]) {
      const container = withMounts({ destination, source: "/tmp", options: ["bind"] });
      container.config.process.args = ["true"];
      const result = await container.run();
      expect([destination, result.code, result.stderr]).toEqual([
        destination,
        1,
        expect.stringMatching(words),
      ]);
    }
    const over = withMounts({ destination: "/proc", source: "/tmp", options: ["bind"] });
    over.config.process.args = ["true"];
    const result = await over.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("/proc")]);
    // Files lxcfs provides may be mounted there.
    const file = withMounts({ destination: "/proc/uptime", source: "config.json", options: ["bind"] });
    expect(await file.output("head", "-c", "1", "/proc/uptime")).toBe("{");
  });

  test("that cannot be made name the path", async () => {
    const container = withMounts({ destination: "/etc/passwd/below", source: "/tmp", options: ["bind"] });
    container.config.process.args = ["true"];
    const result = await container.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("/etc/passwd")]);
  });
});

describe("filesystems", () => {
  test("proc, sysfs, mqueue, devpts, tmpfs with data, overlay", async () => {
    const layers = rig.directory();
    for (const name of ["lower", "upper", "work"]) mkdirSync(join(layers, name));
    writeFileSync(join(layers, "lower/file"), "lower\n");
    const data = ["lower", "upper", "work"].map((name) => `${name}dir=${join(layers, name)}`);
    const container = withMounts(
      { destination: "/mnt/proc", type: "proc", source: "proc", options: ["nosuid", "hidepid=2"] },
      { destination: "/mnt/overlay", type: "overlay", source: "overlay", options: data },
      { destination: "/mnt/cgroupless", type: "ramfs", source: "anything" },
    );
    const text = await container.shell(
      "cat /mnt/overlay/file; echo upper >/mnt/overlay/file; cat /mnt/proc/1/comm; cat /proc/self/mountinfo",
    );
    expect(text).toStartWith("lower\nsh\n");
    expect(readFileSync(join(layers, "upper/file"), "utf8")).toBe("upper\n");
    expect(readFileSync(join(layers, "lower/file"), "utf8")).toBe("lower\n");
    const table = parseMountInfo(text);
    for (const [point, type] of Object.entries({
      "/proc": "proc",
      "/sys": "sysfs",
      "/dev": "tmpfs",
      "/dev/pts": "devpts",
      "/dev/shm": "tmpfs",
      "/dev/mqueue": "mqueue",
      "/mnt/overlay": "overlay",
      "/mnt/cgroupless": "ramfs",
    })) {
      expect([point, mountAt(table, point).type]).toEqual([point, type]);
    }
    expect(mountAt(table, "/mnt/proc").superOptions.join()).toContain("hidepid=");
    expect(mountAt(table, "/mnt/cgroupless").source).toBe("anything");
    const pts = mountAt(table, "/dev/pts");
    expect(pts.superOptions).toEqual(expect.arrayContaining(["gid=5", "mode=620", "ptmxmode=666"]));
    expect(mountAt(table, "/dev").options).not.toContain("relatime"); // strictatime
    expect(mountAt(table, "/dev").superOptions).toEqual(expect.arrayContaining(["size=65536k", "mode=755"]));
  });

  test("of an unknown type, or without one, are errors that name the destination", async () => {
    for (const type of ["nosuchfs", ""]) {
      const container = withMounts({ destination: "/mnt", type, source: "x" });
      container.config.process.args = ["true"];
      const result = await container.run();
      expect([type, result.code]).toEqual([type, 1]);
      if (isBunc) expect(result.stderr).toContain("mounts[7]");
      if (isBunc && type === "") continue; // found before anything is mounted
      expect(result.stderr).toContain("/mnt");
      expect(result.stderr).toContain("no such device");
    }
  });

  test("a read-only /dev has its devices all the same", async () => {
    const container = rig.container((config) => {
      config.mounts.find(({ destination }) => destination === "/dev")!.options!.push("ro");
    });
    const text = await container.shell(
      "echo x >/dev/null && echo written; touch /dev/new || echo refused; cat /proc/mounts",
    );
    expect(text).toStartWith("written\nrefused\n");
    expect(text).toMatch(/^tmpfs \/dev tmpfs ro,/m);
  });

  test("remount changes what is mounted, and mounts nothing new", async () => {
    const container = withMounts(
      { destination: "/mnt", type: "tmpfs", source: "tmpfs", options: ["size=64k", "nosuid"] },
      {
        destination: "/mnt",
        type: "tmpfs",
        source: "tmpfs",
        options: ["remount", "size=128k", "ro", "nosuid"],
      },
    );
    const table = parseMountInfo(await container.output("cat", "/proc/self/mountinfo"));
    expect(mountAt(table, "/mnt").superOptions).toContain("size=128k");
    expect(table.filter(({ point }) => point === "/mnt").length).toBe(1);
  });
});
