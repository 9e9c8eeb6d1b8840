// Namespaces that were joined by path, as criu is told of them.
import { describe, expect, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { closeFd } from "../linux/process.ts";
import { dumpNamespaces, restoreNamespaces } from "./namespaces.ts";

const NET = "/proc/self/ns/net";
const inode = /\d+/.exec(readlinkSync(NET))![0];
const NEW = 40101;

describe("at a dump", () => {
  test("those of the network and of pids are left out, by their inodes", () => {
    const namespaces = [{ type: "NEWNET", path: NET }, { type: "NEWPID" }, { type: "NEWIPC", path: "/x" }];
    expect(dumpNamespaces({ namespaces }, NEW)).toEqual([`net[${inode}]:extRootNetNS`]);
    expect(dumpNamespaces({ namespaces: null }, NEW)).toEqual([]);
  });

  test("a criu that is too old for one is told of by runc's words", () => {
    const namespaces = [{ type: "NEWPID", path: "/proc/self/ns/pid" }];
    expect(() => dumpNamespaces({ namespaces }, 31400)).toThrow(
      "criu lacks support for external pid namespace during checkpointing process (old criu version?)",
    );
    expect(dumpNamespaces({ namespaces: [{ type: "NEWPID" }] }, 30000)).toEqual([]);
  });

  test("one that is gone is named", () => {
    const namespaces = [{ type: "NEWNET", path: "/no/such/ns" }];
    expect(() => dumpNamespaces({ namespaces }, NEW)).toThrow("stat /no/such/ns: no such file or directory");
  });
});

describe("at a restore", () => {
  test("they are handed over open, the others by path", () => {
    const namespaces = [
      { type: "NEWPID", path: "/proc/self/ns/pid" },
      { type: "NEWUTS", path: "/run/uts" },
      { type: "NEWNET", path: NET },
      { type: "NEWNS" },
    ];
    const { inherit, join, fds } = restoreNamespaces({ namespaces }, NEW, 5);
    expect(inherit).toEqual([
      { key: "extRootPidNS", fd: 5 },
      { key: "extRootNetNS", fd: 6 },
    ]);
    expect(join).toEqual([{ ns: "uts", ns_file: "/run/uts" }]);
    expect(fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`))[1]).toBe(`net:[${inode}]`);
    for (const fd of fds) closeFd(fd);
  });

  test("what criu cannot join, and what is gone", () => {
    const cgroup = [{ type: "NEWCGROUP", path: "/proc/self/ns/cgroup" }];
    expect(() => restoreNamespaces({ namespaces: cgroup }, NEW, 5)).toThrow(
      "Do not know how to handle namespace NEWCGROUP",
    );
    const gone = [{ type: "NEWNET", path: "/no/such/ns" }];
    expect(() => restoreNamespaces({ namespaces: gone }, NEW, 5)).toThrow(
      "Requested network namespace /no/such/ns does not exist",
    );
  });
});
