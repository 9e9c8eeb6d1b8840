/** Signal names and numbers, signal(7). The numbers are those of the architecture built for. */
import * as abi from "./abi.gen.ts";

const NUMBERS = {
  HUP: abi.SIGHUP,
  INT: abi.SIGINT,
  QUIT: abi.SIGQUIT,
  ILL: abi.SIGILL,
  TRAP: abi.SIGTRAP,
  ABRT: abi.SIGABRT,
  IOT: abi.SIGABRT,
  BUS: abi.SIGBUS,
  FPE: abi.SIGFPE,
  KILL: abi.SIGKILL,
  USR1: abi.SIGUSR1,
  SEGV: abi.SIGSEGV,
  USR2: abi.SIGUSR2,
  PIPE: abi.SIGPIPE,
  ALRM: abi.SIGALRM,
  TERM: abi.SIGTERM,
  STKFLT: abi.SIGSTKFLT,
  CHLD: abi.SIGCHLD,
  CLD: abi.SIGCHLD,
  CONT: abi.SIGCONT,
  STOP: abi.SIGSTOP,
  TSTP: abi.SIGTSTP,
  TTIN: abi.SIGTTIN,
  TTOU: abi.SIGTTOU,
  URG: abi.SIGURG,
  XCPU: abi.SIGXCPU,
  XFSZ: abi.SIGXFSZ,
  VTALRM: abi.SIGVTALRM,
  PROF: abi.SIGPROF,
  WINCH: abi.SIGWINCH,
  IO: abi.SIGIO,
  POLL: abi.SIGIO,
  PWR: abi.SIGPWR,
  SYS: abi.SIGSYS,
} as const;

/** The real-time signals as glibc numbers them: the kernel's first two are taken by its threads. */
const RTMIN = 34;
const RTMAX = 64;

/**
 * The number of a signal given by a name with or without "SIG", in any case, or by a decimal number. The
 * real-time signals are RTMIN, RTMIN+n, RTMAX-n and RTMAX. 0 is legal: it asks whether the process exists.
 * @returns undefined for a name that does not exist or a number the kernel has no signal for
 */
export function parseSignal(text: string): number | undefined {
  if (/^[+-]?[0-9]+$/.test(text)) {
    const number = Number(text);
    // Adding 0 makes 0 of -0.
    return number >= 0 && number <= RTMAX ? number + 0 : undefined;
  }
  // No name is longer than SIGRTMIN+30; do not copy what cannot be one.
  if (text.length > 16) return undefined;
  const upper = text.toUpperCase();
  const name = upper.startsWith("SIG") ? upper.slice(3) : upper;
  if (Object.hasOwn(NUMBERS, name)) return NUMBERS[name as keyof typeof NUMBERS];
  const realtime = /^RT(?:MIN(?:\+([0-9]{1,2}))?|MAX(?:-([0-9]{1,2}))?)$/.exec(name);
  if (!realtime) return undefined;
  const number = name.startsWith("RTMIN")
    ? RTMIN + Number(realtime[1] ?? 0)
    : RTMAX - Number(realtime[2] ?? 0);
  return number >= RTMIN && number <= RTMAX ? number : undefined;
}

/** "SIGTERM" for 15, "SIGRTMIN+3" for 37; "signal N" for a number without a name. */
export function signalName(signo: number): string {
  for (const [name, number] of Object.entries(NUMBERS)) if (number === signo) return `SIG${name}`;
  if (signo === RTMIN) return "SIGRTMIN";
  if (signo > RTMIN && signo <= RTMAX) return `SIGRTMIN+${signo - RTMIN}`;
  return `signal ${signo}`;
}
