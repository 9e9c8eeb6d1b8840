/** Checks of the `process` object that need only the document (runtime-spec config.md "process"). */
import type { LinuxCapabilities, POSIXRlimit, Process, Scheduler } from "../oci/config.ts";
import { shown } from "../oci/path.ts";
import { type Findings, problem, sound, warning } from "./findings.ts";
import { countNumbers } from "./number-list.ts";

/** The resources of getrlimit(2). */
const RLIMITS = [
  "RLIMIT_CPU",
  "RLIMIT_FSIZE",
  "RLIMIT_DATA",
  "RLIMIT_STACK",
  "RLIMIT_CORE",
  "RLIMIT_RSS",
  "RLIMIT_NPROC",
  "RLIMIT_NOFILE",
  "RLIMIT_MEMLOCK",
  "RLIMIT_AS",
  "RLIMIT_LOCKS",
  "RLIMIT_SIGPENDING",
  "RLIMIT_MSGQUEUE",
  "RLIMIT_NICE",
  "RLIMIT_RTPRIO",
  "RLIMIT_RTTIME",
];

/** The capabilities of capabilities(7), without their prefix, each between blanks. */
const CAPABILITIES =
  " CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE " +
  "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT " +
  "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP " +
  "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE ";

const CAPABILITY_SETS = ["bounding", "effective", "inheritable", "permitted", "ambient"] as const;

/** An id that means "leave as it is" to the kernel, so that no user or group can have it. */
const NO_ID = 4294967295;

/**
 * Checks a process. The words of the first messages are runc's, which callers match.
 * @param at what the paths begin with: "process." in a config.json, "" in a file of its own
 */
export function checkProcess(process: Process, out: Findings, at: string): void {
  if (sound(out, `${at}cwd`)) {
    if (process.cwd === "") problem(out, `${at}cwd`, "Cwd property must not be empty");
    else if (process.cwd[0] !== "/") problem(out, `${at}cwd`, "Cwd must be an absolute path");
  }
  if (sound(out, `${at}args`) && !process.args?.length) problem(out, `${at}args`, "args must not be empty");
  if (process.env && sound(out, `${at}env`)) checkEnvironment(process.env, out, `${at}env`);
  if (sound(out, `${at}user`)) checkUser(process, out, `${at}user`);
  if (process.capabilities && sound(out, `${at}capabilities`)) {
    checkCapabilities(process.capabilities, out, `${at}capabilities`);
  }
  if (process.rlimits && sound(out, `${at}rlimits`)) checkRlimits(process.rlimits, out, `${at}rlimits`);
  if (process.scheduler && sound(out, `${at}scheduler`)) {
    checkScheduler(process.scheduler, out, `${at}scheduler`);
  }
  if (process.execCPUAffinity && sound(out, `${at}execCPUAffinity`)) {
    for (const name of ["initial", "final"] as const) {
      const cpus = process.execCPUAffinity[name];
      if (cpus && !countNumbers(cpus)) {
        problem(out, `${at}execCPUAffinity.${name}`, `${shown(cpus)} is not a list of CPUs like "0-3,7"`);
      }
    }
  }
}

/** Checks NAME=VALUE strings, as runc's init does; hooks have such lists too. */
export function checkEnvironment(env: readonly string[], out: Findings, path: string): void {
  for (let i = 0; i < env.length; i++) {
    const equals = env[i]!.indexOf("=");
    if (equals > 0) continue;
    const what = equals < 0 ? "missing '='" : "name cannot be empty";
    problem(out, `${path}[${i}]`, `invalid environment variable: ${what}`);
  }
}

function checkUser({ user }: Process, out: Findings, path: string): void {
  if (user.uid === NO_ID) problem(out, `${path}.uid`, "4294967295 is no user id");
  if (user.gid === NO_ID) problem(out, `${path}.gid`, "4294967295 is no group id");
  const at = user.additionalGids?.indexOf(NO_ID) ?? -1;
  if (at >= 0) problem(out, `${path}.additionalGids[${at}]`, "4294967295 is no group id");
}

function checkCapabilities(sets: LinuxCapabilities, out: Findings, path: string): void {
  for (let set = 0; set < CAPABILITY_SETS.length; set++) {
    const names = sets[CAPABILITY_SETS[set]!];
    if (!names) continue;
    for (let i = 0; i < names.length; i++) {
      if (isCapability(names[i]!)) continue;
      const at = `${path}.${CAPABILITY_SETS[set]}[${i}]`;
      warning(out, at, `ignoring unknown or unavailable capability ${shown(names[i])}`);
    }
  }
  const { ambient = [], inheritable = [], permitted = [] } = sets;
  let refused = "";
  for (let i = 0; i < ambient.length; i++) {
    const name = ambient[i]!;
    if (!isCapability(name) || (inheritable.includes(name) && permitted.includes(name))) continue;
    refused += refused === "" ? name : `, ${name}`;
  }
  if (refused === "") return;
  // runc warns as well and goes on without; the first words are its own. Buildah's processes have them all.
  const message = `can't raise ambient capability ${refused}: it must be permitted and inheritable too`;
  warning(out, `${path}.ambient`, message);
}

function isCapability(name: string): boolean {
  return name.startsWith("CAP_") && name.indexOf(" ") < 0 && CAPABILITIES.indexOf(` ${name.slice(4)} `) >= 0;
}

function checkRlimits(rlimits: readonly POSIXRlimit[], out: Findings, path: string): void {
  for (let i = 0; i < rlimits.length; i++) {
    const { type, soft, hard } = rlimits[i]!;
    if (RLIMITS.indexOf(type) < 0) {
      problem(out, `${path}[${i}].type`, `wrong rlimit value: ${shown(type)}; one of ${RLIMITS.join(", ")}`);
    } else if (isSecond(rlimits, i)) {
      problem(out, `${path}[${i}].type`, `${shown(type)} is limited twice`);
    }
    if (soft > hard) {
      problem(out, `${path}[${i}].soft`, `the soft limit ${soft} is above the hard limit ${hard}`);
    }
  }
}

function isSecond(rlimits: readonly POSIXRlimit[], at: number): boolean {
  for (let before = 0; before < at; before++) {
    if (rlimits[before]!.type === rlimits[at]!.type) return true;
  }
  return false;
}

/** The rules of sched_setattr(2). */
function checkScheduler(scheduler: Scheduler, out: Findings, path: string): void {
  const { policy, nice = 0, priority = 0, runtime = 0, deadline = 0, period = 0 } = scheduler;
  if (policy === "SCHED_OTHER" || policy === "SCHED_BATCH") {
    if (nice < -20 || nice > 19) problem(out, `${path}.nice`, `must be from -20 to 19, not ${nice}`);
  }
  if (policy === "SCHED_FIFO" || policy === "SCHED_RR") {
    if (priority < 1 || priority > 99) {
      problem(out, `${path}.priority`, `must be from 1 to 99 for ${policy}, not ${priority}`);
    }
  } else if (priority !== 0) {
    problem(out, `${path}.priority`, `can only be specified for SCHED_FIFO or SCHED_RR, not ${policy}`);
  }
  if (policy === "SCHED_DEADLINE") {
    // sched_setattr(2): 1024 <= runtime <= deadline <= period, and a period of 0 stands for the deadline.
    if (runtime < 1024)
      problem(out, `${path}.runtime`, `must be at least 1024 (nanoseconds), not ${runtime}`);
    if (deadline < runtime)
      problem(out, `${path}.deadline`, `must not be shorter than the runtime ${runtime}`);
    if (Number(period) !== 0 && period < deadline) {
      problem(out, `${path}.period`, `must not be shorter than the deadline ${deadline}`);
    }
  } else {
    for (const name of ["runtime", "deadline", "period"] as const) {
      if (Number(scheduler[name] ?? 0) === 0) continue;
      problem(out, `${path}.${name}`, `can only be specified for SCHED_DEADLINE, not ${policy}`);
    }
  }
  if (policy === "SCHED_ISO") warning(out, `${path}.policy`, "SCHED_ISO is not implemented by Linux");
}
