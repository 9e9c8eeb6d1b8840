/** Mount options: each of the spec's table has its effect in the program, in any order and company. Needs no build. */
import { describe, expect, test } from "bun:test";
import { MOUNT_OPTIONS } from "../bundle/check-mounts.ts";
import * as abi from "../linux/abi.gen.ts";
import type { Mount } from "../oci/config.ts";
import { fileSystemParameters } from "./explain-mounts.ts";
import { bindAttributes, knownMountOptions, parseMountOptions, propagationFlag } from "./mount-options.ts";
import type { Struct } from "./program.ts";
import { compile, plainSpec, userSpec } from "./testing.ts";

const MOUNT = abi.bunc_mount_;

/** What one mount becomes. */
function compiled(mount: Partial<Mount>, spec = plainSpec()) {
  spec.mounts = [{ destination: "/m", type: "tmpfs", ...mount }];
  const result = compile(spec);
  const [op] = result.ops.filter(({ call }) => call === abi.BUNC_OP_MOUNT);
  const struct = op!.args[2] as Struct;
  const to = (offset: number) => struct.pointers.find((pointer) => pointer.offset === offset)?.to;
  const word = (offset: number) => Number(struct.view.getBigInt64(offset, true));
  const list = to(MOUNT.propagation) as Struct | undefined;
  const params = to(MOUNT.params) as Uint8Array | undefined;
  return {
    type: to(MOUNT.type),
    source: to(MOUNT.source),
    set: word(MOUNT.set),
    clear: word(MOUNT.clear),
    recSet: word(MOUNT.rec_set),
    recClear: word(MOUNT.rec_clear),
    tree: word(MOUNT.tree),
    flags: word(MOUNT.flags),
    propagation: list
      ? Array.from({ length: list.size / 8 }, (_, i) => list.view.getUint32(i * 8, true))
      : [],
    params: params
      ? fileSystemParameters(params).map(({ key, value }) => (value === undefined ? key : `${key}=${value}`))
      : [],
    late: result.ops.some(({ call, path }) => call === abi.BUNC_OP_MOUNT_ATTR && path.startsWith("mounts")),
  };
}

const bind = (...options: string[]) =>
  compiled({ type: "bind", source: "/srv", options: ["bind", ...options] });

/** Options that set or clear one attribute, for the mount or with r for all below it. */
const ATTRIBUTES: [name: string, attr: number, clear: boolean][] = [
  ["ro", abi.MOUNT_ATTR_RDONLY, false],
  ["rw", abi.MOUNT_ATTR_RDONLY, true],
  ["nosuid", abi.MOUNT_ATTR_NOSUID, false],
  ["suid", abi.MOUNT_ATTR_NOSUID, true],
  ["nodev", abi.MOUNT_ATTR_NODEV, false],
  ["dev", abi.MOUNT_ATTR_NODEV, true],
  ["noexec", abi.MOUNT_ATTR_NOEXEC, false],
  ["exec", abi.MOUNT_ATTR_NOEXEC, true],
  ["nodiratime", abi.MOUNT_ATTR_NODIRATIME, false],
  ["diratime", abi.MOUNT_ATTR_NODIRATIME, true],
  ["nosymfollow", abi.MOUNT_ATTR_NOSYMFOLLOW, false],
  ["symfollow", abi.MOUNT_ATTR_NOSYMFOLLOW, true],
];

const ACCESS_TIMES: [name: string, attr: number][] = [
  ["relatime", abi.MOUNT_ATTR_RELATIME],
  // The spec: "norelatime: ... back to the default", which is relatime.
  ["norelatime", abi.MOUNT_ATTR_RELATIME],
  ["noatime", abi.MOUNT_ATTR_NOATIME],
  ["atime", abi.MOUNT_ATTR_RELATIME],
  ["strictatime", abi.MOUNT_ATTR_STRICTATIME],
  ["nostrictatime", abi.MOUNT_ATTR_RELATIME],
];

const PROPAGATION: [name: string, type: number][] = [
  ["private", abi.MS_PRIVATE],
  ["slave", abi.MS_SLAVE],
  ["shared", abi.MS_SHARED],
  ["unbindable", abi.MS_UNBINDABLE],
];

const SUPERBLOCK: [set: string, clear: string][] = [
  ["sync", "async"],
  ["lazytime", "nolazytime"],
  ["mand", "nomand"],
  ["iversion", "noiversion"],
];

/** What a bind clears as soon as an option names an attribute. */
const PLAIN =
  abi.MOUNT_ATTR_RDONLY |
  abi.MOUNT_ATTR_NOSUID |
  abi.MOUNT_ATTR_NODEV |
  abi.MOUNT_ATTR_NOEXEC |
  abi.MOUNT_ATTR_NOSYMFOLLOW;

describe("attributes", () => {
  test.each(ATTRIBUTES)("%s of a bind mount", (name, attr, clear) => {
    const plain = bind(name);
    const times = attr === abi.MOUNT_ATTR_NODIRATIME && !clear ? abi.MOUNT_ATTR__ATIME : 0;
    expect([plain.set, plain.clear]).toEqual(clear ? [0, PLAIN] : [attr, (PLAIN & ~attr) | times]);
    expect([plain.recSet, plain.recClear]).toEqual([0, 0]);
    const recursive = bind(`r${name}`);
    expect([recursive.recSet, recursive.recClear]).toEqual(clear ? [0, attr] : [attr, 0]);
    expect([recursive.set, recursive.clear]).toEqual([0, 0]);
  });

  test.each(ATTRIBUTES.filter(([, , clear]) => !clear))("%s of a file system", (name, attr) => {
    const { set, params } = compiled({ type: "proc", destination: "/proc", options: [name] });
    expect(set).toBe(attr);
    expect(params).toEqual(name === "ro" ? ["source=proc", "ro"] : ["source=proc"]);
  });

  test.each(ACCESS_TIMES)("%s takes the place of any other access time", (name, attr) => {
    for (const [other] of ACCESS_TIMES) {
      const recursive = bind(`r${other}`, `r${name}`);
      expect([recursive.recSet, recursive.recClear]).toEqual([attr, abi.MOUNT_ATTR__ATIME]);
    }
    expect(compiled({ type: "proc", destination: "/proc", options: [name] }).set).toBe(attr);
  });

  test("access times of a bind mount are its source's until one is set", () => {
    const all = PLAIN | abi.MOUNT_ATTR__ATIME | abi.MOUNT_ATTR_NODIRATIME;
    for (const [name, attr] of ACCESS_TIMES.filter((_, i) => i % 2 === 0)) {
      const plain = bind(name);
      expect([plain.set, plain.clear]).toEqual([attr, all]);
    }
    for (const names of [["norelatime"], ["atime"], ["nostrictatime"], ["noatime", "atime"]]) {
      const plain = bind(...names);
      expect([plain.set, plain.clear]).toEqual([0, PLAIN]);
    }
    const kept = bind("strictatime", "norelatime");
    expect([kept.set, kept.clear]).toEqual([abi.MOUNT_ATTR_STRICTATIME, all]);
  });

  test("a bind mount whose options name none keeps its source's", () => {
    const plain = bind("rprivate", "rro");
    expect([plain.set, plain.clear]).toEqual([0, 0]);
  });

  test("what a bind mount only clears because it is not named stays where it is locked", () => {
    const parse = (...options: string[]) => bindAttributes(parseMountOptions(options, "bind"), options);
    const rest = PLAIN & ~abi.MOUNT_ATTR_NOSYMFOLLOW;
    expect(parse("nosuid").implied).toBe(rest & ~abi.MOUNT_ATTR_NOSUID);
    expect(parse("rw", "dev").implied).toBe(rest & ~abi.MOUNT_ATTR_RDONLY & ~abi.MOUNT_ATTR_NODEV);
    expect(parse("relatime").implied).toBe(rest);
    expect(parse("rbind").implied).toBe(0);
  });

  test("the later of two that contradict counts", () => {
    for (const [i, [name]] of ATTRIBUTES.entries()) {
      const other = ATTRIBUTES[i ^ 1]![0];
      const both = bind(other, name);
      const one = bind(name);
      expect([both.set, both.clear]).toEqual([one.set, one.clear]);
    }
    expect(bind("ro", "rrw")).toMatchObject({ set: abi.MOUNT_ATTR_RDONLY, recClear: abi.MOUNT_ATTR_RDONLY });
  });

  test("those of a mount add up", () => {
    const { set } = bind("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow");
    const all = [abi.MOUNT_ATTR_RDONLY, abi.MOUNT_ATTR_NOSUID, abi.MOUNT_ATTR_NODEV, abi.MOUNT_ATTR_NOEXEC];
    const more = [abi.MOUNT_ATTR_NOATIME, abi.MOUNT_ATTR_NODIRATIME, abi.MOUNT_ATTR_NOSYMFOLLOW];
    expect(set).toBe([...all, ...more].reduce((sum, attr) => sum | attr, 0));
  });

  test("a read-only tmpfs or /dev becomes that at the end, after it was written to", () => {
    for (const mount of [{ type: "tmpfs" }, { type: "devtmpfs", destination: "/dev" }]) {
      const { set, params, late } = compiled({ ...mount, options: ["ro", "nosuid"] });
      expect([set, params.includes("ro"), late]).toEqual([abi.MOUNT_ATTR_NOSUID, false, true]);
      expect(compiled({ ...mount, options: ["ro", "rw"] }).late).toBe(false);
    }
    expect(compiled({ type: "mqueue", options: ["ro"] })).toMatchObject({
      set: abi.MOUNT_ATTR_RDONLY,
      late: false,
    });
    expect(bind("ro").late).toBe(false);
  });
});

describe("propagation", () => {
  test.each(PROPAGATION)("%s, and for all below with r", (name, type) => {
    expect(bind(name).propagation).toEqual([type, 0]);
    expect(bind(`r${name}`).propagation).toEqual([type | abi.MS_REC, 0]);
    expect(propagationFlag(name)).toBe(type);
    expect(propagationFlag(`r${name}`)).toBe(type | abi.MS_REC);
  });

  test("several are set in their order", () => {
    expect(bind("slave", "rshared").propagation).toEqual([abi.MS_SLAVE, abi.MS_SHARED | abi.MS_REC, 0]);
  });

  test("a tree that the parent opened is cut off from the host's mount, unless the bundle says otherwise", () => {
    const mount = (...options: string[]) => compiled({ type: "bind", source: "/srv", options }, userSpec());
    expect(mount("rbind")).toMatchObject({
      tree: 4,
      source: undefined,
      propagation: [abi.MS_SLAVE | abi.MS_REC, 0],
    });
    expect(mount("bind").propagation).toEqual([abi.MS_SLAVE, 0]);
    expect(mount("rbind", "private").propagation).toEqual([abi.MS_PRIVATE, 0]);
  });

  test("nothing else is a propagation", () => {
    for (const name of ["", "toString", "rro", "Private"]) expect(propagationFlag(name)).toBeUndefined();
  });
});

describe("file systems", () => {
  test.each(SUPERBLOCK)("%s is a flag of the superblock, and %s takes it back", (set, clear) => {
    expect(compiled({ options: [set] }).params).toContain(set);
    expect(compiled({ options: [set, clear] }).params).not.toContain(set);
    expect(compiled({ options: [clear, set] }).params).toContain(set);
    expect(compiled({ options: [clear] }).params).not.toContain(clear);
    expect(compiled({ options: ["dirsync"] }).params).toContain("dirsync");
  });

  test("get what no table knows as parameters, in order, at the first =", () => {
    const options = ["size=64k", "newinstance", "lowerdir=/a:/b=c", "x=", "mode=0755"];
    const { params, flags } = compiled({ source: "shm", options });
    expect(params).toEqual([...options, "source=shm"]);
    expect(flags & abi.BUNC_MOUNT_TAKE_MODE).toBe(0);
  });

  test("options that mean nothing here are left out", () => {
    for (const name of ["defaults", "silent", "loud", ""]) {
      expect(compiled({ options: [name] })).toEqual(compiled({ options: [] }));
    }
  });

  test("tmpfs takes the mode of what it covers, unless it is given one", () => {
    expect(compiled({}).flags & abi.BUNC_MOUNT_TAKE_MODE).toBeTruthy();
    expect(compiled({ type: "mqueue" }).flags & abi.BUNC_MOUNT_TAKE_MODE).toBe(0);
  });

  test("tmpcopyup copies", () => {
    expect(compiled({ options: ["tmpcopyup"] }).flags & abi.BUNC_MOUNT_COPY_UP).toBeTruthy();
    expect(compiled({}).flags & abi.BUNC_MOUNT_COPY_UP).toBe(0);
  });

  test("proc and sysfs are mounted on a directory of the image, not behind a link", () => {
    for (const [type, destination] of [
      ["proc", "/proc"],
      ["sysfs", "/sys"],
    ] as const) {
      expect(compiled({ type, destination }).flags & abi.BUNC_MOUNT_NO_LINKS).toBeTruthy();
    }
    expect(compiled({ type: "mqueue" }).flags & abi.BUNC_MOUNT_NO_LINKS).toBe(0);
  });

  test("a label goes to those that can have one", () => {
    for (const [type, has] of [
      ["tmpfs", true],
      ["devpts", true],
      ["mqueue", false],
    ] as const) {
      const spec = plainSpec();
      spec.linux!.mountLabel = "a:b,c";
      expect(compiled({ type }, spec).params.includes("context=a:b,c")).toBe(has);
    }
  });
});

describe("remounts", () => {
  const remount = (...options: string[]) => compiled({ type: "tmpfs", options: ["remount", ...options] });

  test("change what is there: attributes, parameters, propagation", () => {
    const changed = remount("ro", "nosuid", "dev", "size=1k", "rslave");
    expect(changed).toMatchObject({
      type: undefined,
      source: undefined,
      set: abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID,
      clear: abi.MOUNT_ATTR_NODEV,
      params: ["size=1k"],
      propagation: [abi.MS_SLAVE | abi.MS_REC, 0],
      flags: abi.BUNC_MOUNT_REMOUNT,
      // It is asked for now, and nothing is mounted that would be written to.
      late: false,
    });
  });

  test("of a bind mount leave the file system alone", () => {
    expect(compiled({ options: ["remount", "bind", "ro"] })).toMatchObject({
      params: [],
      set: abi.MOUNT_ATTR_RDONLY,
    });
  });

  test("take the flags of a superblock, too", () => {
    expect(remount("sync").params).toEqual(["sync"]);
  });
});

describe("binds", () => {
  test("are told by option or by type", () => {
    expect(bind()).toMatchObject({ type: undefined, source: "/srv" });
    expect(compiled({ type: "none", source: "/srv", options: ["rbind"] })).toMatchObject({ source: "/srv" });
    expect(compiled({ type: "bind", source: "/srv" }).source).toBe("/srv");
    expect(bind().flags & abi.BUNC_MOUNT_RECURSIVE).toBe(0);
    expect(bind("rbind").flags & abi.BUNC_MOUNT_RECURSIVE).toBeTruthy();
  });

  test("of a relative source are below the bundle", () => {
    expect(compiled({ type: "bind", source: "data/x", options: ["bind"] }).source).toBe("/bundle/data/x");
  });

  test("idmap and ridmap make the parent open the source", () => {
    for (const option of ["idmap", "ridmap"]) {
      const flags = parseMountOptions(["rbind", option], "bind");
      expect([flags.idmap, flags.idmapRecursive]).toEqual([true, option === "ridmap"]);
      expect(bind(option)).toMatchObject({ tree: 4, source: undefined });
    }
  });

  test("over /proc are of a proc, inside of it only of the files that lxcfs has", () => {
    const over = (destination: string) =>
      compiled({ type: "bind", source: "/x", destination, options: ["bind"] }).flags;
    expect(over("/proc")).toBe(abi.BUNC_MOUNT_ONLY_PROC);
    expect(over("/proc/meminfo")).toBe(0);
    expect(over("/data")).toBe(abi.BUNC_MOUNT_GUARD_PROC);
    for (const destination of ["/proc/sys/kernel", "/proc/../proc/1", "//proc//self"]) {
      expect(() => over(destination)).toThrow("inside /proc");
    }
    expect(() => compiled({ type: "tmpfs", destination: "/proc" })).toThrow("not of type proc");
    expect(() => compiled({ type: "tmpfs", destination: "/x/.." })).toThrow("the root of the container");
  });
});

describe("the tables", () => {
  test("know every option of the specification, and validation knows the same", () => {
    const mine = knownMountOptions();
    const validated = MOUNT_OPTIONS.trim().split(" ").sort();
    expect(mine.filter((name) => !validated.includes(name))).toEqual([]);
    expect(validated.filter((name) => !mine.includes(name))).toEqual([]);
    expect(new Set(mine).size).toBe(mine.length);
  });

  test("take no name of Object for an option", () => {
    for (const name of ["constructor", "toString", "__proto__", "rconstructor", "hasOwnProperty"]) {
      expect(parseMountOptions([name], "tmpfs").data).toEqual([{ text: name, index: 0 }]);
    }
  });

  test("each option of a table has some effect, and is no parameter of the file system", () => {
    const nothing = parseMountOptions(["bind"], undefined);
    for (const name of knownMountOptions()) {
      const flags = parseMountOptions(["bind", name], undefined);
      expect(flags.data).toEqual([]);
      if (/^(defaults|silent|loud|bind|async|nolazytime|nomand|noiversion)$/.test(name)) continue;
      expect([name, JSON.stringify(flags)]).not.toEqual([name, JSON.stringify(nothing)]);
    }
  });

  test("any order of unrelated options means the same", () => {
    const options = ["ro", "nosuid", "rnoexec", "noatime", "lazytime", "size=1k", "tmpcopyup"];
    const wanted = parseMountOptions(options, "tmpfs");
    const turned = parseMountOptions([...options].reverse(), "tmpfs");
    const same = (flags: typeof wanted) => ({ ...flags, data: flags.data.map(({ text }) => text) });
    expect(same(turned)).toEqual(same(wanted));
  });
});
