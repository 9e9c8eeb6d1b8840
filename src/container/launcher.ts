/**
 * Launching: from a bundle on disk to an init that is about to execute the user's program (or waits for `start`). It
 * runs the parent's half of a launch in step with init's, and undoes everything when either half fails.
 */
import { loadBundle } from "../bundle/load.ts";
import { destroy } from "../cgroup/live.ts";
import { BuncError, renderError } from "../errors.ts";
import { Launch } from "../launch/compile.ts";
import {
  type HostFacts,
  type InheritedFd,
  type LaunchSettings,
  type SentPart,
  Stage,
} from "../launch/context.ts";
import { cloneFlag } from "../launch/namespaces.ts";
import type { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, readText, writeAtomic, writeExisting } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { closeFd, startTime } from "../linux/process.ts";
import { connectUnix } from "../linux/socket.ts";
import type { LinuxNamespaceType, Spec } from "../oci/config.ts";
import { buildState, startOps } from "./build-state.ts";
import { bundleIo } from "./bundle-io.ts";
import { hookStateJson } from "./hook-state.ts";
import { Init } from "./init-channel.ts";
import { LaunchCgroup } from "./launch-cgroup.ts";
import { removeStateDir } from "./remove.ts";
import { claimText, type State, withProcess } from "./state.ts";
import { timestamp } from "./status.ts";
import { createStateDir, openDirectory, type StateDir } from "./store.ts";
import type { TreeOpener } from "./trees.ts";
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

/** Which descriptor of the parent each inherited one comes from; those in `owned` are closed after the spawn. */
interface OpenedFds {
  fds: number[];
  owned: number[];
}

/** A container on its way up; `spec` is the validated config.json. */
export class Launcher {
  readonly spec: Spec;
  readonly rootfs: string;
  readonly dir: StateDir;
  readonly euid: number;
  init: Init | undefined;
  private readonly created = timestamp();
  /** When init was started, in clock ticks since boot. */
  private started = 0;
  state: State | undefined;
  /** Compiled once the cgroups are there: without rights to make some, init has none to enter. */
  private launch!: Launch;
  private readonly host: HostFacts;
  private readonly cgroup: LaunchCgroup;
  private readonly settings: LaunchSettings;

  /** Reads and checks the bundle, claims the id and compiles what comes before init runs. */
  static async prepare(options: LaunchOptions, mode: LaunchMode): Promise<Launcher> {
    const bundle = loadBundle(options.bundle, bundleIo);
    const log = options.log;
    for (const { path, message } of bundle.warnings) log.warn(path ? `${path}: ${message}` : message);
    checkTerminal(bundle.spec, options, mode);
    const dir = createStateDir(options.root, options.id);
    try {
      const extras = await loadExtras(bundle.spec, options, dir.path);
      return new Launcher(options, mode, bundle.spec, bundle.spec.root.path, dir, extras);
    } catch (error) {
      removeStateDir(dir);
      dir.close();
      throw error;
    }
  }

  private constructor(
    readonly options: LaunchOptions,
    readonly mode: LaunchMode,
    spec: Spec,
    rootfs: string,
    dir: StateDir,
    readonly extras: Extras,
  ) {
    this.spec = spec;
    this.rootfs = rootfs;
    this.dir = dir;
    this.euid = sys(abi.SYS_geteuid);
    this.cgroup = new LaunchCgroup(spec, options, this.euid);
    this.settings = {
      id: options.id,
      bundle: options.bundle,
      rootfs,
      noPivot: options.noPivot,
      noNewKeyring: options.noNewKeyring,
      preserve: extras.preserve,
      waitForStart: mode.waitForStart,
      pidfdSocket: options.pidfdSocket !== undefined,
      seccomp: extras.seccomp,
      setgroups: this.euid === 0,
      rootless: this.euid !== 0,
      nofile: spec.process?.rlimits?.some(({ type }) => type === "RLIMIT_NOFILE")
        ? undefined
        : callersNofile(),
      innerPid: 1,
      hookEnv: extras.hookEnv,
      enterCgroup: undefined,
      netDevices: extras.netDevices,
    };
    this.host = hostFacts(spec, options, this.cgroup);
  }

  /** Brings init up to the last part of its program, which is compiled but not yet sent. */
  async start(): Promise<void> {
    try {
      await this.bringUp();
    } catch (error) {
      await this.undo();
      throw startError(error);
    }
  }

  private async bringUp(): Promise<void> {
    if (this.mode.waitForStart) this.makeFifo();
    this.claimState();
    this.cgroup.create();
    this.settings.enterCgroup = this.cgroup.enter;
    this.launch = new Launch(this.spec, this.settings, this.host);
    const { plan } = this.launch;
    const opened = plan.fds.length > 1 ? await this.openFds(plan.fds) : { fds: [], owned: [] };
    try {
      const pidns = plan.birth.pidns;
      const pidnsAt = plan.fds.findIndex((fd) => fd.name === pidns) - 1;
      this.init = Init.spawn({
        flags: plan.birth.flags,
        firstFd: plan.firstFd,
        fds: opened.fds,
        preserve: this.settings.preserve,
        ...(pidns ? { pidns: opened.fds[pidnsAt]! } : {}),
        ...(this.cgroup.fd < 0 ? {} : { cgroup: this.cgroup.fd }),
      });
    } finally {
      for (const fd of opened.owned) closeFd(fd);
      this.cgroup.closeBirth();
    }
    const { init } = this;
    for (const { part, stage } of plan.first) {
      init.send(part);
      if (stage !== Stage.user) continue;
      this.expect(Stage.user);
      await this.giveIds();
    }
    const rest = this.launch.rest();
    const ownPids = this.launch.context.isNew("pid");
    if (!ownPids) {
      this.expect(Stage.namespaces);
      this.settings.innerPid = innerPid(init.pid);
    }
    // Compiled while init makes its namespaces.
    const first = rest.next().value!;
    if (ownPids) this.expect(Stage.namespaces);
    const { oomScoreAdj } = this.spec.process!;
    if (oomScoreAdj !== undefined) this.setOomScore(oomScoreAdj);
    this.extras.moveDevices?.(init.pid);
    await this.sendParts(first, rest);
  }

  /** Sends the parts while init works on the one before; at the stages it waits for, the parent does its share. */
  private async sendParts(first: SentPart, rest: Iterator<SentPart, void>): Promise<void> {
    const init = this.init!;
    let limited = false;
    const limit = () => {
      if (!limited) this.cgroup.limit();
      limited = true;
    };
    for (let sent = first; ; ) {
      init.send(sent.part);
      if (sent.stage === Stage.last) {
        // The whole state takes longer to make than init takes to get to the program.
        this.saveState(startOpsOf(sent.part, init.program.length - sent.part.ops.length));
        break;
      }
      const next = rest.next().value!;
      // Only a container that is on record may run anything of its user's.
      if (next.stage === Stage.last) this.claimState();
      if (sent.stage !== Stage.none) {
        const { value } = this.expect(sent.stage);
        if (sent.stage === Stage.listener) await this.sendListener(value);
        else limit();
        if (sent.stage === Stage.mounted) await this.runRuntimeHooks();
        if (sent.stage === Stage.ready) await this.mode.beforeExec?.();
      }
      sent = next;
    }
    if (this.mode.waitForStart) {
      this.expect(Stage.created);
      init.close();
    } else if (init.next() !== undefined) {
      throw new BuncError("container init told something unexpected", { code: "internal" });
    } else {
      // The socket is closed by execve, or because init died: the difference is in the process.
      this.checkAlive();
    }
  }

  private expect(stage?: number): { event: number; value: number } {
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
    const comm = readText(`/proc/${this.init!.pid}/comm`, 64);
    const stat = readText(`/proc/${this.init!.pid}/stat`, 4096);
    const dead = typeof stat === "number" || stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
    if (dead && typeof comm === "string" && comm.trim() === "bunc:[init]") throw this.deathError();
  }

  /** The exec fifo: init opens it for writing once it waits, so it belongs to root of the container. */
  private makeFifo(): void {
    this.dir.makeFifo(hostId(0, this.spec.linux?.uidMappings), hostId(0, this.spec.linux?.gidMappings));
  }

  private async openFds(wanted: readonly InheritedFd[]): Promise<OpenedFds> {
    const opened: OpenedFds = { fds: [], owned: [] };
    let trees: TreeOpener | undefined;
    try {
      for (const fd of wanted.slice(1)) {
        const { from } = fd;
        if (from.kind === "console-socket" && this.mode.consoleFd !== undefined) {
          opened.fds.push(this.mode.consoleFd);
          continue;
        }
        if (from.kind === "tree") trees ??= new (await import("./trees.ts")).TreeOpener(this.spec, this.euid);
        const number = from.kind === "tree" ? trees!.open(from) : this.openFd(from);
        opened.fds.push(number);
        opened.owned.push(number);
      }
      return opened;
    } catch (error) {
      for (const fd of opened.owned) closeFd(fd);
      throw error;
    } finally {
      trees?.close();
    }
  }

  private openFd(from: Exclude<InheritedFd["from"], { kind: "tree" }>): number {
    switch (from.kind) {
      case "state-dir":
        return openReadonlyTree(this.dir.path);
      case "console-socket":
        return connectUnix(this.fromBundle(this.options.consoleSocket!));
      case "pidfd-socket":
        return connectUnix(this.fromBundle(this.options.pidfdSocket!));
      case "namespace":
        return openNamespace(from.namespace.type, from.namespace.path!, from.path);
      case "sync":
        throw new Error("the socket is made by the spawn");
    }
  }

  private fromBundle(path: string): string {
    return path.startsWith("/") ? path : `${this.options.bundle}/${path}`;
  }

  private async giveIds(): Promise<void> {
    const { writeIdMaps } = await import("./ids.ts");
    writeIdMaps(this.init!.pid, this.spec.linux!, this.euid);
  }

  private setOomScore(score: number): void {
    const path = `/proc/${this.init!.pid}/oom_score_adj`;
    const result = writeExisting(path, String(score));
    if (result >= 0) return;
    const error = pathError("write", path, result);
    throw new BuncError(`cannot set oomScoreAdj to ${score}: ${error.message}`, {
      ...error.fields,
      path: "process.oomScoreAdj",
      hint: "lowering it needs CAP_SYS_RESOURCE",
    });
  }

  /** prestart and createRuntime hooks: in the runtime's namespaces, while init waits before its change of root. */
  private async runRuntimeHooks(): Promise<void> {
    const { runHooks } = await import("./hooks.ts");
    const { prestart, createRuntime } = this.spec.hooks ?? {};
    const state = this.hookState("creating");
    runHooks("prestart", prestart ?? [], state);
    runHooks("createRuntime", createRuntime ?? [], state);
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

  private async sendListener(number: number): Promise<void> {
    const { sendSeccompListener } = await import("./seccomp-listener.ts");
    sendSeccompListener(this.spec.linux!.seccomp!, this.init!, number, this.hookState("creating"));
  }

  /** A state.json with all that `delete --force` needs should this process be killed before the whole one is written. */
  private claimState(): void {
    const { id, bundle } = this.options;
    const { init, rootfs, created } = this;
    const { annotations } = this.spec;
    const { paths: cgroupPaths } = this.cgroup;
    if (init) this.started = startTime(init.pid);
    const known = init ? { init: { pid: init.pid, start: this.started } } : {};
    this.dir.saveText(claimText({ id, bundle, rootfs, created, cgroupPaths, annotations, ...known }));
  }

  /** Writes state.json when init is there. */
  private saveState(ops: ReturnType<typeof startOps> = []): void {
    this.state ??= buildState(this.spec, {
      id: this.options.id,
      bundle: this.options.bundle,
      rootfs: this.rootfs,
      noPivot: this.options.noPivot,
      noNewKeyring: this.options.noNewKeyring,
      systemdCgroup: this.options.systemdCgroup,
      rootlessEuid: this.euid !== 0,
      rootlessCgroups: this.cgroup.rootless,
      created: this.created,
      cgroupPaths: { ...this.cgroup.paths },
      externalDescriptors: [0, 1, 2].map(descriptorName),
      notifySocket: this.extras.notifySocket,
    });
    if (this.init) {
      if (ops.length && this.state.bunc) this.state.bunc.startOps = ops;
      this.state = withProcess(this.state, this.init.pid, this.started);
    }
    this.dir.save(this.state);
  }

  /** Writes the pid file, beside its final name first. */
  writePidFile(): void {
    const path = this.options.pidFile;
    if (!path) return;
    const result = writeAtomic(path, String(this.init!.pid), 0o666);
    if (result < 0) throw pathError("open", path, result);
  }

  /** Takes back everything: processes, cgroups, the state directory. What cannot be undone is only warned about. */
  async undo(): Promise<void> {
    this.init?.kill();
    this.cgroup.undo();
    await this.runPoststop();
    this.removeDir();
  }

  /** After the container's end: its cgroups, poststop hooks, the state directory. Failures are only warned about. */
  async remove(): Promise<void> {
    await this.dir.lock();
    // Somebody else has deleted it meanwhile.
    if (!this.dir.isCurrent()) return;
    try {
      destroy(this.cgroup.paths);
    } catch (error) {
      this.options.log.warn(renderError(error));
    }
    await this.runPoststop();
    this.removeDir();
  }

  private removeDir(): void {
    try {
      removeStateDir(this.dir);
    } catch (error) {
      this.options.log.warn(renderError(error));
    }
    this.dir.close();
  }

  private async runPoststop(): Promise<void> {
    const poststop = this.spec.hooks?.poststop;
    if (!poststop?.length) return;
    const { log } = this.options;
    const { runHooks } = await import("./hooks.ts");
    runHooks("poststop", poststop, this.hookState("stopped"), {
      failed: (error) => log.warn(renderError(error)),
    });
  }
}

/** Rarely needed parts of a launch, loaded only for bundles that ask for them. */
interface Extras {
  seccomp: LaunchSettings["seccomp"];
  /** Descriptors from 3 on that the program inherits. */
  preserve: number;
  listenFds: number;
  /** $NOTIFY_SOCKET of the caller, "" for none. */
  notifySocket: string;
  hookEnv: string[];
  netDevices?: LaunchSettings["netDevices"];
  moveDevices?: (pid: number) => void;
}

/** Loads what the bundle and the caller's environment ask for, and adds it to the spec. */
async function loadExtras(spec: Spec, options: LaunchOptions, stateDir: string): Promise<Extras> {
  const env = process.env;
  const extras: Extras = { seccomp: undefined, preserve: 0, listenFds: 0, notifySocket: "", hookEnv: [] };
  if (options.preserveFds > 0 || env.LISTEN_FDS) {
    const passed = (await import("./preserve.ts")).passedFds(options.preserveFds);
    extras.preserve = passed.count;
    extras.listenFds = passed.listenFds;
    if (passed.env.length) spec.process!.env = [...(spec.process!.env ?? []), ...passed.env];
  }
  if (env.NOTIFY_SOCKET) {
    const { addNotifyMount, makeNotifyDirectory } = await import("./notify.ts");
    extras.notifySocket = env.NOTIFY_SOCKET;
    makeNotifyDirectory(stateDir);
    addNotifyMount(spec, stateDir);
  }
  const profile = spec.linux?.seccomp;
  if (profile) extras.seccomp = (await import("./seccomp-filter.ts")).loadFilter(profile, options);
  if (spec.hooks) {
    extras.hookEnv = (await import("./hooks.ts")).hookEnvironment();
    // Hooks run in the bundle, as with runc.
    sys(abi.SYS_chdir, options.bundle);
  }
  if (spec.linux?.netDevices) {
    const { findNetDevices, moveNetDevices } = await import("./net-devices.ts");
    const devices = findNetDevices(spec);
    extras.netDevices = devices;
    extras.moveDevices = (pid) => moveNetDevices(devices, pid);
  }
  return extras;
}

function hostFacts(spec: Spec, options: LaunchOptions, cgroup: LaunchCgroup): HostFacts {
  return {
    apparmor: spec.process?.apparmorProfile ? isOn("/sys/module/apparmor/parameters/enabled", "Y") : false,
    selinux:
      spec.process?.selinuxLabel || spec.linux?.mountLabel ? isOn("/sys/fs/selinux/enforce", "") : false,
    fullProcMounts: options.noPivot ? fullProcMounts(spec.root!.path) : [],
    cgroup: cgroup.layout,
  };
}

/** Whether a file of the host exists and begins so. */
function isOn(path: string, prefix: string): boolean {
  const text = readText(path, 64);
  return typeof text === "string" && text.startsWith(prefix);
}

/** Mount points of whole proc and sysfs file systems outside of the rootfs (see compileMove). */
function fullProcMounts(rootfs: string): string[] {
  const info = readText("/proc/self/mountinfo");
  if (typeof info === "number") return [];
  const found: string[] = [];
  for (const line of info.split("\n")) {
    const fields = line.split(" ");
    const type = fields[fields.indexOf("-") + 1];
    if (fields[3] === "/" && (type === "proc" || type === "sysfs") && !fields[4]!.startsWith(rootfs)) {
      found.push(
        fields[4]!.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
      );
    }
  }
  return found;
}

function checkTerminal(spec: Spec, { consoleSocket }: LaunchOptions, { detach }: LaunchMode): void {
  const terminal = spec.process?.terminal ?? false;
  if (detach && terminal && !consoleSocket) {
    throw new BuncError("cannot allocate tty if runc will detach without setting console socket", {
      code: "usage",
      path: "process.terminal",
    });
  }
  if ((!detach || !terminal) && consoleSocket) {
    throw new BuncError("cannot use console socket if runc will not detach or allocate tty", {
      code: "usage",
    });
  }
}

/** What the operations after the wait for `start` are, for the message of a failure that `start` reads. */
function startOpsOf(part: Part, first: number): ReturnType<typeof startOps> {
  const from = part.ops.findIndex((op) => op.call === abi.BUNC_OP_ERRORS_TO) + 1;
  return from === 0 ? [] : startOps(part.ops.slice(from), first + from);
}

/**
 * The state directory as a mount of its own, read-only: whoever gets hold of init's descriptor reaches the fifo (which
 * can be written to all the same) and nothing above.
 */
function openReadonlyTree(path: string): number {
  const flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC;
  const fd = sys(abi.SYS_open_tree, abi.AT_FDCWD, path, flags);
  // An ordinary user may make no mounts; what init could reach by its descriptor, that user can anyway.
  if (fd === -abi.EPERM) return openDirectory(path);
  if (fd < 0) throw pathError("open_tree", path, fd);
  const attr = new Uint8Array(32);
  attr[0] = abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID;
  // Before Linux 5.12 it stays writable; the descriptor is then as good as runc's.
  sys(abi.SYS_mount_setattr, fd, "", abi.AT_EMPTY_PATH, attr, attr.length);
  return fd;
}

/** Opens a namespace to join and checks that it is of the type the bundle says. */
function openNamespace(type: LinuxNamespaceType, path: string, at: string): number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0);
  if (fd < 0) {
    const error = pathError("open", path, fd);
    throw new BuncError(`cannot join the ${type} namespace: ${error.message}`, { ...error.fields, path: at });
  }
  const found = sys(abi.SYS_ioctl, fd, abi.NS_GET_NSTYPE);
  if (found === cloneFlag(type)) return fd;
  closeFd(fd);
  throw new BuncError(
    `cannot join the ${type} namespace: ${path} is ${found < 0 ? "no namespace" : "another type"}`,
    {
      code: "config",
      path: at,
    },
  );
}

/** The id on the host that an id of the container is mapped to. */
function hostId(
  id: number,
  mappings: { containerID: number; hostID: number; size: number }[] | undefined,
): number {
  for (const { containerID, hostID, size } of mappings ?? []) {
    if (id >= containerID && id < containerID + size) return hostID + id - containerID;
  }
  return id;
}

/** The pid that a process has in its own pid namespace: the last of NSpid (proc_pid_status(5)). */
function innerPid(pid: number): number {
  const status = readText(`/proc/${pid}/status`, 8192);
  const line = typeof status === "string" ? /^NSpid:(.*)$/m.exec(status) : null;
  return Number(line?.[1]?.trim().split(/\s+/).pop() ?? pid);
}

/**
 * RLIMIT_NOFILE as this process was given it. Bun raises its own soft limit to the hard one at start, and there is no way
 * back but the parent's: a parent with the same hard limit is taken to have passed on its soft one, too.
 */
function callersNofile(): { soft: bigint; hard: bigint } | undefined {
  const own = rlimit(0, abi.RLIMIT_NOFILE);
  const parents = rlimit(sys(abi.SYS_getppid), abi.RLIMIT_NOFILE);
  return own && parents && own.hard === parents.hard && own.soft !== parents.soft ? parents : undefined;
}

function rlimit(pid: number, resource: number): { soft: bigint; hard: bigint } | undefined {
  const limit = new BigUint64Array(2);
  if (sys(abi.SYS_prlimit64, pid, resource, 0, new Uint8Array(limit.buffer)) < 0) return undefined;
  return { soft: limit[0]!, hard: limit[1]! };
}

/** What a standard descriptor is: "pipe:[12]", "/dev/null". */
function descriptorName(fd: number): string {
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${fd}`, buffer, buffer.length);
  return n > 0 ? text(buffer.subarray(0, n)) : "";
}

function startError(error: unknown): unknown {
  if (!(error instanceof BuncError)) return error;
  const where = error.fields.code === "launch" ? "error during container init: " : "";
  return new BuncError(`unable to start container process: ${where}${error.message}`, error.fields);
}
