/**
 * Flags that stand before the command or that several commands have; table.ts has those of one command. Names, aliases,
 * kinds and defaults are runc 1.5.1's.
 */
import type { FlagSpecs } from "./types.ts";

/** Options before the command. The default of `root` depends on the caller (options.ts), so it is not here. */
export const GLOBAL_FLAGS = {
  debug: { kind: "bool", usage: "log debug messages" },
  log: {
    kind: "string",
    usage: "append messages to this file instead of stderr: path, file:path, journald:id or syslog:id",
  },
  "log-format": { kind: "string", default: "text", usage: "form of messages: 'text' or 'json'" },
  root: { kind: "string", usage: "directory of container state, best on a tmpfs" },
  "systemd-cgroup": {
    kind: "bool",
    usage: 'let systemd make the cgroups; cgroupsPath then has the form "slice:prefix:name"',
  },
  "cgroup-manager": {
    kind: "string",
    usage: "who makes the cgroups: 'cgroupfs', 'systemd' or 'disabled' (as crun has it)",
  },
  "log-level": {
    kind: "string",
    usage: "least level of messages that are logged: 'debug', 'warning' (default) or 'error'",
  },
  rootless: {
    kind: "string",
    default: "auto",
    usage: "ignore missing permissions on cgroups: 'true', 'false' or 'auto'",
  },
  help: { kind: "bool", alias: "h", usage: "show help" },
  version: {
    kind: "bool",
    alias: "v",
    usage: "show the versions of the program and of what it is built from",
  },
} as const satisfies FlagSpecs;

/** The flag every command has besides its own. */
export const HELP_FLAG = {
  help: { kind: "bool", alias: "h", usage: "show help" },
} as const satisfies FlagSpecs;

/** crun's. */
export const REGEX = {
  kind: "bool",
  alias: "r",
  usage: "the id is a regular expression: every container that it matches",
} as const;

/** The directory of the bundle. */
export const BUNDLE = {
  kind: "string",
  alias: "b",
  usage: "directory of the bundle (default: the current directory)",
} as const;

/** Where the time of a launch went. */
export const TRACE = {
  kind: "string",
  usage: "write where the time went: Chrome trace JSON, a picture (.svg), or a table on stderr (-)",
} as const;

/** What `create` and `run` have in common. */
export const LAUNCH_FLAGS = {
  bundle: BUNDLE,
  config: {
    kind: "string",
    alias: "f",
    usage: "file to read instead of the bundle's config.json, relative to the current directory",
  },
  "console-socket": {
    kind: "string",
    usage: "AF_UNIX socket that receives the master end of the container's terminal",
  },
  "pidfd-socket": { kind: "string", usage: "AF_UNIX socket that receives a pidfd of the container's init" },
  "pid-file": { kind: "string", usage: "file to write the pid of the container's init to" },
  "no-pivot": {
    kind: "bool",
    usage:
      "enter the root with MS_MOVE and chroot instead of pivot_root, for a host that runs from a ramdisk",
  },
  "no-new-keyring": {
    kind: "bool",
    usage: "let the container keep the caller's session keyring instead of making one",
  },
  "preserve-fds": {
    kind: "int",
    default: 0,
    usage: "pass this many more descriptors to the program, after stdio and $LISTEN_FDS",
  },
  trace: TRACE,
} as const satisfies FlagSpecs;

/** What `checkpoint` and `restore` have in common. */
export const CRIU_FLAGS = {
  "image-path": { kind: "string", usage: "directory of criu's images (default: checkpoint)" },
  "work-path": {
    kind: "string",
    usage: "directory of criu's log and temporary files (default: that of the images)",
  },
  "tcp-established": { kind: "bool", usage: "allow open TCP connections" },
  "ext-unix-sk": { kind: "bool", usage: "allow Unix sockets whose other end is outside" },
  "shell-job": { kind: "bool", usage: "allow a terminal that is not the container's own" },
  "lazy-pages": { kind: "bool", usage: "move memory when it is first used, by userfaultfd" },
  "file-locks": { kind: "bool", usage: "allow file locks" },
  "manage-cgroups-mode": { kind: "string", usage: "what of cgroups is saved: soft, full, strict or ignore" },
  "empty-ns": { kind: "strings", usage: "make a namespace, but do not restore what it has: network" },
  "auto-dedup": { kind: "bool", usage: "drop from images of memory what later ones have again" },
} as const satisfies FlagSpecs;
