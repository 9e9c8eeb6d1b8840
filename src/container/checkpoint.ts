/**
 * `checkpoint`: criu saves a container's processes to files, and the container ends, unless it is to go on. Works on
 * containers of runc, too: all that criu is told stands in state.json.
 */
import * as live from "../cgroup/live.ts";
import { checkParent, type Directories, openDirectories } from "../criu/directories.ts";
import { fifoNames } from "../criu/fifos.ts";
import { withLog } from "../criu/log.ts";
import { dumpMounts } from "../criu/mounts.ts";
import { dumpNamespaces } from "../criu/namespaces.ts";
import { type CriuOptions, commonOptions } from "../criu/options.ts";
import { type Options, Type } from "../criu/rpc.gen.ts";
import { Swrk } from "../criu/swrk.ts";
import { criuVersion, type Notification, perform, requireFeature, requireVersion } from "../criu/talk.ts";
import { BuncError, renderError } from "../errors.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { pathError, writeAll, writeNew } from "../linux/file.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { waitReady } from "../linux/wait.ts";
import { deleteContainer } from "./delete.ts";
import { hookEnvironment } from "./hooks.ts";
import type { LibcontainerConfig } from "./libcontainer.ts";
import { readLabels, type State, type Summary } from "./state.ts";
import { openProcess, statusOf } from "./status.ts";
import { openStateDir, readState, type StateDir } from "./store.ts";
import type { Log } from "./types.ts";

const LOG = "dump.log";
const DESCRIPTORS = "descriptors.json";

/** The first criu with the request for its version. */
export const LEAST_CRIU = 30000;

/** The further options of a checkpoint. */
export interface CheckpointOptions extends CriuOptions {
  root: string;
  id: string;
  log: Log;
  /** Directory of an earlier dump, relative to that of the images: only memory that has changed since is saved. */
  parentPath?: string;
  /** The container goes on afterwards. */
  leaveRunning: boolean;
  /** Only memory is saved, for a later checkpoint; the container goes on. */
  preDump: boolean;
  tcpSkipInFlight: boolean;
  linkRemap: boolean;
  /** Descriptor that gets a NUL byte when memory can be asked for (lazyPages), and is then closed; -1 for none. */
  statusFd: number;
  /** Memory is sent to a page server, or with lazyPages can be fetched from here. */
  pageServer?: { address: string; port: number };
}

/**
 * Saves a running or paused container.
 * @throws BuncError "Container cannot be checkpointed in stopped state", or that of criu with its log quoted; the
 * container then goes on
 */
export async function checkpointContainer(options: CheckpointOptions): Promise<void> {
  const { root, id, log } = options;
  warnUnlessRoot(log);
  const dir = openStateDir(root, id);
  let init = -1;
  let summary: Summary;
  try {
    await dir.lock();
    summary = dir.summary();
    const status = statusOf(summary, dir.path, live);
    if (status === "created" || status === "stopped") {
      throw new BuncError(`Container cannot be checkpointed in ${status} state`, { code: "state" });
    }
    init = openProcess(summary);
    await new Checkpoint(options, dir, readState(root, id)).dump();
    if (options.leaveRunning || options.preDump) return;
    await waitReady([init], END_MILLISECONDS);
  } finally {
    dir.close();
    closeFd(init);
  }
  try {
    // What criu has killed in a frozen cgroup of v1 does not end before it is thawed.
    if (summary.cgroupPaths.freezer !== undefined && live.isFrozen(summary.cgroupPaths))
      live.thaw(summary.cgroupPaths);
    await deleteContainer(root, id, false, { warn: (message) => log.warn(message) });
  } catch (error) {
    log.warn(renderError(error));
  }
}

/** criu may do without root, but not for what containers are. */
export function warnUnlessRoot(log: Log): void {
  if (sys(abi.SYS_geteuid) !== 0) log.warn("runc checkpoint is untested with rootless containers");
}

/** How long init may take to end after criu has killed it. */
const END_MILLISECONDS = 1000;

class Checkpoint {
  private readonly env = hookEnvironment();
  private readonly config: LibcontainerConfig;
  private statusFd: number;

  constructor(
    private readonly options: CheckpointOptions,
    private readonly dir: StateDir,
    private readonly state: State,
  ) {
    this.config = state.config;
    this.statusFd = options.statusFd;
  }

  async dump(): Promise<void> {
    const { options, env } = this;
    const directories = openDirectories(options, true);
    try {
      if (options.parentPath) checkParent(options.imagePath, options.parentPath);
      const { annotations } = readLabels(this.config.labels);
      const common = commonOptions(options, annotations, LOG);
      const version = await criuVersion(env);
      requireVersion(version, LEAST_CRIU);
      if (options.log.debugging) options.log.debug(`Using CRIU ${version}`);
      const fifos = fifoNames(this.state.init_process_pid);
      const request: Partial<Options> = {
        ...common,
        images_dir_fd: directories.images,
        ...(directories.work < 0 ? {} : { work_dir_fd: directories.work }),
        root: this.config.rootfs,
        pid: this.state.init_process_pid,
        leave_running: options.leaveRunning,
        tcp_skip_in_flight: options.tcpSkipInFlight,
        link_remap: options.linkRemap,
        external: [...dumpNamespaces(this.config, version), ...fifos.filter((name) => name !== "")],
        ...this.freezer(version),
      };
      if (options.pageServer) request.ps = options.pageServer;
      if (options.parentPath) {
        request.parent_img = options.parentPath;
        request.track_mem = true;
      }
      if (options.preDump) await requireFeature("mem_track", env);
      if (options.lazyPages) {
        await requireFeature("lazy_pages", env);
        this.checkStatusFd();
        // Older ones write to it themselves.
        if (version < STATUS_READY && this.statusFd >= 0) request.status_fd = this.statusFd;
      }
      if (!options.preDump) {
        request.ext_mnt = dumpMounts(this.config, this.state.init_process_pid);
        this.writeDescriptors(directories.images, fifos);
      }
      await this.perform(request, directories);
    } finally {
      directories.close();
    }
  }

  private async perform(opts: Partial<Options>, directories: Directories): Promise<void> {
    const { preDump } = this.options;
    const { log } = this.options;
    if (log.debugging) log.debug(`CRIU options: ${JSON.stringify(opts)}`);
    // It waits for whoever fetches the pages, maybe for ever, and the container stands still meanwhile.
    const dieWithParent = this.options.lazyPages;
    const swrk = await Swrk.start({ env: this.env, quiet: true, dieWithParent });
    try {
      const type = preDump ? Type.PRE_DUMP : Type.DUMP;
      await perform(swrk, { type, opts: opts as Options }, (notification) => this.notified(notification));
      // After a pre-dump it waits for the next request, and ends with an error when there is none.
      await swrk.end(preDump);
    } catch (error) {
      swrk.kill();
      throw withLog(error, directories, LOG);
    }
  }

  private notified({ script }: Notification): void {
    const { log } = this.options;
    if (log.debugging) log.debug(`notify: ${script}`);
    if (script === "post-dump") this.markCheckpointed();
    if (script === "status-ready" && this.statusFd >= 0) {
      const n = sys(abi.SYS_write, this.statusFd, new Uint8Array(1), 1);
      if (n < 0) log.warn(`can't write \\0 to status fd: ${pathError("write", "", n).message}`);
      closeFd(this.statusFd);
      this.statusFd = -1;
    }
  }

  /** As runc: whoever finds the file knows that there is a checkpoint. */
  private markCheckpointed(): void {
    const result = writeNew(`${this.dir.path}/checkpoint`, "", 0o644);
    if (result < 0 && result !== -abi.EEXIST) throw pathError("open", `${this.dir.path}/checkpoint`, result);
  }

  /** criu stops the processes by their freezer, where it can. */
  private freezer(version: number): Partial<Options> {
    const paths = this.state.cgroup_paths ?? {};
    const path = paths.freezer ?? (paths.devices === undefined && version >= 31400 ? paths[""] : undefined);
    return path ? { freeze_cgroup: path } : {};
  }

  private checkStatusFd(): void {
    const { statusFd } = this;
    if (statusFd < 0) return;
    const flags = sys(abi.SYS_fcntl, statusFd, abi.F_GETFL, 0);
    const words = `invalid --status-fd argument ${statusFd}`;
    if (flags < 0) throw new BuncError(pathError(words, "", flags).message, { code: "usage" });
    // What is no file at all is the language runtime's own.
    if (!(flags & (abi.O_WRONLY | abi.O_RDWR)) || !(modeOf(statusFd) & abi.S_IFMT)) {
      throw new BuncError(`${words}: not writable`, { code: "usage" });
    }
  }

  /** What stdin, stdout and stderr were: a restore puts its own in their place. */
  private writeDescriptors(images: number, fifos: readonly string[]): void {
    const names = this.state.external_descriptors ?? [];
    const content = JSON.stringify(names.map((name, fd) => fifos[fd] || name));
    const flags = abi.O_WRONLY | abi.O_CREAT | abi.O_TRUNC | abi.O_NOFOLLOW | abi.O_CLOEXEC;
    const fd = sys(abi.SYS_openat, images, DESCRIPTORS, flags, 0o600);
    if (fd < 0) throw pathError("open", `${this.options.imagePath}/${DESCRIPTORS}`, fd);
    const result = writeAll(fd, bytesOf(content));
    closeFd(fd);
    if (result < 0) throw pathError("write", `${this.options.imagePath}/${DESCRIPTORS}`, result);
  }
}

/** The first criu that tells of lazy pages by a notification. */
const STATUS_READY = 31500;

function modeOf(fd: number): number {
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  sys(abi.SYS_newfstatat, fd, "", new Uint8Array(stat.buffer), abi.AT_EMPTY_PATH);
  return stat.getUint32(stat_.st_mode, true);
}
