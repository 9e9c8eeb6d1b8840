// The rig itself: runs the runtime in a root directory of its own, gives every container a unique id and cgroup, and
// after each test removes the containers and fails the test that left anything behind.
import { afterAll, afterEach, setDefaultTimeout } from "bun:test";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { type Config, defaultConfig } from "./config.ts";
import { Container } from "./container.ts";
import { helperBinary, Listener } from "./helper.ts";
import {
  entries,
  findCgroups,
  findFiles,
  findMounts,
  findProcesses,
  type Leak,
  removeEverything,
  removeLeaks,
} from "./leaks.ts";
import { patience } from "./patience.ts";
import { Pty } from "./pty.ts";
import { makeRootfs, putProgram } from "./rootfs.ts";
import { runtime, systemdDriver } from "./runtime.ts";
import { makeScratch, type Scratch } from "./scratch.ts";

/** How a command is run. */
export interface CallOptions {
  /** Text for standard input, which is /dev/null without it. */
  stdin?: string;
  /** Seconds, times {@link patience}, until the command is killed and the call throws; 30 without it. */
  timeout?: number;
  /** Variables on top of the rig's own. */
  env?: Record<string, string>;
  cwd?: string;
  /** Open descriptors of this process that the command gets as 3, 4, ... */
  fds?: number[];
  /** A command that is put before the runtime's: `["unshare", "-n"]`. */
  wrap?: string[];
  /** Options before the command, e.g. `["--log", file]`. */
  global?: string[];
  /** Another --root; `null` for none. */
  root?: string | null;
}

/** What a command did. Its output went to files, which a container it started goes on writing to. */
export class Result {
  constructor(
    readonly command: string[],
    readonly code: number,
    private readonly files: { stdout: string; stderr: string },
  ) {}

  /** What was printed up to now. */
  get stdout(): string {
    return readFileSync(this.files.stdout, "utf8");
  }

  /** What was printed to standard error up to now. */
  get stderr(): string {
    return readFileSync(this.files.stderr, "utf8");
  }

  /** Itself when the exit code is `code`; else throws with all that was printed. */
  ok(code = 0): this {
    if (this.code === code) return this;
    throw new Error(
      `exit ${this.code}, not ${code}: ${this.command.join(" ")}\n${this.stderr}${this.stdout}`,
    );
  }

  /** Waits until `text` is in the standard output. */
  async until(text: string, seconds = 40): Promise<string> {
    const deadline = Date.now() + seconds * 1000;
    while (!this.stdout.includes(text)) {
      if (Date.now() > deadline)
        throw new Error(`no ${JSON.stringify(text)} in ${JSON.stringify(this.stdout)}`);
      await Bun.sleep(10);
    }
    return this.stdout;
  }
}

/** A command that runs while the test goes on. */
export interface Running {
  pid: number;
  /** Resolves when the command has ended; rejects when that took too long. */
  done: Promise<Result>;
  /** Output so far (its exit code is not known yet). */
  now: Result;
  signal(name: NodeJS.Signals): void;
}

/** One rig belongs to one test file: see {@link useRig}. */
export class Rig {
  readonly scratch: Scratch = makeScratch();
  private counter = 0;
  private cleanups: (() => Promise<void> | void)[] = [];
  private containers: Container[] = [];

  /** The environment every command gets. */
  get env(): Record<string, string> {
    const { tag, tmp, run } = this.scratch;
    return {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      TMPDIR: tmp,
      XDG_RUNTIME_DIR: run,
      BUNC_TEST_RIG: tag,
    };
  }

  /** A name nobody else uses; starts with the rig's tag. */
  unique(): string {
    return `${this.scratch.tag}-${++this.counter}`;
  }

  /**
   * Makes a bundle with the default spec, a fresh busybox root filesystem (test-helper included) and a unique cgroup.
   *
   * @param edit changes the config before it is first written
   * @param rootfs makes the root filesystem at the given path, instead of busybox
   */
  container(
    edit: (config: Config, container: Container) => void = () => {},
    rootfs?: (dir: string) => void,
  ): Container {
    const id = this.unique();
    const bundle = join(this.scratch.bundles, id);
    mkdirSync(bundle);
    const container = new Container(this, id, bundle, defaultConfig(systemdDriver ? `:t:${id}` : `/${id}`));
    this.containers.push(container);
    if (rootfs === undefined) {
      makeRootfs(container.rootfs, this.scratch.store);
      putProgram(helperBinary(), this.scratch.store, join(container.rootfs, "bin/test-helper"));
    } else {
      rootfs(container.rootfs);
    }
    edit(container.config, container);
    container.write();
    return container;
  }

  /** An empty directory of the host for the test, e.g. as a mount's source. */
  directory(): string {
    const dir = join(this.scratch.bundles, `${this.unique()}-dir`);
    mkdirSync(dir);
    return dir;
  }

  private command(args: string[], options: CallOptions): string[] {
    const root = options.root === undefined ? this.scratch.root : options.root;
    const driver = systemdDriver ? ["--systemd-cgroup"] : [];
    const global = [...driver, ...(root === null ? [] : ["--root", root]), ...(options.global ?? [])];
    return [...(options.wrap ?? []), runtime, ...global, ...args];
  }

  /** Starts a command of the runtime and returns at once. It is killed after the test if it still runs. */
  spawn(args: string[], options: CallOptions = {}): Running {
    const command = this.command(args, options);
    const base = join(this.scratch.output, String(++this.counter));
    const files = { stdout: `${base}.out`, stderr: `${base}.err` };
    const fds = [openSync(files.stdout, "a"), openSync(files.stderr, "a")];
    const process: Subprocess = Bun.spawn(command, {
      stdio: [
        options.stdin === undefined ? null : new TextEncoder().encode(options.stdin),
        fds[0]!,
        fds[1]!,
        ...(options.fds ?? []),
      ] as [null, number, number],
      env: { ...this.env, ...options.env },
      cwd: options.cwd ?? this.scratch.dir,
    });
    for (const fd of fds) closeSync(fd);
    const kill = async (): Promise<void> => {
      if (process.exitCode === null && process.signalCode === null) process.kill("SIGKILL");
      await process.exited;
    };
    this.defer(kill);
    const seconds = (options.timeout ?? 30) * patience;
    const done = (async (): Promise<Result> => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), seconds * 1000);
      });
      const code = await Promise.race([process.exited, late]);
      clearTimeout(timer);
      const result = new Result(command, code ?? -1, files);
      if (code !== undefined) return result;
      await kill();
      throw new Error(
        `still running after ${seconds} s: ${command.join(" ")}\n${result.stderr}${result.stdout}`,
      );
    })();
    done.catch(() => {}); // reported by whoever awaits it
    const signal = (name: NodeJS.Signals): void => process.kill(name);
    return { pid: process.pid, done, now: new Result(command, -1, files), signal };
  }

  /** Runs a command of the runtime to its end. */
  call(args: string[], options: CallOptions = {}): Promise<Result> {
    return this.spawn(args, options).done;
  }

  /** Runs a command of the runtime on a terminal of its own. */
  pty(args: string[], options: CallOptions & { rows?: number; cols?: number } = {}): Pty {
    const size = { rows: options.rows ?? 24, cols: options.cols ?? 80 };
    const env = { ...this.env, TERM: "xterm", ...options.env };
    const pty = new Pty(this.command(args, options), { env, cwd: options.cwd ?? this.scratch.dir, ...size });
    this.defer(() => pty.close());
    return pty;
  }

  /** Starts a receiver of the helper (`recvtty`, `recvfd`, `datagrams`, `agent`) on a new socket; waits until it listens. */
  async listener(command: string, ...rest: string[]): Promise<Listener> {
    const path = join(this.scratch.bundles, `s${++this.counter}`); // a socket's path holds 107 bytes
    const listener = new Listener([helperBinary(), command, path, ...rest], path, this.env);
    this.defer(async () => {
      await listener.close();
      rmSync(path, { force: true });
    });
    await listener.line();
    return listener;
  }

  /** Starts any host command that is ended after the test; resolves when it has printed a line. */
  async background(command: string[]): Promise<{ pid: number; line: string }> {
    const process = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit", env: this.env });
    this.defer(async () => {
      process.kill("SIGKILL");
      await process.exited;
    });
    const reader = process.stdout.getReader();
    const { value } = await reader.read();
    return { pid: process.pid, line: new TextDecoder().decode(value).trim() };
  }

  /** Runs `action` after the test, last one first, before the leak check. */
  defer(action: () => Promise<void> | void): void {
    this.cleanups.push(action);
  }

  /** Names of the state directories below --root. What starts with a dot is no container's (bunc's cache of filters). */
  states(): string[] {
    // The cache of compiled filters, and its temporary file after a kill.
    return entries(this.scratch.root).filter((name) => !/^\.\.?seccomp-/.test(name));
  }

  /** Everything of this rig that is still there, apart from its own directory. */
  leaks(): Leak[] {
    const { tag, dir, root, tmp, run } = this.scratch;
    const states = this.states().map(
      (name): Leak => ({ kind: "file", name: join(root, name), detail: "left there" }),
    );
    const hidden = this.containers.flatMap(({ bundle }) =>
      entries(bundle)
        .filter((name) => name.startsWith("."))
        .map((name) => join(bundle, name)),
    );
    return [
      ...findProcesses(tag),
      ...findMounts(tag),
      ...findCgroups(tag),
      ...findFiles(tag, dir, [tmp, run]),
      ...states,
      ...hidden.map((name): Leak => ({ kind: "file", name, detail: "left in the bundle" })),
    ];
  }

  /** Ends what the test started, deletes its containers, and throws when anything is left. */
  async finish(): Promise<void> {
    const problems: string[] = [];
    for (const action of this.cleanups.splice(0).reverse()) {
      try {
        await action();
      } catch (error) {
        problems.push(`cleanup: ${error}`);
      }
    }
    for (const id of this.states()) {
      try {
        (await this.call(["delete", "--force", id], { timeout: 15 })).ok();
      } catch (error) {
        problems.push(`cleanup: ${error}`);
      }
    }
    await Promise.all(this.cleanups.splice(0).map((action) => action()));
    let leaks = this.leaks();
    for (let round = 0; round < 25 && leaks.length > 0; round++) {
      await Bun.sleep(20); // a killed process needs a moment to be reaped by its parent
      leaks = this.leaks();
    }
    if (leaks.length > 0) {
      problems.push(...leaks.map(({ kind, name, detail }) => `left behind: ${kind} ${name} (${detail})`));
      removeLeaks(this.scratch.tag);
    }
    const { bundles, output, root, tmp, run } = this.scratch;
    for (const dir of [bundles, output, root, tmp, run]) {
      for (const name of entries(dir)) rmSync(join(dir, name), { recursive: true, force: true });
    }
    this.containers = [];
    if (problems.length > 0) throw new Error(problems.join("\n"));
  }

  /** Removes the rig's directory and whatever else is left. */
  dispose(): void {
    removeEverything(this.scratch.tag, this.scratch.dir);
  }
}

/** Makes the rig of a test file, checked after each of its tests and removed after the last. */
export function useRig(): Rig {
  setDefaultTimeout(60_000); // a loaded machine must not fail a test; what hangs has limits of its own
  const rig = new Rig();
  afterEach(() => rig.finish());
  afterAll(() => rig.dispose());
  return rig;
}
