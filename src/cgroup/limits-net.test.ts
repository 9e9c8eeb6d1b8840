import { describe, expect, test } from "bun:test";
import type { LinuxResources } from "../oci/config.ts";
import { groupOf, type Host, SEPARATE, V2, writes } from "./testing.ts";

const V1: Host = {
  ...SEPARATE,
  mountinfo:
    SEPARATE.mountinfo +
    ["blkio", "net_cls", "net_prio", "rdma"]
      .map(
        (name, i) =>
          `${50 + i} 31 0:${50 + i} / /sys/fs/cgroup/${name} rw shared:1 - cgroup cgroup rw,${name}\n`,
      )
      .join(""),
  self: `${SEPARATE.self}7:blkio:/\n8:net_cls:/\n9:net_prio:/\n10:rdma:/\n`,
};
const WITH_RDMA: Host = { ...V2, controllers: "cpuset cpu io memory hugetlb pids rdma\n" };

const late = (host: Host, resources: LinuxResources) =>
  writes(groupOf(host, { resources }).compileLimits()).filter((text) => !text.startsWith("devices."));

const ALL: LinuxResources = {
  network: { classID: 1048577, priorities: [{ name: "lo", priority: 5 }] },
  rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 10000 }, mlx4_0: { hcaObjects: 0 } },
};
const RDMA = ["rdma.max < mlx5_1 hca_handle=3 hca_object=10000", "rdma.max < mlx4_0 hca_object=0"];

test("v1", () => {
  expect(late(V1, ALL)).toEqual(["net_cls.classid < 1048577", "net_prio.ifpriomap < lo 5", ...RDMA]);
});

test("v2: what it has no word for is told", () => {
  expect(late(WITH_RDMA, ALL)).toEqual([...RDMA]);
  expect(groupOf(WITH_RDMA, { resources: ALL }).warnings.map((text) => text.split(" ")[0])).toEqual([
    "linux.resources.network.classID",
    "linux.resources.network.priorities",
  ]);
});

describe("a controller that is not there", () => {
  for (const [resources, name] of [
    [{ network: { classID: 1 } }, "net_cls"],
    [{ network: { priorities: [{ name: "lo", priority: 1 }] } }, "net_prio"],
    [{ rdma: { a: { hcaHandles: 1 } } }, "rdma"],
  ] as const) {
    test(name, () => {
      expect(() => late(SEPARATE, resources as LinuxResources)).toThrow(
        `cannot set ${name} limit: container could not join or create cgroup`,
      );
    });
  }
  test("rdma on v2", () => {
    expect(() => late(V2, { rdma: { a: { hcaHandles: 1 } } })).toThrow("cannot set rdma limit");
  });
});

test("a device name cannot add words of its own", () => {
  for (const name of ["", "a b", "a\nb"]) {
    expect(() => late(V1, { rdma: { [name]: { hcaHandles: 1 } } })).toThrow("invalid RDMA device name");
  }
});
