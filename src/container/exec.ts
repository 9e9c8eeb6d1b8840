/** `exec`: another process in a container, by a launch program that joins namespaces instead of making them. */
import { loadBundle } from "../bundle/load.ts";
import { resetAffinity } from "../cgroup/create.ts";
import * as live from "../cgroup/live.ts";
import { isV1 } from "../cgroup/names.ts";
import { BuncError } from "../errors.ts";
import { type LaunchSettings, Stage } from "../launch/context.ts";
import { ExecProgram } from "../launch/exec.ts";
import { hasNofile } from "../launch/rlimits.ts";
import { maskText, parseNumberList } from "../launch/scheduling.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, readInto } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { tracer } from "../linux/trace.ts";
import { servesOthers, waitReady } from "../linux/wait.ts";
import type { LinuxNamespaceType, LinuxSeccomp, Process, Spec } from "../oci/config.ts";
import { bundleIo } from "./bundle-io.ts";
import { containerSpec } from "./container-spec.ts";
import { bornIn, cgroupOf, enterV1, execCgroups, parseSubCgroups } from "./exec-cgroup.ts";
import {
  changeProcess,
  type ExecChanges,
  inheritProcess,
  parseProcess,
  readProcess,
} from "./exec-process.ts";
import { hookStateJson } from "./hook-state.ts";
import { callersNofile, deniesGroups, hostFacts } from "./host-facts.ts";
import { Init, type Stdio } from "./init-channel.ts";
import { namespacesOf } from "./joined.ts";
import { openInheritedFds } from "./launch-fds.ts";
import type { Summary } from "./state.ts";
import { isAlive, openProcess } from "./status.ts";
import { readSummary } from "./store.ts";
import type { LaunchOptions, Log } from "./types.ts";

/** What `exec` is told. */
export interface ExecOptions {
  root: string;
  id: string;
  /** A file with the process, its JSON, or how the container's own is to be changed. */
  process: { file: string } | { json: string } | { changes: ExecChanges };
  /** What becomes its standard streams; without it they are the caller's own. */
  stdio?: Stdio | undefined;
  consoleSocket?: string;
  pidfdSocket?: string;
  /** Absolute path of the file to write the pid to. */
  pidFile?: string;
  preserveFds: number;
  /** --cgroup: "path", or "controller[,controller...]:path". */
  cgroups: readonly string[];
  ignorePaused: boolean;
  log: Log;
}

/** A process that was started in a container; the caller waits for it. */
export interface Started {
  pid: number;
  pidfd: number;
}

/** What whoever starts it has prepared for its terminal, in place of a console socket. */
export interface Console {
  /** The socket that gets the terminal's master (SCM_RIGHTS); it stays the caller's. */
  fd?: number;
  /** Makes that socket; called once it is known that the process wants a terminal. */
  open?: () => number;
  /** Called when the master has been sent, and the program has not been executed yet. */
  ready?: () => Promise<void>;
}

/**
 * Starts a process in a container, and returns once its program has been executed. It becomes a child of this process:
 * whoever calls waits for it by the pidfd, which is the caller's to close. Where an event loop has taken over waiting
 * (src/linux/wait.ts), that loop goes on meanwhile.
 *
 * The terminal of a process that wants one goes to `options.consoleSocket`, or to the socket of `console`, from which
 * the caller takes its master. The streams are `options.stdio`, or this process's own.
 *
 * @throws BuncError in runc's words; nothing of it is left then
 */
export async function startExec(options: ExecOptions, console: Console = {}): Promise<Started> {
  const { root, id } = options;
  tracer?.step("read the state of the container");
  const summary = readSummary(root, id);
  const container = openProcess(summary);
  if (container === -abi.ESRCH) throw stopped();
  if (container < 0) throw pathError("pidfd_open", String(summary.pid), container);
  try {
    if (!options.ignorePaused && live.isFrozen(summary.cgroupPaths)) throw paused();
    return await new Exec(options, summary, container, console).start();
  } finally {
    closeFd(container);
  }
}

/** A compiled exec. */
export interface ExecPlan {
  program: ExecProgram;
  /** The container's. */
  spec: Spec;
  settings: LaunchSettings;
  /** Directories of the cgroups to join, by controller. */
  cgroups: Readonly<Record<string, string>>;
}

/** Compiles seccomp profiles. */
type LoadFilter = (profile: LinuxSeccomp, options: LaunchOptions) => LaunchSettings["seccomp"];

/**
 * What `startExec` would have executed, for `explain`: nothing is started.
 * @throws BuncError as startExec
 */
export async function planExec(options: ExecOptions, loadFilter: LoadFilter): Promise<ExecPlan> {
  const summary = readSummary(options.root, options.id);
  if (!isAlive(summary)) throw stopped();
  // Whoever executes it relays a terminal, or has a socket for it.
  return new Exec(options, summary, -1, { fd: -1 }).compile(loadFilter);
}

class Exec {
  /** The socket of the caller that gets the terminal. */
  private consoleFd: number | undefined;

  constructor(
    private readonly options: ExecOptions,
    private readonly summary: Summary,
    /** A pidfd of the container's init; -1 where nothing is to be started. */
    private readonly container: number,
    private readonly console: Console,
  ) {}

  async start(): Promise<Started> {
    const plan = await this.compile();
    let init: Init | undefined;
    try {
      init = await this.spawn(plan);
      await this.follow(init, plan.program, plan.spec);
    } catch (error) {
      init?.kill();
      if (!(error instanceof BuncError)) throw error;
      const what = init && error.fields.phase === "cgroup" ? `error adding pid ${init.pid} to cgroups: ` : "";
      throw new BuncError(`unable to start container process: ${what}${error.message}`, error.fields);
    }
    init.close();
    return { pid: init.pid, pidfd: init.pidfd };
  }

  async compile(loadFilter?: LoadFilter): Promise<ExecPlan> {
    const { options, summary, console } = this;
    tracer?.step("read and check the bundle");
    const wanted = options.process;
    let spec: Spec;
    let process: Process;
    if ("changes" in wanted) {
      const { bundle, own } = summary;
      spec = loadBundle(bundle, bundleIo, own?.configFile, own?.configDigest).spec;
      process = changeProcess(spec.process, wanted.changes, options.log);
    } else {
      // Such a process can do without the bundle, as with runc.
      spec = await containerSpec(options.root, summary);
      const own = "file" in wanted ? readProcess(wanted.file) : parseProcess(wanted.json);
      process = inheritProcess(own, spec.process);
    }
    tracer?.step("compile the program");
    if (process.terminal && !options.consoleSocket) {
      this.consoleFd = console.fd ?? console.open?.();
      if (this.consoleFd === undefined) throw needsSocket();
    }
    if (!process.terminal && options.consoleSocket) {
      throw new BuncError("cannot use console socket if runc will not detach or allocate tty", {
        code: "usage",
      });
    }
    const joined = namespacesOf(summary.pid, this.container);
    if (!joined) throw stopped();
    const cgroups = execCgroups(summary.cgroupPaths, parseSubCgroups(options.cgroups));
    const settings = await this.settings(spec, process, joined, cgroups, loadFilter);
    const host = hostFacts({ ...spec, process }, false, undefined);
    const { initial, final } = process.execCPUAffinity ?? {};
    const affinity = {
      initial: initial ? parseNumberList(initial) : undefined,
      final: final ? parseNumberList(final) : undefined,
    };
    const program = new ExecProgram(spec, process, { join: joined, affinity }, settings, host);
    return { program, spec, settings, cgroups };
  }

  private async settings(
    spec: Spec,
    process: Process,
    joined: readonly LinuxNamespaceType[],
    cgroups: Readonly<Record<string, string>>,
    loadFilter?: LoadFilter,
  ): Promise<LaunchSettings> {
    const { options, summary } = this;
    const euid = sys(abi.SYS_geteuid);
    let preserve = 0;
    if (options.preserveFds > 0 || globalThis.process.env.LISTEN_FDS) {
      const passed = (await import("./preserve.ts")).passedFds(options.preserveFds);
      preserve = passed.count;
      if (passed.env.length) process.env = [...(process.env ?? []), ...passed.env];
    }
    const { rdt } = summary;
    const resctrl = rdt ? await import("../cgroup/resctrl.ts") : undefined;
    const profile = spec.linux?.seccomp;
    const seccomp = profile
      ? (loadFilter ?? (await import("./seccomp-filter.ts")).loadFilter)(profile, this.launchOptions())
      : undefined;
    return {
      id: options.id,
      bundle: summary.bundle,
      rootfs: summary.rootfs,
      noPivot: false,
      noNewKeyring: summary.noNewKeyring,
      preserve,
      waitForStart: false,
      pidfdSocket: options.pidfdSocket !== undefined,
      seccomp,
      setgroups: (euid === 0 || !joined.includes("user")) && !(summary.rootlessCgroups && deniesGroups()),
      rootless: euid !== 0,
      nofile: hasNofile(process.rlimits) ? undefined : callersNofile(),
      innerPid: 0,
      hookEnv: [],
      enterCgroup: (part) => {
        enterV1(part, cgroups, summary.rootlessCgroups);
        const { initial, final } = process.execCPUAffinity ?? {};
        if (!initial && !final) resetAffinity(part);
        if (rdt) resctrl?.enterGroups(part, rdt.path, rdt.monitoring, "error adding to Intel RDT", true);
      },
    };
  }

  private async spawn({ program, spec, settings, cgroups }: ExecPlan): Promise<Init> {
    if (tracer) {
      tracer.program({ fds: program.fds, firstFd: program.firstFd, spec, joined: this.summary.pid });
      tracer.step("open what bunc-init inherits");
    }
    const opened = await openInheritedFds(program.fds, {
      spec,
      options: this.launchOptions(),
      stateDir: "",
      consoleFd: this.consoleFd,
      containerInit: this.container,
      euid: sys(abi.SYS_geteuid),
    });
    tracer?.step("start bunc-init");
    const { summary } = this;
    const birth = {
      path: cgroups[""],
      // The cgroup2 beside v1 limits nothing; not every caller has it in sight.
      optional: summary.rootlessCgroups || isV1(cgroups),
      otherwise: this.options.cgroups.length > 0 ? 0 : summary.pid,
    };
    let outside = false;
    try {
      const init = await bornIn(birth, (cgroup) => {
        outside = cgroup === undefined;
        return Init.spawn({
          flags: 0,
          firstFd: program.firstFd,
          fds: opened.fds,
          preserve: settings.preserve,
          stdio: this.options.stdio,
          ...(cgroup === undefined ? {} : { cgroup }),
        });
      });
      if (outside && birth.path && summary.systemdCgroup && !isV1(cgroups)) {
        await this.attach(init.pid, birth.path, birth.otherwise);
      }
      return init;
    } finally {
      for (const fd of opened.owned) closeFd(fd);
    }
  }

  /** What could not be born in the cgroup is moved there by systemd, or stays outside with a warning. */
  private async attach(pid: number, path: string, otherwise: number): Promise<void> {
    const { cgroupPaths, rootlessCgroups } = this.summary;
    const { attachToUnit } = await import("../cgroup/systemd.ts");
    const attempt = (directory: string): BuncError | undefined => {
      try {
        attachToUnit(cgroupPaths, rootlessCgroups, directory, pid);
      } catch (error) {
        if (error instanceof BuncError) return error;
        throw error;
      }
    };
    let failed = attempt(path);
    const other = failed && otherwise > 0 ? await cgroupOf(otherwise) : undefined;
    if (other?.startsWith(`${path}/`)) failed = attempt(other);
    if (failed) this.options.log.warn(`the process is not in the container's cgroup: ${failed.message}`);
  }

  private async follow(init: Init, program: ExecProgram, spec: Spec): Promise<void> {
    this.milestone(`nsexec container setup: the new process is ${init.pid}`);
    const affinity = program.target.affinity?.initial;
    if (affinity?.length) this.milestone(`nsexec[${init.pid}]: affinity: ${maskText(affinity)}`);
    this.milestone("child process in init(): it joins the namespaces");
    tracer?.step("compile and send the program");
    const parts = program.parts();
    for (let sent = parts.next(); sent; sent = parts.next()) {
      const { part, stage } = sent;
      init.send(part);
      if (stage === Stage.last) this.milestone("setns_init: about to exec");
      tracer?.step(stage === Stage.none ? "compile and send the program" : "wait for bunc-init");
      if (stage === Stage.none) continue;
      if (servesOthers()) await init.told();
      const event = init.next();
      if (stage === Stage.last) {
        if (event !== undefined) throw unexpected(event.event);
        if (unexecuted(init)) await this.checkAlive(init);
        return;
      }
      if (event === undefined) throw died();
      if (event.event !== stage) throw unexpected(event.event);
      if (stage === Stage.listener) await this.sendListener(spec, init, event.value);
      if (stage === Stage.ready && program.context.process.terminal) await this.console.ready?.();
    }
  }

  /** For --debug, in words like those of run; see launcher.ts. */
  private milestone(message: string): void {
    if (this.options.log.debugging) this.options.log.debug(message);
  }

  private async sendListener(spec: Spec, init: Init, number: number): Promise<void> {
    const { id, bundle, annotations, pid } = this.summary;
    const { sendSeccompListener } = await import("./seccomp-listener.ts");
    const state = hookStateJson({ id, status: "running", pid, bundle, annotations });
    sendSeccompListener(spec.linux!.seccomp!, init, number, state);
  }

  /** Until it has the program's name, or is dead: an execve closes the socket a moment before it gives the name. */
  private async checkAlive(init: Init): Promise<void> {
    for (let dead = false; unexecuted(init); dead = (await waitReady([init.pidfd], 1))[0] === true) {
      if (dead) throw died();
    }
  }

  private launchOptions(): LaunchOptions {
    const { root, id, consoleSocket, pidfdSocket, preserveFds, log } = this.options;
    return {
      root,
      id,
      bundle: this.summary.bundle,
      ...(consoleSocket ? { consoleSocket } : {}),
      ...(pidfdSocket ? { pidfdSocket } : {}),
      noPivot: false,
      noNewKeyring: this.summary.noNewKeyring,
      preserveFds,
      systemdCgroup: this.summary.systemdCgroup,
      log,
    };
  }
}

/** Whether it has the name of bunc-init still, as one has, too, that was killed before its execve. */
function unexecuted({ pid }: Init): boolean {
  const comm = new Uint8Array(16);
  const n = readInto(abi.AT_FDCWD, `/proc/${pid}/comm`, comm);
  return n > 0 && text(comm.subarray(0, n)).trim() === "bunc:[exec]";
}

function paused(): BuncError {
  return new BuncError("cannot exec in a paused container (use --ignore-paused to override)", {
    code: "state",
  });
}

function stopped(): BuncError {
  return new BuncError("cannot exec in a stopped container", { code: "state" });
}

/** A terminal that nobody would get; in runc's words. */
export function needsSocket(): BuncError {
  return new BuncError("cannot allocate tty if runc will detach without setting console socket", {
    code: "usage",
    path: "process.terminal",
  });
}

function died(): BuncError {
  return new BuncError("the process ended before it executed the program", {
    code: "launch",
    hint: "the container may have ended, or be out of memory",
  });
}

function unexpected(stage: number): BuncError {
  return new BuncError(`exec told something unexpected (${stage})`, { code: "internal" });
}
