/**
 * What the command line (src/cli) and the container layer (src/container) agree on: the options of a launch,
 * what is told about a container, and the functions commands call. Types only, so importing it costs nothing.
 */

import type { CgroupStats } from "../cgroup/stats-types.ts";
import type { Report } from "../doctor/report.ts";
import type { LinuxResources } from "../oci/config.ts";
import type { CheckpointOptions } from "./checkpoint.ts";
import type { WatchOptions } from "./events.ts";
import type { ExecOptions } from "./exec.ts";
import type { Stdio } from "./init-channel.ts";
import type { MountsChange } from "./mounts.ts";
import type { RestoreOptions } from "./restore.ts";

/** Where messages go besides the final error: stderr, or the file of `--log`. Each call writes one entry. */
export interface Log {
  /** True under `--debug`; ask before building an expensive message. */
  readonly debugging: boolean;
  /** Written only under `--debug`. */
  debug(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** The states runc knows (libcontainer/container.go); `creating` of the runtime-spec is never reported. */
export type Status = "created" | "running" | "paused" | "stopped";

/** How a container is to be made, as `create` and `run` take it from the command line. */
export interface LaunchOptions {
  /** Absolute path of the directory that holds one state directory per container. Need not exist. */
  root: string;
  /** As given by the user: not empty, otherwise unchecked (see the grammar in reference/runc-cli.md A3). */
  id: string;
  /** Absolute path of the bundle; lexically clean, symlinks not resolved, existence not checked. */
  bundle: string;
  /** Absolute path of the file that is read instead of the bundle's config.json. */
  config?: string;
  /** Unix socket that receives the pty's master. A relative path is relative to the bundle, as in runc. */
  consoleSocket?: string;
  /** Unix socket that receives a pidfd of the container's init. Relative to the bundle, as in runc. */
  pidfdSocket?: string;
  /** Absolute path of the file to write init's pid to. */
  pidFile?: string;
  noPivot: boolean;
  noNewKeyring: boolean;
  /** How many descriptors after stdio and $LISTEN_FDS the program inherits; 0 or more. */
  preserveFds: number;
  systemdCgroup: boolean;
  /** Nobody has chosen a driver: a linux.cgroupsPath of the form "a.slice:prefix:name" makes it systemd's. */
  driverByPath?: boolean;
  /** The container stays in the cgroups of the caller; limits are ignored, with a warning. */
  noCgroup?: boolean;
  /** What becomes init's standard streams; without it they are the caller's own. */
  stdio?: Stdio | undefined;
  /** `--rootless`: whether cgroup permission errors are ignored; absent means find out ("auto"). */
  rootless?: boolean;
  log: Log;
}

/** The further options of `run`. */
export interface RunOptions extends LaunchOptions {
  detach: boolean;
  keep: boolean;
  noSubreaper: boolean;
}

/** A container that waits for `start`. */
export interface Created {
  id: string;
  /** Pid of its init in the host's pid namespace. */
  pid: number;
  /** A pidfd of its init, the caller's. */
  pidfd: number;
}

/** What `state` and `list` print of a container; the order of the fields is the order in the JSON. */
export interface ContainerInfo {
  ociVersion: string;
  id: string;
  /** 0 when stopped. */
  pid: number;
  status: Status;
  bundle: string;
  rootfs: string;
  /** When it was created: RFC 3339 in UTC, with as many digits of a second as are not zero (Go's RFC3339Nano). */
  created: string;
  annotations?: Record<string, string>;
  /** Name of the owner of the state directory, or `#uid` where the host has no name for it. */
  owner: string;
}

/** All containers below a root that could be read, sorted by id, and one line about each that could not. */
export interface Listing {
  containers: ContainerInfo[];
  errors: string[];
}

type Result<T> = T | Promise<T>;

/** The functions of the container layer that commands call. Every one throws BuncError, in runc's words. */
export interface ContainerLayer {
  /** Makes the container up to the point where its program would be executed. */
  createContainer(options: LaunchOptions): Result<Created>;
  /** create and start; resolves to the exit code for the caller: the program's, 128+n for a signal, 0 detached. */
  runContainer(options: RunOptions): Result<number>;
  /** Runs a process in a container; resolves to the exit code for the caller as runContainer does. */
  execContainer(options: ExecOptions & { detach: boolean }): Result<number>;
  startContainer(root: string, id: string): Result<void>;
  /** Sends a signal to init; `signo` 0 only asks. Says "container not running" when there is no process. */
  killContainer(root: string, id: string, signo: number): Result<void>;
  /** With `force` a running container is killed first, and one that does not exist is no error. */
  deleteContainer(
    root: string,
    id: string,
    force: boolean,
    options?: { warn?: (message: string) => void },
  ): Result<void>;
  pauseContainer(root: string, id: string): Result<void>;
  resumeContainer(root: string, id: string): Result<void>;
  /** Saves a running container by criu; it ends and is deleted, unless it is to go on. */
  checkpointContainer(options: CheckpointOptions): Result<void>;
  /** Makes a container again from images; resolves to the exit code for the caller as runContainer does. */
  restoreContainer(options: RestoreOptions & { noSubreaper: boolean }): Result<number>;
  /** Pids of all of a container's processes; none when it has stopped. */
  containerProcesses(root: string, id: string): Result<number[]>;
  /** The features document of the runtime-spec. */
  runtimeFeatures(): Result<object>;
  /** Changes the limits of a container that is not stopped; see update.ts. */
  updateContainer(
    root: string,
    id: string,
    resources: LinuxResources,
    options?: { l3CacheSchema?: string; memBwSchema?: string; warn?: (message: string) => void },
  ): Result<void>;
  /** What a container uses now. */
  containerStats(root: string, id: string): Result<CgroupStats>;
  /** Statistics again and again, and OOM events, until the container ends. */
  watchContainer(root: string, id: string, options: WatchOptions): Result<void>;
  /** Mounts more in a running container, or takes mounts away; see mounts.ts. */
  changeMounts(root: string, id: string, change: MountsChange, log: Log): Result<void>;
  loadState(root: string, id: string): Result<ContainerInfo>;
  /** Throws with errno ENOENT when `root` does not exist. */
  listContainers(root: string): Result<Listing>;
  /** What `explain` prints of the bundle in an absolute directory: text for people, or JSON. */
  explainBundle(bundle: string, json: boolean): Result<string>;
  /** The same of an exec in a container. */
  explainExec(options: ExecOptions, json: boolean): Result<string>;
  /** What `doctor` finds out about this host; `here` is the current directory. */
  examineHost(root: string, here: string): Result<Report>;
}
