// What a container gets of the runtime's own process: no descriptor, no environment, no memory, no capability beyond
// what config.json says. CVE numbers are those of the runtime that once fell for it.
import { describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { abi } from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { capabilityNames } from "../rig/config.ts";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, buncTestUnless, host, isBunc } from "../rig/runtime.ts";
import { makeVictim, survive } from "./hostile-ground.ts";

const rig = useRig();
/** What the kernel counts pids on from; who may write to it chooses the next. */
const LAST_PID = "/proc/sys/kernel/ns_last_pid";
const everything = capabilityNames.filter((_, number) => host.capable(number));

/** Descriptors of this process on things of the host, for a caller that is careless with them. */
function openHost(count: number): number[] {
  const fds: number[] = [];
  for (let i = 0; i < count; i++) fds.push(openSync("/", "r"));
  rig.defer(() => fds.forEach(closeSync));
  return fds;
}

describe("descriptors (runc CVE-2024-21626)", () => {
  test("of the caller, from 3 on, do not reach the program", async () => {
    const fds = openHost(12);
    const container = rig.container();
    const report = await container.report([], { fds });
    expect(report.fds.map(({ fd }) => fd)).toEqual([0, 1, 2]);
    const created = rig.container((config) => {
      config.process.args = ["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; echo end"];
    });
    const result = await created.create([], { fds });
    (await created.call("start")).ok();
    expect(await result.until("end")).toBe("0 1 2 3 end\n"); // 3 is ls reading the directory
  });

  buncTest("that a waiting init holds lead to nothing that could be changed", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    await container.create([], { fds: openHost(12) });
    const { pid } = await container.state();
    const held = readdirSync(`/proc/${pid}/fd`).map(Number);
    for (const fd of held.filter((number) => number > 2)) {
      const path = `/proc/${pid}/fd/${fd}`;
      const target = readlinkSync(path);
      if (target.startsWith("socket:")) continue;
      // The directory with the exec fifo, as a mount that has nothing above it.
      expect(entries(path)).toEqual(["exec.fifo", "state.json"]);
      expect(entries(`${path}/..`)).toEqual(["exec.fifo", "state.json"]);
      expect(() => writeFileSync(`${path}/made`, "")).toThrow("EROFS");
    }
    (await container.call("start")).ok();
  });

  test("as the working directory: /proc/self/fd/N is inside, or an error", async () => {
    const fds = openHost(12);
    const victim = makeVictim(rig);
    for (let fd = 3; fd < 16; fd++) {
      for (const tail of ["", "/", "/..", "/../../../../.."]) {
        const container = rig.container((config) => {
          config.process.cwd = `/proc/self/fd/${fd}${tail}`;
          config.process.args = ["cat", `.${victim.file}`, `../../../../..${victim.file}`];
        });
        const result = await survive(container, { fds });
        expect([fd, tail, result.code]).not.toEqual([fd, tail, 0]);
        expect(result.stdout).not.toContain(victim.secret);
        if (tail === "/..") break; // the rest only for a few
      }
    }
  });

  test("as the program: a path or a link through /proc/self/fd/N is not found", async () => {
    const fds = openHost(12);
    const program = output(["which", "busybox"]).trim();
    const victim = makeVictim(rig);
    for (let fd = 3; fd < 16; fd++) {
      const container = rig.container((config, it) => {
        config.process.args = [`/proc/self/fd/${fd}${program}`, "cat", victim.file];
        if (fd % 2) {
          output(["ln", "-s", `/proc/self/fd/${fd}/../../../../../..${program}`, join(it.rootfs, "cat")]);
          config.process.args = ["/cat", victim.file];
        }
        config.process.env = [`PATH=/proc/self/fd/${fd}/bin:/proc/self/fd/${fd}`];
      });
      const result = await survive(container, { fds });
      expect([fd, result.code]).toEqual([fd, 1]);
      container.config.process.args = ["busybox", "cat", victim.file];
      const found = await survive(container, { fds });
      expect([fd, found.code]).toEqual([fd, 1]);
      expect(result.stdout + found.stdout).not.toContain(victim.secret);
    }
  });
});

describe("the environment of the caller", () => {
  test("is neither the program's nor to be read in init", async () => {
    const env = { SECRET_OF_CALLER: "do not tell", LD_PRELOAD: "", BUN_OPTIONS: "--smol" };
    const container = rig.container();
    const report = await container.report([], { env });
    expect(report.env.map((entry) => entry.split("=")[0]).sort()).toEqual(["HOME", "PATH", "TERM"]);
    const waiting = rig.container((config) => {
      config.process.args = ["true"];
    });
    await waiting.create([], { env });
    const { pid } = await waiting.state();
    expect(readFileSync(`/proc/${pid}/environ`, "utf8")).not.toContain("SECRET_OF_CALLER");
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).not.toContain(rig.scratch.root);
  });

  // What steers Bun is for this process alone: a hook may be a program of Bun's, and its caller need not know of it.
  buncTest("reaches hooks without the variables that steer Bun", async () => {
    const env = {
      OF_CALLER: "kept",
      BUN_OPTIONS: "--smol",
      BUN_JSC_useConcurrentGC: "0",
      BUN_INSPECT_NOTIFY: "",
    };
    const dir = rig.directory();
    const kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] as const;
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.hooks = {};
      for (const kind of kinds) {
        config.hooks[kind] = [{ path: "/bin/sh", args: ["sh", "-c", `/usr/bin/env >${join(dir, kind)}`] }];
      }
    });
    (await container.run([], { env })).ok();
    for (const kind of kinds) {
      const seen = readFileSync(join(dir, kind), "utf8").split("\n");
      expect([kind, seen.includes("OF_CALLER=kept")]).toEqual([kind, true]);
      expect([kind, seen.filter((entry) => entry.startsWith("BUN_"))]).toEqual([kind, []]);
    }
  });
});

describe("capabilities (runc CVE-2022-29162)", () => {
  test("none are inheritable or ambient that config.json does not name, whatever the caller has", async () => {
    const all = everything.map((name) => `+${name.slice(4).toLowerCase()}`).join(",");
    for (const flags of [[], ["--inh-caps", all], ["--inh-caps", all, "--ambient-caps", all]]) {
      const wrap = flags.length ? ["setpriv", ...flags] : [];
      const container = rig.container();
      const { status } = await container.report([], { wrap });
      expect([status.CapInh, status.CapAmb]).toEqual(["0000000000000000", "0000000000000000"]);
      expect(status.CapEff).toBe("0000000020000420");
      delete container.config.process.capabilities;
      const none = (await container.report([], { wrap })).status;
      if (isBunc) {
        for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
          expect([set, none[set]]).toEqual([set, "0000000000000000"]);
        }
      }
    }
  });
});

describe("init, for a container whose namespaces it joins", () => {
  buncTest("is a sealed copy of bunc-init (runc CVE-2019-5736)", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    await container.create();
    const { pid } = await container.state();
    expect(readlinkSync(`/proc/${pid}/exe`)).toStartWith("/memfd:bunc-init");
    const fd = openSync(`/proc/${pid}/exe`, "r");
    const F_GET_SEALS = 1034;
    const SEAL_SHRINK_GROW_WRITE = 0xf; // with F_SEAL_SEAL
    expect(sys(abi.SYS_fcntl, fd, F_GET_SEALS) & SEAL_SHRINK_GROW_WRITE).toBe(SEAL_SHRINK_GROW_WRITE);
    closeSync(fd);
  });

  buncTest("can be run as a program of the container without harm", async () => {
    // What is read from the descriptor that the argument names is a program, and is executed: as the container's user.
    for (const args of [[], ["0"], ["1"], ["99"], ["-1"], ["x"]]) {
      const container = rig.container((config) => {
        config.process.args = ["/proc/self/exe", ...args];
      });
      const result = await survive(container, { stdin: "not a launch program".repeat(10) });
      expect([args, result.code]).toEqual([args, 1]);
    }
  });

  test("cannot be looked into with the capabilities of an ordinary container", async () => {
    const owner = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await owner.detach();
    const { pid } = await owner.state();
    const joiner = rig.container((config) => {
      config.process.args = ["true"];
      config.linux.namespaces = config.linux.namespaces.map(({ type }) =>
        type === "pid" ? { type, path: `/proc/${pid}/ns/pid` } : { type },
      );
    });
    await joiner.create();
    const inner = readFileSync(`/proc/${(await joiner.state()).pid}/status`, "utf8");
    const number = /^NSpid:.*\s(\d+)$/m.exec(inner)![1]!;
    const spy = rig.container((config) => {
      config.linux.namespaces = joiner.config.linux.namespaces;
      config.process.args = [
        "sh",
        "-c",
        `cd /proc/${number} || exit; for f in environ maps auxv fd/0 root/etc cwd/etc; do ls -d $f/ >/dev/null 2>&1 && echo reached $f; done;
         for f in environ maps mem stack; do cat $f >/dev/null 2>&1 && echo read $f; done; readlink exe root cwd; test-helper sys "ptrace 16 ${number}"`,
      ];
    });
    const result = (await spy.run()).ok();
    const [line, ...more] = result.stdout.trim().split("\n").reverse();
    expect(more).toEqual([]);
    expect(JSON.parse(line!)).toMatchObject({ result: -1, error: "EPERM" });
  });
});

describe("exec into a container that ends meanwhile", () => {
  buncTestUnless(
    Bun.which("strace") && existsSync(LAST_PID) ? undefined : "no strace, or no way to choose a pid",
    "runs nothing on the host, should a process of the host have got init's pid",
    async () => {
      const container = rig.container((config) => {
        config.process.args = ["sleep", "60"];
      });
      await container.detach();
      const { pid } = await container.state();
      const reading = [`/proc/${pid}/ns/user`, "-e", "inject=readlinkat:delay_enter=3000000"];
      const log = container.path("strace");
      const exec = rig.spawn(["exec", container.id, "readlink", "/proc/self/ns/mnt"], {
        wrap: ["strace", "-f", "-o", log, "-P", ...reading],
      });
      await until(() => childrenOf(exec.pid).some(hasPidfd));
      (await container.call("kill", "KILL")).ok();
      await until(() => !existsSync(`/proc/${pid}`));
      await until(() => {
        writeFileSync(LAST_PID, String(pid - 1));
        const other = Bun.spawn(["sleep", "60"], { env: rig.env });
        if (other.pid !== pid) other.kill("SIGKILL");
        else {
          rig.defer(async () => {
            other.kill("SIGKILL");
            await other.exited;
          });
        }
        return other.pid === pid;
      });
      const result = await exec.done;
      expect(readFileSync(log, "utf8")).toContain("(DELAYED)");
      expect(result.stdout).toBe("");
      expect(result.ok(255).stderr).toContain("cannot exec in a stopped container");
    },
  );
});

async function until(done: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !done(); await Bun.sleep(5))
    if (Date.now() > deadline) throw new Error(`not in time: ${done}`);
}

function childrenOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean);
}

function hasPidfd(pid: string): boolean {
  return entries(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`).includes("pidfd"));
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
