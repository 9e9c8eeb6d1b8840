/** `explain` of programs: one readable line for each operation, and the same as JSON. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import { callName } from "../linux/names.ts";
import { explainProgram, renderJson, renderText } from "./explain.ts";
import { isKnownCall } from "./explain-calls.ts";
import { quote } from "./explain-values.ts";
import { composite } from "./explain-words.ts";
import { type Arg, Part, Slot, Struct } from "./program.ts";
import { BUNDLES, compile, dockerSpec, FILTER, joinedSpec, plainSpec } from "./testing.ts";

const FD = new Slot(1, "mount target");
const NO_BIRTH = { birth: { flags: 0, pidns: undefined }, fds: [], firstFd: 3 };

/** The line of one operation, without index and path. */
function line(code: number, args: Arg[]): string {
  const part = new Part().at("process");
  part.op(code, args);
  const text = renderText(explainProgram({ ...NO_BIRTH, parts: [{ side: "init", part }] }));
  return text
    .trimEnd()
    .split("\n")
    .at(-1)!
    .replace(/^ *\d+ {2}- +/, "");
}

function explained(name: keyof typeof PROGRAMS) {
  const { launch, parts } = PROGRAMS[name];
  const { birth, fds, firstFd } = launch.plan;
  return explainProgram({ birth, fds, firstFd, parts: parts.map((part) => ({ side: "init", part })) });
}

const PROGRAMS = {
  plain: compile(plainSpec()),
  docker: compile(dockerSpec(), {
    waitForStart: true,
    pidfdSocket: true,
    seccomp: { filter: FILTER, flags: 1, listener: true },
  }),
  joined: compile(joinedSpec(["pid", "network", "user"])),
};

describe("whole programs", () => {
  test.each(BUNDLES)(
    "of %s: one line for each operation, none with a raw number for a name",
    (_name, make) => {
      const compiled = compile(make(), {
        waitForStart: true,
        seccomp: { filter: FILTER, flags: 0, listener: false },
      });
      const { birth, fds, firstFd } = compiled.launch.plan;
      const parts = compiled.parts.map((part) => ({ side: "init" as const, part }));
      const text = renderText(explainProgram({ birth, fds, firstFd, parts }));
      const lines = text.split("\n").filter((one) => /^ *\d+ {2}/.test(one));
      expect(lines.length).toBe(compiled.ops.length);
      lines.forEach((one, i) => {
        expect(Number.parseInt(one, 10)).toBe(i);
        expect(one).not.toMatch(/undefined|\[object|NaN|\?|syscall \d/);
      });
      for (const { call } of compiled.ops) {
        expect([
          callName(call),
          call >= abi.BUNC_OP_FIRST ? composite(call) !== undefined : isKnownCall(callName(call)),
        ]).toEqual([callName(call), true]);
      }
    },
  );

  test("say how init is born, first of all", () => {
    const [birth] = explained("docker");
    expect(birth!.side).toBe("parent");
    expect(birth!.ops[0]).toMatchObject({ index: null, call: "clone3", path: "linux.namespaces" });
    expect(birth!.ops[0]!.text).toBe(
      "clone3(CLONE_NEWPID|CLONE_VM|CLONE_VFORK|CLONE_PIDFD), execveat(bunc-init, sealed memfd), " +
        "inherits @sync=3, @state-dir=4, @pidfd-socket=5, @console-socket=6",
    );
    const { birth: given, fds, firstFd } = PROGRAMS.docker.launch.plan;
    const [inCgroup] = explainProgram({ birth: given, fds, firstFd, parts: [], intoCgroup: true });
    expect(inCgroup!.ops[0]!.text).toStartWith("clone3(CLONE_NEWPID|CLONE_INTO_CGROUP|CLONE_VM");
    const text = renderText(explained("docker")).split("\n");
    expect(text.find((one) => one && !one.startsWith("#"))).toBe("parent: namespaces");
    expect(renderText(explained("joined"))).toContain(
      "inherits @sync=3, @ns:user=4, @ns:network=5, @ns:pid=6",
    );
  });

  test("name descriptors, slots and places in config.json", () => {
    const text = renderText(explained("joined"));
    expect(text).toMatch(/ linux\.namespaces\[\d+\]\.path +setns\(@ns:network, CLONE_NEWNET\)\n/);
    const docker = renderText(explained("docker"));
    expect(docker).toContain("fcntl(@sync, F_SETFD, FD_CLOEXEC)");
    expect(docker).toMatch(
      /seccomp\(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, \{filter: 1 instructions\}\) -> \$seccomp_listener/,
    );
    expect(docker).toMatch(/open_tree\(\$rootfs_directory, "", [A-Z_|]+\) -> \$root\n/);
    expect(renderText(explained("plain"))).toContain("HOME=<from passwd>");
  });

  test("group by side and phase in program order, and count each side for itself", () => {
    const parent = new Part().at("cgroup", "linux.cgroupsPath");
    parent.op(abi.SYS_mkdirat, [abi.AT_FDCWD, "/sys/fs/cgroup/x", 0o755]);
    const ids = new Part().at("ids", "linux.uidMappings");
    ids.op(abi.SYS_close, [3]);
    const init = new Part().at("namespaces");
    init.op(abi.SYS_close, [3]);
    const parts = [
      { side: "parent" as const, part: parent },
      { side: "init" as const, part: init },
      { side: "parent" as const, part: ids },
    ];
    const fds = [{ name: "sync", from: { kind: "sync" as const } }];
    const explanation = explainProgram({ birth: NO_BIRTH.birth, fds, firstFd: 3, parts, before: 1 });
    const lines = renderText(explanation, ["a note"]).split("\n");
    expect(lines.filter((one) => /^\w/.test(one))).toEqual([
      "parent: cgroup",
      "parent: namespaces",
      "init: namespaces",
      "parent: ids",
    ]);
    expect(lines).toContain("# Note: a note.");
    // 3 is the socket in init, and something else in the parent.
    expect(lines).toContain("   0  -  close(@sync)");
    expect(lines).toContain("   1  linux.uidMappings  close(3)");
  });

  test("are the same when they are explained twice", () => {
    expect(renderText(explained("docker"))).toBe(renderText(explained("docker")));
    expect(renderJson(explained("docker"))).toBe(renderJson(explained("docker")));
  });
});

describe("JSON", () => {
  test("has an array of parts with every operation and each of its arguments", () => {
    const parts: ReturnType<typeof explained> = JSON.parse(renderJson(explained("docker")));
    const ops = parts.filter(({ side }) => side === "init").flatMap((part) => part.ops);
    expect(ops.length).toBe(PROGRAMS.docker.ops.length);
    ops.forEach((op, i) => {
      const from = PROGRAMS.docker.ops[i]!;
      expect(op).toMatchObject({
        index: i,
        side: "init",
        phase: from.phase,
        path: from.path,
        call: callName(from.call),
      });
      expect(op.args.length).toBe(from.args.length);
      for (const arg of op.args) expect(Object.keys(arg).sort()).toEqual(["kind", "name", "text", "value"]);
      expect(op.slot?.index ?? null).toBe(from.options.slot?.index ?? null);
      expect(op.okSkip).toBe(from.options.okSkip ?? 0);
      expect(op.tolerate.length).toBe(from.options.tolerate?.length ?? 0);
      expect(op.about).toBe(from.options.about ?? null);
    });
  });

  test("has values of each kind", () => {
    const part = new Part();
    const argv = new Struct(16, "argv").pointer(0, "a");
    const how = new Struct(24, "open_how").u64(0, abi.O_PATH);
    part.op(abi.SYS_execve, ["/x", argv, -1, 2n ** 60n, FD, how.at(8)], { tolerate: [[abi.ENOENT, 3]] });
    part.op(abi.SYS_openat2, [5n, "x", how, new Uint8Array(7)]);
    const [, { ops }] = explainProgram({ ...NO_BIRTH, parts: [{ side: "init", part }] }) as [
      unknown,
      { ops: { args: unknown[]; tolerate: unknown }[] },
    ];
    expect(ops[0]!.args).toMatchObject([
      { name: "path", kind: "string", value: "/x" },
      { name: "argv", kind: "array", value: ['"a"'] },
      { name: "envp", kind: "integer", value: -1 },
      { name: "arg4", kind: "integer", value: "1152921504606846976" },
      { kind: "slot", value: 1, text: "$mount_target" },
      { kind: "address", value: 8 },
    ]);
    expect(ops[0]!.tolerate).toEqual([{ errno: "ENOENT", skip: 3 }]);
    expect(ops[1]!.args).toMatchObject([
      { name: "dirfd", kind: "integer", value: 5 },
      { name: "path", kind: "string" },
      { name: "how", kind: "struct", value: { flags: "O_PATH", resolve: "0" } },
      { name: "size", kind: "bytes", value: 7 },
    ]);
  });
});

describe("hostile text", () => {
  const hostile = 'a"b\\c\n\r\t\u001b[31m\u0007\u009b2J\u202e\u2028\u200b\ufeff\ud800z';

  test("stays one line and does nothing to a terminal", () => {
    expect(JSON.parse(quote(hostile))).toBe(hostile);
    const harmful = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\ufeff\ud800-\udfff]/;
    expect(quote(hostile)).not.toMatch(harmful);
    const part = new Part().at("sysctl", `linux.sysctl.${hostile}`);
    const bytes = new TextEncoder().encode(hostile);
    part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, hostile, abi.O_WRONLY, bytes, bytes.length], {
      about: hostile,
    });
    part.op(abi.BUNC_OP_EXPECT, [0, 1, 1, abi.EPERM], { about: hostile });
    part.op(abi.SYS_close, [new Slot(0, hostile)]);
    const text = renderText(explainProgram({ ...NO_BIRTH, parts: [{ side: "init", part }] }));
    const lines = text.split("\n").filter((one) => /^ {3}\d/.test(one));
    expect(lines.length).toBe(3);
    for (const one of lines) expect(one).not.toMatch(harmful);
  });

  test("that is long is shown as a whole, and bytes that are no text by their number", () => {
    const long = "x".repeat(5000);
    expect(line(abi.SYS_chdir, [long])).toBe(`chdir("${long}")`);
    expect(line(abi.BUNC_OP_WRITE, [FD, new Uint8Array([0xff, 0, 1]), 3])).toBe(
      "write <3 bytes> to $mount_target",
    );
  });
});
