/**
 * The shim of containerd 0.2 (Docker 1.11 to 17.x): one process for each process of a container, files and fifos in the
 * current directory instead of calls. See containerd v0.2.9, containerd-shim/main.go and process.go, for the protocol.
 */
import { createLog, type Form } from "../../cli/log.ts";
import type { Log } from "../../container/types.ts";
import { BuncError, renderError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, writeAll, writeAtomic } from "../../linux/file.ts";
import { bytesOf, sys, text } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import { waitBy } from "../../linux/wait.ts";
import { Loop } from "../loop.ts";
import { type Ended, ShimProcess } from "../v2/process.ts";
import { watchSignals } from "../v2/signals.ts";
import { workingDirectory } from "../v2/start.ts";
import { Streams } from "../v2/streams.ts";
import { type ProcessFile, readProcessFile } from "./process-file.ts";
import { type Runtime, RuntimeError, runtimeOf } from "./runtime.ts";

/** How long the output may take to arrive after the end of the process. */
const DRAIN_MILLISECONDS = 10_000;

/**
 * Runs the shim to the end of its process.
 * @param args the container's id, the bundle, the runtime
 * @returns the exit code: 1 for an error of the shim, which stands in shim-log.json, 0 for one of the runtime
 */
export async function main(args: readonly string[]): Promise<number> {
  // The daemon wants this one to be there even when only the runtime has something to say.
  closeFd(appendTo("shim-log.json"));
  const log = jsonLog("shim-log.json");
  try {
    const [id, bundle, runtime] = args;
    if (!id || !bundle || !runtime || args.length !== 3) {
      throw new BuncError("the arguments are: CONTAINER-ID BUNDLE RUNTIME", { code: "usage" });
    }
    const folder = workingDirectory();
    const process = readProcessFile(`${folder}/process.json`);
    const context = { id, bundle, runtime, folder, log: jsonLog("log.json") };
    await new Shim(id, folder, process, runtimeOf(context, process), log).run();
    return 0;
  } catch (error) {
    if (error instanceof RuntimeError) return 0;
    log.error(renderError(error));
    return 1;
  }
}

/** A log of JSON objects in the process folder, which the daemon reads. */
function jsonLog(name: string): Log {
  let fd = -1;
  const form: () => Form = () => "json";
  return createLog("warning", form, (entry) => {
    if (fd < 0) fd = appendTo(name);
    writeAll(fd, bytesOf(entry));
  });
}

function appendTo(name: string): number {
  const flags = abi.O_WRONLY | abi.O_CREAT | abi.O_APPEND | abi.O_SYNC | abi.O_CLOEXEC;
  return sys(abi.SYS_openat, abi.AT_FDCWD, name, flags, 0o666);
}

class Shim {
  private readonly loop: Loop;
  private failure: unknown;

  constructor(
    private readonly id: string,
    private readonly folder: string,
    private readonly process: ProcessFile,
    private readonly runtime: Runtime,
    private readonly log: Log,
  ) {
    this.loop = new Loop((error) => log.error(renderError(error)));
    const { loop } = this;
    waitBy((fds, milliseconds) => loop.ready(fds, milliseconds));
  }

  async run(): Promise<void> {
    sys(abi.SYS_prctl, abi.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    sys(abi.SYS_prctl, abi.PR_SET_NAME, "containerd-shim", 0, 0, 0);
    // The daemon sees the end of the shim by the end of this fifo; nothing is ever written to it.
    open(`${this.folder}/exit`, abi.O_WRONLY);
    const control = open(`${this.folder}/control`, abi.O_RDWR | abi.O_NONBLOCK);
    void this.serve(control).catch((error: unknown) => {
      this.failure = error;
      this.loop.stop();
    });
    this.loop.run();
    if (this.failure) throw this.failure;
  }

  private async serve(control: number): Promise<void> {
    const { process, loop, id, runtime } = this;
    const { stdin, stdout, stderr, terminal, rootUid: uid, rootGid: gid } = process;
    const names = { stdin, stdout, stderr, terminal };
    const streams = await Streams.open(names, { loop, namespace: "", id, uid, gid });
    let resolveEnd: (ended: Ended) => void;
    const end = new Promise<Ended>((resolve) => {
      resolveEnd = resolve;
    });
    const child = new ShimProcess(process.exec ? "exec" : "", names, (_, ended) => resolveEnd(ended));
    child.streams = streams;
    try {
      const { pid, pidfd } = await runtime.start(process, streams);
      child.adopt(loop, pid, pidfd);
      await streams.handOver();
    } catch (error) {
      child.close();
      throw error;
    }
    // Orphans are reaped from now on: before, one of them may have been the process itself.
    watchSignals(loop, () => {}, this.log, -1);
    this.control(control, streams);
    await this.finish(await end, streams);
    child.close();
    loop.stop();
  }

  private async finish(ended: Ended, streams: Streams): Promise<void> {
    const path = `${this.folder}/exitStatus`;
    const written = writeAtomic(path, String(ended.status), 0o644);
    if (written < 0) throw pathError("write", path, written);
    const { runtime, process } = this;
    if (!process.exec) await this.attempt(() => runtime.killAll());
    await streams.drained(DRAIN_MILLISECONDS);
    if (!process.exec) await this.attempt(() => runtime.delete());
  }

  /** The process has ended, whatever becomes of the rest. */
  private async attempt(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (error instanceof BuncError && error.fields.code === "not-found") return;
      this.log.warn(renderError(error));
    }
  }

  /** Lines of three numbers: type, width, height; type 0 ends the input, 1 resizes the terminal. */
  private control(fd: number, streams: Streams): void {
    const buffer = new Uint8Array(4096);
    let rest = "";
    this.loop.watch(fd, abi.POLLIN, () => {
      const n = sys(abi.SYS_read, fd, buffer, buffer.length);
      if (n <= 0) return;
      const lines = (rest + text(buffer.subarray(0, n))).split("\n");
      rest = lines.pop()!.slice(-64);
      for (const line of lines) {
        const [type, width, height] = line.trim().split(/\s+/).map(Number);
        if (type === 0) streams.closeInput();
        else if (type === 1 && isSize(width) && isSize(height)) streams.resize(width, height);
        else this.log.warn(`control: ${JSON.stringify(line.slice(0, 64))} is not understood`);
      }
    });
  }
}

function isSize(value: number | undefined): value is number {
  return value !== undefined && Number.isInteger(value) && value >= 0 && value <= 0xffff;
}

function open(path: string, flags: number): number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags | abi.O_CLOEXEC, 0);
  if (fd < 0) throw pathError("open", path, fd);
  return fd;
}
