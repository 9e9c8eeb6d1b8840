/**
 * The content of `<root>/<id>/state.json`: the fields of libcontainer's State (runc 1.1 to 1.5), so that runc reads
 * bunc's containers and bunc reads runc's, and bunc's own under the key "bunc". Here it is read; state-text.ts writes it.
 *
 * bunc writes "bunc" first and "config" last. "config" can be 50 kB (a seccomp profile), and the commands need of it
 * only what "bunc" repeats, so what they read and parse is the beginning of the file. Annotations that would make that long
 * stand behind the config, and are read by the few who want them.
 */
import { BuncError } from "../errors.ts";
import { parseJson, parseJsonRounded } from "../oci/json.ts";
import type { LibcontainerConfig, LibcontainerHook } from "./libcontainer.ts";

/** The version of the runtime-spec that `ociVersion` tells. */
export const OCI_VERSION = "1.3.0";

/** The version of what stands under "bunc"; a greater number is a file of a newer bunc. */
export const OWN_VERSION = 1;

/** An operation of init after `start`, as far as it is needed to explain that it failed (launch/failure.ts). */
export interface StartOp {
  /** Its index in the whole launch program. */
  index: number;
  /** System call number or BUNC_OP_*. */
  call: number;
  phase: string;
  /** Place in config.json. */
  path: string;
  about?: string;
  hint?: string;
  /** The hook that it runs, if it is one. */
  hook?: { path: string; timeout?: number };
}

/** What bunc itself needs to know of a container, and libcontainer has no field for. */
export interface OwnState {
  version: number;
  ociVersion: string;
  /** Absolute path of the bundle. */
  bundle: string;
  rootfs: string;
  annotations?: Record<string, string>;
  /** They are not here in the file, but under the last key of all. */
  annotationsLast?: true;
  /** The container has no pid namespace of its own: its processes survive its init. */
  sharedPid?: boolean;
  /** Cgroups are made and removed as far as permissions go (config.rootless_cgroups). */
  rootlessCgroups?: boolean;
  systemdCgroup?: boolean;
  noNewKeyring?: boolean;
  /** Hooks that later commands run. */
  hooks?: { poststart?: LibcontainerHook[]; poststop?: LibcontainerHook[] };
  /** The file that was read instead of the bundle's config.json. */
  configFile?: string;
  /** Of the config.json that was valid at create (Bundle.digest). */
  configDigest?: string;
  startOps?: StartOp[];
  /** $NOTIFY_SOCKET of `create`: the socket on the host that gets what the container says. */
  notifySocket?: string;
  /** Directories of resctrl that were made for this container alone. */
  rdtGroups?: readonly string[];
  /** Mount points that were made in the state directory, relative to it; `delete` unmounts them. */
  mounts?: string[];
  /** The criu that restores it: alone in its cgroups, with what it has restored. */
  criu?: { pid: number; start: number };
}

/** state.json. All other fields are libcontainer's (container_linux.go State, container.go BaseState). */
export interface State {
  bunc?: OwnState;
  id: string;
  /** In the pid namespace of whoever created it; -1 until there is one. */
  init_process_pid: number;
  /** Field 22 of proc_pid_stat(5): clock ticks since boot. */
  init_process_start: number;
  /** RFC 3339 with nanoseconds, UTC. */
  created: string;
  rootless?: boolean;
  /** Directories by controller of cgroup v1; the key "" is the unified hierarchy. */
  cgroup_paths?: Readonly<Record<string, string>> | null;
  /** "NEWPID": "/proc/12/ns/pid", ... */
  namespace_paths?: Record<string, string> | null;
  /** What stdin, stdout and stderr were at create, e.g. "pipe:[123]"; needed to checkpoint. */
  external_descriptors?: string[] | null;
  intel_rdt_path?: string;
  intel_rdt_mon_path?: string;
  config: LibcontainerConfig;
}

/** The same as it stands in the file. */
interface FileState extends State {
  /** The annotations of `bunc`, when they are many. */
  annotations?: Record<string, string>;
}

/** What the commands need of a container; read from bunc's files and from runc's. */
export interface Summary {
  id: string;
  /** 0 or less: init was never started. */
  pid: number;
  start: number;
  created: string;
  ociVersion: string;
  bundle: string;
  rootfs: string;
  /** Those that are last in the file are read when they are asked for, unless a hook will be given them. */
  annotations: Record<string, string> | undefined;
  cgroupPaths: Record<string, string>;
  sharedPid: boolean;
  rootlessCgroups: boolean;
  systemdCgroup: boolean;
  noNewKeyring: boolean;
  poststart: LibcontainerHook[];
  poststop: LibcontainerHook[];
  /** Directories of resctrl that were made for this container alone. */
  rdtGroups: readonly string[];
  /** Its group of resctrl and its monitoring group in that, which an exec joins. */
  rdt: { path: string; monitoring: string | undefined } | undefined;
  /** Absent in a file that runc has written. */
  own: OwnState | undefined;
}

const HEAD_START = '{"bunc":{';
// In a string of JSON the quotes would be escaped, so outside of config this can only be the key itself.
export const CONFIG_KEY = ',"config":{';

/**
 * Whether `text`, the beginning of a state.json, has all that `parseSummary` needs. A file of runc has its config in
 * the middle and must be read as a whole.
 */
export function isWholeHead(text: string): boolean {
  return text.startsWith(HEAD_START) && text.includes(CONFIG_KEY);
}

/**
 * Reads a state.json as far as the commands need it.
 * @param text the file, or a beginning of it for which `isWholeHead` is true
 * @param file its path, for messages
 * @param whole reads all of it
 * @throws BuncError (code "state") that names the file and what to do
 */
export function parseSummary(text: string, file: string, whole: () => string = () => text): Summary {
  if (text.startsWith(HEAD_START)) {
    const end = text.indexOf(CONFIG_KEY);
    if (end > 0) {
      const head = parse(`${text.slice(0, end)}}`, file, parseJsonRounded);
      const own = head.bunc;
      if (typeof own?.version === "number" && own.version <= OWN_VERSION) {
        const summary = summaryOfOwn(head, own, file);
        if (own.annotationsLast) readAnnotationsLast(summary, file, whole);
        return summary;
      }
    }
  }
  const state = checkConfig(parse(text, file, parseJsonRounded), file);
  const own = state.bunc;
  if (own) {
    if (own.version > OWN_VERSION) {
      throw broken(
        file,
        `was written by a newer bunc (format ${own.version})`,
        "use that bunc for this container",
      );
    }
    return summaryOfOwn(state, own, file);
  }
  return summaryOfConfig(state, file);
}

/**
 * Reads a whole state.json exactly, so that it can be changed and written again (`stateText`).
 * @throws BuncError (code "state") that names the file and what to do
 */
export function parseState(text: string, file: string): State {
  return checkConfig(parse(text, file, parseJson), file);
}

function checkConfig(state: Head, file: string): State {
  if (typeof state.config !== "object" || state.config === null) {
    throw broken(file, "has no config", REMOVE);
  }
  const whole = state as FileState;
  const { bunc, annotations } = whole;
  if (!bunc?.annotationsLast) return whole;
  const { annotationsLast, ...own } = bunc;
  delete whole.annotations;
  return { ...whole, bunc: annotations ? { ...own, annotations } : own };
}

/** Has the annotations read from the end of the file, when somebody wants them or before the file is removed. */
function readAnnotationsLast(summary: Summary, file: string, whole: () => string): void {
  let known: Summary["annotations"];
  const get = () => {
    known ??= checkConfig(parse(whole(), file, parseJsonRounded), file).bunc?.annotations;
    return known;
  };
  if (summary.poststart.length > 0 || summary.poststop.length > 0) summary.annotations = get();
  else Object.defineProperty(summary, "annotations", { get, enumerable: true });
}

const REMOVE = "the container can only be removed: delete --force";

type Head = Omit<State, "config"> & { config?: unknown };

/** `json` is parseJson, or the quicker parseJsonRounded where no integer beyond 2^53 matters. */
function parse(text: string, file: string, json: (text: string) => unknown): Head {
  if (text.trim() === "") throw broken(file, "is empty", REMOVE);
  let state: Head;
  try {
    state = json(text) as Head;
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    throw broken(file, `cannot be read: ${error.message}`, REMOVE);
  }
  if (typeof state !== "object" || state === null) throw broken(file, "is not an object", REMOVE);
  if (typeof state.id !== "string") throw broken(file, "has no id", REMOVE);
  if (!Number.isSafeInteger(state.init_process_pid)) throw broken(file, "has no init_process_pid", REMOVE);
  if (!Number.isSafeInteger(state.init_process_start))
    throw broken(file, "has no init_process_start", REMOVE);
  if (typeof state.created !== "string") throw broken(file, "has no created", REMOVE);
  return state;
}

function broken(file: string, what: string, hint: string): BuncError {
  return new BuncError(`${file} ${what}`, { code: "state", hint });
}

/** The fields that bunc's and runc's files have in common. */
function commonOf(head: Head, file: string) {
  return {
    id: head.id,
    pid: head.init_process_pid,
    start: head.init_process_start,
    created: head.created,
    cgroupPaths: textMap(head.cgroup_paths, "cgroup_paths", file),
    rdt: rdtOf(head),
  };
}

function rdtOf({ intel_rdt_path: path, intel_rdt_mon_path: monitoring }: Head): Summary["rdt"] {
  const usable = (value: unknown): value is string => typeof value === "string" && value.startsWith("/");
  return usable(path) ? { path, monitoring: usable(monitoring) ? monitoring : undefined } : undefined;
}

function summaryOfOwn(head: Head, own: OwnState, file: string): Summary {
  if (typeof own.ociVersion !== "string") throw broken(file, "has no bunc.ociVersion", REMOVE);
  if (typeof own.bundle !== "string") throw broken(file, "has no bunc.bundle", REMOVE);
  if (typeof own.rootfs !== "string") throw broken(file, "has no bunc.rootfs", REMOVE);
  return {
    ...commonOf(head, file),
    ociVersion: own.ociVersion,
    bundle: own.bundle,
    rootfs: own.rootfs,
    annotations: own.annotations,
    sharedPid: own.sharedPid === true,
    rootlessCgroups: own.rootlessCgroups === true,
    systemdCgroup: own.systemdCgroup === true,
    noNewKeyring: own.noNewKeyring === true,
    poststart: own.hooks?.poststart ?? [],
    poststop: own.hooks?.poststop ?? [],
    rdtGroups: own.rdtGroups ?? [],
    own,
  };
}

function summaryOfConfig(state: State, file: string): Summary {
  const { config } = state;
  const { bundle, annotations } = readLabels(config.labels);
  const hooks = config.Hooks;
  if (typeof config.rootfs !== "string") throw broken(file, "has no config.rootfs", REMOVE);
  return {
    ...commonOf(state, file),
    ociVersion: config.version ?? "",
    bundle,
    rootfs: config.rootfs,
    annotations,
    sharedPid: !config.namespaces?.some((namespace) => namespace.type === "NEWPID" && !namespace.path),
    rootlessCgroups: config.rootless_cgroups === true,
    systemdCgroup: config.cgroups?.Systemd === true,
    noNewKeyring: config.no_new_keyring === true,
    // runc up to 1.5 has run them in `create` already.
    poststart: [],
    poststop: hooks?.poststop ?? [],
    rdtGroups: groupsOf(state),
    own: undefined,
  };
}

function groupsOf(state: State): string[] {
  // A class of service that the config names belongs to others too.
  const shared = Boolean(state.config.intel_rdt?.closID);
  const groups = [state.intel_rdt_mon_path, shared ? "" : state.intel_rdt_path];
  return groups.filter((path) => typeof path === "string" && path.startsWith("/")) as string[];
}

function textMap(value: unknown, name: string, file: string): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object") throw broken(file, `has a ${name} that is no object`, REMOVE);
  for (const key in value) {
    if (typeof (value as Record<string, unknown>)[key] !== "string") {
      throw broken(file, `has a ${name} with something that is no string`, REMOVE);
    }
  }
  return value as Record<string, string>;
}

/** The bundle and the annotations in libcontainer's labels, as its utils.Annotations reads them. */
export function readLabels(labels: readonly string[] | null | undefined): {
  bundle: string;
  annotations: Record<string, string> | undefined;
} {
  let bundle = "";
  const pairs: [string, string][] = [];
  for (const label of labels ?? []) {
    const end = label.indexOf("=");
    if (end < 0) continue;
    if (end === 6 && label.startsWith("bundle")) bundle = label.slice(7);
    else pairs.push([label.slice(0, end), label.slice(end + 1)]);
  }
  return { bundle, annotations: pairs.length > 0 ? Object.fromEntries(pairs) : undefined };
}
