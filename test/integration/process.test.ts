// What config.json says of the process: ids, capabilities, limits, environment, directory.
import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capabilitiesIn, capabilityNames, capabilitySets, defaultPath } from "../rig/config.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, CAP_SYS_RESOURCE, host, isBunc, testUnless } from "../rig/runtime.ts";

const rig = useRig();

describe("the user", () => {
  test("ids, supplementary groups, umask", async () => {
    const groups = [7, 99, isBunc ? 4000000000 : 2147483647]; // runc takes no id beyond 31 bits
    const container = rig.container((config) => {
      config.process.user = { uid: 1234, gid: 5678, additionalGids: groups, umask: 0o077 };
    });
    expect(await container.report()).toMatchObject({
      uid: [1234, 1234, 1234],
      gid: [5678, 5678, 5678],
      groups,
      umask: 0o077,
    });
    container.config.process.user = { uid: 0, gid: 0 };
    expect(await container.report()).toMatchObject({
      uid: [0, 0, 0],
      gid: [0, 0, 0],
      groups: [],
      umask: 0o022,
    });
    container.config.process.user = { uid: 0, gid: 0, umask: 0 };
    // A caller's own umask and groups do not show.
    const wrap = ["setpriv", "--groups", "5,6", "sh", "-c", 'umask 0123; exec "$@"', "sh"];
    expect(await container.report([], { wrap })).toMatchObject({ groups: [], umask: 0 });
  });

  test("can open its standard streams", async () => {
    const container = rig.container((config) => {
      config.process.user = { uid: 1000, gid: 1000 };
      config.process.args = ["sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin"];
    });
    const result = await container.run([], { stdin: "in\n" });
    expect([result.code, result.stdout, result.stderr]).toEqual([0, "out\nin\n", "err\n"]);
  });
});

describe("capabilities", () => {
  const sets = (report: { status: Record<string, string> }): Record<string, string[]> =>
    Object.fromEntries(
      ["Bnd", "Eff", "Inh", "Prm", "Amb"].map((name) => [name, capabilitiesIn(report.status[`Cap${name}`]!)]),
    );

  test("each of the five sets, for root and for a user", async () => {
    const [a, b, c] = ["CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"] as const;
    const container = rig.container((config) => {
      config.process.capabilities = {
        bounding: [a, b, c],
        effective: [a],
        permitted: [a, c],
        inheritable: [c],
        ambient: [],
      };
      config.process.noNewPrivileges = false;
    });
    // What an execve of root computes: permitted is inheritable | bounding, see capabilities(7).
    const sorted = [b, a, c];
    expect(sets(await container.report())).toEqual({
      Bnd: sorted,
      Eff: sorted,
      Inh: [c],
      Prm: sorted,
      Amb: [],
    });
    container.config.process.user = { uid: 1000, gid: 1000 };
    expect(sets(await container.report())).toEqual({ Bnd: sorted, Eff: [], Inh: [c], Prm: [], Amb: [] });
    container.config.process.capabilities!.ambient = [c];
    expect(sets(await container.report())).toEqual({ Bnd: sorted, Eff: [c], Inh: [c], Prm: [c], Amb: [c] });
  });

  test("none, and all this machine has", async () => {
    const container = rig.container((config) => {
      config.process.capabilities = {};
    });
    const none = { Bnd: [], Eff: [], Inh: [], Prm: [], Amb: [] };
    expect(sets(await container.report())).toEqual(none);
    container.config.process.capabilities = capabilitySets();
    expect(sets(await container.report())).toEqual(none);
    const all = capabilityNames.filter((_, number) => host.capable(number));
    container.config.process.capabilities = { ...capabilitySets(...all), inheritable: all, ambient: all };
    expect(sets(await container.report())).toEqual({ Bnd: all, Eff: all, Inh: all, Prm: all, Amb: all });
  });

  test("that are unknown are left out with a warning", async () => {
    const container = rig.container((config) => {
      config.process.capabilities = capabilitySets("CAP_KILL", "CAP_NO_SUCH_THING");
      config.process.args = ["grep", "Cap", "/proc/self/status"];
    });
    const result = (await container.run()).ok();
    expect(result.stdout).toContain("CapBnd:\t0000000000000020");
    expect(result.stderr).toContain("CAP_NO_SUCH_THING");
  });

  const unavailable = capabilityNames.filter((_, number) => !host.capable(number));
  testUnless(
    unavailable.length > 0 ? undefined : "all capabilities are there",
    "that the caller does not have are an error",
    async () => {
      const container = rig.container((config) => {
        config.process.capabilities = capabilitySets("CAP_KILL", ...unavailable);
        config.process.args = ["true"];
      });
      const result = await container.run();
      expect(result.code).toBe(1);
      expect(result.stderr).toMatch(/unable to apply (caps|bounding set)|operation not permitted/);
    },
  );

  test("no list of capabilities at all means none", async () => {
    const container = rig.container((config) => {
      delete config.process.capabilities;
    });
    const { status } = await container.report();
    expect(status.CapInh).toBe("0000000000000000");
    expect(status.CapAmb).toBe("0000000000000000");
    if (isBunc) expect([status.CapBnd, status.CapEff]).toEqual(["0000000000000000", "0000000000000000"]);
  });
});

describe("rlimits", () => {
  test("of every type, infinite ones too; others are inherited", async () => {
    const infinity = 18446744073709551615n;
    const wanted: Record<string, [bigint | number, bigint | number]> = {
      RLIMIT_AS: [1n << 40n, infinity],
      RLIMIT_CORE: [0, 4096],
      RLIMIT_CPU: [100, 200],
      RLIMIT_DATA: [1n << 30n, 1n << 31n],
      RLIMIT_FSIZE: [1 << 20, infinity],
      RLIMIT_LOCKS: [5, 6],
      RLIMIT_MEMLOCK: [65536, 65536],
      RLIMIT_MSGQUEUE: [1000, 2000],
      RLIMIT_NOFILE: [123, 456],
      RLIMIT_NPROC: [1000, 2000],
      RLIMIT_RSS: [9007199254740993n, infinity], // not a double
      RLIMIT_RTTIME: [1000, 2000],
      RLIMIT_SIGPENDING: [10, 20],
      RLIMIT_STACK: [1 << 20, 1 << 21],
    };
    const container = rig.container((config) => {
      config.process.rlimits = Object.entries(wanted).map(([type, [soft, hard]]) => ({ type, soft, hard }));
    });
    const { rlimits } = await container.report();
    for (const [type, limits] of Object.entries(wanted)) {
      expect([type, ...rlimits[type]!]).toEqual([type, String(limits[0]), String(limits[1])]);
    }
    container.config.process.rlimits = [];
    // Not exec: bunc has the caller's soft limit from its parent, because Bun has raised its own by then.
    const shell = ["sh", "-c", 'ulimit -S -n 777; ulimit -c 0; "$@"; exit $?', "sh"];
    const inherited = (await container.report([], { wrap: shell })).rlimits;
    // The language runtimes of runc 1.1 and bunc raise this one for themselves; a container must not see that.
    if (isBunc) expect(inherited.RLIMIT_NOFILE![0]).toBe("777");
    expect(inherited.RLIMIT_CORE).toEqual(["0", "0"]);
  });

  testUnless(
    host.capable(CAP_SYS_RESOURCE) ? undefined : "no CAP_SYS_RESOURCE",
    "can be raised above the caller's hard limit",
    async () => {
      const container = rig.container((config) => {
        config.process.rlimits = [{ type: "RLIMIT_NOFILE", soft: 3_000_000, hard: 3_000_000 }];
      });
      const result = await container.run();
      expect(result.code === 0 || result.stderr.includes("RLIMIT_NOFILE")).toBe(true);
    },
  );

  buncTest("that cannot be raised, or are given twice, are named", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.process.rlimits = [{ type: "RLIMIT_NOFILE", soft: 1n << 40n, hard: 1n << 40n }];
    });
    const result = await container.run();
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("RLIMIT_NOFILE")]);
    expect(result.stderr).toContain("process.rlimits[0]");
    const one = { type: "RLIMIT_CORE", soft: 0, hard: 0 };
    container.config.process.rlimits = [one, one];
    const twice = await container.run();
    expect([twice.code, twice.stderr]).toEqual([1, expect.stringContaining("process.rlimits[1]")]);
  });
});

describe("the environment", () => {
  test("is the config's and nothing of the runtime's; the last of several wins", async () => {
    const container = rig.container((config) => {
      config.process.env = [
        defaultPath,
        "ONE=first",
        "EMPTY=",
        "ONE=two words = 2",
        "LINES=a\nb",
        "ümlaut=ß",
      ];
    });
    const { env } = await container.report([], { env: { SECRET: "x", BUN_OPTIONS: "", NODE_OPTIONS: "" } });
    const expected = [defaultPath, "EMPTY=", "ONE=two words = 2", "LINES=a\nb", "ümlaut=ß", "HOME=/root"];
    const bytes = (text: string): string => Buffer.from(text).toString("latin1"); // the report is byte by byte
    expect([...env].sort()).toEqual(expected.map(bytes).sort());
  });

  test("HOME comes from the container's passwd, unless it is set and not empty", async () => {
    const container = rig.container((config) => {
      config.process.env = [defaultPath, "HOME=/override"];
    });
    const home = async (): Promise<string[]> =>
      (await container.report()).env.filter((entry) => entry.startsWith("HOME="));
    expect(await home()).toEqual(["HOME=/override"]);
    container.config.process.env = [defaultPath, "HOME="];
    expect(await home()).toEqual(["HOME=/root"]);
    container.config.process.env = [defaultPath];
    container.config.process.user = { uid: 1000, gid: 1000 };
    expect(await home()).toEqual(["HOME=/home/guest"]);
    container.config.process.user = { uid: 4321, gid: 1000 }; // in no passwd
    expect(await home()).toEqual(["HOME=/"]);
    container.config.process.user = { uid: 0, gid: 0 };
    const lines = ["root:x:0:0::/odd home:/bin/sh", "root:x:0:0::/second:"];
    if (isBunc) lines.unshift("broken", "::", ""); // runc takes the first of these for root
    writeFileSync(join(container.rootfs, "etc/passwd"), `${lines.join("\n")}\n`);
    expect(await home()).toEqual(["HOME=/odd home"]);
    Bun.spawnSync(["rm", join(container.rootfs, "etc/passwd")]);
    expect(await home()).toEqual(["HOME=/"]);
  });

  test("the program's arguments are passed as they are", async () => {
    const args = ["", " two  words ", "*", "$HOME", "a\nb", "--flag=x", "-"];
    const container = rig.container();
    container.config.process.args = ["test-helper", "report", ...args];
    expect(JSON.parse((await container.run()).ok().stdout).args).toEqual(args);
  });
});

describe("cwd", () => {
  test("is where the program starts; it is made when it is missing", async () => {
    const container = rig.container((config) => {
      config.process.cwd = "/usr/local";
      config.root.readonly = false;
    });
    expect((await container.report()).cwd).toBe("/usr/local");
    container.config.process.cwd = "/made/by/the/runtime";
    expect((await container.report()).cwd).toBe("/made/by/the/runtime");
    container.config.process.cwd = "/usr/../etc/";
    expect((await container.report()).cwd).toBe("/etc");
  });

  test("that the user may not enter is entered by the runtime where it may, and an error where nobody may", async () => {
    const container = rig.container((config) => {
      config.process.user = { uid: 42, gid: 42 };
      config.process.cwd = "/closed";
    });
    mkdirSync(join(container.rootfs, "closed"), { mode: 0o700 });
    const result = await container.run([], {});
    // runc enters it as root before it drops privileges.
    expect(result.code).toBe(0);
    container.config.process.cwd = "/etc/passwd";
    const file = await container.run();
    expect([file.code, file.stderr]).toEqual([1, expect.stringContaining("not a directory")]);
  });

  test("outside the rootfs is refused (CVE-2024-21626)", async () => {
    const container = rig.container((config) => {
      config.process.args = ["test-helper", "report"];
    });
    for (const fd of [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) {
      container.config.process.cwd = `/proc/self/fd/${fd}`;
      const result = await container.run();
      if (result.code === 0) expect(JSON.parse(result.stdout).cwd).not.toMatch(/^\(unreachable\)|^\/sys\/fs/);
      else expect(result.stderr).not.toBe("");
    }
  });
});
