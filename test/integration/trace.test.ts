// `--trace`: what a start, an exec and a failure leave in it, that it is true, and that nobody pays for it without.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, host, testUnless } from "../rig/runtime.ts";
import { bench, fakeImages, RESTORED } from "./criu.rig.ts";

const rig = useRig();

interface Event {
  name: string;
  ph: string;
  cat: string;
  pid: number;
  ts: number;
  dur?: number;
  args: {
    call: string;
    path?: string;
    phase?: string;
    index?: number;
    errno?: string;
    failed?: boolean;
    skipped?: boolean;
    untimed?: boolean;
    unfinished?: boolean;
  };
}

interface Trace {
  events: Event[];
  other: { command: string; error?: string; notes: string[] };
  /** Operations of bunc-init, in order. */
  init: Event[];
  /** Operations that bunc executed itself. */
  parent: Event[];
  /** System calls and steps of bunc. */
  own: Event[];
}

function read(file: string): Trace {
  const { traceEvents, otherData } = JSON.parse(readFileSync(file, "utf8"));
  const named = new Map<number, string>();
  for (const { ph, name, pid, args } of traceEvents) {
    if (ph === "M" && name === "process_name") named.set(pid, args.name);
  }
  const events = (traceEvents as Event[]).filter(({ ph }) => ph !== "M");
  const of = (name: string) => events.filter(({ pid }) => named.get(pid) === name);
  const ops = (list: Event[]) => list.filter(({ cat }) => cat === "op");
  return {
    events,
    other: otherData,
    init: ops(of("bunc-init")),
    parent: ops(of("bunc")),
    own: of("bunc").filter(({ cat }) => cat !== "op"),
  };
}

/** The times are in order, none lies outside of the trace, and none overlaps. */
function expectSane({ events, init }: Trace): void {
  const last = Math.max(...events.map(({ ts, dur = 0 }) => ts + dur));
  expect(last).toBeLessThan(30_000_000);
  for (const { ts, dur = 0, name } of events) expect([name, ts >= 0, dur >= 0]).toEqual([name, true, true]);
  for (const [i, event] of init.entries()) {
    const before = init[i - 1];
    if (before)
      expect([event.name, event.ts + 0.002 >= before.ts + (before.dur ?? 0)]).toEqual([event.name, true]);
  }
}

const told = ({ name, args }: Event) => [args.index, name.split(":")[0], args.phase, args.path ?? ""];

/** What explain says that is executed, by side. */
async function explained(container: Container): Promise<{ init: unknown[]; parent: unknown[] }> {
  container.write();
  const result = (await rig.call(["explain", "--json", "--bundle", container.bundle])).ok();
  const parts: { side: string; ops: { index: number; call: string; phase: string; path: string }[] }[] =
    JSON.parse(result.stdout);
  const of = (side: string) =>
    parts
      .filter((part) => part.side === side)
      .flatMap(({ ops }) => ops)
      .filter(({ index }) => index !== null)
      .map(({ index, call, phase, path }) => [index, call, phase, path]);
  return { init: of("init"), parent: of("parent") };
}

async function traced(container: Container, flags: string[] = []): Promise<Trace> {
  const file = container.path("trace.json");
  (await container.run(["--trace", file, ...flags])).ok();
  return read(file);
}

buncDescribe("the trace of run", () => {
  test("has every operation that explain shows, once and in order", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const trace = await traced(container);
    const wanted = await explained(container);
    expect(trace.init.map(told)).toEqual(wanted.init as never);
    // What bunc executes before and during the start; its removal comes on top.
    const parent = trace.parent.map(told).map(([, ...rest]) => rest.join(" "));
    for (const [, ...op] of wanted.parent as unknown[][]) expect(parent).toContain(op.join(" "));
    expectSane(trace);
    expect(trace.init.at(-1)).toMatchObject({ name: "execve", args: { path: "process.args" } });
    expect(trace.init.filter(({ args }) => args.untimed || args.unfinished)).toEqual([]);
    expect(trace.own.filter(({ name }) => name === "clone3")).toHaveLength(1);
    const steps = trace.own.filter(({ cat }) => cat === "step").map(({ name }) => name);
    for (const step of ["load bunc", "make the cgroups", "start bunc-init", "wait for the program's end"]) {
      expect(steps).toContain(step);
    }
    expect(trace.other).toMatchObject({ command: `run ${container.id}`, notes: [] });
  });

  test("tells arguments, and what was passed over", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const { init } = await traced(container);
    expect(init.find(({ args }) => args.path === "mounts[0]")!.args.call).toContain(
      'mount "proc" at "/proc"',
    );
    const skipped = init.filter(({ args }) => args.skipped);
    expect(skipped.every(({ dur }) => dur === undefined)).toBe(true);
  });

  test("with a user namespace, whose init forks", async () => {
    const container = rig.container((config) => {
      config.process.args = ["id", "-u"];
      config.linux.namespaces.push({ type: "user" });
      config.linux.uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
      config.linux.gidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
    });
    const trace = await traced(container);
    expect(trace.init.map(told)).toEqual((await explained(container)).init as never);
    expectSane(trace);
    expect(trace.init.find(({ name }) => name === "fork")!.dur).toBeGreaterThan(0);
    expect(trace.own.find(({ name }) => name === "map the ids")!.args.path).toBe("linux.uidMappings");
  });

  testUnless(
    host.timeNamespaces ? undefined : "no time namespaces",
    "with a time namespace: its clock is moved back",
    async () => {
      const container = rig.container((config) => {
        config.process.args = ["true"];
        config.linux.namespaces.push({ type: "time" });
        Object.assign(config.linux, { timeOffsets: { monotonic: { secs: 86400, nanosecs: 5 } } });
      });
      const trace = await traced(container);
      expectSane(trace);
      expect(
        trace.init.find(({ args }) => args.call.includes("CLONE_NEWTIME") && args.call.includes("setns")),
      ).toBeDefined();
    },
  );

  test("with a seccomp profile that refuses the clock: the rest goes without times, and runs", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      Object.assign(config.linux, {
        seccomp: {
          defaultAction: "SCMP_ACT_ALLOW",
          syscalls: [{ names: ["clock_gettime"], action: "SCMP_ACT_KILL_PROCESS" }],
        },
      });
    });
    const trace = await traced(container);
    expect(trace.init.map(told)).toEqual((await explained(container)).init as never);
    const untimed = trace.init.filter(({ args }) => args.untimed);
    expect(untimed[0]!.name).toBe("seccomp");
    expect(untimed.at(-1)!.name).toBe("execve");
    expect(trace.other.notes[0]).toContain("clock_gettime");
  });

  test("- is a table on stderr, the slowest first; the container's output stays as it is", async () => {
    const container = rig.container((config) => {
      config.process.args = ["echo", "hello"];
    });
    const result = (await container.run(["--trace", "-"])).ok();
    expect(result.stdout).toBe("hello\n");
    const lines = result.stderr.split("\n");
    expect(lines[0]).toStartWith(`run ${container.id}: `);
    expect(lines[1]).toContain("OPERATION");
    const times = lines.slice(2, 22).map((line) => Number.parseFloat(line));
    expect(times).toEqual([...times].sort((a, b) => b - a));
    expect(result.stderr).toContain("bunc-init");
  });

  test(".svg is a picture that an XML parser takes", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    const file = container.path("trace.svg");
    (await container.run(["--trace", file])).ok();
    const svg = readFileSync(file, "utf8");
    expect(svg).toContain('<svg xmlns="http://www.w3.org/2000/svg"');
    expect(svg).toContain("execve");
    const python = Bun.which("python3");
    if (!python) return;
    const parse = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
    const { exitCode, stderr } = Bun.spawnSync([python, "-c", parse, file]);
    expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  });

  test("with descriptors that are passed on: none of the trace's gets into the container", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "ls /proc/self/fd"];
    });
    const file = container.path("trace.json");
    const { stdout } = (await container.run(["--trace", file])).ok();
    // 3 is the directory that ls reads.
    expect(stdout).toBe("0\n1\n2\n3\n");
    const refused = await container.run(["--trace", file, "--preserve-fds", "1"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("unable to stat preserved-fd 0");
  });
});

buncDescribe("a failure", () => {
  test("of an operation is in the trace, and is its last", async () => {
    const container = rig.container((config) => {
      config.mounts.push({ destination: "/x", type: "bind", source: "/no/such", options: ["bind"] });
    });
    const file = container.path("trace.json");
    const result = await container.run(["--trace", file]);
    expect(result.code).toBe(1);
    const { init, other, own } = read(file);
    const at = container.config.mounts.length - 1;
    const failing = own.concat(init).filter(({ args }) => args.failed || args.errno === "ENOENT");
    expect(failing.length).toBeGreaterThan(0);
    expect(other.error).toContain(`mounts[${at}]`);
    expect(own.at(-1)).toBeDefined();
    expect(own.some(({ name }) => name === "take everything back")).toBe(true);
  });

  test("in bunc-init names the operation", async () => {
    const container = rig.container((config) => {
      config.process.args = ["no-such-program"];
    });
    const file = container.path("trace.json");
    expect((await container.run(["--trace", file])).code).toBe(1);
    const { init, other } = read(file);
    expect(init.at(-1)).toMatchObject({
      name: "lookpath: ENOENT",
      args: { failed: true, path: "process.args[0]" },
    });
    expect(other.error).toContain("no-such-program");
    const table = await container.run(["--trace", "-"]);
    expect(table.stderr).toMatch(/^failed: bunc-init: find the first executable/m);
  });

  test("to open the file is an error before anything runs", async () => {
    const container = rig.container();
    for (const command of ["run", "create"] as const) {
      const result = await container.start(command, ["--trace", "/no/such/dir/t.json"]);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(
        "cannot write the trace: open /no/such/dir/t.json: no such file or directory",
      );
    }
    expect((await container.call("state")).code).toBe(1);
  });

  test("to write the file is a warning: the container has run", async () => {
    if (!existsSync("/dev/full")) return;
    const container = rig.container((config) => {
      config.process.args = ["sh", "-c", "exit 7"];
    });
    const result = await container.run(["--trace", "/dev/full"]);
    expect(result.code).toBe(7);
    expect(result.stderr).toContain("cannot write the trace: write /dev/full: no space left on device");
  });
});

buncDescribe("create and start", () => {
  test("share the program: create's trace ends at the fifo, start's begins there", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    const [first, second] = [container.path("create.json"), container.path("start.json")];
    await container.create(["--trace", first]);
    const create = read(first);
    expectSane(create);
    expect(create.init.at(-1)).toMatchObject({ name: "openat", args: { unfinished: true, phase: "start" } });
    (await rig.call(["start", "--trace", second, container.id])).ok();
    const start = read(second);
    expectSane(start);
    expect(start.init.at(-1)).toMatchObject({ name: "execve", args: { path: "process.args" } });
    expect(start.init[0]!.args.index!).toBeGreaterThan(create.init.at(-1)!.args.index!);
    expect(start.other.notes).toEqual([]);
    (await container.remove("--force")).ok();
  });

  test("start without create's trace says what is missing", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.create();
    const file = container.path("start.json");
    (await rig.call(["start", "--trace", file, container.id])).ok();
    const { init, other, own } = read(file);
    expect([init, other.notes]).toEqual([[], [expect.stringContaining("created with --trace")]]);
    expect(own.map(({ name }) => name)).toContain("let bunc-init go on, until the program runs");
  });

  test("a program that start cannot execute is the last of its trace", async () => {
    const container = rig.container((config) => {
      config.process.args = ["/bin/text"];
    });
    container.file("bin/text", "no program\n", 0o755);
    await container.create(["--trace", container.path("create.json")]);
    const file = container.path("start.json");
    expect((await rig.call(["start", "--trace", file, container.id])).code).toBe(1);
    const { init, other } = read(file);
    expect(init.at(-1)).toMatchObject({ name: "execve: ENOEXEC", args: { failed: true } });
    expect(other.error).toContain("exec format error");
  });
});

buncDescribe("exec", () => {
  test("into another pid namespace is traced to its execve", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.detach();
    const file = container.path("exec.json");
    const result = (await rig.call(["exec", "--trace", file, container.id, "echo", "hi"])).ok();
    expect(result.stdout).toBe("hi\n");
    const trace = read(file);
    expectSane(trace);
    expect(trace.init.map(({ args }) => args.index)).toEqual(trace.init.map((_, i) => i));
    expect(trace.init.map(({ name }) => name)).toContain("fork");
    expect(trace.init.at(-1)!.name).toBe("execve");
    const failing = await rig.call(["exec", "--trace", "-", container.id, "no-such"]);
    expect(failing.code).toBe(255);
    expect(failing.stderr).toMatch(/^failed: bunc-init: /m);
  });
});

buncDescribe("restore", () => {
  test("is traced with every bunc-init that takes part, that of criu among them", async () => {
    const b = bench(rig, { steps: RESTORED });
    fakeImages(b);
    const file = b.container.path("trace.json");
    (await b.restore("--detach", "--trace", file)).ok();
    const { events, other } = read(file);
    expect(other.command).toBe(`restore ${b.container.id}`);
    const programs = events.filter(({ name, cat }) => cat === "op" && name === "execve");
    expect(programs.some(({ args }) => args.call.includes("criu") || args.call.includes("swrk"))).toBe(true);
    (await b.container.call("kill", "KILL")).ok();
    await b.container.waitFor("stopped");
    (await b.container.remove()).ok();
  });
});

describe("without a trace", () => {
  testUnless(Bun.which("strace") ? undefined : "no strace", "no call is made for one", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    /** System calls of bunc-init by name, up to the program. */
    const calls = async (flags: string[]) => {
      const log = join(container.bundle, `strace-${flags.length}`);
      (await container.run(flags, { wrap: ["strace", "-f", "-o", log] })).ok();
      const lines = readFileSync(log, "utf8").split("\n");
      const began = lines.findIndex((line) => line.includes("execveat("));
      const pid = lines[began]!.split(" ")[0]!;
      const names: string[] = [];
      for (const line of lines.slice(began + 1)) {
        const [, name] = /^\d+ +([a-z0-9_]+)\(/.exec(line) ?? [];
        if (!name || line.split(" ")[0] !== pid) continue;
        names.push(name);
        if (name === "execve") break;
      }
      return names;
    };
    const plain = await calls([]);
    expect(plain.length).toBeGreaterThan(50);
    expect(plain.filter((name) => name === "clock_gettime")).toEqual([]);
    const timed = await calls(["--trace", container.path("t.json")]);
    expect(timed.filter((name) => name === "clock_gettime").length).toBeGreaterThan(50);
    const without = timed.filter((name) => name !== "clock_gettime");
    // The memory of the times is mapped, and its descriptor closed.
    without.splice(without.indexOf("mmap", without.indexOf("mmap") + 1), 2);
    expect(without).toEqual(plain);
    expect(statSync(container.path("t.json")).size).toBeGreaterThan(1000);
  });
});
