import { describe, expect, test } from "bun:test";
import { defaultSpec } from "../oci/spec-default.ts";
import { type Config, check, table } from "./check-cases.ts";
import { fullConfig } from "./examples.ts";

function withNamespaces(...types: string[]) {
  return (config: Config) => {
    config.linux.namespaces = types.map((type) => ({ type }));
  };
}

describe("namespaces and what needs them", () => {
  const none = withNamespaces();
  const joined = (type: string) => (c: Config) => {
    c.linux.namespaces.push({ type, path: `/proc/1/ns/${type}` });
  };
  const both =
    (...changes: ((c: Config) => void)[]) =>
    (c: Config) => {
      for (const change of changes) change(c);
    };
  const mappings = (c: Config) => {
    c.linux.uidMappings = c.linux.gidMappings = [{ containerID: 0, hostID: 1000, size: 10 }];
  };
  table(defaultSpec, [
    [
      "none at all",
      none,
      "hostname: unable to set hostname without a private UTS namespace",
      "linux.maskedPaths: unable to restrict sys entries without a private MNT namespace",
      "linux.readonlyPaths: unable to restrict sys entries without a private MNT namespace",
    ],
    ["no linux", (c) => delete c.linux, "hostname: unable to set hostname without a private UTS namespace"],
    [
      "three of one",
      (c) => c.linux.namespaces.push({ type: "ipc" }, { type: "ipc" }),
      'linux.namespaces[5].type: malformed spec file: duplicated ns "ipc"',
      'linux.namespaces[6].type: malformed spec file: duplicated ns "ipc"',
    ],
    [
      "a relative path",
      (c) => (c.linux.namespaces[0].path = "ns/pid"),
      'linux.namespaces[0].path: must be an absolute path, not "ns/pid"',
    ],
    ["an empty path is none", (c) => (c.linux.namespaces[0].path = "")],
    [
      "domainname",
      both(none, (c) => {
        delete c.hostname;
        c.domainname = "d";
        c.linux.maskedPaths = c.linux.readonlyPaths = [];
      }),
      "domainname: unable to set domainname without a private UTS namespace",
    ],
    ["a long hostname", (c) => (c.hostname = "ä".repeat(33)), "hostname: must not be longer than 64 bytes"],
    ["the longest hostname", (c) => (c.hostname = "ä".repeat(32))],
    [
      "mappings without user namespace",
      mappings,
      "linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
    ],
    ["empty mappings are none", (c) => (c.linux.uidMappings = c.linux.gidMappings = [])],
    [
      "user namespace without mappings",
      (c) => c.linux.namespaces.push({ type: "user" }),
      "linux.uidMappings: user namespaces enabled, but no namespace path to join nor mappings to apply specified",
    ],
    [
      "user namespace with one of them",
      both(mappings, (c) => {
        c.linux.namespaces.push({ type: "user" });
        delete c.linux.gidMappings;
      }),
      "linux.gidMappings: user namespaces enabled, but no gid mappings found",
    ],
    [
      "root not mapped",
      both(mappings, (c) => {
        c.linux.namespaces.push({ type: "user" });
        c.linux.uidMappings = [{ containerID: 1, hostID: 1, size: 1 }];
      }),
      "linux.uidMappings: user namespaces enabled, but no mapping found for uid 0",
    ],
    [
      "process not mapped",
      both(mappings, (c) => {
        c.linux.namespaces.push({ type: "user" });
        c.process.user = { uid: 10, gid: 9, additionalGids: [9, 10] };
      }),
      "process.user.uid: uid 10 is not mapped in the user namespace; add it to linux.uidMappings",
      "process.user.additionalGids[1]: gid 10 is not mapped in the user namespace; add it to linux.gidMappings",
    ],
    ["a joined user namespace", joined("user")],
    [
      "time offsets",
      (c) => (c.linux.timeOffsets = { monotonic: { secs: 1 } }),
      "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config",
    ],
    [
      "time offsets of a joined one",
      both(joined("time"), (c) => (c.linux.timeOffsets = { boottime: {} })),
      "linux.timeOffsets: time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
    ],
    [
      "other clocks",
      both(
        (c) => c.linux.namespaces.push({ type: "time" }),
        (c) => (c.linux.timeOffsets = { realtime: { nanosecs: 1e9 } }),
      ),
      'linux.timeOffsets.realtime: "realtime" is not a clock with an offset; one of monotonic, boottime',
      "linux.timeOffsets.realtime.nanosecs: must be less than a second (1000000000), not 1000000000",
    ],
    ["no offsets", (c) => (c.linux.timeOffsets = {})],
  ]);

  test("a joined user namespace with mappings is a warning", () => {
    expect(check(defaultSpec(), both(joined("user"), mappings))).toEqual({
      problems: [],
      warnings: [
        "linux.uidMappings: the user namespace is joined by path, which has its own mappings; these must be the same",
      ],
    });
  });
});

describe("sysctl", () => {
  const set =
    (...keys: string[]) =>
    (c: Config) => {
      c.linux.sysctl = Object.fromEntries(keys.map((key) => [key, "1"]));
    };
  const bare = () => {
    const config = defaultSpec();
    delete config.hostname;
    delete config.linux!.maskedPaths;
    delete config.linux!.readonlyPaths;
    config.linux!.namespaces = [];
    return config;
  };
  table(defaultSpec, [
    [
      "of namespaces it has",
      set(
        "kernel.msgmax",
        "kernel/shm_rmid_forced",
        "fs.mqueue.msg_max",
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eno2.100/rp_filter",
        "net.ipv4.conf.eno2/100.rp_filter",
        "kernel.domainname",
      ),
    ],
    [
      "hostname has its field",
      set("kernel.hostname"),
      'linux.sysctl["kernel.hostname"]: sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
    ],
    [
      "of the whole host",
      set("vm.swappiness", "kernel.panic", "kernel"),
      'linux.sysctl["vm.swappiness"]: sysctl "vm.swappiness" is not in a separate kernel namespace',
      'linux.sysctl["kernel.panic"]: sysctl "kernel.panic" is not in a separate kernel namespace',
      'linux.sysctl.kernel: sysctl "kernel" is not in a separate kernel namespace',
    ],
    [
      "of a user namespace",
      set("user.max_user_namespaces"),
      'linux.sysctl["user.max_user_namespaces"]: setting ucounts without a user namespace not allowed: "user.max_user_namespaces"',
    ],
    [
      "that lead elsewhere",
      set("net/../kernel/sysrq", "net.//.kernel.sysrq", "net..x", "", "net.ipv4.", "/net/x", "net././x"),
      ...[
        '["net/../kernel/sysrq"]',
        '["net.//.kernel.sysrq"]',
        '["net..x"]',
        '[""]',
        '["net.ipv4."]',
        '["/net/x"]',
        '["net././x"]',
      ].map((key) => `linux.sysctl${key}: is not the name of a parameter`),
    ],
  ]);
  table(bare, [
    [
      "without the namespaces",
      set("kernel.msgmax", "fs/mqueue/msg_max", "net.core.somaxconn", "kernel.domainname"),
      'linux.sysctl["kernel.msgmax"]: sysctl "kernel.msgmax" is not allowed in the hosts ipc namespace',
      'linux.sysctl["fs/mqueue/msg_max"]: sysctl "fs/mqueue/msg_max" is not allowed in the hosts ipc namespace',
      'linux.sysctl["net.core.somaxconn"]: sysctl "net.core.somaxconn" not allowed in host network namespace',
      'linux.sysctl["kernel.domainname"]: sysctl "kernel.domainname" is not in a separate kernel namespace',
    ],
  ]);
});

describe("devices", () => {
  const device = (value: object) => (c: Config) => {
    c.linux.devices = [{ path: "/dev/x", type: "c", major: 1, minor: 3, ...value }];
  };
  table(defaultSpec, [
    ["type", device({ type: "x" }), 'linux.devices[0].type: "x" is not a device type; one of c, u, b, p'],
    ["path", device({ path: "dev/x" }), 'linux.devices[0].path: must be an absolute path, not "dev/x"'],
    [
      "numbers",
      device({ major: -1, minor: 1048576 }),
      "linux.devices[0].major: must be an integer from 0 to 4095, not -1",
      "linux.devices[0].minor: must be an integer from 0 to 1048575, not 1048576",
    ],
    [
      "huge numbers",
      device({ major: 2n ** 62n, minor: 0 }),
      "linux.devices[0].major: must be an integer from 0 to 4095, not 4611686018427387904",
    ],
    [
      "no numbers",
      device({ major: null, minor: undefined }),
      'linux.devices[0].major: is required for a device of type "c"',
      'linux.devices[0].minor: is required for a device of type "c"',
    ],
    ["a fifo needs none", device({ type: "p", major: null, minor: null })],
  ]);
});

describe("netDevices", () => {
  const set = (netDevices: object) => (c: Config) => {
    c.linux.netDevices = netDevices;
  };
  table(defaultSpec, [
    [
      "names",
      set({
        "a/b": {},
        "..": {},
        "0123456789abcde": {},
        "0123456789abcdef": {},
        ok: { name: "a b" },
        e: { name: "" },
      }),
      'linux.netDevices["a/b"]: invalid network device name "a/b"',
      'linux.netDevices[".."]: invalid network device name ".."',
      'linux.netDevices["0123456789abcdef"]: invalid network device name "0123456789abcdef"',
      'linux.netDevices.ok.name: invalid network device name "a b"',
    ],
    [
      "names taken",
      set({ a: { name: "x" }, b: { name: "x" }, c: { name: "e%d" }, d: { name: "e%d" } }),
      'linux.netDevices.b.name: "x" is the name of "a" too',
    ],
  ]);
  test("need a network namespace", () => {
    const { problems } = check(defaultSpec(), (c) => {
      set({ eth0: {} })(c);
      withNamespaces("mount", "uts")(c);
    });
    expect(problems).toEqual(["linux.netDevices: unable to move network devices without a NET namespace"]);
  });
});

describe("the rest of linux", () => {
  const rdt = (intelRdt: object) => (c: Config) => {
    c.linux.intelRdt = intelRdt;
  };
  const policy = (memoryPolicy: object) => (c: Config) => {
    c.linux.memoryPolicy = memoryPolicy;
  };
  table(defaultSpec, [
    [
      "relative paths",
      (c) => (c.linux.maskedPaths = ["proc", ""]),
      'linux.maskedPaths[0]: must be an absolute path, not "proc"',
      'linux.maskedPaths[1]: must be an absolute path, not ""',
    ],
    ["closID ..", rdt({ closID: ".." }), 'linux.intelRdt.closID: invalid intelRdt.ClosID ".."'],
    ["closID a/b", rdt({ closID: "a/b" }), 'linux.intelRdt.closID: invalid intelRdt.ClosID "a/b"'],
    ["closID /", rdt({ closID: "/" })],
    [
      "schemata",
      rdt({ schemata: ["L3:0=f", "a\nb"], l3CacheSchema: "L3:\n", memBwSchema: "0=1" }),
      "linux.intelRdt.schemata[1]: must be one line",
      "linux.intelRdt.l3CacheSchema: must be one line",
      'linux.intelRdt.memBwSchema: must be one line that begins with "MB:"',
    ],
    [
      "policy without nodes",
      policy({ mode: "MPOL_BIND" }),
      "linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0",
    ],
    [
      "policy with nodes",
      policy({ mode: "MPOL_LOCAL", nodes: "0-7" }),
      "linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 8",
    ],
    [
      "a node that cannot be",
      policy({ mode: "MPOL_BIND", nodes: "0-9876543210" }),
      'linux.memoryPolicy.nodes: invalid memory policy nodes "0-9876543210"; not a list like "0-3,7"',
    ],
    [
      "no mode",
      policy({ nodes: "0" }),
      'linux.memoryPolicy.mode: invalid memory policy mode ""; it is required',
    ],
    [
      "names that are none",
      policy({ mode: "BIND", flags: ["x"] }),
      'linux.memoryPolicy.mode: invalid memory policy mode "BIND"; one of MPOL_DEFAULT, MPOL_BIND, MPOL_INTERLEAVE, ' +
        "MPOL_WEIGHTED_INTERLEAVE, MPOL_PREFERRED, MPOL_PREFERRED_MANY, MPOL_LOCAL",
      'linux.memoryPolicy.flags[0]: invalid memory policy flag "x"; one of MPOL_F_NUMA_BALANCING, ' +
        "MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES",
    ],
    ["preferred either way", policy({ mode: "MPOL_PREFERRED" })],
    [
      "nodes",
      policy({ mode: "MPOL_BIND", nodes: "0;1" }),
      'linux.memoryPolicy.nodes: invalid memory policy nodes "0;1"; not a list like "0-3,7"',
    ],
    [
      "flags",
      policy({ mode: "MPOL_BIND", nodes: "0", flags: ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"] }),
      "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other",
    ],
    [
      "personality",
      (c) => (c.linux.personality = { domain: "SVR4" }),
      'linux.personality.domain: "SVR4" is not a personality domain; one of LINUX, LINUX32',
    ],
    [
      "propagation",
      (c) => (c.linux.rootfsPropagation = "shard"),
      'linux.rootfsPropagation: "shard" is not a mount propagation; one of private, rprivate, slave, rslave, shared, rshared, unbindable, runbindable',
    ],
    ["propagation unset", (c) => (c.linux.rootfsPropagation = "")],
  ]);

  test("warnings", () => {
    const { problems, warnings } = check(fullConfig(), (c) => {
      c.linux.personality.flags = ["x"];
      c.linux.intelRdt.l3CacheSchema = "L2:0=f";
      c.linux.devices.push(c.linux.devices[0]);
      c.annotations[""] = "";
      c.process.scheduler = { policy: "SCHED_ISO" };
      delete c.linux.resources;
    });
    expect(problems).toEqual([]);
    expect(warnings).toEqual([
      "process.scheduler.policy: SCHED_ISO is not implemented by Linux",
      "annotations: a key is empty",
      'linux.devices[1].path: "/dev/fuse" is listed twice',
      'linux.intelRdt.l3CacheSchema: should begin with "L3:"',
      "linux.personality.flags: ignored: the specification defines no flags",
    ]);
  });
});
