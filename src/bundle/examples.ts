/** Documents that tests validate; nothing else uses them. Each call returns a new object, for a test to damage. */

type Fields = Record<string, unknown>;

/** As Docker writes it for `docker run -it --memory 64m -v /srv:/data IMAGE`, its seccomp profile shortened. */
export function dockerConfig(): Fields {
  const capabilities = () =>
    [
      "CHOWN",
      "DAC_OVERRIDE",
      "FSETID",
      "FOWNER",
      "MKNOD",
      "NET_RAW",
      "SETGID",
      "SETUID",
      "SETFCAP",
      "SETPCAP",
    ]
      .concat(["NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"])
      .map((name) => `CAP_${name}`);
  const bind = (name: string) => ({
    destination: `/etc/${name}`,
    type: "bind",
    source: `/var/lib/docker/containers/0f/${name}`,
    options: ["rbind", "rprivate"],
  });
  const allow = (major: number, minor: number, type = "c") => ({
    allow: true,
    type,
    major,
    minor,
    access: "rwm",
  });
  return {
    ociVersion: "1.2.1",
    process: {
      terminal: true,
      consoleSize: { height: 24, width: 80 },
      user: { uid: 0, gid: 0, additionalGids: [0, 10] },
      args: ["/bin/sh"],
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=0f", "TERM=xterm"],
      cwd: "/",
      capabilities: { bounding: capabilities(), effective: capabilities(), permitted: capabilities() },
      apparmorProfile: "docker-default",
      oomScoreAdj: 0,
    },
    root: { path: "/var/lib/docker/overlay2/0f/merged" },
    hostname: "0f",
    mounts: [
      { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
      {
        destination: "/dev",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
      },
      {
        destination: "/dev/pts",
        type: "devpts",
        source: "devpts",
        options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
      },
      { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
      {
        destination: "/sys/fs/cgroup",
        type: "cgroup",
        source: "cgroup",
        options: ["ro", "nosuid", "noexec", "nodev"],
      },
      {
        destination: "/dev/mqueue",
        type: "mqueue",
        source: "mqueue",
        options: ["nosuid", "noexec", "nodev"],
      },
      {
        destination: "/dev/shm",
        type: "tmpfs",
        source: "shm",
        options: ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
      },
      bind("resolv.conf"),
      bind("hostname"),
      bind("hosts"),
      { destination: "/data", type: "bind", source: "/srv", options: ["rbind", "rprivate"] },
    ],
    hooks: {
      prestart: [
        { path: "/proc/812/exe", args: ["libnetwork-setkey", "-exec-root=/run/docker", "0f", "9c"] },
      ],
    },
    linux: {
      sysctl: { "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647" },
      resources: {
        devices: [
          { allow: false, access: "rwm" },
          allow(1, 5),
          allow(1, 3),
          allow(1, 9),
          allow(1, 8),
          allow(5, 0),
          allow(5, 1),
          { allow: false, type: "c", major: 10, minor: 229, access: "rwm" },
        ],
        memory: { limit: 67108864, swap: 134217728, disableOOMKiller: false },
        cpu: { shares: 0 },
        pids: { limit: -1 },
        blockIO: { weight: 0 },
      },
      cgroupsPath: "system.slice:docker:0f",
      namespaces: [
        { type: "mount" },
        { type: "network" },
        { type: "uts" },
        { type: "pid" },
        { type: "ipc" },
        { type: "cgroup" },
      ],
      seccomp: {
        defaultAction: "SCMP_ACT_ERRNO",
        defaultErrnoRet: 1,
        architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        syscalls: [
          {
            names: ["accept", "accept4", "access", "execve", "exit_group", "openat", "read", "write"],
            action: "SCMP_ACT_ALLOW",
          },
          { names: ["process_vm_readv", "process_vm_writev", "ptrace"], action: "SCMP_ACT_ALLOW" },
          {
            names: ["personality"],
            action: "SCMP_ACT_ALLOW",
            args: [{ index: 0, value: 4294967295, op: "SCMP_CMP_EQ" }],
          },
          {
            names: ["clone"],
            action: "SCMP_ACT_ALLOW",
            args: [{ index: 0, value: 2114060288, op: "SCMP_CMP_MASKED_EQ" }],
          },
          { names: ["clone3"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
        ],
      },
      maskedPaths: ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
      readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
  };
}

/** A redis-server of OCI 0.4.0, when capabilities were a flat list and Go wrote every field. */
export function redisConfig(): Fields {
  return {
    ociVersion: "0.4.0",
    platform: { os: "linux", arch: "amd64" },
    process: {
      terminal: true,
      user: {},
      args: ["redis-server", "--bind", "0.0.0.0"],
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
      cwd: "/",
      capabilities: ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
    },
    root: { path: "rootfs", readonly: true },
    hostname: "redis",
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      {
        destination: "/dev/mqueue",
        type: "mqueue",
        source: "mqueue",
        options: ["nosuid", "noexec", "nodev"],
      },
    ],
    hooks: {},
    linux: {
      resources: { devices: [{ allow: false, access: "rwm" }], disableOOMKiller: false, oomScoreAdj: 100 },
      namespaces: [{ type: "pid" }, { type: "ipc" }, { type: "uts" }, { type: "mount" }],
      devices: null,
      seccomp: { defaultAction: "", architectures: null },
    },
  };
}

/** A config.json with every field of the schema, and nothing wrong with it. */
export function fullConfig(): Fields {
  const hook = { path: "/bin/hook", args: ["hook", "a"], env: ["A=b"], timeout: 5 };
  const mapping = [{ containerID: 0, hostID: 100000, size: 65536 }];
  const throttle = [{ major: 8, minor: 0, rate: 600 }];
  return {
    ociVersion: "1.3.0",
    process: {
      terminal: true,
      consoleSize: { height: 24, width: 80 },
      user: { uid: 1000, gid: 1000, umask: 18, additionalGids: [5, 6], username: "u" },
      args: ["sh"],
      env: ["A=b"],
      cwd: "/",
      capabilities: {
        bounding: ["CAP_KILL"],
        effective: ["CAP_KILL"],
        inheritable: ["CAP_KILL"],
        permitted: ["CAP_KILL"],
        ambient: ["CAP_KILL"],
      },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
      noNewPrivileges: true,
      apparmorProfile: "profile",
      oomScoreAdj: 100,
      scheduler: {
        policy: "SCHED_DEADLINE",
        nice: 1,
        priority: 0,
        flags: ["SCHED_FLAG_RESET_ON_FORK"],
        runtime: 10000,
        deadline: 20000,
        period: 30000,
      },
      selinuxLabel: "label",
      ioPriority: { class: "IOPRIO_CLASS_IDLE", priority: 4 },
      execCPUAffinity: { initial: "7", final: "0-3,7" },
    },
    root: { path: "rootfs", readonly: true },
    hostname: "host",
    domainname: "domain",
    mounts: [
      {
        destination: "/data",
        type: "none",
        source: "/srv",
        options: ["rbind", "ridmap"],
        uidMappings: mapping,
        gidMappings: mapping,
      },
    ],
    hooks: {
      prestart: [hook],
      createRuntime: [hook],
      createContainer: [hook],
      startContainer: [hook],
      poststart: [hook],
      poststop: [hook],
    },
    annotations: { "com.example.key": "value" },
    linux: {
      uidMappings: mapping,
      gidMappings: mapping,
      sysctl: { "net.ipv4.ip_forward": "1" },
      resources: {
        devices: [{ allow: true, type: "c", major: 10, minor: 229, access: "rw" }],
        memory: {
          limit: 536870912,
          reservation: 536870912,
          swap: 536870912,
          kernel: -1,
          kernelTCP: -1,
          swappiness: 0,
          disableOOMKiller: false,
          useHierarchy: true,
          checkBeforeUpdate: true,
        },
        cpu: {
          shares: 1024,
          quota: 1000000,
          burst: 1000,
          period: 500000,
          realtimeRuntime: 950000,
          realtimePeriod: 1000000,
          cpus: "2-3",
          mems: "0-7",
          idle: 1,
        },
        pids: { limit: 32771 },
        blockIO: {
          weight: 10,
          leafWeight: 10,
          weightDevice: [{ major: 8, minor: 0, weight: 500, leafWeight: 300 }],
          throttleReadBpsDevice: throttle,
          throttleWriteBpsDevice: throttle,
          throttleReadIOPSDevice: throttle,
          throttleWriteIOPSDevice: throttle,
        },
        hugepageLimits: [{ pageSize: "2MB", limit: 209715200 }],
        network: { classID: 1048577, priorities: [{ name: "eth0", priority: 500 }] },
        rdma: { mlx5_1: { hcaHandles: 3, hcaObjects: 10000 } },
        unified: { "hugetlb.1GB.max": "1073741824" },
      },
      cgroupsPath: "/bunc/full",
      namespaces: [
        { type: "network", path: "/run/netns/a" },
        { type: "pid" },
        { type: "mount" },
        { type: "ipc" },
        { type: "uts" },
        { type: "user" },
        { type: "cgroup" },
        { type: "time" },
      ],
      devices: [{ path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 438, uid: 0, gid: 0 }],
      netDevices: { eth0: { name: "container_eth0" } },
      seccomp: {
        defaultAction: "SCMP_ACT_ERRNO",
        defaultErrnoRet: 38,
        architectures: ["SCMP_ARCH_X86_64"],
        flags: ["SECCOMP_FILTER_FLAG_LOG"],
        listenerPath: "/run/agent.sock",
        listenerMetadata: "data",
        syscalls: [
          {
            names: ["clone"],
            action: "SCMP_ACT_TRACE",
            errnoRet: 1,
            args: [{ index: 0, value: 2114060288, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
          },
        ],
      },
      rootfsPropagation: "rslave",
      maskedPaths: ["/proc/kcore"],
      readonlyPaths: ["/proc/sys"],
      mountLabel: "label",
      intelRdt: {
        closID: "guaranteed",
        schemata: ["L3:0=7f0;1=1f"],
        l3CacheSchema: "L3:0=7f0;1=1f",
        memBwSchema: "MB:0=20;1=70",
        enableMonitoring: true,
      },
      memoryPolicy: { mode: "MPOL_INTERLEAVE", nodes: "2-3", flags: ["MPOL_F_STATIC_NODES"] },
      personality: { domain: "LINUX32", flags: [] },
      timeOffsets: { monotonic: { secs: 172800, nanosecs: 0 } },
    },
  };
}
