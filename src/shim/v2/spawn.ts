/**
 * Starting this executable once more, under the shim's name, by a launch program of its own: as the serving process, or for
 * work that the serving one must not do itself (apart.ts).
 */
import { Init } from "../../container/init-channel.ts";
import { type DataArg, Part, Struct } from "../../launch/program.ts";
import { abi } from "../../linux/abi.gen.ts";
import { readText, writeExisting } from "../../linux/file.ts";
import { sys, text } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";

/** Where a new process finds the first descriptor that is passed on to it. */
export const FIRST_FD = 4;

/** The descriptor that the server finds its listening socket at. */
export const LISTEN_FD = FIRST_FD;

/** What process lists show of a shim, awake, asleep and apart. */
export const PROCESS_NAME = "containerd-shim";

const CLOSE_RANGE_CLOEXEC = 4;

/** What is not for the shim and the hooks it runs: the first steers Bun, the others are for whoever started containerd. */
const NOT_PASSED = ["BUN_", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_"];

/**
 * Starts the server; it has been executed when this returns.
 * @param name what the shim was called as; with a "/" it is executed by that path, so that it is known by it
 * @param args of its command line
 * @param listener its listening socket; stays the caller's
 * @returns its pid
 * @throws BuncError when it cannot be executed
 */
export async function spawnServer(
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  listener: number,
): Promise<number> {
  const path = name.includes("/") ? name : ownExecutable();
  const { pid, pidfd } = await execute([name, ...args], env, [listener], (part, argv, envp) => {
    part.op(abi.SYS_setpgid, [0, 0], { about: "cannot make a process group for the shim" });
    part.op(abi.SYS_execve, [path, argv, envp], { about: `cannot execute the shim ${path}` });
  });
  closeFd(pidfd);
  return pid;
}

/**
 * Starts a process; it has been executed when this resolves. Its standard streams are the null device.
 * @param fds what it is to have from FIRST_FD on; they stay the caller's
 * @param finish appends the last operations, of which the last one executes it
 * @throws BuncError when it cannot be executed
 */
export async function execute(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  fds: readonly number[],
  finish: (part: Part, argv: DataArg, envp: DataArg) => void,
): Promise<Init> {
  const environment: string[] = [];
  for (const key in env) if (env[key] !== undefined) environment.push(`${key}=${env[key]}`);
  const init = Init.spawnSilent({ flags: 0, firstFd: FIRST_FD - 1, fds, preserve: 0 });
  try {
    const part = new Part().at("start");
    part.op(abi.BUNC_OP_RESET_SIGNALS, [0]);
    // All but these ends with the execve: also the socket to this process, which waits for that.
    part.op(abi.SYS_close_range, [3, -1, CLOSE_RANGE_CLOEXEC]);
    for (let i = 0; i < fds.length; i++) part.op(abi.SYS_fcntl, [FIRST_FD + i, abi.F_SETFD, 0]);
    finish(part, array(args, "argv"), array(environment, "envp"));
    init.send(part);
    await init.told();
    init.next();
  } catch (error) {
    init.kill();
    throw error;
  }
  init.close();
  return init;
}

/** The environment of the shim. */
export function passedOn(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const key in env) {
    const value = env[key];
    if (value !== undefined && !startsWithOne(key, NOT_PASSED)) passed[key] = value;
  }
  return passed;
}

function startsWithOne(text: string, beginnings: readonly string[]): boolean {
  for (const beginning of beginnings) if (text.startsWith(beginning)) return true;
  return false;
}

function array(items: readonly string[], name: string): Struct {
  const pointers = new Struct((items.length + 1) * 8, name);
  for (let i = 0; i < items.length; i++) pointers.pointer(i * 8, items[i]!);
  return pointers;
}

function ownExecutable(): string {
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, "/proc/self/exe", buffer, buffer.length);
  return n > 0 ? text(buffer.subarray(0, n)) : "/proc/self/exe";
}

const MAX_OOM_SCORE = 1000;

/** Before containerd itself the kernel is to take its shims; that this is refused is no reason not to serve. */
export function raiseOomScore(pid: number): void {
  const score = readText(`/proc/${sys(abi.SYS_getppid)}/oom_score_adj`, 16);
  if (typeof score !== "string") return;
  const raised = Number(score) + 1;
  writeExisting(`/proc/${pid}/oom_score_adj`, String(raised < MAX_OOM_SCORE ? raised : MAX_OOM_SCORE));
}
