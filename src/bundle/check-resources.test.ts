import { describe, expect, test } from "bun:test";
import { defaultSpec } from "../oci/spec-default.ts";
import { type Config, check, table } from "./check-cases.ts";

describe("resources", () => {
  const set = (resources: object) => (c: Config) => {
    c.linux.resources = resources;
  };
  const at = "linux.resources";
  test("a device rule with other letters is a warning", () => {
    const { problems, warnings } = check(defaultSpec(), set({ devices: [{ allow: false, access: "rwa" }] }));
    expect(problems).toEqual([]);
    expect(warnings).toEqual([`${at}.devices[0].access: ignoring what is not "r", "w" or "m" in "rwa"`]);
  });

  table(defaultSpec, [
    [
      "device rules",
      set({
        devices: [
          { allow: true },
          { allow: true, access: "rx" },
          { allow: true, type: "p", major: -2, minor: 2 ** 32, access: "m" },
        ],
      }),
      `${at}.devices[0].access: device access at 0 field cannot be empty`,
      `${at}.devices[2].type: invalid cgroup device type "p"; one of a, c, b`,
      `${at}.devices[2].major: must be an integer from -1 (any) to 4294967295, not -2`,
      `${at}.devices[2].minor: must be an integer from -1 (any) to 4294967295, not 4294967296`,
    ],
    [
      "swap below memory",
      set({ memory: { limit: 2, swap: 1 } }),
      `${at}.memory.swap: memory+swap limit should be >= memory limit`,
    ],
    [
      "swap without memory",
      set({ memory: { swap: 1 } }),
      `${at}.memory.swap: unable to set swap limit without memory limit`,
    ],
    [
      "no limits",
      set({
        memory: { limit: -1, swap: -1, reservation: -1, swappiness: 2n ** 64n - 1n },
        pids: { limit: 0 },
      }),
    ],
    [
      "wrong limits",
      set({ memory: { limit: -2, swappiness: 101 } }),
      `${at}.memory.limit: must be a number of bytes, or -1 for no limit, not -2`,
      `${at}.memory.swappiness: invalid memory swappiness value: 101 (valid range is 0-100)`,
    ],
    [
      "cpu",
      set({ cpu: { quota: 10, burst: 11, idle: 2, cpus: "a", mems: "0-" } }),
      `${at}.cpu.burst: must be no larger than the quota 10, not 11`,
      `${at}.cpu.idle: must be 0 or 1, not 2`,
      `${at}.cpu.cpus: "a" is not a list like "0-3,7"`,
      `${at}.cpu.mems: "0-" is not a list like "0-3,7"`,
    ],
    ["cpu without limit", set({ cpu: { quota: -1, burst: 11, cpus: "" } })],
    [
      "blockIO",
      set({
        blockIO: {
          weight: 9,
          leafWeight: 0,
          weightDevice: [
            { major: 8, minor: -1 },
            { major: 8, minor: 0, weight: 1001 },
          ],
          throttleReadBpsDevice: [{ major: 2 ** 32, minor: 0, rate: 1 }],
        },
      }),
      `${at}.blockIO.weight: must be from 10 to 1000, or 0, not 9`,
      `${at}.blockIO.weightDevice[0]: needs weight or leafWeight`,
      `${at}.blockIO.weightDevice[0].minor: must be an integer from 0 to 4294967295, not -1`,
      `${at}.blockIO.weightDevice[1].weight: must be from 10 to 1000, or 0, not 1001`,
      `${at}.blockIO.throttleReadBpsDevice[0].major: must be an integer from 0 to 4294967295, not 4294967296`,
    ],
    [
      "the rest",
      set({
        hugepageLimits: [
          { pageSize: "2M", limit: 1 },
          { pageSize: "../2MB", limit: 1 },
        ],
        network: { priorities: [{ name: "a b", priority: 1 }] },
        rdma: { dev: {} },
        unified: { "../x.y": "", cgroup: "", ".x": "", "memory.max": "1", constructor: "" },
      }),
      `${at}.hugepageLimits[0].pageSize: "2M" is not a size like "64KB", "2MB" or "1GB"`,
      `${at}.hugepageLimits[1].pageSize: "../2MB" is not a size like "64KB", "2MB" or "1GB"`,
      `${at}.network.priorities[0].name: invalid network device name "a b"`,
      `${at}.rdma.dev: needs hcaHandles or hcaObjects`,
      `${at}.unified["../x.y"]: unified resource "../x.y" must be a file name (no slashes)`,
      `${at}.unified.cgroup: unified resource "cgroup" must be in the form CONTROLLER.PARAMETER`,
      `${at}.unified[".x"]: unified resource ".x" must be in the form CONTROLLER.PARAMETER`,
      `${at}.unified.constructor: unified resource "constructor" must be in the form CONTROLLER.PARAMETER`,
    ],
    [
      "cgroupsPath",
      (c) => (c.linux.cgroupsPath = "/a/../../b"),
      'linux.cgroupsPath: must not have ".." in it: "/a/../../b"',
    ],
    ["cgroupsPath of systemd", (c) => (c.linux.cgroupsPath = "system.slice:docker:a..b")],
  ]);
});
