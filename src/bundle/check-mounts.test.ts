import { describe, expect, test } from "bun:test";
import { defaultSpec } from "../oci/spec-default.ts";
import { type Config, check, table } from "./check-cases.ts";

describe("mounts", () => {
  const mount = (value: object) => (c: Config) => {
    c.mounts = [value];
  };
  const mapping = [{ containerID: 0, hostID: 1000, size: 10 }];
  const bind = { destination: "/a", source: "/b", options: ["bind"] };
  table(defaultSpec, [
    [
      "bind with data",
      mount({ ...bind, options: ["rbind", "ro", "mode=755", "defaults"] }),
      'mounts[0].options[2]: bind mounts cannot have any filesystem-specific options applied, and "mode=755" is one',
    ],
    [
      "bind without source",
      mount({ destination: "/a", options: ["rbind"] }),
      "mounts[0].source: is required for a bind mount",
    ],
    [
      "bind by type only",
      mount({ destination: "/a", source: "/b", type: "bind" }),
      'mounts[0].options: a mount of type "bind" needs "bind" or "rbind" in its options',
    ],
    [
      "no type",
      mount({ destination: "/a", source: "/b" }),
      'mounts[0].type: is required, unless the options have "bind" or "rbind"',
    ],
    ["a remount has none", mount({ destination: "/a", options: ["remount", "ro"] })],
    [
      "tmpcopyup of proc",
      mount({ destination: "/a", type: "proc", options: ["ro", "tmpcopyup"] }),
      'mounts[0].options[1]: "tmpcopyup" is only for tmpfs, not "proc"',
    ],
    [
      "tmpcopyup of a bind",
      mount({ ...bind, type: "tmpfs", options: ["tmpcopyup", "bind"] }),
      'mounts[0].options[0]: "tmpcopyup" is only for tmpfs, not a bind mount',
    ],
    ["tmpcopyup", mount({ destination: "/a", type: "tmpfs", options: ["tmpcopyup", "size=1m"] })],
    ["destination empty", mount({ ...bind, destination: "" }), "mounts[0].destination: must not be empty"],
    [
      "idmap of no bind",
      mount({ destination: "/a", type: "tmpfs", uidMappings: mapping, gidMappings: mapping }),
      "mounts[0]: id-mapped mounts are only supported for bind-mounts",
    ],
    [
      "idmap of one side",
      mount({ ...bind, uidMappings: mapping }),
      "mounts[0].gidMappings: id-mapped mounts must have both uid and gid mappings specified",
    ],
    [
      "idmap of the other side",
      mount({ ...bind, uidMappings: [], gidMappings: mapping }),
      "mounts[0].uidMappings: id-mapped mounts must have both uid and gid mappings specified",
    ],
    [
      "idmap of nothing",
      mount({ ...bind, options: ["bind", "idmap"] }),
      "mounts[0]: id-mapped mounts without mappings of their own need a user namespace",
    ],
    [
      "idmap with mappings",
      mount({ ...bind, options: ["rbind", "ridmap"], uidMappings: mapping, gidMappings: mapping }),
    ],
    ["crun's form", mount({ ...bind, options: ["bind", "idmap=uids=0-1-10;gids=0-1-10"] })],
  ]);

  test("every option of the specification is known for binds", () => {
    const options =
      "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync unbindable";
    expect(check(defaultSpec(), mount({ ...bind, options: options.split(" ") })).problems).toEqual([]);
  });

  test("a relative destination is a warning", () => {
    expect(check(defaultSpec(), mount({ ...bind, destination: "a" })).warnings).toEqual([
      'mounts[0].destination: mount destination "a" is not absolute, taken as relative to "/" (deprecated)',
    ]);
  });
});

describe("id mappings", () => {
  const set = (uidMappings: object[]) => (c: Config) => {
    c.linux.namespaces.push({ type: "user" });
    c.linux.uidMappings = uidMappings;
    c.linux.gidMappings = [{ containerID: 0, hostID: 0, size: 1 }];
  };
  const map = (containerID: number, hostID: number, size: number) => ({ containerID, hostID, size });
  table(defaultSpec, [
    ["no size", set([map(0, 0, 1), map(1, 1, 0)]), "linux.uidMappings[1].size: must not be 0"],
    ["the whole range", set([map(0, 0, 4294967295)])],
    [
      "beyond the last id",
      set([map(0, 1, 4294967295)]),
      "linux.uidMappings[0].hostID: 4294967295 ids from 1 go beyond the last one, 4294967294",
    ],
    [
      "overlaps",
      set([map(0, 100, 10), map(10, 200, 10), map(19, 109, 5)]),
      "linux.uidMappings[2].containerID: overlaps the mapping at [1]",
      "linux.uidMappings[2].hostID: overlaps the mapping at [0]",
    ],
    ["side by side", set([map(0, 100, 10), map(10, 110, 10)])],
    [
      "too many",
      set(Array.from({ length: 341 }, (_, i) => map(i, i, 1))),
      "linux.uidMappings: has 341 entries, and the kernel takes 340 at most",
    ],
    ["the most", set(Array.from({ length: 340 }, (_, i) => map(i, i, 1)))],
  ]);
});
