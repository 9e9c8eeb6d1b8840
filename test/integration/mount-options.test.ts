// Mount options: every name of the spec's table, on a filesystem and on a bind, and what mountinfo says of it.
import { describe, expect, test } from "bun:test";
import { mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mount } from "../rig/config.ts";
import { detach } from "../rig/leaks.ts";
import { type MountInfo, mountAt, parseMountInfo } from "../rig/mountinfo.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe, buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** Runs a container with the mounts added and returns its mount table. */
async function table(...mounts: Mount[]): Promise<MountInfo[]> {
  const container = rig.container((config) => {
    config.root.readonly = false;
    config.mounts.push(...mounts);
  });
  return parseMountInfo(await container.output("cat", "/proc/self/mountinfo"));
}

/** [options given, per-mount options there must be, per-mount options there must not be]. */
type Case = [options: string[], present: string[], absent: string[]];

const perMount: Case[] = [
  [[], ["rw", "relatime"], ["nosuid", "nodev", "noexec"]],
  [["defaults"], ["rw", "relatime"], ["nosuid", "nodev", "noexec"]],
  [["ro"], ["ro"], ["rw"]],
  [["ro", "rw"], ["rw"], ["ro"]],
  [["nosuid"], ["nosuid"], []],
  [["nosuid", "suid"], [], ["nosuid"]],
  [["nodev"], ["nodev"], []],
  [["nodev", "dev"], [], ["nodev"]],
  [["noexec"], ["noexec"], []],
  [["noexec", "exec"], [], ["noexec"]],
  [["noatime"], ["noatime"], ["relatime"]],
  [["noatime", "atime"], ["relatime"], ["noatime"]],
  [["nodiratime"], ["nodiratime"], []],
  [["nodiratime", "diratime"], [], ["nodiratime"]],
  [["relatime"], ["relatime"], ["noatime"]],
  [["norelatime"], ["relatime"], ["noatime"]], // the kernel's default is relatime
  [["strictatime"], [], ["relatime", "noatime"]],
  [["strictatime", "nostrictatime"], ["relatime"], ["noatime"]],
  [
    ["ro", "nosuid", "nodev", "noexec", "noatime"],
    ["ro", "nosuid", "nodev", "noexec", "noatime"],
    ["relatime"],
  ],
];

/** [options given, options of the filesystem there must be, and must not be]. */
const perFilesystem: Case[] = [
  [["sync"], ["sync"], []],
  [["sync", "async"], [], ["sync"]],
  [["dirsync"], ["dirsync"], []],
  [["lazytime"], ["lazytime"], []],
  [["lazytime", "nolazytime"], [], ["lazytime"]],
  [["size=8192k", "mode=0751", "uid=7", "gid=9"], ["size=8192k", "mode=751", "uid=7", "gid=9"], []],
  [["nr_inodes=64", "nosuid"], ["nr_inodes=64"], []],
  [["silent", "loud"], ["rw"], []],
  [["iversion", "noiversion"], ["rw"], []],
];

/** What runc 1.1 passes on to the filesystem or does not do. */
const newer = ["defaults", "lazytime", "nolazytime", "silent", "loud", "iversion", "noiversion"];

const expectOptions = ([given, present, absent]: Case, found: string[]): void => {
  const result = {
    given,
    missing: present.filter((x) => !found.includes(x)),
    excess: absent.filter((x) => found.includes(x)),
  };
  expect(result).toEqual({ given, missing: [], excess: [] });
};

describe("each option", () => {
  test("of a tmpfs", async () => {
    const known = (entry: Case): boolean => isBunc || !entry[0].some((option) => newer.includes(option));
    const filesystemCases = perFilesystem.filter(known).length;
    const all = [...perFilesystem, ...perMount].filter(known);
    const mounts = all.map(
      ([options], i): Mount => ({ destination: `/mnt/${i}`, type: "tmpfs", source: "tmpfs", options }),
    );
    const found = await table(...mounts);
    for (const [i, entry] of all.entries()) {
      const { options, superOptions } = mountAt(found, `/mnt/${i}`);
      expectOptions(entry, i < filesystemCases ? superOptions : options);
    }
  });

  test("of a bind", async () => {
    const source = rig.directory();
    const mounts = perMount.map(
      ([options], i): Mount => ({
        destination: `/mnt/${i}`,
        type: "bind",
        source,
        options: ["bind", ...options],
      }),
    );
    const found = await table(...mounts);
    // runc 1.1 cannot reset access times of a bind.
    const atime = /atime/;
    for (const [i, entry] of perMount.entries()) {
      if (!isBunc && entry[0].some((option) => atime.test(option))) continue;
      expectOptions(entry, mountAt(found, `/mnt/${i}`).options);
    }
  });

  buncTest("nosymfollow, symfollow", async () => {
    const source = rig.directory();
    const found = await table(
      { destination: "/mnt/a", type: "tmpfs", source: "tmpfs", options: ["nosymfollow"] },
      { destination: "/mnt/b", source, options: ["bind", "nosymfollow"] },
      { destination: "/mnt/c", source, options: ["bind", "nosymfollow", "symfollow"] },
    );
    expect(mountAt(found, "/mnt/a").options).toContain("nosymfollow");
    expect(mountAt(found, "/mnt/b").options).toContain("nosymfollow");
    expect(mountAt(found, "/mnt/c").options).not.toContain("nosymfollow");
  });

  test("of propagation, on a bind and on a filesystem", async () => {
    const source = rig.directory();
    const wanted: [string, RegExp][] = [
      ["private", /^$/],
      ["rprivate", /^$/],
      ["slave", /^(master:\d+)?$/],
      ["rslave", /^(master:\d+)?$/],
      ["shared", /^shared:\d+$/],
      ["rshared", /^shared:\d+$/],
      ["unbindable", /^unbindable$/],
      ["runbindable", /^unbindable$/],
    ];
    const found = await table(
      ...wanted.map(
        ([option]): Mount => ({ destination: `/mnt/b-${option}`, source, options: ["bind", option] }),
      ),
      ...wanted.map(
        ([option]): Mount => ({ destination: `/mnt/t-${option}`, type: "tmpfs", options: [option] }),
      ),
    );
    for (const [option, pattern] of wanted) {
      for (const kind of ["b", "t"]) {
        const fields = mountAt(found, `/mnt/${kind}-${option}`).propagation.join(" ");
        expect([option, kind, fields]).toEqual([option, kind, expect.stringMatching(pattern)]);
      }
    }
  });

  test("that is unknown goes to the filesystem; one it does not know is an error that names the mount", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.mounts.push({
        destination: "/mnt",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuchoption=3"],
      });
    });
    const result = await container.run();
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("/mnt");
    expect(result.stderr).toContain("invalid argument");
    if (isBunc) expect(result.stderr).toContain("mounts[7]");
  });
});

buncDescribe("recursive options", () => {
  /** A host directory with a tmpfs on it, and another tmpfs in that. */
  function tree(): string {
    const dir = rig.directory();
    output(["mount", "-t", "tmpfs", "outer", dir]);
    rig.defer(() => void detach(dir));
    mkdirSync(join(dir, "sub"));
    output(["mount", "-t", "tmpfs", "inner", join(dir, "sub")]);
    rig.defer(() => void detach(join(dir, "sub")));
    return dir;
  }

  test("reach the mounts below, plain ones do not", async () => {
    const source = tree();
    const cases: [option: string, outer: RegExp, inner: RegExp][] = [
      ["ro", /^ro,/, /^rw,/],
      ["rro", /^ro,/, /^ro,/],
      ["nosuid", /nosuid/, /^((?!nosuid).)*$/],
      ["rnosuid", /nosuid/, /nosuid/],
      ["rnodev", /nodev/, /nodev/],
      ["rnoexec", /noexec/, /noexec/],
      ["rnoatime", /noatime/, /noatime/],
      ["rnodiratime", /nodiratime/, /nodiratime/],
      ["rnosymfollow", /nosymfollow/, /nosymfollow/],
      ["rrelatime", /relatime/, /relatime/],
      ["rnorelatime", /relatime/, /relatime/],
      ["rstrictatime", /^((?!atime).)*$/, /^((?!atime).)*$/],
      ["rnostrictatime", /relatime/, /relatime/],
      ["ratime", /relatime/, /relatime/],
    ];
    const undone: [options: string[], flag: string][] = [
      [["rro", "rrw"], "ro"],
      [["rnosuid", "rsuid"], "nosuid"],
      [["rnodev", "rdev"], "nodev"],
      [["rnoexec", "rexec"], "noexec"],
      [["rnodiratime", "rdiratime"], "nodiratime"],
      [["rnosymfollow", "rsymfollow"], "nosymfollow"],
    ];
    const found = await table(
      ...cases.map(
        ([option]): Mount => ({ destination: `/mnt/${option}`, source, options: ["rbind", option] }),
      ),
      ...undone.map(
        ([options], i): Mount => ({ destination: `/mnt/u${i}`, source, options: ["rbind", ...options] }),
      ),
    );
    for (const [option, outer, inner] of cases) {
      const at = (path: string): string => mountAt(found, path).options.join(",");
      expect([option, at(`/mnt/${option}`)]).toEqual([option, expect.stringMatching(outer)]);
      expect([option, at(`/mnt/${option}/sub`)]).toEqual([option, expect.stringMatching(inner)]);
    }
    undone.forEach(([options, flag], i) => {
      for (const path of [`/mnt/u${i}`, `/mnt/u${i}/sub`]) {
        expect([options, mountAt(found, path).options.includes(flag)]).toEqual([options, false]);
      }
    });
  });
});

describe("tmpcopyup", () => {
  test("fills a tmpfs with what lies below it, modes, owners and links included", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.mounts.push({
        destination: "/data",
        type: "tmpfs",
        source: "tmpfs",
        options: ["tmpcopyup", "nodev"],
      });
    });
    container.file("data/dir/deep/", "");
    container.file("data/dir/file", "text\n", 0o640);
    container.file("data/empty", "");
    symlinkSync("dir/file", join(container.rootfs, "data/link"));
    symlinkSync("/no/where", join(container.rootfs, "data/dangling"));
    output(["chmod", "2775", join(container.rootfs, "data/dir/deep")]);
    output(["chown", "12:34", join(container.rootfs, "data/dir/file")]);
    const text = await container.shell(
      "cd /data; stat -c '%n %a %u:%g' dir/deep dir/file empty; readlink link; readlink dangling; rm -r dir; echo new >new",
    );
    const mode = isBunc ? "2775" : "755"; // runc 1.1 loses the modes of directories
    expect(text).toBe(`dir/deep ${mode} 0:0\ndir/file 640 12:34\nempty 644 0:0\ndir/file\n/no/where\n`);
    // The original is as before.
    expect(statSync(join(container.rootfs, "data/dir/deep")).mode & 0o7777).toBe(0o2775);
    expect(output(["ls", "-A", join(container.rootfs, "data")])).toBe("dangling\ndir\nempty\nlink\n");
  });

  test("with ro the copy is read-only; in an absent directory it is an empty tmpfs", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      for (const destination of ["/data", "/not/there"]) {
        config.mounts.push({ destination, type: "tmpfs", source: "tmpfs", options: ["tmpcopyup", "ro"] });
      }
    });
    container.file("data/", "");
    writeFileSync(join(container.rootfs, "data/file"), "kept\n");
    const text = await container.shell(
      "cat /data/file; echo x 2>/dev/null >/data/file || echo refused; ls -A /not/there",
    );
    expect(text).toBe("kept\nrefused\n");
  });
});

describe("the mode of a tmpfs", () => {
  test("is the option's, else the directory's, else 1777", async () => {
    const container = rig.container((config) => {
      config.root.readonly = false;
      config.mounts.push(
        { destination: "/own", type: "tmpfs", source: "tmpfs", options: [] },
        { destination: "/given", type: "tmpfs", source: "tmpfs", options: ["mode=1500"] },
        { destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid"] },
        ...(isBunc ? [{ destination: "/new/a/b", type: "tmpfs", source: "tmpfs", options: ["nosuid"] }] : []),
      );
    });
    for (const name of ["own/", "given/"]) output(["chmod", "0710", container.file(name)]);
    output(["chmod", "a=rwx,ug+s,+t", join(container.rootfs, "tmp")]);
    const paths = ["/own", "/given", "/tmp", ...(isBunc ? ["/new/a/b"] : [])];
    const text = await container.output("stat", "-c", "%a", ...paths);
    expect(text.trim().split("\n")).toEqual([
      "710",
      isBunc ? "1500" : "710",
      "7777",
      ...(isBunc ? ["1777"] : []),
    ]);
    expect(statSync(join(container.rootfs, "given")).mode & 0o7777).toBe(0o710);
    if (isBunc) expect(statSync(join(container.rootfs, "new/a/b")).mode & 0o7777).toBe(0o755);
  });
});
