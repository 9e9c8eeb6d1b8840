/**
 * Launching: from a bundle on disk to an init that is about to execute the user's program (or waits for `start`). It
 * runs the parent's half of a launch in step with init's, and undoes everything when either half fails.
 */
import { type Bundle, loadBundle } from "../bundle/load.ts";
import { BuncError } from "../errors.ts";
import { Launch } from "../launch/compile.ts";
import { type HostFacts, type LaunchSettings, type SentPart, Stage } from "../launch/context.ts";
import type { Parts } from "../launch/parts.ts";
import type { Part } from "../launch/program.ts";
import { renews } from "../launch/renew.ts";
import { hasNofile } from "../launch/rlimits.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText, realPath } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd, waitChild } from "../linux/process.ts";
import { tracer } from "../linux/trace.ts";
import { servesOthers } from "../linux/wait.ts";
import type { Spec } from "../oci/config.ts";
import { bundleIo } from "./bundle-io.ts";
import { hookStateJson } from "./hook-state.ts";
import { callersNofile, deniesGroups, hostFacts, innerPid } from "./host-facts.ts";
import { Init } from "./init-channel.ts";
import { LaunchCgroup, settleDriver } from "./launch-cgroup.ts";
import { type Extras, loadExtras } from "./launch-extras.ts";
import { type FdSources, openInheritedFds } from "./launch-fds.ts";
import { LaunchRecord } from "./launch-record.ts";
import { LaunchRemoval } from "./launch-removal.ts";
import { checkTerminal } from "./launch-terminal.ts";
import { removeStateDir } from "./remove.ts";
import { createStateDir, type StateDir } from "./store.ts";
import type { LaunchOptions } from "./types.ts";

/** What the command wants beyond the options both share. */
export interface LaunchMode {
  /** `create`: init waits at the exec fifo. */
  waitForStart: boolean;
  /** The command returns while the container runs on. */
  detach: boolean;
  /** The socket that gets the terminal's master, when the command itself relays it. */
  consoleFd?: number;
  /** Called when all is set up and nothing of the user's runs yet. */
  beforeExec?: () => Promise<void>;
}

/** A container on its way up; `spec` is the validated config.json. */
export class Launcher {
  readonly spec: Spec;
  readonly rootfs: string;
  readonly dir: StateDir;
  readonly euid: number;
  init: Init | undefined;
  private readonly record: LaunchRecord;
  /** Compiled once the cgroups are there: without rights to make some, init has none to enter. */
  private launch!: Launch;
  private readonly host: HostFacts;
  private readonly cgroup: LaunchCgroup;
  private readonly settings: LaunchSettings;
  private readonly removal: LaunchRemoval;

  /** Reads and checks the bundle, claims the id and compiles what comes before init runs. */
  static async prepare(options: LaunchOptions, mode: LaunchMode): Promise<Launcher> {
    tracer?.step("read and check the bundle");
    const bundle = loadBundle(options.bundle, bundleIo, options.config);
    const log = options.log;
    for (const { path, message } of bundle.warnings) log.warn(path ? `${path}: ${message}` : message);
    checkTerminal(bundle.spec, options, mode);
    settleDriver(options, bundle.spec);
    tracer?.step("make the state directory");
    const dir = createStateDir(options.root, options.id);
    let extras: Extras | undefined;
    try {
      tracer?.step("prepare what the bundle and the caller ask for");
      extras = await loadExtras(bundle.spec, options, dir.path);
      return new Launcher(options, mode, bundle, dir, extras);
    } catch (error) {
      extras?.hookOutput?.close();
      removeStateDir(dir);
      dir.close();
      throw error;
    }
  }

  private constructor(
    readonly options: LaunchOptions,
    readonly mode: LaunchMode,
    bundle: Bundle,
    dir: StateDir,
    readonly extras: Extras,
  ) {
    const { spec } = bundle;
    const rootfs = spec.root.path;
    this.spec = spec;
    this.rootfs = rootfs;
    this.dir = dir;
    this.euid = sys(abi.SYS_geteuid);
    this.record = new LaunchRecord(dir, spec, options, extras, this.euid, bundle.digest);
    this.cgroup = new LaunchCgroup(spec, options, this.euid, extras);
    this.removal = new LaunchRemoval(this, this.cgroup);
    this.settings = {
      id: options.id,
      bundle: options.bundle,
      rootfs,
      rootfsPlace: spec.linux?.rootfsPropagation === undefined ? undefined : realPath(rootfs),
      noPivot: options.noPivot,
      noNewKeyring: options.noNewKeyring,
      preserve: extras.preserve,
      waitForStart: mode.waitForStart,
      stateDir: dir.path,
      pidfdSocket: options.pidfdSocket !== undefined,
      seccomp: extras.seccomp,
      setgroups: this.euid === 0 && !(this.cgroup.rootless && deniesGroups()),
      rootless: this.euid !== 0,
      nofile: hasNofile(spec.process?.rlimits) ? undefined : callersNofile(),
      innerPid: 1,
      hookEnv: extras.hookEnv,
      hookFiles: extras.hookFiles,
      enterCgroup: undefined,
      netDevices: extras.netDevices,
    };
    this.host = hostFacts(spec, options.noPivot, this.cgroup.layout);
  }

  /** Brings init up to the last part of its program, which is compiled but not yet sent. */
  async start(): Promise<void> {
    try {
      await this.bringUp();
    } catch (error) {
      await this.undo();
      throw startError(error, !this.mode.detach);
    } finally {
      this.extras.hookOutput?.close();
    }
  }

  private async bringUp(): Promise<void> {
    tracer?.step("write the first state.json");
    if (this.mode.waitForStart) this.record.makeFifo();
    this.record.claim(this.cgroup);
    tracer?.step("make the cgroups", "linux.cgroupsPath");
    this.cgroup.create();
    tracer?.step("compile the program's first parts");
    this.settings.enterCgroup = this.cgroup.enter;
    // Where there is no right to make cgroups, init stays in the caller's: it has none of its own to mount.
    if (this.options.systemdCgroup || !this.cgroup.own) this.settings.cgroupPaths = this.cgroup.paths;
    this.launch = new Launch(this.spec, this.settings, this.host);
    const { plan } = this.launch;
    if (tracer) {
      tracer.program({ fds: plan.fds, firstFd: plan.firstFd, spec: this.spec });
      if (this.mode.waitForStart) tracer.keepIn(this.dir.path);
      tracer.step("open what bunc-init inherits");
    }
    const opened =
      plan.fds.length > 1 ? await openInheritedFds(plan.fds, this.sources()) : { fds: [], owned: [] };
    try {
      tracer?.step("start bunc-init", "linux.namespaces");
      const pidns = plan.birth.pidns;
      const pidnsAt = pidns ? this.launch.context.fd(pidns)! - plan.firstFd - 1 : -1;
      this.init = Init.spawn({
        flags: plan.birth.flags,
        firstFd: plan.firstFd,
        fds: opened.fds,
        preserve: this.settings.preserve,
        stdio: this.options.stdio,
        renews: renews(this.launch.context),
        ...(pidns ? { pidns: opened.fds[pidnsAt]! } : {}),
        ...(this.cgroup.fd < 0 ? {} : { cgroup: this.cgroup.fd }),
      });
    } finally {
      for (const fd of opened.owned) closeFd(fd);
      this.cgroup.closeBirth();
    }
    const { init } = this;
    this.milestone(`nsexec container setup: init is process ${init.pid}`);
    this.cgroup.adopt(init.pid);
    tracer?.step("send the program's first parts");
    for (const { part, stage } of plan.first) {
      init.send(part);
      if (stage !== Stage.user) continue;
      if (servesOthers()) await init.told();
      this.expect(Stage.user);
      await this.giveIds();
    }
    const rest = this.launch.rest();
    const ownPids = this.launch.context.isNew("pid");
    if (!ownPids) {
      if (servesOthers()) await init.told();
      this.expect(Stage.namespaces);
      this.settings.innerPid = innerPid(init.pid);
    }
    tracer?.step("compile the program");
    // Compiled while init makes its namespaces.
    const first = rest.next()!;
    if (ownPids) {
      if (servesOthers()) await init.told();
      this.expect(Stage.namespaces);
    }
    this.milestone("child process in init(): it has its namespaces");
    if (this.extras.moveDevices) {
      tracer?.step("move the network devices", "linux.netDevices");
      this.extras.moveDevices(init.pid);
    }
    await this.sendParts(first, rest);
  }

  /** Sends the parts while init works on the one before; at the stages it waits for, the parent does its share. */
  private async sendParts(first: SentPart, rest: Parts): Promise<void> {
    const init = this.init!;
    let limited = false;
    const limit = () => {
      tracer?.step("set the limits", "linux.resources");
      if (!limited) this.cgroup.limit();
      limited = true;
    };
    for (let sent = first; ; ) {
      tracer?.step("compile and send the program");
      init.send(sent.part);
      if (sent.stage === Stage.last) {
        // The whole state takes longer to make than init takes to get to the program.
        if (this.mode.waitForStart)
          this.saveState({ part: sent.part, first: init.program.length - sent.part.ops.length });
        break;
      }
      const next = rest.next()!;
      // Only a container that is on record may run anything of its user's.
      if (next.stage === Stage.last) this.record.claim(this.cgroup, init.pid);
      if (sent.stage !== Stage.none) {
        if (servesOthers()) await init.told();
        const { value } = this.expect(sent.stage);
        if (sent.stage === Stage.listener) await this.sendListener(value);
        else if (sent.stage === Stage.mapping) await this.mapIds(value, sent.mount!);
        else limit();
        if (sent.stage === Stage.mounted) await this.runRuntimeHooks();
        if (sent.stage === Stage.ready) await this.mode.beforeExec?.();
      }
      sent = next;
    }
    if (servesOthers()) await init.told();
    tracer?.step("wait for bunc-init");
    if (this.mode.waitForStart) {
      this.expect(Stage.created);
      init.close();
    } else if (init.next() !== undefined) {
      throw new BuncError("container init told something unexpected", { code: "internal" });
    } else {
      // The socket is closed by execve, or because init died: the difference is in the process.
      this.checkAlive();
    }
    this.milestone("init: closing the pipe to signal completion");
  }

  /** For --debug. Readers of runc's log look for the words these begin with. */
  private milestone(message: string): void {
    if (this.options.log.debugging) this.options.log.debug(message);
  }

  private expect(stage?: number): { event: number; value: number } {
    tracer?.step("wait for bunc-init");
    const event = this.init!.next();
    if (!event) throw this.deathError();
    if (stage !== undefined && event.event !== stage) {
      throw new BuncError(`container init is at stage ${event.event}, not ${stage}`, { code: "internal" });
    }
    return event;
  }

  private deathError(): BuncError {
    if (this.cgroup.oomKilled()) {
      return new BuncError("container init was OOM-killed (memory limit too low?)", {
        code: "launch",
        path: "linux.resources.memory.limit",
      });
    }
    return new BuncError("container init ended before it executed the program", { code: "launch" });
  }

  /** An init that was killed before execve (out of memory) closes its socket too; its name tells it apart. */
  private checkAlive(): void {
    const { pid, pidfd } = this.init!;
    const exit = waitChild(pidfd, abi.WNOHANG | abi.WNOWAIT);
    if (!exit?.signal) return;
    const comm = readText(`/proc/${pid}/comm`, 64);
    if (typeof comm === "string" && comm.trim() === "bunc:[init]") throw this.deathError();
  }

  private sources(): FdSources {
    const { spec, options, euid, dir, mode } = this;
    return {
      spec,
      options,
      stateDir: dir.path,
      consoleFd: mode.consoleFd,
      euid,
      hookOutput: this.extras.hookOutput,
    };
  }

  private async giveIds(): Promise<void> {
    tracer?.step("map the ids", "linux.uidMappings");
    const { writeIdMaps } = await import("./ids.ts");
    writeIdMaps(this.init!.pid, this.spec.linux!, this.euid);
  }

  /** prestart and createRuntime hooks: in the runtime's namespaces, while init waits before its change of root. */
  private async runRuntimeHooks(): Promise<void> {
    tracer?.step("run the hooks", "hooks");
    const { runHooks } = await import("./hooks.ts");
    const { prestart, createRuntime } = this.spec.hooks ?? {};
    const state = this.hookState("creating");
    const files = this.extras.hookFiles;
    await runHooks("prestart", prestart ?? [], state, { files });
    await runHooks("createRuntime", createRuntime ?? [], state, { files });
  }

  /** The state of this container, as hooks read it. */
  hookState(status: string): string {
    return hookStateJson({
      id: this.options.id,
      status,
      pid: status === "stopped" ? 0 : (this.init?.pid ?? 0),
      bundle: this.options.bundle,
      annotations: this.spec.annotations,
    });
  }

  private async mapIds(number: number, mount: number): Promise<void> {
    tracer?.step("map the ids of a mount", `mounts[${mount}]`);
    const { mapInside } = await import("./trees.ts");
    mapInside(this.spec, this.init!, number, mount);
  }

  private async sendListener(number: number): Promise<void> {
    tracer?.step("pass on the seccomp listener", "linux.seccomp.listenerPath");
    const { sendSeccompListener } = await import("./seccomp-listener.ts");
    sendSeccompListener(this.spec.linux!.seccomp!, this.init!, number, this.hookState("creating"));
  }

  /** Writes the whole state.json, when init is there. `run` leaves it out for a program that has ended already. */
  saveState(last?: { part: Part; first: number }): void {
    this.record.save(this.cgroup, this.init?.pid, last);
  }

  writePidFile(): void {
    this.record.writePidFile(this.init!.pid);
  }

  /** Takes back everything: processes, cgroups, the state directory. What cannot be undone is only warned about. */
  async undo(): Promise<void> {
    tracer?.step("take everything back");
    this.init?.kill();
    await this.cgroup.undo();
    await this.removal.finish();
  }

  /** See LaunchRemoval.prepare. */
  prepareRemoval(): () => boolean {
    return this.removal.prepare();
  }

  /** After the container's end. */
  async remove(): Promise<void> {
    await this.removal.remove();
  }
}

/** A program that the kernel cannot execute is no failure to make the container: as with runc, `run` ends as a shell does. */
function startError(error: unknown, foreground: boolean): unknown {
  if (!(error instanceof BuncError)) return error;
  if (foreground && error.fields.code === "launch" && error.fields.syscall === "execve") {
    return new BuncError(error.message, { ...error.fields, verbatim: true, exitCode: 255 });
  }
  const where = error.fields.code === "launch" ? "error during container init: " : "";
  return new BuncError(`unable to start container process: ${where}${error.message}`, error.fields);
}
