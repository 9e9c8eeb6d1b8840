/**
 * The runtime as a v1 shim uses it: create, exec, restore, kill and delete. When it is this very executable it is called
 * in process; any other is executed.
 */

import { GLOBAL_FLAGS } from "../../cli/flags.ts";
import { globalOptions } from "../../cli/options.ts";
import { parseFlags } from "../../cli/parse.ts";
import { system } from "../../cli/system.ts";
import type { Log } from "../../container/types.ts";
import { abi, sizeof_, stat_ } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import type { Streams } from "../v2/streams.ts";
import { ExternalRuntime } from "./external.ts";
import { type ProcessFile, readCheckpoint } from "./process-file.ts";

/** A process that was started. */
export interface Started {
  pid: number;
  /** The caller's. */
  pidfd: number;
}

/** The error of a runtime: what it has said is in log.json, and no fault of the shim's. */
export class RuntimeError extends Error {}

export interface Runtime {
  /** Starts what process.json says: a container, a process in one, or one from a checkpoint. */
  start(process: ProcessFile, streams: Streams): Promise<Started>;
  /** SIGKILL to all processes of the container. */
  killAll(): Promise<void>;
  delete(): Promise<void>;
}

/** What both kinds are given. */
export interface RuntimeContext {
  id: string;
  bundle: string;
  /** As the daemon was told: a path, or a name to be looked for in $PATH. */
  runtime: string;
  /** The process folder, which the runtime's log and the pid file are in. */
  folder: string;
  /** Writes log.json. */
  log: Log;
}

/** The runtime that the command line names. */
export function runtimeOf(context: RuntimeContext, process: ProcessFile): Runtime {
  const path = context.runtime.includes("/")
    ? context.runtime
    : (Bun.which(context.runtime) ?? context.runtime);
  if (isThis(path)) return new InProcess({ ...context, runtime: path }, process.runtimeArgs);
  return new ExternalRuntime({ ...context, runtime: path }, process.runtimeArgs);
}

/** Whether a path leads to the executable of this process. */
function isThis(path: string): boolean {
  const own = identity("/proc/self/exe");
  return own !== undefined && own === identity(path);
}

function identity(path: string): string | undefined {
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  if (sys(abi.SYS_newfstatat, abi.AT_FDCWD, path, new Uint8Array(stat.buffer), 0) < 0) return undefined;
  return `${stat.getBigUint64(stat_.st_dev, true)}:${stat.getBigUint64(stat_.st_ino, true)}`;
}

class InProcess implements Runtime {
  private readonly root: string;
  private readonly systemdCgroup: boolean;

  constructor(
    private readonly context: RuntimeContext,
    args: readonly string[],
  ) {
    const options = globalOptions(context.runtime, parseFlags(GLOBAL_FLAGS, args, true), system);
    this.root = options.root;
    this.systemdCgroup = options.systemdCgroup;
  }

  async start(process: ProcessFile, streams: Streams): Promise<Started> {
    const { context, root } = this;
    try {
      if (process.exec) return await this.exec(process, streams);
      if (process.checkpoint) return await this.restore(process, streams);
      const { createContainer } = await import("../../container/create.ts");
      return await createContainer(this.launchOptions(process, streams), streams.consoleFd);
    } catch (error) {
      const { renderError } = await import("../../errors.ts");
      // As the command says it, whose last words the daemon passes on.
      const command = process.exec ? "exec failed: " : process.checkpoint ? "" : "runc create failed: ";
      const message = command + renderError(error);
      context.log.error(message);
      throw new RuntimeError(`${root}/${context.id}: ${message}`);
    }
  }

  private launchOptions(process: ProcessFile, streams: Streams) {
    const { root, systemdCgroup, context } = this;
    const { id, bundle, folder, log } = context;
    return {
      root,
      id,
      bundle,
      pidFile: `${folder}/pid`,
      noPivot: process.noPivotRoot,
      noNewKeyring: false,
      preserveFds: 0,
      systemdCgroup,
      stdio: streams.stdio,
      log,
    };
  }

  private async exec(process: ProcessFile, streams: Streams): Promise<Started> {
    const { id, folder, log } = this.context;
    const { startExec } = await import("../../container/exec.ts");
    const { consoleFd } = streams;
    const started = await startExec(
      {
        root: this.root,
        id,
        process: { json: process.text },
        stdio: streams.stdio,
        preserveFds: 0,
        cgroups: [],
        ignorePaused: false,
        log,
      },
      consoleFd === undefined ? {} : { fd: consoleFd },
    );
    const { writeAtomic } = await import("../../linux/file.ts");
    writeAtomic(`${folder}/pid`, String(started.pid), 0o666);
    return started;
  }

  private async restore(process: ProcessFile, streams: Streams): Promise<Started> {
    const { tcp, unixSockets, shell } = readCheckpoint(process.checkpoint);
    const { startRestore } = await import("../../container/restore.ts");
    return startRestore(
      {
        ...this.launchOptions(process, streams),
        detach: true,
        imagePath: process.checkpoint,
        workPath: `${process.checkpoint}/criu.work/restore-${new Date().toISOString()}`,
        tcpEstablished: tcp,
        extUnixSk: unixSockets,
        shellJob: shell,
        fileLocks: false,
        autoDedup: false,
        lazyPages: false,
        manageCgroupsMode: "",
      },
      (master) => streams.takeMaster(master),
    );
  }

  async killAll(): Promise<void> {
    const { readSummary } = await import("../../container/store.ts");
    const { killAll } = await import("../../cgroup/live.ts");
    await killAll(readSummary(this.root, this.context.id).cgroupPaths);
  }

  async delete(): Promise<void> {
    const { deleteContainer } = await import("../../container/delete.ts");
    const { id, log } = this.context;
    await deleteContainer(this.root, id, false, { warn: (message) => log.warn(message) });
  }
}
