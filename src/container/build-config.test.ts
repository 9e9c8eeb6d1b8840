import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import type { Spec } from "../oci/config.ts";
import { buildConfig, type ConfigInput } from "./build-config.ts";

const input: ConfigInput = {
  id: "cst-x1",
  bundle: "/tmp/cst/b",
  rootfs: "/tmp/cst/b/rootfs",
  noPivot: false,
  noNewKeyring: false,
  systemdCgroup: false,
  rootlessEuid: false,
  rootlessCgroups: false,
};

describe("buildConfig", () => {
  const build = (part: Partial<Spec>, more: Partial<ConfigInput> = {}) =>
    buildConfig({ ociVersion: "1.3.0", ...part }, { ...input, ...more });
  const MS = abi;

  test("mount options: flags, cleared flags, propagation, recursive attributes, data, extensions", () => {
    const mount = (options: string[], type = "tmpfs", source = "tmpfs") =>
      build({ mounts: [{ destination: "/m", type, source, options }] }).mounts?.[0];
    expect(mount(["ro", "nosuid", "size=1k", "rw", "rprivate", "tmpcopyup", "mode=1"])).toEqual({
      source: "tmpfs",
      destination: "/m",
      device: "tmpfs",
      flags: MS.MS_NOSUID,
      cleared_flags: MS.MS_RDONLY,
      propagation_flags: [MS.MS_PRIVATE | MS.MS_REC],
      data: "size=1k,mode=1",
      extensions: 1,
    });
    expect(mount(["rbind", "rro", "rdev"], "none", "a/../b")).toEqual({
      source: "/tmp/cst/b/b",
      destination: "/m",
      device: "bind",
      flags: MS.MS_BIND | MS.MS_REC,
      rec_attr: {
        Attr_set: MS.MOUNT_ATTR_RDONLY,
        Attr_clr: MS.MOUNT_ATTR_NODEV,
        Propagation: 0,
        Userns_fd: 0,
      },
    });
    expect(mount(["defaults"])).toEqual({ source: "tmpfs", destination: "/m", device: "tmpfs" });
    expect(mount(["bind"], "bind", "/host")?.source).toBe("/host");
  });

  test("user namespaces: mappings, owners of devices, idmapped mounts", () => {
    const uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
    const gidMappings = [{ containerID: 0, hostID: 200000, size: 65536 }];
    const mounts = [{ destination: "/m", source: "/s", options: ["bind", "ridmap"] }];
    const made = build({ linux: { namespaces: [{ type: "user" }], uidMappings, gidMappings }, mounts });
    expect(made.uid_mappings).toEqual([{ container_id: 0, host_id: 100000, size: 65536 }]);
    expect(made.devices?.[0]).toMatchObject({ path: "/dev/null", uid: 100000, gid: 200000 });
    expect(made.mounts?.[0]?.id_mapping).toEqual({
      recursive: true,
      uid_mappings: [{ container_id: 0, host_id: 100000, size: 65536 }],
      gid_mappings: [{ container_id: 0, host_id: 200000, size: 65536 }],
    });
    const linux = { namespaces: [{ type: "user" as const, path: "/proc/1/ns/user" }] };
    const joined = build({ linux, mounts }, { joinedIds: { uid: uidMappings, gid: gidMappings } });
    expect(joined.mounts?.[0]?.id_mapping).toEqual({ recursive: true, userns_path: "/proc/1/ns/user" });
    expect(joined.gid_mappings).toEqual([{ container_id: 0, host_id: 200000, size: 65536 }]);
  });

  test("a writable cgroup mount in a cgroup namespace belongs to the user of the program", () => {
    const cgroup = { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup" };
    const user = { user: { uid: 5, gid: 5 }, cwd: "/" };
    const linux = { namespaces: [{ type: "cgroup" as const }] };
    expect(build({ mounts: [cgroup], process: user, linux }).cgroups.owner_uid).toBe(5);
    const readonly = [{ ...cgroup, options: ["ro"] }];
    expect(build({ mounts: readonly, process: user, linux }).cgroups.owner_uid).toBeUndefined();
    expect(build({ mounts: [cgroup], process: user }).cgroups.owner_uid).toBeUndefined();
  });

  test("cgroups: cgroupfs by path or id, systemd by its three parts", () => {
    const at = (cgroupsPath: string, systemdCgroup = false) =>
      build({ linux: { cgroupsPath } }, { systemdCgroup }).cgroups;
    expect(at("/a/../../b")).toMatchObject({ path: "/b" });
    expect(at("../../b")).toMatchObject({ path: "b" });
    expect(at("")).toMatchObject({ name: "cst-x1" });
    expect(at("a.slice:pre:name", true)).toMatchObject({
      parent: "a.slice",
      scope_prefix: "pre",
      name: "name",
      Systemd: true,
    });
    expect(at("", true)).toMatchObject({ scope_prefix: "runc", name: "cst-x1" });
    // runc 1.1 needs at least one resource.
    expect(at("/x").devices.length).toBe(11);
  });

  test("resources, every one", () => {
    const device = { major: 8, minor: 0 };
    const rate = [{ ...device, rate: 2n ** 63n }];
    const { cgroups } = build({
      linux: {
        resources: {
          devices: [
            { allow: true, type: "c", major: 1, minor: 3, access: "rw" },
            { allow: false, access: "rwm" },
          ],
          memory: { limit: -1, reservation: 1, swap: 2n ** 62n, swappiness: 0, disableOOMKiller: true },
          cpu: {
            shares: 1024,
            quota: 5,
            burst: 0,
            period: 6,
            realtimeRuntime: 7,
            realtimePeriod: 8,
            cpus: "0-1",
            mems: "0",
            idle: 0,
          },
          pids: { limit: 0 },
          blockIO: {
            weight: 10,
            leafWeight: 11,
            weightDevice: [{ ...device, weight: 12 }],
            throttleReadBpsDevice: rate,
            throttleWriteBpsDevice: rate,
            throttleReadIOPSDevice: rate,
            throttleWriteIOPSDevice: rate,
          },
          hugepageLimits: [{ pageSize: "2MB", limit: 9 }],
          network: { classID: 0x100001, priorities: [{ name: "eth0", priority: 3 }] },
          rdma: { mlx5_1: { hcaHandles: 3 } },
          unified: { "memory.high": "1" },
        },
      },
    });
    const rates = [{ major: 8, minor: 0, rate: 2n ** 63n }];
    const { devices, ...rest } = cgroups;
    expect(devices.slice(0, 2)).toEqual([
      { type: 99, major: 1, minor: 3, permissions: "rw", allow: true },
      { type: 97, major: -1, minor: -1, permissions: "rwm", allow: false },
    ]);
    expect(rest).toEqual({
      name: "cst-x1",
      memory: -1,
      memory_reservation: 1,
      memory_swap: 2n ** 62n,
      memory_swappiness: 0,
      oom_kill_disable: true,
      cpu_shares: 1024,
      cpu_weight: 100,
      cpu_quota: 5,
      cpu_burst: 0,
      cpu_period: 6,
      cpu_rt_quota: 7,
      cpu_rt_period: 8,
      cpuset_cpus: "0-1",
      cpuset_mems: "0",
      cpu_idle: 0,
      pids_limit: 0,
      blkio_weight: 10,
      blkio_leaf_weight: 11,
      blkio_weight_device: [{ major: 8, minor: 0, weight: 12, leafWeight: 0 }],
      blkio_throttle_read_bps_device: rates,
      blkio_throttle_write_bps_device: rates,
      blkio_throttle_read_iops_device: rates,
      blkio_throttle_write_iops_device: rates,
      hugetlb_limit: [{ page_size: "2MB", limit: 9 }],
      net_cls_classid_u: 0x100001,
      net_prio_ifpriomap: [{ interface: "eth0", priority: 3 }],
      rdma: { mlx5_1: { hca_handles: 3 } },
      unified: { "memory.high": "1" },
    });
  });

  test("a device of the bundle takes the place of a default one", () => {
    const config = build({
      linux: { devices: [{ path: "/dev/null", type: "c", major: 1, minor: 3, fileMode: 0o20600, uid: 7 }] },
    });
    const found = config.devices?.filter(({ path }) => path === "/dev/null");
    expect(found).toEqual([
      {
        type: 99,
        major: 1,
        minor: 3,
        permissions: "",
        allow: false,
        path: "/dev/null",
        file_mode: 0o600,
        uid: 7,
      },
    ]);
    expect(config.cgroups.devices.some(({ major, minor }) => major === 1 && minor === 3)).toBe(false);
  });

  test("the rest of linux and process", () => {
    const config = build(
      {
        root: { path: "rootfs", readonly: true },
        domainname: "d",
        linux: {
          namespaces: [{ type: "network", path: "/n" }, { type: "time" }],
          rootfsPropagation: "rslave",
          sysctl: { a: "1" },
          timeOffsets: { boottime: { secs: 1 } },
          netDevices: { eth0: { name: "e" } },
          personality: { domain: "LINUX32" },
          intelRdt: { closID: "c", enableMonitoring: true },
          memoryPolicy: { mode: "MPOL_BIND", nodes: "0,65", flags: ["MPOL_F_STATIC_NODES"] },
          mountLabel: "l",
        },
        process: {
          user: { uid: 1, gid: 2, umask: 0 },
          cwd: "/",
          oomScoreAdj: 0,
          selinuxLabel: "s",
          scheduler: { policy: "SCHED_BATCH", nice: 1 },
          ioPriority: { class: "IOPRIO_CLASS_BE", priority: 4 },
          execCPUAffinity: { initial: "0-63", final: "" },
          capabilities: { inheritable: [], ambient: ["CAP_KILL"] },
        },
      },
      { noPivot: true, noNewKeyring: true },
    );
    expect(config).toMatchObject({
      no_pivot_root: true,
      no_new_keyring: true,
      readonlyfs: true,
      domainname: "d",
      namespaces: [{ type: "NEWNET", path: "/n" }, { type: "NEWTIME" }],
      rootPropagation: abi.MS_SLAVE | abi.MS_REC,
      sysctl: { a: "1" },
      time_offsets: { boottime: { secs: 1 } },
      netDevices: { eth0: { name: "e" } },
      personality: { domain: 8 },
      intel_rdt: { closID: "c", enableMonitoring: true },
      memory_policy: { mode: abi.MPOL_BIND, flags: abi.MPOL_F_STATIC_NODES, nodes: [1, 2] },
      mount_label: "l",
      umask: 0,
      oom_score_adj: 0,
      process_label: "s",
      scheduler: { policy: "SCHED_BATCH", nice: 1 },
      io_priority: { class: "IOPRIO_CLASS_BE", priority: 4 },
      exec_cpu_affinity: { Initial: [2n ** 64n - 1n], Final: null },
      capabilities: { Ambient: ["CAP_KILL"] },
    });
    // The host's network is joined: no loopback to bring up.
    expect(config.networks).toBeUndefined();
  });

  test("seccomp: numbers and names of libcontainer, one entry per call", () => {
    const seccomp = (profile: object) => build({ linux: { seccomp: profile as never } }).seccomp;
    expect(
      seccomp({
        defaultAction: "SCMP_ACT_ERRNO",
        defaultErrnoRet: 38,
        architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        flags: [],
        listenerPath: "/l",
        listenerMetadata: "m",
        syscalls: [
          {
            names: ["read", "clone"],
            action: "SCMP_ACT_NOTIFY",
            args: [{ index: 1, value: 2n ** 63n, valueTwo: 1, op: "SCMP_CMP_MASKED_EQ" }],
          },
        ],
      }),
    ).toEqual({
      default_action: 2,
      default_errno_ret: 38,
      architectures: ["amd64", "x86", "arm64"],
      flags: [],
      listener_path: "/l",
      listener_metadata: "m",
      syscalls: ["read", "clone"].map((name) => ({
        name,
        action: 7,
        errnoRet: null,
        args: [{ index: 1, value: 2n ** 63n, value_two: 1, op: 7 }],
      })),
    });
    expect(seccomp({ defaultAction: "", syscalls: [] })).toBeUndefined();
  });
});
