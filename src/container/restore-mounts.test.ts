// Which mount points are made before a restore.
import { expect, test } from "bun:test";
import { abi } from "../linux/abi.gen.ts";
import { compileMountPoints } from "./restore-mounts.ts";

const mount = (device: string, destination: string, source = device) => ({ device, destination, source });

/** [operation, target] of what makes a mount point. */
function targets(...mounts: ReturnType<typeof mount>[]): [string, string][] {
  return compileMountPoints("/b/rootfs", mounts)
    .ops.filter(({ call }) => call === abi.BUNC_OP_MKPATH || call === abi.BUNC_OP_MOUNT)
    .map(({ call, args }) => [call === abi.BUNC_OP_MOUNT ? "bind" : "directory", String(args[1])]);
}

test("directories for file systems, and bind mounts, which later ones may lie in", () => {
  expect(
    targets(mount("proc", "/proc"), mount("bind", "/data", "/src"), mount("bind", "/data/in/ner", "/other")),
  ).toEqual([
    ["directory", "/proc"],
    ["bind", "/data"],
    ["bind", "/data/in/ner"],
  ]);
});

test("nothing for cgroups, on a tmpfs, and at the root", () => {
  const list = [
    mount("tmpfs", "/dev"),
    mount("devpts", "/dev/pts"),
    mount("bind", "/dev/x", "/y"),
    mount("bind", "/device", "/y"),
    mount("cgroup", "/sys/fs/cgroup"),
    mount("cgroup2", "/cg"),
    mount("bind", "/./", "/y"),
  ];
  expect(targets(...list)).toEqual([
    ["directory", "/dev"],
    ["bind", "/device"],
  ]);
});

test("a destination may name the rootfs", () => {
  expect(targets(mount("bind", "/b/rootfs/data", "/src"), mount("bind", "/b/rootfsdata", "/src"))).toEqual([
    ["bind", "/data"],
    ["bind", "/b/rootfsdata"],
  ]);
});

test("all of it in a mount namespace that follows the host's, and not the other way", () => {
  const [first] = compileMountPoints("/b/rootfs", []).ops;
  expect([first!.call, first!.args[3]]).toEqual([abi.SYS_mount, abi.MS_SLAVE | abi.MS_REC]);
});
