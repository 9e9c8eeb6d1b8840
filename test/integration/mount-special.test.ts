// Mounts with rules of their own: cgroup hierarchies, id-mapped mounts, masked and read-only paths.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import { detach } from "../rig/leaks.ts";
import { mountAt, parseMountInfo } from "../rig/mountinfo.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe, host, isBunc } from "../rig/runtime.ts";

const rig = useRig();

const cgroupMount = (config: Config) => config.mounts.find(({ type }) => type === "cgroup")!;

describe("a cgroup mount", () => {
  /** Names /sys/fs/cgroup has on this host for v1 controllers. */
  const controllers = [...host.cgroups].filter(([name]) => name !== "unified");

  for (const cgroupns of [false, true]) {
    const title = cgroupns ? "in a cgroup namespace" : "in the host's cgroup namespace";
    // cgroup2 has one root per namespace; runc shows the host's as well.
    const shown = cgroupns || host.cgroupV1 ? "the container's own cgroup" : "the host's cgroups";
    test(`${title} shows ${shown}, read-only`, async () => {
      const container = rig.container((config) => {
        if (cgroupns) config.linux.namespaces.push({ type: "cgroup" });
      });
      const script = `cat /proc/self/mountinfo; ls -A /sys/fs/cgroup >&2
        for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
          test -e $f || continue
          grep -q '^1$' $f || echo "$f is not ours"; echo 1 2>/dev/null >$f && echo "$f is writable"
        done; true`;
      container.config.process.args = ["sh", "-c", script];
      const result = (await container.run()).ok();
      expect(result.stdout).not.toMatch(
        shown.startsWith("the host") ? /is writable/ : /is not ours|is writable/,
      );
      const table = parseMountInfo(result.stdout).filter(({ point }) => point.startsWith("/sys/fs/cgroup"));
      const listed = new Set(result.stderr.trim().split("\n"));
      for (const [name, point] of controllers) {
        const mount = mountAt(table, point); // where the host has it
        expect(mount).toMatchObject({ type: "cgroup", root: cgroupns ? "/" : `/${container.id}` });
        expect(mount.options).toEqual(expect.arrayContaining(["ro", "nosuid", "nodev", "noexec"]));
        expect([...listed].some((entry) => entry.includes(name.replace("name=", "")))).toBe(true);
      }
      if (controllers.length === 0) expect(mountAt(table, "/sys/fs/cgroup").type).toBe("cgroup2");
      else expect(mountAt(table, "/sys/fs/cgroup").type).toBe("tmpfs");
    });
  }

  test("without ro can be written: a container with a cgroup namespace makes cgroups of its own", async () => {
    const container = rig.container((config) => {
      config.linux.namespaces.push({ type: "cgroup" });
      cgroupMount(config).options = ["nosuid", "noexec", "nodev", "relatime"];
    });
    const dir = host.cgroupV1 ? "/sys/fs/cgroup/freezer" : "/sys/fs/cgroup";
    const text = await container.shell(
      `mkdir ${dir}/own && echo $$ >${dir}/own/cgroup.procs && cat ${dir}/own/cgroup.procs`,
    );
    expect(text).toStartWith("1\n");
    expect(container.cgroupDirectories()).toEqual([]);
  });

  test("is not made when the config has none", async () => {
    const container = rig.container((config) => {
      config.mounts = config.mounts.filter(({ type }) => type !== "cgroup");
    });
    const text = await container.shell("cat /proc/mounts");
    expect(text).not.toContain("cgroup");
  });
});

buncDescribe("id-mapped binds", () => {
  /** A source whose file belongs to 0:0 and whose other belongs to 1000:1000. */
  function source(): string {
    const dir = rig.directory();
    for (const [name, owner] of [
      ["root", "0:0"],
      ["user", "1000:1000"],
    ] as const) {
      writeFileSync(join(dir, name), "");
      output(["chown", owner, join(dir, name)]);
    }
    return dir;
  }
  const mapping = [{ containerID: 0, hostID: 100000, size: 65536 }];
  const owners = "stat -c %u:%g /mnt/root /mnt/user";

  test("with mappings of their own, without a user namespace", async () => {
    const dir = source();
    const container = rig.container((config) => {
      config.root.readonly = false;
      // A mount's mapping goes from what is on disk (containerID) to what is seen (hostID).
      config.mounts.push({
        destination: "/mnt",
        source: dir,
        options: ["bind", "idmap"],
        uidMappings: mapping,
        gidMappings: [{ containerID: 0, hostID: 200000, size: 65536 }],
      });
    });
    expect(await container.shell(owners)).toBe("100000:200000\n101000:201000\n");
  });

  test("with the user namespace's mappings, when they have none", async () => {
    const dir = source();
    const container = rig.container((config) => {
      config.linux.namespaces.push({ type: "user" });
      config.linux.uidMappings = mapping;
      config.linux.gidMappings = mapping;
      config.mounts.push({ destination: "/mnt", source: dir, options: ["bind", "idmap"] });
    });
    const text = await container.shell(`${owners}; echo x >/mnt/written; stat -c %u /mnt/written`);
    expect(text).toBe("0:0\n1000:1000\n0\n");
    expect(statSync(join(dir, "written")).uid).toBe(0);
  });

  test("ridmap reaches the mounts below, idmap does not", async () => {
    const dir = source();
    mkdirSync(join(dir, "sub"));
    output(["mount", "-t", "tmpfs", "inner", join(dir, "sub")]);
    rig.defer(() => void detach(join(dir, "sub")));
    writeFileSync(join(dir, "sub/file"), "");
    for (const [option, inner] of [
      ["idmap", "0"],
      ["ridmap", "100000"],
    ] as const) {
      const container = rig.container((config) => {
        config.root.readonly = false;
        const mappings = { uidMappings: mapping, gidMappings: mapping };
        config.mounts.push({ destination: "/mnt", source: dir, options: ["rbind", option], ...mappings });
      });
      const text = await container.shell("stat -c %u /mnt/root /mnt/sub/file");
      expect([option, text]).toEqual([option, `100000\n${inner}\n`]);
    }
  });

  test("are errors without mappings and user namespace, with one mapping, and not on a bind", async () => {
    const dir = source();
    for (const mount of [
      { destination: "/mnt", source: dir, options: ["bind", "idmap"] },
      { destination: "/mnt", source: dir, options: ["bind", "idmap"], uidMappings: mapping },
      {
        destination: "/mnt",
        type: "tmpfs",
        source: "x",
        options: ["idmap"],
        uidMappings: mapping,
        gidMappings: mapping,
      },
    ]) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.root.readonly = false;
        config.mounts.push(mount);
      });
      const result = await container.run();
      expect([mount, result.code]).toEqual([mount, 1]);
      expect(result.stderr).toContain("mounts[7]");
      expect(rig.states()).toEqual([]);
    }
  });
});

describe("maskedPaths", () => {
  test("files read as empty, directories are empty and read-only, missing ones do not matter", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.linux.maskedPaths!.push("/secret", "/dir", "/dir2", "/no/such/path", "/secret");
    });
    container.file("secret", "Forbidden information!");
    for (const name of ["dir/", "dir2/"]) writeFileSync(join(container.file(name), "inside"), "hidden");
    const text = await container.shell(
      `cat /secret | wc -c; ls -A /dir /dir2 | wc -c
      (rm /secret; touch /dir/x; rmdir /dir; umount /dir) 2>&1
      cat /proc/keys | wc -c; ls /sys/firmware | wc -c; cat /proc/timer_list | wc -c`,
    );
    const lines = text.trim().split("\n");
    expect(lines[0]).toBe("0");
    expect(lines[1]).toBe(String("/dir:\n\n/dir2:\n".length));
    expect(lines[2]).toMatch(/busy|Read-only/);
    expect(lines[3]).toContain("Read-only file system");
    expect(lines[4]).toMatch(/busy|Read-only/);
    expect(lines[5]).toMatch(/not permitted|Operation not/);
    expect(lines.slice(6)).toEqual(["0", "0", "0"]);
    expect(existsSync(join(container.rootfs, "dir/x"))).toBe(false);
    expect(existsSync(join(container.rootfs, "no"))).toBe(false);
  });

  test("without any, /proc and /sys are open", async () => {
    const container = rig.container((config) => {
      delete config.linux.maskedPaths;
      delete config.linux.readonlyPaths;
    });
    const table = parseMountInfo(await container.output("cat", "/proc/self/mountinfo"));
    expect(table.filter(({ point }) => /^\/(proc|sys)\/(?!fs\/cgroup)/.test(point))).toEqual([]);
  });

  test("a symlink is not followed out of the rootfs", async () => {
    const outside = rig.directory();
    writeFileSync(join(outside, "file"), "host\n");
    const container = rig.container((config) => {
      config.linux.maskedPaths!.push("/link");
      config.linux.readonlyPaths!.push("/link2");
      config.process.args = ["true"];
    });
    symlinkSync(join(outside, "file"), join(container.rootfs, "link"));
    symlinkSync(outside, join(container.rootfs, "link2"));
    (await container.run()).ok();
    writeFileSync(join(outside, "file"), "still writable\n");
  });
});

describe("readonlyPaths", () => {
  test("cannot be written, can be read, keep their other flags; missing ones do not matter", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.mounts.push({
        destination: "/mnt",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "nodev", "noexec"],
      });
      config.linux.readonlyPaths!.push("/fixed", "/fixed-file", "/mnt", "/no/such/path");
      config.process.user = { uid: 0, gid: 0 };
    });
    writeFileSync(join(container.file("fixed/"), "readable"), "text\n");
    container.file("fixed-file", "text\n");
    const text = await container.shell(
      `cat /fixed/readable /fixed-file; (echo x >/fixed/new; echo x >/fixed-file; echo 1 >/proc/sys/kernel/hostname) 2>&1
      cat /proc/self/mountinfo`,
    );
    expect(text).toStartWith("text\ntext\n");
    expect(text.match(/Read-only file system/g)?.length).toBe(3);
    const table = parseMountInfo(text);
    for (const path of ["/fixed", "/fixed-file", "/proc/sys", "/proc/bus"]) {
      expect([path, mountAt(table, path).options[0]]).toEqual([path, "ro"]);
    }
    const flags = isBunc ? ["ro", "nosuid", "nodev", "noexec"] : ["ro"];
    expect(mountAt(table, "/mnt").options).toEqual(expect.arrayContaining(flags));
  });
});
