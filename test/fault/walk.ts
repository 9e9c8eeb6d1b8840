// Fault injection: runs build/bunc-faults with BUNC_FAULT (src/linux/faults-on.ts), once for each operation of a
// bundle's launch, and checks after each that the error names the operation and that nothing is left.
import { expect } from "bun:test";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Container } from "../rig/container.ts";
import { entries, findMounts } from "../rig/leaks.ts";
import { repository } from "../rig/repository.ts";
import type { Rig } from "../rig/rig.ts";

/** The executable with fault injection: `$BUNC_FAULTS`, else build/bunc-faults. */
export const faulty = resolve(process.env.BUNC_FAULTS ?? join(repository, "build/bunc-faults"));

if (!existsSync(faulty)) throw new Error(`${faulty} does not exist: run \`make build/bunc-faults\``);

/** One operation of a launch, as the executable lists it. */
export interface Operation {
  side: "init" | "host";
  index: number;
  call: string;
  phase: string;
  path: string;
  about?: string;
  okSkip?: number;
  tolerate?: [errno: number, skip: number][];
  /** An earlier operation may pass over it. */
  optional: boolean;
}

/** What a command did. */
export interface Outcome {
  code: number;
  stderr: string;
  /** The messages of level "error" in its log, and those of level "warning". */
  errors: string[];
  warnings: string[];
}

/** A line of the executable's list. */
type Listed = { side: "init" | "host"; from: number; ops: Operation[] } | { calls: string[] };

/** How a bundle is launched. */
export interface Launch {
  container: Container;
  command: "run" | "create";
  flags?: string[];
  /** The command gets a terminal. */
  pty?: boolean;
  /** Before each launch, e.g. to make namespaces that one launch may spoil. */
  before?: (() => Promise<void> | void) | undefined;
}

/** Errnos by call, such as the kernel has for it; EIO for all others. Words as Go has them. */
const ERRNO: Readonly<Record<string, readonly [number, string, string]>> = {
  mkdirat: [28, "ENOSPC", "no space left on device"],
  mkpath: [30, "EROFS", "read-only file system"],
  unshare: [28, "ENOSPC", "no space left on device"],
  setns: [1, "EPERM", "operation not permitted"],
  fork: [11, "EAGAIN", "resource temporarily unavailable"],
  mount: [12, "ENOMEM", "cannot allocate memory"],
  device: [1, "EPERM", "operation not permitted"],
  prlimit64: [1, "EPERM", "operation not permitted"],
  capset: [1, "EPERM", "operation not permitted"],
  setresuid: [11, "EAGAIN", "resource temporarily unavailable"],
  setgroups: [22, "EINVAL", "invalid argument"],
  seccomp: [22, "EINVAL", "invalid argument"],
  write_at: [16, "EBUSY", "device or resource busy"],
  write: [16, "EBUSY", "device or resource busy"],
  openat: [24, "EMFILE", "too many open files"],
  openat2: [40, "ELOOP", "too many levels of symbolic links"],
  execve: [8, "ENOEXEC", "exec format error"],
};

/** The errno to inject into a call: its number, its name, Go's words for it. */
export function errnoFor(call: string): readonly [number, string, string] {
  return ERRNO[call] ?? [5, "EIO", "input/output error"];
}

/** Runs launches of one rig. */
export class Walker {
  private launched: Container | undefined;
  /** Processes from before the last launch. */
  private known: ReadonlySet<string> = new Set();

  constructor(private readonly rig: Rig) {}

  /** Runs a command of the executable; `fault` is BUNC_FAULT. */
  async call(args: string[], fault = "", pty = false): Promise<Outcome> {
    const { scratch, env } = this.rig;
    const log = join(scratch.output, "log");
    rmSync(log, { force: true });
    const command = [faulty, "--root", scratch.root, "--log", log, "--log-format", "json", ...args];
    const stderr = pty ? "" : join(scratch.output, "stderr");
    let printed = "";
    const fd = pty ? -1 : openSync(stderr, "w");
    const process = Bun.spawn(command, {
      env: { ...env, BUNC_FAULT: fault },
      cwd: scratch.dir,
      ...(pty
        ? { terminal: { data: (_, data) => (printed += new TextDecoder().decode(data)) } }
        : { stdin: "ignore", stdout: "ignore", stderr: fd }),
    });
    if (fd >= 0) closeSync(fd);
    const late = setTimeout(() => process.kill("SIGKILL"), 20_000);
    const code = await process.exited;
    clearTimeout(late);
    if (process.signalCode && !fault.startsWith("kill:")) {
      throw new Error(`${process.signalCode}: ${command.join(" ")} with ${fault}`);
    }
    if (pty) process.terminal!.close();
    else printed = readFileSync(stderr, "utf8");
    const entries: { level: string; msg: string }[] = existsSync(log)
      ? readFileSync(log, "utf8")
          .trim()
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line))
      : [];
    const messages = (level: string) =>
      entries.filter((entry) => entry.level === level).map(({ msg }) => msg);
    return {
      code,
      stderr: printed.replaceAll("\r\n", "\n").replace(/\x1b\[\d+m/g, ""),
      errors: messages("error"),
      warnings: messages("warning"),
    };
  }

  /** Launches once. */
  async launch(
    { container, command, flags = [], pty = false, before }: Launch,
    fault = "",
  ): Promise<Outcome> {
    await before?.();
    container.write();
    this.launched = container;
    this.known = new Set(processes());
    return await this.call([command, ...flags, "--bundle", container.bundle, container.id], fault, pty);
  }

  /** What a launch that succeeds consists of: its operations, and the names of its foreign calls. */
  async list(launch: Launch): Promise<{ operations: Operation[]; calls: string[] }> {
    const file = join(this.rig.scratch.output, "list");
    rmSync(file, { force: true });
    const outcome = await this.launch(launch, `list:${file}`);
    expect([outcome.code, outcome.errors]).toEqual([0, []]);
    await this.clear(launch.container);
    return this.read(file);
  }

  /** The file that BUNC_FAULT=list:FILE has made. */
  read(file: string): { operations: Operation[]; calls: string[] } {
    const operations: Operation[] = [];
    let calls: string[] = [];
    for (const line of readFileSync(file, "utf8").trim().split("\n")) {
      const listed = JSON.parse(line) as Listed;
      if ("calls" in listed) calls = listed.calls;
      else operations.push(...operationsOf(listed));
    }
    return { operations, calls };
  }

  /** Nothing of the rig may be left; what just ended has a moment to go. */
  async expectNothingLeft(what: string): Promise<void> {
    // Looking into every process takes longer than a launch: first whether there is a new one at all.
    if (this.nothingNew()) return;
    let leaks = this.rig.leaks();
    for (let round = 0; round < 50 && leaks.length > 0; round++) {
      await Bun.sleep(4);
      leaks = this.rig.leaks();
    }
    expect({ what, leaks }).toEqual({ what, leaks: [] });
  }

  /** The rest of what `leaks` of the rig looks for. That itself is asked at the end of each test. */
  private nothingNew(): boolean {
    const { tag, tmp, run } = this.rig.scratch;
    return (
      processes().every((pid) => this.known.has(pid)) &&
      findMounts(tag).length === 0 &&
      this.launched?.cgroupDirectories().length === 0 &&
      [this.rig.states(), entries(tmp), entries(run)].every((names) => names.length === 0) &&
      entries(this.launched.bundle).every((name) => !name.startsWith("."))
    );
  }

  /** Removes a container that is there on purpose. */
  async clear(container: Container): Promise<void> {
    if (this.rig.states().length === 0) return;
    const { code, errors } = await this.call(["delete", "--force", container.id]);
    expect([code, errors]).toEqual([0, []]);
  }
}

/** The pids of this machine. */
function processes(): string[] {
  return readdirSync("/proc").filter((name) => name.charCodeAt(0) <= 0x39);
}

/** The operations of one part. */
function operationsOf({ side, from, ops }: Exclude<Listed, { calls: string[] }>): Operation[] {
  let passed = 0; // up to this place of the part an operation may be passed over
  return ops.map((op, i) => {
    const optional = i < passed;
    const skips = [op.okSkip ?? 0, ...(op.tolerate ?? []).map(([, skip]) => skip)];
    passed = Math.max(passed, i + 1 + Math.max(...skips));
    return { ...op, side, index: from + i, optional };
  });
}

/** That an error says which operation failed, and how. */
export function expectNamed(op: Operation, message = ""): void {
  const [, name, words] = errnoFor(op.call);
  const what = `${op.side} ${op.index} ${op.call}`;
  const said = samePids(message);
  expect([what, said]).toEqual([what, expect.stringMatching(new RegExp(`\\b${name}\\b|${words}`))]);
  expect([what, said]).toEqual([what, expect.stringContaining(op.path)]);
  // What runc says of a limit in words of its own names the field and the value.
  if (op.phase === "cgroup" && op.path.startsWith("linux.resources.")) return;
  expect([what, said]).toEqual([
    what,
    expect.stringContaining(samePids(op.about ?? `${op.phase}: ${op.call}`)),
  ]);
}

/** Namespaces are those of another process at each launch. */
function samePids(text: string): string {
  return text.replace(/\/proc\/\d+\//g, "/proc/PID/");
}
