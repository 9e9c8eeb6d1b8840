/** The serving process of a shim: an event loop on one thread, the Task service, and its containers' events. */
import { BuncError, renderError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { waitBy } from "../../linux/wait.ts";
import { Loop } from "../loop.ts";
import { Server } from "../ttrpc/server.ts";
import { type Arguments, serverArguments } from "./arguments.ts";
import { Publisher } from "./events.ts";
import { socketPath } from "./group.ts";
import type { ShimState } from "./hibernate.ts";
import { listenAt } from "./listen.ts";
import { ShimLog } from "./log.ts";
import { hasRecord } from "./record.ts";
import { answerCall } from "./service.ts";
import { watchSignals } from "./signals.ts";
import { LISTEN_FD, PROCESS_NAME } from "./spawn.ts";
import { checkNames, workingDirectory } from "./start.ts";
import { adopt, takeOver } from "./take-over.ts";
import { Tasks } from "./tasks.ts";

/** How long the last events may take on their way at the end. */
const FLUSH_MILLISECONDS = 5000;
/** How long a shim without anything to do stays awake; $BUNC_SHIM_IDLE overrides it, 0 keeps it awake for ever. */
const IDLE_MILLISECONDS = 2000;

/**
 * Serves until the last task is gone and containerd says Shutdown, or on SIGTERM.
 * @param name what the shim was called as
 * @param listener its listening socket; without it, what `start` has passed on, or a new one
 * @throws BuncError when it cannot begin
 */
export async function serve(name: string, given: Arguments, listener?: number): Promise<void> {
  checkNames(given);
  const state = given.resume ? await readLeft(Number(given.resume)) : undefined;
  await new Shim(name, given, state, listener).run(state);
}

async function readLeft(fd: number): Promise<ShimState> {
  return (await import("./hibernate.ts")).readState(fd);
}

class Shim {
  private readonly bundle: string;
  private readonly socket: string;
  private readonly loop: Loop;
  private readonly log: ShimLog;
  private readonly publisher: Publisher;
  private readonly tasks: Tasks;
  private readonly listener: number;
  private readonly executable: number;
  private readonly server: Server;
  private readonly signals: number;
  private ending = false;

  constructor(
    private readonly name: string,
    private readonly given: Arguments,
    state: ShimState | undefined,
    listener: number | undefined,
  ) {
    const { namespace, id, address, publishBinary } = given;
    sys(abi.SYS_prctl, abi.PR_SET_NAME, PROCESS_NAME, 0, 0, 0);
    sys(abi.SYS_prctl, abi.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    this.bundle = given.bundle || workingDirectory();
    this.socket = given.socket || socketPath("", address, namespace, id);
    this.log = new ShimLog(state ? state.log : ShimLog.open(`${this.bundle}/log`), given.debug);
    const { log, socket } = this;
    const loop = new Loop((error) => log.error(renderError(error)));
    this.loop = loop;
    waitBy((fds, milliseconds) => loop.ready(fds, milliseconds));
    const target = { ttrpcAddress: process.env.TTRPC_ADDRESS ?? "", publishBinary, address, namespace };
    this.publisher = new Publisher(loop, target, (message) => log.warn(message));
    this.executable = state ? state.executable : ownExecutable();
    const { publisher, executable } = this;
    this.tasks = new Tasks({ loop, namespace, publisher, log, name, executable });
    this.listener = state ? state.listener : (listener ?? inherited() ?? listen(socket));
    const context = { tasks: this.tasks, shutdown: () => void this.end() };
    this.server = new Server(
      loop,
      this.listener,
      (service, method, payload) => answerCall(context, service, method, payload),
      (message) => log.warn(message),
    );
    this.signals = watchSignals(loop, () => void this.end(), log, state ? state.signals : -1);
  }

  async run(state: ShimState | undefined): Promise<void> {
    for (const task of state?.tasks ?? []) await takeOver(this.tasks, task);
    if (!state && hasRecord(this.bundle)) await this.adopt();
    for (const connection of state?.connections ?? []) this.server.resume(connection);
    const idle = Number(process.env.BUNC_SHIM_IDLE ?? IDLE_MILLISECONDS);
    if (idle > 0) this.loop.onIdle(idle, () => void this.hibernate());
    // What comes first, while containerd has not asked yet.
    if (!state) void preload();
    this.loop.run();
    this.server.close();
  }

  /** The bundle had a shim already, which is gone; its container may be there. */
  private async adopt(): Promise<void> {
    try {
      await adopt(this.tasks, this.given.id, this.bundle);
    } catch (error) {
      this.log.warn(renderError(error));
    }
  }

  private async end(): Promise<void> {
    if (this.ending) return;
    this.ending = true;
    await this.publisher.flushed(FLUSH_MILLISECONDS);
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, this.socket, 0);
    this.loop.after(0, () => this.loop.stop());
  }

  /** Gives the memory back while there is nothing to do but to wait. */
  private async hibernate(): Promise<void> {
    const { hibernate } = await import("./hibernate.ts");
    const { loop, publisher, server, log, name, given } = this;
    if (this.ending || !publisher.idle || !loop.timeless) return;
    publisher.close();
    const tasks = this.tasks.snapshot();
    const connections = server.snapshot();
    if (
      !tasks ||
      !connections ||
      connections.some(({ calls }) => calls.some(({ method }) => method !== "Wait"))
    )
      return;
    const { listener, signals, executable } = this;
    const state = { version: 1, listener, log: log.fd, signals, executable, connections, tasks } as const;
    try {
      hibernate(state, loop.watched(), name, serverArguments(given));
    } catch (error) {
      log.warn(`the shim stays awake: ${renderError(error)}`);
    }
  }
}

async function preload(): Promise<void> {
  await import("../../container/create.ts");
  await import("../../container/start.ts");
}

function listen(socket: string): number {
  const fd = listenAt(socket);
  if (fd === undefined) throw new BuncError(`${socket} is served already`, { code: "exists" });
  return fd;
}

function ownExecutable(): number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, "/proc/self/exe", abi.O_PATH | abi.O_CLOEXEC, 0);
  if (fd < 0) throw pathError("open", "/proc/self/exe", fd);
  return fd;
}

/** The listening socket that `start` has passed on. */
function inherited(): number | undefined {
  const value = new Uint8Array(4);
  const size = new Uint8Array([4, 0, 0, 0]);
  const result = sys(abi.SYS_getsockopt, LISTEN_FD, abi.SOL_SOCKET, abi.SO_ACCEPTCONN, value, size);
  if (result < 0 || value[0] !== 1) return undefined;
  sys(abi.SYS_fcntl, LISTEN_FD, abi.F_SETFD, abi.FD_CLOEXEC);
  return LISTEN_FD;
}
