/** What tests of whole command lines share: a recorded container layer, host and output. */
import type { ContainerInfo, ContainerLayer } from "../container/types.ts";
import { soundHost } from "../doctor/hosts.ts";
import { judge, type Report } from "../doctor/report.ts";
import { BuncError } from "../errors.ts";
import type { Host } from "./host.ts";
import { leveled } from "./log.ts";
import { runCommandLine, type Surroundings } from "./main.ts";

/** What commands find, and what they did. Set and read by tests. */
export interface Rig {
  stdout: string;
  stderr: string;
  /** Calls of the container layer and of the host, in order. */
  calls: [string, ...unknown[]][];
  /** Contents of log files. */
  files: Record<string, string>;
  /** Thrown by every call of the container layer, if set. */
  failure: unknown;
  containers: ContainerInfo[];
  report: Report;
  env: Record<string, string>;
  uid: number;
  userNamespace: boolean;
  terminal: boolean;
}

export const rig: Rig = fresh();

function fresh(): Rig {
  return {
    stdout: "",
    stderr: "",
    calls: [],
    files: {},
    failure: undefined,
    containers: [],
    report: judge(soundHost()),
    env: {},
    uid: 0,
    userNamespace: false,
    terminal: false,
  };
}

/** Forgets everything; for beforeEach. */
export function reset(): void {
  Object.assign(rig, fresh());
}

function record<T>(result: T, ...call: [string, ...unknown[]]): T {
  rig.calls.push(call);
  if (rig.failure !== undefined) throw rig.failure;
  return result;
}

const layer: ContainerLayer = {
  createContainer: (options) => record({ id: options.id, pid: 42, pidfd: -1 }, "create", options),
  runContainer: (options) => record(137, "run", options),
  execContainer: (options) => record(3, "exec", options),
  startContainer: (root, id) => record(undefined, "start", root, id),
  killContainer: (root, id, signo) => record(undefined, "kill", root, id, signo),
  deleteContainer: (root, id, force) => record(undefined, "delete", root, id, force),
  pauseContainer: (root, id) => record(undefined, "pause", root, id),
  checkpointContainer: ({ log: _, ...options }) => record(undefined, "checkpoint", options),
  restoreContainer: ({ log: _, ...options }) => record(7, "restore", options),
  resumeContainer: (root, id) => record(undefined, "resume", root, id),
  containerProcesses: (root, id) => record([1, 77], "ps", root, id),
  containerStats: (root, id) => record({ version: 2 as const }, "stats", root, id),
  watchContainer: async (root, id, { milliseconds, stats, oom }) => {
    record(undefined, "watch", root, id, milliseconds);
    await oom();
    await stats({ version: 1, pids: { current: 1, limit: 0 } });
  },
  changeMounts: (root, id, change) => record(undefined, "mounts", root, id, change),
  runtimeFeatures: () => record({ ociVersionMin: "1.0.0" }, "features"),
  updateContainer: (root, id, resources, { l3CacheSchema, memBwSchema } = {}) =>
    record(undefined, "update", root, id, resources, { l3CacheSchema, memBwSchema }),
  loadState: (root, id) => record(rig.containers[0] as ContainerInfo, "state", root, id),
  listContainers: (root) =>
    record({ containers: rig.containers, errors: ["load container bad: unexpected end"] }, "list", root),
  explainBundle: (bundle, json) => record(json ? "{}\n" : "mounts\n", "explain", bundle, json),
  explainExec: (options, json) => record(json ? "{}\n" : "setns\n", "explain exec", options, json),
  examineHost: (root, here) => record(rig.report, "doctor", root, here),
};

const host: Host = {
  openLog(path) {
    if (path.startsWith("/missing")) throw new BuncError(`open ${path}: no such file or directory`);
    rig.files[path] ??= "";
    rig.calls.push(["openLog", path]);
    return Object.keys(rig.files).indexOf(path) + 10;
  },
  async daemonLog(target, level) {
    rig.files[target] ??= "";
    return leveled(level, (at, text) => {
      rig.files[target] += `${at}: ${text}\n`;
    });
  },
  writeAll(fd, text) {
    const path = Object.keys(rig.files)[fd - 10] as string;
    if (path.startsWith("/full")) throw new BuncError(`write ${path}: no space left on device`);
    rig.files[path] += text;
  },
  isTerminal: () => rig.terminal,
  variable: (name) => rig.env[name],
  effectiveUid: () => rig.uid,
  inUserNamespace: () => rig.userNamespace,
  makeDirectories(path, mode) {
    rig.calls.push(["mkdir", path, mode]);
    if (path.startsWith("/denied")) throw new BuncError(`mkdir ${path}: permission denied`);
  },
  changeMode(path, mode) {
    rig.calls.push(["chmod", path, mode]);
  },
};

/** Surroundings that record; tests may replace parts. */
export const surroundings: Surroundings = {
  output: {
    stdout: async (text) => {
      rig.stdout += text;
    },
    stderr: (line) => {
      rig.stderr += `${line}\n`;
    },
  },
  containers: layer,
  host,
};

/** Runs a command line; gives its exit code. */
export async function run(args: string[], argv0 = "/usr/bin/bunc", env: Rig["env"] = {}): Promise<number> {
  rig.env = env;
  return await runCommandLine(argv0, args, surroundings);
}

/** The message of the one text entry on stderr, still quoted. */
export function message(): string {
  return /^time="[^"]+" level=error msg=(.*)\n$/.exec(rig.stderr)?.[1] ?? `not one entry: ${rig.stderr}`;
}

/** The options the first call of create or run was given. */
export function launched<T>(): T {
  return rig.calls.find(([name]) => name === "create" || name === "run")?.[1] as T;
}
