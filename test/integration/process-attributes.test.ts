// Attributes of the process beyond ids and limits: scheduling, OOM score, personality, keyring, signals, memory policy;
// and what is set in its namespaces: sysctls, names, network devices.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, buncTest, CAP_SYS_RESOURCE, host, isBunc, testUnless } from "../rig/runtime.ts";

const rig = useRig();

test("a plain process: nothing blocked or ignored, no terminal, only three descriptors, default prctl state", async () => {
  const container = rig.container();
  const own = readFileSync("/proc/self/oom_score_adj", "utf8");
  // What the caller of the runtime is like must not show: signals ignored, descriptors open.
  const wrap = isBunc
    ? ["sh", "-c", "trap '' CHLD HUP PIPE USR1 TERM; exec 7</etc/passwd 9</; exec \"$@\"", "sh"]
    : [];
  const report = await container.report([], { wrap });
  expect(report.status).toMatchObject({
    SigBlk: "0".repeat(16),
    SigIgn: "0".repeat(16),
    SigCgt: "0".repeat(16),
  });
  expect(report.fds.map(({ fd }) => fd)).toEqual([0, 1, 2]);
  expect(report.fds[0]!.target).toMatch(/^(\/dev\/null|pipe:\[\d+\])$/);
  expect(report).toMatchObject({
    ctty: false,
    tty: null,
    sid: 1,
    pgid: 1,
    personality: 0,
    ioprio: 0,
    umask: 0o022,
  });
  expect(report.prctl).toMatchObject({
    dumpable: 1,
    keepcaps: 0,
    securebits: 0,
    nnp: 1,
    pdeathsig: 0,
    subreaper: 0,
  });
  expect(report.sched).toMatchObject({ policy: 0, flags: 0, nice: 0, priority: 0 });
  expect(report.status).toMatchObject({ NoNewPrivs: "1", Seccomp: "0", Threads: "1" });
  container.config.process.noNewPrivileges = false;
  expect((await container.report()).prctl.nnp).toBe(0);
  delete container.config.process.noNewPrivileges;
  expect((await container.report()).prctl.nnp).toBe(0);
  expect(await container.output("cat", "/proc/self/oom_score_adj")).toBe(own);
});

describe("oomScoreAdj", () => {
  test("is set, and inherited when it is absent", async () => {
    const container = rig.container((config) => {
      config.process.oomScoreAdj = 567;
    });
    expect(await container.output("cat", "/proc/self/oom_score_adj")).toBe("567\n");
    delete container.config.process.oomScoreAdj;
    const wrap = ["sh", "-c", 'echo 300 >/proc/self/oom_score_adj; exec "$@"', "sh"];
    container.config.process.args = ["cat", "/proc/self/oom_score_adj"];
    expect((await container.run([], { wrap })).ok().stdout).toBe("300\n");
  });

  testUnless(
    host.capable(CAP_SYS_RESOURCE) ? undefined : "no CAP_SYS_RESOURCE",
    "can be lowered",
    async () => {
      const container = rig.container((config) => {
        config.process.oomScoreAdj = -500;
      });
      expect(await container.output("cat", "/proc/self/oom_score_adj")).toBe("-500\n");
    },
  );
});

buncDescribe("scheduler", () => {
  const NORMAL = 0;
  const BATCH = 3;
  const IDLE = 5;
  const DEADLINE = 6;

  test("policies, nice values, flags, deadlines", async () => {
    for (const [scheduler, expected] of [
      [
        { policy: "SCHED_OTHER", nice: -5 },
        { policy: NORMAL, nice: -5 },
      ],
      [
        { policy: "SCHED_BATCH", nice: 19, priority: 0 },
        { policy: BATCH, nice: 19 },
      ],
      [{ policy: "SCHED_IDLE", nice: 3 }, { policy: IDLE }],
      [
        { policy: "SCHED_BATCH", flags: ["SCHED_FLAG_RESET_ON_FORK"] },
        { policy: BATCH, flags: 1 },
      ],
      [
        {
          policy: "SCHED_DEADLINE",
          runtime: 4_200_000,
          deadline: 100_000_000,
          period: 1_000_000_000,
          flags: ["SCHED_FLAG_RESET_ON_FORK"],
        },
        { policy: DEADLINE, runtime: 4_200_000, deadline: 100_000_000, period: 1_000_000_000, flags: 1 },
      ],
    ] as const) {
      const container = rig.container((config) => {
        config.process.scheduler = scheduler;
      });
      expect((await container.report()).sched).toMatchObject(expected);
    }
  });

  test("what makes no sense is an error with its place", async () => {
    for (const scheduler of [
      { policy: "SCHED_NO_SUCH" },
      { policy: "SCHED_OTHER", nice: 20 },
      { policy: "SCHED_OTHER", priority: 5 },
      { policy: "SCHED_BATCH", runtime: 5 },
      { policy: "SCHED_OTHER", flags: ["SCHED_FLAG_NO_SUCH"] },
      { policy: "" },
    ]) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.process.scheduler = scheduler;
      });
      const result = await container.run();
      expect([scheduler, result.code, result.stderr]).toEqual([
        scheduler,
        1,
        expect.stringContaining("process.scheduler"),
      ]);
    }
  });
});

buncDescribe("ioPriority", () => {
  test.each([
    ["IOPRIO_CLASS_RT", 1, 1],
    ["IOPRIO_CLASS_BE", 4, 2],
    ["IOPRIO_CLASS_IDLE", 0, 3],
  ])("%s %d", async (name, priority, number) => {
    const container = rig.container((config) => {
      config.process.ioPriority = { class: name, priority };
    });
    expect((await container.report()).ioprio).toBe((number << 13) | priority);
  });

  test("of an unknown class or out of range is an error", async () => {
    for (const ioPriority of [
      { class: "IOPRIO_CLASS_NO_SUCH", priority: 0 },
      { class: "IOPRIO_CLASS_BE", priority: 8 },
    ]) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.process.ioPriority = ioPriority;
      });
      const result = await container.run();
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("process.ioPriority")]);
    }
  });
});

buncDescribe("memoryPolicy", () => {
  test("mode, nodes and flags are the process's", async () => {
    const [BIND, INTERLEAVE, PREFERRED, STATIC] = [2, 3, 1, 1 << 15];
    for (const [policy, expected] of [
      [
        { mode: "MPOL_BIND", nodes: "0" },
        { mode: BIND, nodes: "1" },
      ],
      [
        { mode: "MPOL_INTERLEAVE", nodes: "0", flags: ["MPOL_F_STATIC_NODES"] },
        { mode: INTERLEAVE | STATIC, nodes: "1" },
      ],
      [
        { mode: "MPOL_PREFERRED", nodes: "0" },
        { mode: PREFERRED, nodes: "1" },
      ],
      [{ mode: "MPOL_DEFAULT" }, { mode: 0, nodes: "0" }],
    ] as const) {
      const container = rig.container((config) => {
        config.linux.memoryPolicy = policy;
      });
      expect([policy, (await container.report()).mempolicy]).toEqual([policy, expected]);
    }
  });

  test("errors", async () => {
    for (const [policy, words] of [
      [{}, "invalid memory policy"],
      [{ mode: "INTERLEAVE", nodes: "0" }, "invalid memory policy mode"],
      [{ mode: "MPOL_PREFERRED", nodes: "0", flags: ["badflag"] }, "invalid memory policy flag"],
      [{ mode: "MPOL_DEFAULT", nodes: "0-7" }, "mode requires 0 nodes but got 8"],
      [{ mode: "MPOL_BIND" }, "requires at least one node"],
      [{ mode: "MPOL_BIND", nodes: "0-9876543210" }, "invalid memory policy node"],
      [{ mode: "MPOL_BIND", nodes: "x" }, "invalid memory policy node"],
    ] as const) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.memoryPolicy = policy;
      });
      const result = await container.run();
      expect([policy, result.code, result.stderr]).toEqual([policy, 1, expect.stringContaining(words)]);
      expect(result.stderr).toContain("linux.memoryPolicy");
    }
  });
});

describe("personality", () => {
  // runc 1.1 knows none.
  buncTest("LINUX32 is what uname says, also where seccomp forbids the call", async () => {
    const container = rig.container((config) => {
      config.linux.personality = { domain: "LINUX32" };
    });
    expect(await container.report()).toMatchObject({ personality: 8, uts: ["bunc-test", "(none)", "i686"] });
    container.config.linux.personality = { domain: "LINUX", flags: [] };
    container.config.linux.seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ names: ["personality"], action: "SCMP_ACT_ERRNO" }],
    };
    expect((await container.report()).uts[2]).toBe("x86_64");
    container.config.linux.personality = { domain: "BSD" };
    const result = await container.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("linux.personality")]);
  });
});

test("the session keyring is the container's own; with --no-new-keyring it is the caller's", async () => {
  const container = rig.container();
  expect((await container.report()).keyring).toMatch(new RegExp(`;_ses\\.${container.id}$`));
  expect((await container.report(["--no-new-keyring"])).keyring).not.toContain(container.id);
});

describe("sysctl", () => {
  test("of each namespace that has some", async () => {
    const sysctl = {
      "net.core.somaxconn": "321",
      "net.ipv4.ip_local_port_range": "40000 40999",
      "kernel.msgmax": "7777",
      "kernel.shm_rmid_forced": "1",
      "fs.mqueue.msg_max": "33",
    };
    const before = readFileSync("/proc/sys/kernel/msgmax", "utf8");
    const container = rig.container((config) => {
      config.linux.sysctl = { ...sysctl, ...(isBunc ? { "kernel.domainname": "sys.example" } : {}) };
    });
    const names = Object.keys(sysctl).map((name) => `/proc/sys/${name.replaceAll(".", "/")}`);
    const text = await container.shell(`cat ${names.join(" ")}; cat /proc/sys/kernel/domainname`);
    const values = text
      .trim()
      .split("\n")
      .map((line) => line.replace(/\s+/g, " "));
    expect(values.slice(0, 5)).toEqual(Object.values(sysctl));
    if (isBunc) expect(values[5]).toBe("sys.example");
    expect(readFileSync("/proc/sys/kernel/msgmax", "utf8")).toBe(before);
  });

  test("that does not exist, or refuses its value, is named", async () => {
    for (const [name, value] of [
      ["net.no.such.key", "1"],
      ["net.core.somaxconn", "not a number"],
      ["net.ipv4.../../kernel/core_pattern", "x"],
    ] as const) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.sysctl = { [name]: value };
      });
      const result = await container.run();
      expect([name, result.code]).toEqual([name, 1]);
      expect(result.stderr).toContain(isBunc ? name : "/proc/sys");
      expect(rig.states()).toEqual([]);
    }
    expect(readFileSync("/proc/sys/kernel/core_pattern", "utf8")).not.toBe("x\n");
  });
});

buncTest("the domain name is the config's", async () => {
  const container = rig.container((config) => {
    config.domainname = "foobarbaz.test";
    config.hostname = "x".repeat(64);
  });
  expect((await container.report()).uts).toEqual(["x".repeat(64), "foobarbaz.test", "x86_64"]);
  container.config.hostname = "x".repeat(65);
  const result = await container.run();
  expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("hostname")]);
});

buncDescribe("netDevices", () => {
  /** Runs the runtime in a network namespace of its own in which `script` made devices with busybox's ip. */
  const inNetwork = (script: string): { wrap: string[] } => ({
    wrap: [
      "unshare",
      "-n",
      "/bin/busybox",
      "sh",
      "-c",
      `${script} && "$@"; code=$?; ip -o link; exit $code`,
      "sh",
    ],
  });
  const make =
    "ip link add dev0 type veth && ip link set dev0 mtu 1400 && ip link set dev0 address 02:00:00:00:00:07 && ip addr add 10.9.8.7/24 dev dev0";

  test("move with their attributes, up, renamed, and do not stay behind", async () => {
    for (const [name, seen] of [
      [undefined, "dev0"],
      ["ctr0", "ctr0"],
      ["eth%d", "eth0"],
    ] as const) {
      const container = rig.container((config) => {
        config.linux.netDevices = { dev0: name === undefined ? {} : { name } };
        config.process.args = ["ip", "addr", "show", "dev", seen];
      });
      const result = (await container.run([], inNetwork(make))).ok();
      const [inside, outside] = [result.stdout.split(/^1: lo/m)[0]!, result.stdout.split(/^1: lo/m)[1]!];
      expect(inside).toMatch(new RegExp(`: ${seen}(@\\w+)?: <[^>]*\\bUP\\b`));
      expect(inside).toContain("mtu 1400");
      expect(inside).toContain("02:00:00:00:00:07");
      expect(inside).toContain("10.9.8.7/24");
      expect(outside).not.toContain("dev0");
    }
  });

  test("errors: no such device, a name that is taken, no network namespace, a bad name", async () => {
    for (const [devices, words] of [
      [{ absent0: {} }, "absent0"],
      [{ dev0: { name: "lo" } }, "lo"],
      [{ dev0: { name: "a/b" } }, "a/b"],
      [{ "much-too-long-a-name": {} }, "much-too-long-a-name"],
    ] as const) {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.netDevices = devices;
      });
      const result = await container.run([], inNetwork(make));
      expect([devices, result.code, result.stderr]).toEqual([devices, 1, expect.stringContaining(words)]);
      expect(result.stderr).toContain("linux.netDevices");
      expect(result.stdout).toContain("dev0"); // still there
    }
    const container = rig.container((config) => {
      config.linux.netDevices = { dev0: {} };
      config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "network");
    });
    const result = await container.run([], inNetwork(make));
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringContaining("unable to move network devices without a NET namespace"),
    ]);
  });
});

describe("labels", () => {
  testUnless(
    host.appArmor ? undefined : "no AppArmor",
    "an AppArmor profile that is not loaded is an error",
    async () => {
      const container = rig.container((config) => {
        config.process.apparmorProfile = "no-such-profile";
      });
      const result = await container.run();
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("no-such-profile")]);
    },
  );

  if (!host.appArmor) {
    buncTest("an AppArmor profile on a kernel without AppArmor is an error that says so", async () => {
      const container = rig.container((config) => {
        config.process.apparmorProfile = "docker-default";
      });
      const result = await container.run();
      expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/apparmor/i)]);
    });
  }

  if (!host.selinux) {
    test("an SELinux label on a kernel without SELinux is an error that says so", async () => {
      for (const place of ["process", "mount"]) {
        const container = rig.container((config) => {
          const label = "system_u:object_r:svirt_sandbox_file_t:s0:c1,c2";
          if (place === "process") config.process.selinuxLabel = label;
          else config.linux.mountLabel = label;
        });
        const result = await container.run();
        expect([place, result.code]).toEqual([place, 1]);
        if (place === "process" || isBunc) expect(result.stderr).toMatch(/selinux/i);
      }
    });
  }
});
