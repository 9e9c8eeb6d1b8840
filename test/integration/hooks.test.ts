// Hooks: the six kinds, where and when they run, what they are told, what they can change.
import { beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, type Hook, type HookKind, hookKinds } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** Directory hooks write to: the same on the host and, bound, in the container. */
let log: string;

beforeEach(() => {
  log = rig.directory();
  chmodSync(log, 0o777);
});

/** A hook that runs a shell script with busybox, which the host and the root filesystem both have. */
const shell = (script: string, more: Partial<Hook> = {}): Hook => ({
  path: "/bin/busybox",
  args: ["sh", "-c", script],
  ...more,
});

/** Everything a test wants to know of a hook, in files named by its kind and number. */
const record = (kind: HookKind, number: number): Hook =>
  shell(`echo ${kind}${number} >>${log}/order
    cat >${log}/${kind}${number}.state
    for n in mnt pid net ipc uts; do readlink /proc/self/ns/$n; done >${log}/${kind}${number}.ns
    test -e /etc/debian_version && echo host >${log}/${kind}${number}.root || echo container >${log}/${kind}${number}.root`);

/** Two recording hooks of each kind; the program appends to the same order file. */
function recorded(edit: (config: Config) => void = () => {}): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    config.mounts.push({ destination: log, source: log, options: ["bind"] });
    config.process.args = [
      "sh",
      "-c",
      `echo program >>${log}/order; for n in mnt pid net ipc uts; do readlink /proc/self/ns/$n; done >${log}/program.ns`,
    ];
    config.hooks = Object.fromEntries(hookKinds.map((kind) => [kind, [record(kind, 0), record(kind, 1)]]));
    config.annotations = { "org.example": "kept" };
    edit(config);
  });
}

const order = (): string[] =>
  (existsSync(join(log, "order")) ? readFileSync(join(log, "order"), "utf8") : "").trim().split("\n");
const both = (...kinds: string[]): string[] => kinds.flatMap((kind) => [`${kind}0`, `${kind}1`]);

describe("create, start, delete", () => {
  test("run each kind at its time, in the listed order", async () => {
    const container = recorded((config) => {
      config.process.args = ["sh", "-c", `echo program >>${log}/order; exec sleep 60`];
    });
    await container.create();
    const creating = both("prestart", "createRuntime", "createContainer");
    // runc up to 1.5 runs poststart hooks in create.
    const early = isBunc ? [] : both("poststart");
    expect(order()).toEqual([...creating, ...early]);
    (await container.call("start")).ok();
    for (let i = 0; i < 100 && !order().includes("program"); i++) await Bun.sleep(10);
    const after = order().slice(creating.length + early.length);
    expect(after.slice(0, 2)).toEqual(both("startContainer"));
    expect(after.filter((name) => name !== "program").slice(2)).toEqual(isBunc ? both("poststart") : []);
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    expect(order().at(-1)).not.toMatch(/poststop/);
    (await container.remove()).ok();
    expect(order().slice(-2)).toEqual(both("poststop"));
  });
});

describe("run", () => {
  test("runs them all; each is told the state of its time", async () => {
    const container = recorded();
    const pidFile = container.path("pid");
    const result = (await container.run(["--pid-file", pidFile])).ok();
    expect(result.stdout + result.stderr).toBe("");
    expect(order().filter((name) => !name.startsWith("poststart") && name !== "program")).toEqual(
      both("prestart", "createRuntime", "createContainer", "startContainer", "poststop"),
    );
    expect(order()).toEqual(expect.arrayContaining(["program", ...both("poststart")]));
    const pid = Number(readFileSync(pidFile, "utf8"));
    const wanted: Record<HookKind, { status: string; pid?: number }> = {
      prestart: { status: "creating", pid },
      createRuntime: { status: "creating", pid },
      createContainer: { status: "creating", pid: 1 }, // as the container sees it
      startContainer: { status: "created", pid: 1 },
      poststart: { status: isBunc ? "running" : "created", pid },
      poststop: { status: "stopped" },
    };
    for (const [kind, expected] of Object.entries(wanted)) {
      const state = JSON.parse(readFileSync(join(log, `${kind}1.state`), "utf8"));
      expect([kind, state]).toEqual([
        kind,
        expect.objectContaining({
          ociVersion: expect.stringMatching(/^1\./),
          id: container.id,
          bundle: container.bundle,
          annotations: expect.objectContaining({ "org.example": "kept" }),
          ...expected,
        }),
      ]);
      expect(Object.keys(state)).not.toContain("rootfs"); // the spec's state, not `runc state`
    }
    expect(JSON.parse(readFileSync(join(log, "poststop0.state"), "utf8")).pid ?? 0).toBe(0);
  });

  test("the host's hooks run in its namespaces, the container's in its own, on the right side of pivot_root", async () => {
    const container = recorded();
    (await container.run()).ok();
    const own = ["mnt", "pid", "net", "ipc", "uts"].map((name) => readlinkSync(`/proc/self/ns/${name}`));
    const read = (name: string): string[] => readFileSync(join(log, name), "utf8").trim().split("\n");
    const program = read("program.ns");
    for (const kind of ["prestart", "createRuntime", "poststart", "poststop"]) {
      expect([kind, read(`${kind}0.ns`), read(`${kind}0.root`)]).toEqual([kind, own, ["host"]]);
    }
    for (const [kind, root] of [
      ["createContainer", "host"], // its path is the host's
      ["startContainer", "container"],
    ]) {
      expect([kind, read(`${kind}0.root`)]).toEqual([kind, [root!]]);
      // Before pivot_root /proc is the host's, where the namespaces' names are the same.
      expect([kind, read(`${kind}0.ns`)]).toEqual([kind, program]);
    }
    expect(program).not.toEqual(own);
  });
});

describe("a hook", () => {
  test("gets its arguments and environment as they are in the config", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      const script = `printf '%s|' "$0" "$@" >${log}/args; env >${log}/env`;
      const args = ["the name", "-c", script, "zero", "one", "two words", ""];
      writeFileSync(join(log, "hook"), `#!/bin/sh\nprintf '%s|' "$@" >${log}/script; env >${log}/plain\n`, {
        mode: 0o755,
      });
      config.hooks = {
        createRuntime: [
          { path: "/bin/sh", args, env: ["A=1", "B=two words"] },
          { path: `${log}/hook` },
          { path: `${log}/hook`, args: ["name", "x"], env: [] },
        ],
      };
    });
    (await container.run([], { env: { SECRET: "of the runtime" } })).ok();
    expect(readFileSync(join(log, "args"), "utf8")).toBe("zero|one|two words||");
    const env = readFileSync(join(log, "env"), "utf8").trim().split("\n");
    expect(env.filter((entry) => !/^(PWD|SHLVL|_|OLDPWD)=/.test(entry)).sort()).toEqual([
      "A=1",
      "B=two words",
    ]);
    expect(readFileSync(join(log, "script"), "utf8")).toBe("x|");
  });

  test("of the container without an environment gets the program's", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.process.env.push("ONE=two");
      config.mounts.push({ destination: "/log", source: log, options: ["bind"] });
      config.hooks = { startContainer: [shell("env >/log/env"), shell("env >/log/own", { env: ["X=y"] })] };
    });
    (await container.run()).ok();
    const env = readFileSync(join(log, "env"), "utf8");
    expect(env).toContain("ONE=two\n");
    expect(env).toContain("HOME=/root\n");
    expect(readFileSync(join(log, "own"), "utf8")).not.toContain("ONE=");
  });

  test("that reads nothing of a large state, and one that prints a lot, do not matter", async () => {
    const container = rig.container((config) => {
      config.process.args = ["echo", "done"];
      config.annotations = { large: "x".repeat(500_000) };
      const noisy = shell("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2");
      config.hooks = {
        createRuntime: [shell("exit 0"), shell("wc -c >/dev/null"), noisy],
        poststop: [noisy],
      };
    });
    const result = (await container.run()).ok();
    expect(result.stdout).toBe("done\n");
    expect(result.stderr).toBe("");
  });

  test("on the host has nothing but its three streams open", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      const list = shell(`ls /proc/self/fd >${log}/fds`);
      config.hooks = { createRuntime: [list], poststop: [shell(`ls /proc/self/fd >${log}/fds-stop`)] };
    });
    (await container.run()).ok();
    expect(readFileSync(join(log, "fds"), "utf8").trim().split("\n")).toEqual(["0", "1", "2", "3"]);
    expect(readFileSync(join(log, "fds-stop"), "utf8").trim().split("\n")).toEqual(["0", "1", "2", "3"]);
  });

  test("createRuntime can set up the network namespace through the pid it is told", async () => {
    const container = rig.container((config) => {
      const pid = `sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p'`;
      config.hooks = {
        createRuntime: [shell(`nsenter -t $(${pid}) -n /bin/busybox ip link add hook0 type veth`)],
      };
    });
    expect(await container.output("ls", "/sys/class/net")).toContain("hook0\n");
  });

  test("createContainer can mount into the rootfs; all mounts of the config are there already", async () => {
    const container = rig.container((config, { rootfs }) => {
      const script = `mount -t tmpfs hook ${rootfs}/srv && : >${rootfs}/srv/made && test -e ${rootfs}/dev/shm`;
      config.hooks = { createContainer: [shell(script)] };
      config.mounts.push({ destination: "/srv", type: "tmpfs", source: "below" });
    });
    const text = await container.shell("ls /srv; grep -c ' /srv ' /proc/mounts");
    expect(text).toBe("made\n2\n");
    expect(entries(join(container.rootfs, "srv"))).toEqual([]);
  });

  buncTest("that is null or an empty list or object is no hook", async () => {
    const container = rig.container((config) => {
      config.process.args = ["echo", "ran"];
      const hooks: unknown = { prestart: null, createRuntime: [], unknownKind: [{ path: "/bin/false" }] };
      config.hooks = hooks as NonNullable<Config["hooks"]>;
    });
    expect((await container.run()).ok().stdout).toBe("ran\n");
  });
});
