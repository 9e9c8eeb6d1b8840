// `make arm64-test`: what was built for arm64, under qemu-user. Its kernel is this machine's seen through qemu, which has
// no clone3 (no container can be started) and no openat2 (no path below a root can be made), nor seccomp's questions.
import { describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as Encode from "../../src/launch/encode.ts";
import type * as Program from "../../src/launch/program.ts";
import type * as Abi from "../../src/linux/abi.gen.ts";
import { runProgram } from "./init.ts";

const REPOSITORY = join(import.meta.dir, "../..");
const TREE = join(REPOSITORY, "build/.arm64");
const BUNC = join(REPOSITORY, "bunc-arm64");
const INIT = join(TREE, "build/bunc-init");
/** Bun for arm64. */
const BUN = process.env.ARM64_BUN ?? "";
/** The second is where Debian's cross packages have the C library of arm64. */
const QEMU = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"];

if (!existsSync(BUNC) || !existsSync(BUN)) throw new Error("nothing is built for arm64: run make arm64-test");

const encode: typeof Encode = await import(`${TREE}/src/launch/encode.ts`);
const program: typeof Program = await import(`${TREE}/src/launch/program.ts`);
const abi: typeof Abi = await import(`${TREE}/src/linux/abi.gen.ts`);

function qemu(command: string[], cwd = TREE): { code: number; stdout: string; stderr: string } {
  const result = Bun.spawnSync([...QEMU, ...command], {
    cwd,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  return { code: result.exitCode, stdout: result.stdout.toString(), stderr: result.stderr.toString() };
}

async function inTemporary(body: (dir: string) => void | Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "bunc-arm64-"));
  try {
    await body(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test("the numbers are those of arm64", () => {
  // asm-generic/unistd.h, and arch/arm64/include/uapi/asm/fcntl.h, which differs from all but arm.
  expect([abi.SYS_openat, abi.SYS_execveat, abi.SYS_getpid, abi.SYS_setrlimit]).toEqual([56, 281, 172, 164]);
  expect([abi.O_DIRECTORY, abi.O_NOFOLLOW]).toEqual([0o40000, 0o100000]);
  for (const file of [BUNC, INIT, join(TREE, "build/libbunc.so"), join(TREE, "build/libbunc-seccomp.so")]) {
    const head = readFileSync(file).subarray(0, 20);
    expect([head.toString("latin1", 1, 4), head[4], head.readUInt16LE(18)]).toEqual(["ELF", 2, 183]);
  }
});

describe("bunc", () => {
  test("says what it is and what it can do", () => {
    const version = qemu([BUNC, "--version"]);
    expect(version).toMatchObject({ code: 0, stderr: "" });
    expect(version.stdout).toContain("libseccomp: ");
    const { linux } = JSON.parse(qemu([BUNC, "features"]).stdout);
    expect(linux.seccomp.archs).toContain("SCMP_ARCH_AARCH64");
    expect(linux.namespaces).toContain("mount");
  });

  test("makes, checks and explains a bundle", () =>
    inTemporary((dir) => {
      expect(qemu([BUNC, "spec"], dir).code).toBe(0);
      mkdirSync(join(dir, "rootfs"));
      expect(qemu([BUNC, "validate"], dir)).toMatchObject({ code: 0 });
      const config = JSON.parse(readFileSync(join(dir, "config.json"), "utf8"));
      config.linux.seccomp = {
        defaultAction: "SCMP_ACT_ERRNO",
        architectures: ["SCMP_ARCH_AARCH64"],
        syscalls: [{ names: ["read", "write", "exit_group"], action: "SCMP_ACT_ALLOW" }],
      };
      writeFileSync(join(dir, "config.json"), JSON.stringify(config));
      const explained = qemu([BUNC, "explain", "--json"], dir);
      expect(explained).toMatchObject({ code: 0 });
      // Raw numbers for names would mean that the tables of the other architecture were built in.
      expect(explained.stdout).toContain("CLONE_NEWNS");
      expect(explained.stdout).not.toMatch(/"(call|name)": ?"?\d/);
      config.linux.seccomp.architectures = ["SCMP_ARCH_NONE"];
      writeFileSync(join(dir, "config.json"), JSON.stringify(config));
      expect(qemu([BUNC, "validate"], dir).code).not.toBe(0);
    }));
});

/** Tests that need what qemu-user lacks, or a compiler for the machine they run on. */
const WITHOUT = [
  "launch/interp-paths.test.ts", // openat2
  "launch/interp-hooks.test.ts", // clone3
  "linux/wait.test.ts", // clone3
  "launch/interp-malformed.test.ts", // a compiler
  "launch/interp-mounts.test.ts", // openat2
  "seccomp/features.test.ts", // seccomp(2)
  "seccomp/native.test.ts", // seccomp(2)
  "seccomp/cache.test.ts", // SECCOMP_GET_ACTION_AVAIL
];

test("the unit tests of the encoder, the interpreter, the bindings and libseccomp pass in Bun for arm64", () => {
  const files = ["launch", "linux", "seccomp"].flatMap((folder) =>
    readdirSync(join(TREE, "src", folder))
      .filter((name) => name.endsWith(".test.ts"))
      .map((name) => `${folder}/${name}`),
  );
  for (const file of WITHOUT) expect(files).toContain(file);
  const run = files.filter((file) => !WITHOUT.includes(file)).map((file) => `./src/${file}`);
  const { code, stderr } = qemu([BUN, "test", "--timeout", "600000", ...run]);
  const [, passed] = /^ *(\d+) pass$/m.exec(stderr) ?? [];
  if (code !== 0) console.error(stderr);
  expect(code).toBe(0);
  expect(Number(passed)).toBeGreaterThan(500);
});

describe("bunc-init executes what the encoder made", () => {
  const { Part, Slot, Struct } = program;
  const start = [...QEMU, INIT];
  const encoded = (part: Program.Part, first = 0) => encode.encodePart(part.ops, { first });

  test("part by part: data, slots, structures, reports, and a program in its place", () =>
    inTemporary(async (dir) => {
      const one = new Part();
      const [pid, fd, size] = [new Slot(0, "pid"), new Slot(1, "fd"), new Slot(2, "size")];
      one.op(abi.SYS_getpid, [], { slot: pid });
      one.op(abi.BUNC_OP_REPORT, [7, pid]);
      one.op(abi.SYS_mkdirat, [abi.AT_FDCWD, join(dir, "größe"), 0o750]);
      one.op(abi.SYS_mkdirat, [abi.AT_FDCWD, join(dir, "größe"), 0o750], { tolerate: [[abi.EEXIST, 0]] });
      one.op(abi.BUNC_OP_PART, [8, -5]);
      const two = new Part();
      const create = abi.O_CREAT | abi.O_EXCL | abi.O_WRONLY | abi.O_CLOEXEC;
      two.op(abi.SYS_openat, [abi.AT_FDCWD, join(dir, "größe/file"), create, 0o640], { slot: fd });
      two.op(abi.SYS_write, [fd, "from arm64", 10], { slot: size });
      two.op(abi.BUNC_OP_EXPECT, [size, -1, 10, abi.EDOM]);
      const argv = new Struct(32, "argv").pointer(0, "echo").pointer(8, "from").pointer(16, "echo");
      const envp = new Struct(8, "envp");
      two.op(abi.SYS_execve, ["/bin/echo", argv, envp]);
      const { events, code, stdout } = await runProgram(start, [encoded(one), encoded(two, one.ops.length)]);
      expect(events).toEqual([
        { kind: abi.BUNC_EVENT_STAGE, index: 1, event: 7, value: expect.any(Number), text: "" },
        { kind: abi.BUNC_EVENT_STAGE, index: 4, event: 8, value: -5, text: "" },
      ]);
      expect(events[0]!.value).toBeGreaterThan(1);
      expect([code, stdout]).toEqual([0, "from echo\n"]);
      expect(readFileSync(join(dir, "größe/file"), "utf8")).toBe("from arm64");
    }));

  test("a failure tells its operation and errno", async () => {
    const part = new Part();
    part.op(abi.SYS_getpid, []);
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/no/such/file", abi.O_RDONLY, 0]);
    const { events, code } = await runProgram(start, [encoded(part, 40)]);
    expect(code).toBe(1);
    expect(events).toEqual([
      { kind: abi.BUNC_EVENT_ERROR, index: 41, event: 0, value: abi.ENOENT, text: "" },
    ]);
  });

  test("a part that is damaged ends it", async () => {
    const part = new Part();
    part.op(abi.SYS_getpid, []);
    const bytes = encoded(part);
    bytes[0]! ^= 1;
    expect(await runProgram(start, [bytes])).toMatchObject({ events: [], code: 1 });
  });
});
