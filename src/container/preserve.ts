/**
 * Descriptors that the program inherits: those of socket activation ($LISTEN_FDS, sd_listen_fds(3)), then those of
 * --preserve-fds, both from number 3 on.
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";

const FIRST = 3;

/** What is passed on. */
export interface PassedFds {
  /** How many of $LISTEN_FDS; they are the first. */
  listenFds: number;
  /** All together: descriptors 3 to 3 + count - 1. */
  count: number;
  /** What the program's environment gets for them, after its own. */
  env: string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Checks that every descriptor to be passed on was given to this process.
 * @param preserveFds of --preserve-fds
 * @throws BuncError in runc's words, with the number of the first that is missing
 */
export function passedFds(preserveFds: number, env: Environment = process.env): PassedFds {
  const listenFds = listenCount(env, sys(abi.SYS_getpid));
  const count = listenFds + Math.max(preserveFds, 0);
  if (count > 0) {
    const missing = firstMissing();
    if (missing < FIRST + listenFds) {
      throw new BuncError(`LISTEN_FDS=${listenFds}, but descriptor ${missing} is not open`, {
        code: "usage",
        errno: "EBADF",
        hint: "LISTEN_PID names bunc, so whoever started it must pass all of them, from 3 on",
      });
    }
    const index = missing - FIRST - listenFds;
    if (index < preserveFds) {
      throw new BuncError(
        `unable to stat preserved-fd ${index} (of ${preserveFds}): no such file or directory`,
        {
          code: "usage",
          errno: "EBADF",
          hint: `descriptor ${missing} is not open; --preserve-fds counts from ${FIRST + listenFds}`,
        },
      );
    }
  }
  // The names of LISTEN_FDNAMES are not passed on, as in runc. The program is pid 1, in a new pid namespace.
  const added = listenFds > 0 ? [`LISTEN_FDS=${listenFds}`, "LISTEN_PID=1"] : [];
  return { listenFds, count, env: added };
}

/** How many descriptors socket activation gave to this very process; 0 when the variables are for another one. */
export function listenCount(env: Environment, pid: number): number {
  if (parseNumber(env.LISTEN_PID) !== pid) return 0;
  const count = parseNumber(env.LISTEN_FDS);
  return count !== undefined && count > 0 ? count : 0;
}

/** A decimal number as Go's strconv.Atoi reads it. */
function parseNumber(value: string | undefined): number | undefined {
  return value && /^[+-]?[0-9]{1,15}$/.test(value) ? Number(value) : undefined;
}

/** What the link of a descriptor in /proc says, or undefined when there is none of this number. */
function target(fd: number): string | undefined {
  const buffer = new Uint8Array(256);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${fd}`, buffer, buffer.length);
  return n < 0 ? undefined : text(buffer.subarray(0, n));
}

/**
 * The first number from 3 on that was free when this process began. The language runtime then took it for its event loop;
 * what has a higher number may be its own, or bunc's, and must not get into a container.
 */
function firstMissing(): number {
  for (let fd = FIRST; ; fd++) {
    const link = target(fd);
    if (link === undefined || (link === "anon_inode:[eventpoll]" && isEventLoop(fd))) return fd;
  }
}

/** An event loop waits for an eventfd, opened after it. An epoll descriptor that was passed has numbers of another process. */
function isEventLoop(fd: number): boolean {
  // The runtime opens nothing without it; of what was passed it sets it on all but 3.
  if (!(sys(abi.SYS_fcntl, fd, abi.F_GETFD, 0) & abi.FD_CLOEXEC)) return false;
  const info = readText(`/proc/self/fdinfo/${fd}`, 65536);
  if (typeof info !== "string") return false;
  for (const [, number] of info.matchAll(/^tfd:\s*(\d+)/gm)) {
    if (Number(number) > fd && target(Number(number)) === "anon_inode:[eventfd]") return true;
  }
  return false;
}
