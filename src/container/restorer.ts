/** One restore: what is made before criu runs, what is done when criu says how far it is, and the way back. */
import { loadBundle } from "../bundle/load.ts";
import type { RdtGroup } from "../cgroup/resctrl.ts";
import { type Directories, openDirectories } from "../criu/directories.ts";
import { withLog } from "../criu/log.ts";
import { restoreMounts } from "../criu/mounts.ts";
import { restoreNamespaces } from "../criu/namespaces.ts";
import { type CriuOptions, commonOptions } from "../criu/options.ts";
import { type CgroupRoot, type InheritFd, type Options, Type } from "../criu/rpc.gen.ts";
import { FIRST_FD, Swrk } from "../criu/swrk.ts";
import { criuVersion, type Notification, perform, requireVersion } from "../criu/talk.ts";
import { BuncError, renderError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, readBytes, readText } from "../linux/file.ts";
import { bytesOf, sys, text } from "../linux/lib.ts";
import { closeFd, killChild, openPidfd, ownChildren, startTime } from "../linux/process.ts";
import { connectUnix, sendFd } from "../linux/socket.ts";
import type { Spec } from "../oci/config.ts";
import { buildState } from "./build-state.ts";
import { bundleIo } from "./bundle-io.ts";
import { LEAST_CRIU, warnUnlessRoot } from "./checkpoint.ts";
import { hookStateJson } from "./hook-state.ts";
import { hookEnvironment, hookFiles, runHooks } from "./hooks.ts";
import { callersNofile, descriptorName } from "./host-facts.ts";
import { LaunchCgroup, settleDriver } from "./launch-cgroup.ts";
import { checkTerminal } from "./launch-terminal.ts";
import { removeStateDir } from "./remove.ts";
import { makeMountPoints } from "./restore-mounts.ts";
import { bringLoopbackUp } from "./restore-network.ts";
import type { State } from "./state.ts";
import { claimText, withProcess } from "./state-text.ts";
import { timestamp } from "./status.ts";
import { createStateDir, exists, type StateDir } from "./store.ts";
import type { LaunchOptions } from "./types.ts";

const LOG = "restore.log";
const DESCRIPTORS = "descriptors.json";
/** Where the rootfs is mounted for criu, in the state directory: it must be a mount point that nothing covers. */
const ROOT = "criu-root";

/** The first criu that restores into a time namespace, and the first that takes another profile of a security module. */
const TIME_NAMESPACE = 31400;
const LSM = 31600;

/** The options of a restore. Of those of a launch, what images keep has no effect (preserveFds, pidfdSocket, ...). */
export interface RestoreOptions extends LaunchOptions, CriuOptions {
  /** The caller does not stay: a terminal needs a console socket. */
  detach: boolean;
  /** TYPE:NAME of the profile of AppArmor or SELinux, instead of that of the images. */
  lsmProfile?: string;
  lsmMountContext?: string;
}

/** What a restore has made so far. */
export class Restore {
  private readonly env = hookEnvironment();
  private readonly created = timestamp();
  private readonly euid = sys(abi.SYS_geteuid);
  private spec!: Spec;
  private dir!: StateDir;
  private cgroup: LaunchCgroup | undefined;
  private rdt: RdtGroup | undefined;
  private state!: State;
  private version = 0;
  private swrk: Swrk | undefined;
  private mounted = false;
  private console = -1;
  private pid = 0;
  private pidfd = -1;

  constructor(
    private readonly options: RestoreOptions,
    private readonly terminal: ((master: number) => void | Promise<void>) | undefined,
  ) {}

  async start(): Promise<{ pid: number; pidfd: number }> {
    const { options } = this;
    const { log } = options;
    warnUnlessRoot(log);
    const directories = openDirectories(options, false);
    try {
      const bundle = loadBundle(options.bundle, bundleIo);
      for (const { path, message } of bundle.warnings) log.warn(path ? `${path}: ${message}` : message);
      this.spec = bundle.spec;
      checkTerminal(this.spec, options, options);
      settleDriver(options, this.spec);
      const common = commonOptions(options, this.spec.annotations, LOG);
      this.dir = createStateDir(options.root, options.id);
      try {
        await this.prepare(bundle.spec.root.path);
        await this.restore(common, directories);
        this.removeRoot();
      } catch (error) {
        await this.undo();
        throw error;
      }
      this.dir.close();
      return { pid: this.pid, pidfd: this.pidfd };
    } finally {
      closeFd(this.console);
      directories.close();
    }
  }

  /** All but cgroups and processes. */
  private async prepare(rootfs: string): Promise<void> {
    const { options, spec, dir, euid } = this;
    const { consoleSocket } = options;
    if (consoleSocket) {
      // A relative one is relative to the bundle, as in runc.
      const path = consoleSocket.startsWith("/") ? consoleSocket : `${options.bundle}/${consoleSocket}`;
      this.console = connectUnix(path);
    }
    const notifySocket = process.env.NOTIFY_SOCKET ?? "";
    if (notifySocket) {
      const { addNotifyMount, makeNotifyDirectory } = await import("./notify.ts");
      makeNotifyDirectory(dir.path);
      addNotifyMount(spec, dir.path);
    }
    if (spec.linux?.intelRdt) {
      this.rdt = (await import("../cgroup/resctrl.ts")).planRdt(spec.linux.intelRdt, options.id);
    }
    const { rdt } = this;
    const systemd = options.systemdCgroup ? await import("../cgroup/systemd.ts") : undefined;
    const cgroup = new LaunchCgroup(spec, options, euid, {
      ...(systemd ? { systemd } : {}),
      // criu enters it, and what it starts is born there.
      ...(rdt ? { rdt } : {}),
    });
    this.cgroup = cgroup;
    const { id, bundle, noPivot, systemdCgroup } = options;
    this.state = buildState(spec, {
      id,
      bundle,
      rootfs,
      noPivot,
      noNewKeyring: options.noNewKeyring,
      systemdCgroup,
      rootlessEuid: euid !== 0,
      rootlessCgroups: cgroup.rootless,
      created: this.created,
      cgroupPaths: { ...cgroup.paths },
      externalDescriptors: (options.stdio ?? [0, 1, 2]).map(descriptorName),
      notifySocket,
      intelRdt: rdt,
    });
    this.dir.claim(this.claim());
    this.version = await criuVersion(this.env);
    requireVersion(this.version, LEAST_CRIU);
    if (options.log.debugging) options.log.debug(`Using CRIU ${this.version}`);
    for (const flag of ["lsmProfile", "lsmMountContext"] as const) {
      if (!options[flag] || this.version >= LSM) continue;
      const name = flag === "lsmProfile" ? "--lsm-profile" : "--lsm-mount-context";
      throw new BuncError(`${name} requires at least CRIU 3.16`, { code: "host" });
    }
    this.mountRoot(rootfs);
    await makeMountPoints(rootfs, this.state.config.mounts ?? []);
  }

  /** What `delete` needs should this process be killed before the container is there. */
  private claim(criu?: { pid: number; start: number }): string {
    const { id, bundle, systemdCgroup } = this.options;
    const cgroup = this.cgroup!;
    return claimText({
      id,
      bundle,
      rootfs: this.state.config.rootfs,
      created: this.created,
      cgroupPaths: cgroup.paths,
      annotations: this.spec.annotations,
      systemdCgroup,
      rootlessCgroups: cgroup.rootless,
      mounts: [ROOT],
      ...(this.rdt ? { rdtGroups: this.rdt.own } : {}),
      ...(criu ? { criu } : {}),
    });
  }

  /** Where the rootfs is for criu: without a symbolic link in the path. */
  private get rootPath(): string {
    const buffer = new Uint8Array(4096);
    const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${this.dir.fd}`, buffer, buffer.length);
    return `${n > 0 ? text(buffer.subarray(0, n)) : this.dir.path}/${ROOT}`;
  }

  private mountRoot(rootfs: string): void {
    const path = this.rootPath;
    let result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o755);
    if (result < 0) throw pathError("mkdir", path, result);
    result = sys(abi.SYS_mount, rootfs, path, 0, abi.MS_BIND | abi.MS_REC, 0);
    if (result < 0) throw pathError(`mount ${rootfs} on`, path, result);
    this.mounted = true;
  }

  private removeRoot(): void {
    const path = this.rootPath;
    if (this.mounted) {
      const result = sys(abi.SYS_umount2, path, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW);
      if (result < 0) this.options.log.warn(pathError("umount", path, result).message);
    }
    this.mounted = false;
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, abi.AT_REMOVEDIR);
  }

  private async restore(common: Partial<Options>, directories: Directories): Promise<void> {
    const { options, state, version } = this;
    const namespaces = restoreNamespaces(state.config, version, FIRST_FD);
    try {
      const opts: Partial<Options> = {
        ...common,
        images_dir_fd: directories.images,
        ...(directories.work < 0 ? {} : { work_dir_fd: directories.work }),
        evasive_devices: true,
        rst_sibling: true,
        root: this.rootPath,
        join_ns: namespaces.join,
        inherit_fd: [...namespaces.inherit, ...inheritedPipes(directories.images, options.imagePath)],
        ext_mnt: restoreMounts(state.config, state.cgroup_paths ?? {}),
      };
      if (options.lsmProfile) opts.lsm_profile = options.lsmProfile;
      if (options.lsmMountContext) opts.lsm_mount_context = options.lsmMountContext;
      await this.startCriu(namespaces.fds);
      const swrk = this.swrk!;
      this.cgroup!.limit();
      opts.cg_root = cgroupRoots(swrk.pid);
      const { log } = options;
      if (log.debugging) log.debug(`CRIU options: ${JSON.stringify(opts)}`);
      await perform(swrk, { type: Type.RESTORE, opts: opts as Options }, (told) => this.notified(told));
      await swrk.end();
    } catch (error) {
      throw withLog(error, directories, LOG, (message) => this.advice(message));
    } finally {
      for (const fd of namespaces.fds) closeFd(fd);
    }
    if (this.pidfd >= 0) return;
    throw new BuncError("criu failed: it has told of no restored process", { code: "host" });
  }

  /** What the reader of criu's message can do, where that is not in it. */
  private advice(message: string): string | undefined {
    const user = this.spec.linux?.namespaces?.some(({ type }) => type === "user");
    if (!user || !message.includes("Permission denied")) return undefined;
    return `in a user namespace criu reads images as the container's root, who must have the right to: ${this.options.imagePath}`;
  }

  private async startCriu(fds: readonly number[]): Promise<void> {
    const cgroup = this.cgroup!;
    cgroup.create();
    try {
      this.swrk = await Swrk.start({
        env: this.env,
        stdio: this.options.stdio,
        fds,
        cgroup: cgroup.fd,
        adopt: (pid) => {
          this.dir.saveText(this.claim({ pid, start: startTime(pid) }));
          cgroup.adopt(pid);
        },
        enter: cgroup.enter,
        nofile: callersNofile(),
      });
    } finally {
      cgroup.closeBirth();
    }
  }

  private async notified({ script, pid, fd }: Notification): Promise<void> {
    const { log } = this.options;
    if (log.debugging) log.debug(`notify: ${script}`);
    if (script === "setup-namespaces") await this.setUpNamespaces(pid);
    else if (script === "post-restore") this.restored(pid);
    else if (script === "orphan-pts-master") await this.passTerminal(fd);
  }

  /** As at a launch, when the namespaces are there: the loopback device, and hooks in the runtime's namespaces. */
  private async setUpNamespaces(pid: number): Promise<void> {
    const namespaces = this.spec.linux?.namespaces ?? [];
    if (namespaces.some(({ type, path }) => type === "network" && !path)) await bringLoopbackUp(pid);
    const { prestart = [], createRuntime = [] } = this.spec.hooks ?? {};
    const state = this.hookState("creating", pid);
    const files = hookFiles(this.spec, this.options.bundle);
    await runHooks("prestart", prestart, state, { files });
    await runHooks("createRuntime", createRuntime, state, { files });
  }

  private hookState(status: string, pid: number): string {
    const { id, bundle } = this.options;
    return hookStateJson({ id, status, pid, bundle, annotations: this.spec.annotations });
  }

  /** The processes are there and do not run yet: from now on this is a container. */
  private restored(pid: number): void {
    const pidfd = pid > 0 ? openPidfd(pid) : -abi.ESRCH;
    if (pidfd < 0) throw pathError("criu failed: open its process", String(pid), pidfd);
    closeFd(this.pidfd);
    this.pid = pid;
    this.pidfd = pidfd;
    ownChildren.add(pid);
    const { config } = this.state;
    const namespaces = config.namespaces ?? [];
    if (
      this.version >= TIME_NAMESPACE &&
      !namespaces.some(({ type }) => type === "NEWTIME") &&
      exists("/proc/self/ns/time")
    ) {
      config.namespaces = [...namespaces, { type: "NEWTIME" }];
    }
    this.state = withProcess({ ...this.state, created: timestamp() }, pid, startTime(pid));
    this.dir.save(this.state);
  }

  private async passTerminal(master: number): Promise<void> {
    if (master < 0) throw new BuncError("criu failed: it has sent no terminal", { code: "host" });
    if (this.console >= 0) {
      const sent = sendFd(this.console, master, bytesOf("orphan-pts-master"));
      if (sent < 0) throw pathError("cannot send the terminal to the console socket: sendmsg", "", sent);
    } else if (this.terminal) {
      const kept = sys(abi.SYS_fcntl, master, abi.F_DUPFD_CLOEXEC, 3);
      if (kept < 0) throw pathError("fcntl", "", kept);
      await this.terminal(kept);
    }
  }

  /** Takes back everything; what cannot be undone is only warned about. */
  private async undo(): Promise<void> {
    const { log } = this.options;
    this.swrk?.kill();
    if (this.pidfd >= 0) killChild(this.pidfd);
    closeFd(this.pidfd);
    await this.cgroup?.undo();
    this.removeRoot();
    const poststop = this.spec.hooks?.poststop ?? [];
    await runHooks("poststop", poststop, this.hookState("stopped", 0), {
      failed: (error) => log.warn(renderError(error)),
      files: hookFiles(this.spec, this.options.bundle),
    });
    try {
      removeStateDir(this.dir);
    } catch (error) {
      log.warn(renderError(error));
    }
    this.dir.close();
  }
}

/** Standard streams that were pipes become those of criu, which are ours. */
function inheritedPipes(images: number, path: string): InheritFd[] {
  const file = `${path}/${DESCRIPTORS}`;
  const bytes = readBytes(DESCRIPTORS, 65536, images);
  if (typeof bytes === "number") throw pathError("open", file, bytes);
  let names: unknown;
  try {
    names = JSON.parse(text(bytes));
  } catch {
    names = undefined;
  }
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
    throw new BuncError(`${file} is not a list of strings`, {
      code: "state",
      hint: "it is written by checkpoint; --image-path may name another directory",
    });
  }
  const inherited: InheritFd[] = [];
  for (const [fd, key] of names.slice(0, 3).entries()) {
    if (key.includes("pipe:") || key.startsWith("file[")) inherited.push({ key, fd });
  }
  return inherited;
}

/** The cgroups that criu is in are the ones where the restored processes begin (proc_pid_cgroup(5)). */
function cgroupRoots(pid: number): CgroupRoot[] {
  const content = readText(`/proc/${pid}/cgroup`);
  if (typeof content === "number") throw pathError("open", `/proc/${pid}/cgroup`, content);
  const roots: CgroupRoot[] = [];
  for (const line of content.split("\n")) {
    const first = line.indexOf(":");
    const second = line.indexOf(":", first + 1);
    if (first < 0 || second < 0) continue;
    const path = line.slice(second + 1);
    for (const ctrl of line.slice(first + 1, second).split(",")) roots.push({ ctrl, path });
  }
  return roots;
}
