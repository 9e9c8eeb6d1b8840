/**
 * The one table of commands and their flags. The parser, help, the types of each command's flags, the man pages and
 * shell completion are all made from it. A new command is one entry here and one file that exports `command`.
 *
 * Names, aliases, kinds and defaults are runc 1.5.1's; `doctor`, `explain` and `validate` are bunc's own.
 */
import { BUNDLE, CRIU_FLAGS, LAUNCH_FLAGS, REGEX, TRACE } from "./flags.ts";
import type { CommandModule, CommandSpec } from "./types.ts";

const CONTAINER_ID = "<container-id>";

const ABOUT_LAUNCH = `The bundle is a directory with a file config.json, which describes the container, and
usually the directory of its root filesystem. The program to run is process.args of
config.json. "spec" writes a config.json to begin with, "validate" checks one, and
"explain" shows every call it leads to.

The id names the container until it is deleted; it is unique below --root and consists
of letters, digits and the characters _ + . -`;

/**
 * All commands, in the order help lists them. The entries are functions so that a start evaluates only the one it
 * needs: building all of them takes longer than parsing the command line.
 */
export const TABLE = {
  checkpoint: () => ({
    usage: "save a running container to files",
    args: CONTAINER_ID,
    count: [1, 1],
    about: `This needs criu, 3.0 or newer, in $PATH. The container ends, and is deleted, unless it is to
go on (--leave-running, --pre-dump). "restore" makes it again from the files.`,
    flags: {
      ...CRIU_FLAGS,
      "parent-path": {
        kind: "string",
        usage: "directory of an earlier dump, relative to --image-path: save what has changed since",
      },
      "leave-running": { kind: "bool", usage: "let the container go on" },
      "tcp-skip-in-flight": { kind: "bool", usage: "leave out TCP connections that are being made" },
      "link-remap": { kind: "bool", usage: "allow files that were deleted and are still linked elsewhere" },
      "status-fd": {
        kind: "int",
        default: -1,
        usage: "write a NUL byte to this descriptor when --lazy-pages is ready",
      },
      "page-server": { kind: "string", usage: "ADDRESS:PORT of the page server" },
      "pre-dump": { kind: "bool", usage: "save memory alone, and let the container go on" },
    },
    load: (): Promise<CommandModule> => import("./checkpoint.ts"),
  }),
  create: () => ({
    usage: "create a container, ready to be started",
    args: CONTAINER_ID,
    count: [1, 1],
    about: ABOUT_LAUNCH,
    flags: LAUNCH_FLAGS,
    load: (): Promise<CommandModule> => import("./create.ts"),
  }),
  delete: () => ({
    usage: "delete a stopped container and everything held for it",
    args: CONTAINER_ID,
    count: [1, 1],
    flags: {
      force: { kind: "bool", alias: "f", usage: "kill the container first if it still runs (SIGKILL)" },
      regex: REGEX,
    },
    load: (): Promise<CommandModule> => import("./delete.ts"),
  }),
  doctor: () => ({
    usage: "show what this host offers and lacks for containers, and how to fix it",
    args: "",
    count: [0, 0],
    about: `Everything is tried, as the calling user, in namespaces that are gone afterwards; nothing
of the host is changed. Exits with 1 when something is missing without which no container
of this user can run.`,
    flags: { json: { kind: "bool", usage: "write JSON: the findings, and the facts behind them" } },
    load: (): Promise<CommandModule> => import("./doctor.ts"),
  }),
  events: () => ({
    usage: "show what a container uses, again and again, and when it runs out of memory",
    args: CONTAINER_ID,
    count: [1, 1],
    about: `Each line is JSON: {"type":"stats","id":...,"data":{...}} or {"type":"oom","id":...}. It ends
when the container has.`,
    flags: {
      interval: { kind: "duration", default: "5s", usage: "time from one line of statistics to the next" },
      stats: { kind: "bool", usage: "show the statistics once" },
    },
    load: (): Promise<CommandModule> => import("./events.ts"),
  }),
  exec: () => ({
    usage: "run another process in a container",
    args: `${CONTAINER_ID} <command> [arguments]`,
    count: [1, Number.POSITIVE_INFINITY],
    about: `The process is that of the container's config.json with the given command and the options
below, or, with --process, that of a file. What fails before the command runs ends with 255.`,
    flags: {
      "console-socket": LAUNCH_FLAGS["console-socket"],
      "pidfd-socket": { kind: "string", usage: "AF_UNIX socket that receives a pidfd of the process" },
      cwd: { kind: "string", usage: "working directory in the container" },
      env: { kind: "strings", alias: "e", usage: "set a variable of the environment" },
      tty: { kind: "bool", alias: "t", usage: "give the process a terminal" },
      user: { kind: "string", alias: "u", usage: "user: uid, or uid:gid" },
      "additional-gids": { kind: "strings", alias: "g", usage: "add a supplementary group" },
      process: { kind: "string", alias: "p", usage: "file with the process object, as in config.json" },
      detach: { kind: "bool", alias: "d", usage: "do not wait; leave the process running" },
      "pid-file": { kind: "string", usage: "file to write the pid of the process to" },
      "process-label": { kind: "string", usage: "SELinux label of the process" },
      apparmor: { kind: "string", usage: "AppArmor profile of the process" },
      "no-new-privs": { kind: "bool", usage: "the process can gain no privileges" },
      cap: { kind: "strings", alias: "c", usage: "add a capability" },
      "preserve-fds": LAUNCH_FLAGS["preserve-fds"],
      cgroup: {
        kind: "strings",
        usage: "run in an existing cgroup below the container's: [controller,...:]path",
      },
      "ignore-paused": { kind: "bool", usage: "allow it in a paused container" },
      trace: TRACE,
    },
    flagsFirst: true,
    load: (): Promise<CommandModule> => import("./exec.ts"),
  }),
  explain: () => ({
    usage: "show what running a bundle or an exec would do, call by call, without doing it",
    args: `[exec [options] ${CONTAINER_ID} <command> [arguments]]`,
    count: [0, Number.POSITIVE_INFINITY],
    about: `Every system call is shown with its arguments and the place in config.json it comes
from, grouped by phase. Needs no privileges and changes nothing.

With "exec", and all its options, it shows what the same exec would do, and for each
call the option or the file of --process that it comes from.`,
    flagsFirst: true,
    flags: {
      bundle: BUNDLE,
      json: { kind: "bool", usage: "write JSON" },
    },
    load: (): Promise<CommandModule> => import("./explain.ts"),
  }),
  features: () => ({
    usage: "show what this runtime can do, as JSON",
    args: "",
    count: [0, 0],
    about: "The document is that of the OCI runtime-spec (features.md).",
    flags: {},
    load: (): Promise<CommandModule> => import("./features.ts"),
  }),
  kill: () => ({
    usage: "send a signal to a container's init",
    args: `${CONTAINER_ID} [signal]`,
    count: [1, 2],
    about: `The signal is a number, or a name with or without "SIG", in any case. Without one
SIGTERM is sent.`,
    flags: {
      // runc 1.2 made it a no-op that forgives a stopped container; callers still pass it.
      all: { kind: "bool", alias: "a", usage: "obsolete, has no effect", hidden: true },
      regex: REGEX,
    },
    load: (): Promise<CommandModule> => import("./kill.ts"),
  }),
  list: () => ({
    usage: "list the containers below --root",
    args: "",
    count: [0, 0],
    flags: {
      format: { kind: "string", alias: "f", default: "table", usage: "'table' or 'json'" },
      quiet: { kind: "bool", alias: "q", usage: "show ids only" },
    },
    load: (): Promise<CommandModule> => import("./list.ts"),
  }),
  mounts: () => ({
    usage: "mount more in a running container, or unmount",
    args: `add|remove ${CONTAINER_ID} <file>`,
    count: [3, 3],
    about: `The file is JSON: a list of mounts as in config.json. Of mounts to be removed only the
destination counts. Neither config.json nor what other commands tell of the container
changes. An extension of crun's.`,
    flags: {},
    load: (): Promise<CommandModule> => import("./mounts.ts"),
  }),
  pause: () => ({
    usage: "make all processes of a container stand still",
    args: CONTAINER_ID,
    count: [1, 1],
    flags: {},
    load: (): Promise<CommandModule> => import("./pause.ts"),
  }),
  ps: () => ({
    usage: "show the processes of a container",
    args: `${CONTAINER_ID} [ps options]`,
    count: [1, Number.POSITIVE_INFINITY],
    about: `The options after the id are those of the host's ps(1), "-ef" without any; its output
must have the column PID.`,
    flags: {
      format: {
        kind: "string",
        alias: "f",
        default: "table",
        usage: "'table', or 'json' for the pids alone",
      },
    },
    flagsFirst: true,
    load: (): Promise<CommandModule> => import("./ps.ts"),
  }),
  restore: () => ({
    usage: "make a container again from the files of checkpoint",
    args: CONTAINER_ID,
    count: [1, 1],
    about: `This needs criu, 3.0 or newer, in $PATH, and the bundle that the container was made from.
Without --detach it stays until the container ends, as "run" does.`,
    flags: {
      ...CRIU_FLAGS,
      bundle: BUNDLE,
      "console-socket": LAUNCH_FLAGS["console-socket"],
      "pid-file": LAUNCH_FLAGS["pid-file"],
      "no-pivot": LAUNCH_FLAGS["no-pivot"],
      detach: { kind: "bool", alias: "d", usage: "do not wait; leave the container running" },
      "no-subreaper": { kind: "bool", usage: "do not adopt and reap the container's orphans" },
      "lsm-profile": { kind: "string", usage: "profile of the security module, as TYPE:NAME" },
      "lsm-mount-context": { kind: "string", usage: "SELinux context of the mounts" },
      trace: TRACE,
    },
    load: (): Promise<CommandModule> => import("./restore.ts"),
  }),
  resume: () => ({
    usage: "let a paused container go on",
    args: CONTAINER_ID,
    count: [1, 1],
    flags: {},
    load: (): Promise<CommandModule> => import("./resume.ts"),
  }),
  run: () => ({
    usage: "create and start a container, and wait until it ends",
    args: CONTAINER_ID,
    count: [1, 1],
    about: ABOUT_LAUNCH,
    flags: {
      ...LAUNCH_FLAGS,
      detach: { kind: "bool", alias: "d", usage: "do not wait; leave the container running" },
      keep: { kind: "bool", usage: "do not delete the container when it ends" },
      "no-subreaper": { kind: "bool", usage: "do not adopt and reap the container's orphans" },
    },
    load: (): Promise<CommandModule> => import("./run.ts"),
  }),
  spec: () => ({
    usage: "write a config.json to begin with",
    args: "",
    count: [0, 0],
    about: `The file describes a container that runs "sh" in the directory rootfs. Edit at least
process.args. A file that is already there is not overwritten.`,
    flags: {
      bundle: { kind: "string", alias: "b", usage: "directory to write to (default: the current directory)" },
      rootless: { kind: "bool", usage: "for a container that is made without root's privileges" },
    },
    load: (): Promise<CommandModule> => import("./spec.ts"),
  }),
  start: () => ({
    usage: "run the program of a created container",
    args: CONTAINER_ID,
    count: [1, 1],
    flags: { trace: TRACE },
    load: (): Promise<CommandModule> => import("./start.ts"),
  }),
  state: () => ({
    usage: "show the state of a container as JSON",
    args: CONTAINER_ID,
    count: [1, 1],
    flags: {},
    load: (): Promise<CommandModule> => import("./state.ts"),
  }),
  update: () => ({
    usage: "change the limits of a container",
    args: CONTAINER_ID,
    count: [1, 1],
    about: `The file of --resources is JSON like linux.resources of config.json; what it does not name
stays, and with it all other flags are ignored. Devices are never changed. Sizes of memory
may end in k, m, g, t or p; -1 lifts a limit.`,
    flags: {
      resources: { kind: "string", alias: "r", usage: "file of the resources, or '-' for standard input" },
      "blkio-weight": { kind: "int", usage: "weight of block I/O, from 10 to 1000" },
      "cpu-period": { kind: "string", usage: "length of a CPU period in microseconds" },
      "cpu-quota": { kind: "string", usage: "CPU time in a period, in microseconds" },
      "cpu-burst": { kind: "string", usage: "CPU time that may be saved up for a burst, in microseconds" },
      "cpu-share": { kind: "string", usage: "weight of CPU time relative to other containers" },
      "cpu-rt-period": { kind: "string", usage: "length of a realtime period in microseconds" },
      "cpu-rt-runtime": { kind: "string", usage: "realtime in a period, in microseconds" },
      "cpuset-cpus": { kind: "string", usage: "CPUs to run on, such as 0-3,7" },
      "cpuset-mems": { kind: "string", usage: "memory nodes to use" },
      "cpu-idle": { kind: "string", usage: "1: run only when nothing else wants the CPU; 0: as usual" },
      memory: { kind: "string", usage: "limit of memory in bytes" },
      "memory-reservation": { kind: "string", usage: "memory to keep when it gets scarce, in bytes" },
      "memory-swap": { kind: "string", usage: "limit of memory and swap together, in bytes" },
      "pids-limit": { kind: "string", usage: "greatest number of processes; -1 for any number" },
      "l3-cache-schema": { kind: "string", usage: "Intel RDT: schema of the L3 cache" },
      "mem-bw-schema": { kind: "string", usage: "Intel RDT: schema of memory bandwidth" },
      "kernel-memory": { kind: "string", hidden: true, usage: "obsolete, has no effect" },
      "kernel-memory-tcp": { kind: "string", hidden: true, usage: "obsolete, has no effect" },
    },
    load: (): Promise<CommandModule> => import("./update.ts"),
  }),
  validate: () => ({
    usage: "check the config.json of a bundle",
    args: "",
    count: [0, 0],
    about: "Exits with 0 when there is nothing to report, else with 1 and one line per problem.",
    flags: { bundle: BUNDLE },
    load: (): Promise<CommandModule> => import("./validate.ts"),
  }),
  help: () => ({
    usage: "show help for a command, or the list of commands",
    args: "[command]",
    count: [0, Number.POSITIVE_INFINITY],
    alias: "h",
    flags: {},
    load: (): Promise<CommandModule> => import("./help.ts"),
  }),
} as const satisfies Record<string, () => CommandSpec>;

/** The entries by name, from which the types of each command's flags are derived. */
export type Table = { [N in keyof typeof TABLE]: ReturnType<(typeof TABLE)[N]> };

/** The names of the commands, in the order help lists them. */
export const commandNames = (): (keyof Table)[] => Object.keys(TABLE) as (keyof Table)[];

/** The entry for a name or alias, or undefined. */
export function findCommand(name: string): [name: keyof Table, spec: CommandSpec] | undefined {
  // for-in instead of Object.hasOwn, whose first call takes 30 us; no name is inherited, so `constructor` is none.
  for (const key in TABLE) if (key === name) return entry(key as keyof Table);
  for (const key in TABLE) {
    const found = entry(key as keyof Table);
    if (found[1].alias === name) return found;
  }
  return undefined;
}

function entry(name: keyof Table): [name: keyof Table, spec: CommandSpec] {
  return [name, TABLE[name]()];
}
