/** Makes the state.json of a new container from its validated bundle; pure. */
import { hookOfOp } from "../launch/hook-failure.ts";
import type { Op } from "../launch/program.ts";
import type { Spec } from "../oci/config.ts";
import { buildConfig, type ConfigInput } from "./build-config.ts";
import { OCI_VERSION, OWN_VERSION, type OwnState, type StartOp, type State } from "./state.ts";

/** What a state depends on besides the bundle. */
export interface StateInput extends ConfigInput {
  /** When it is created: RFC 3339 with nanoseconds, UTC (`timestamp` of status.ts). */
  created: string;
  /** Directories of its cgroups, "" for the unified hierarchy; they need not exist yet. */
  cgroupPaths: Readonly<Record<string, string>>;
  /** What its stdin, stdout and stderr are: the links in /proc/self/fd. */
  externalDescriptors?: string[];
  /** What init does after `start` (`startOps`). */
  startOps?: StartOp[];
  /** The file that was read instead of the bundle's config.json. */
  configFile?: string | undefined;
  /** Of its config.json (Bundle.digest). */
  configDigest?: string | undefined;
  /** $NOTIFY_SOCKET, when there is one. */
  notifySocket?: string;
  /** Mount points that are made in the state directory, relative to it. */
  mounts?: string[];
  /** Its group of resctrl, its monitoring group there, and which directories were made for this container alone. */
  intelRdt?: { path: string; monitoring: string | undefined; own: readonly string[] } | undefined;
}

/**
 * The state of a container whose init does not exist yet; `withProcess` adds it.
 * @param spec the validated config.json
 */
export function buildState(spec: Spec, input: StateInput): State {
  const config = buildConfig(spec, input);
  const own: OwnState = {
    version: OWN_VERSION,
    ociVersion: OCI_VERSION,
    bundle: input.bundle,
    rootfs: input.rootfs,
  };
  const { annotations } = spec;
  for (const _ in annotations) {
    own.annotations = annotations;
    break;
  }
  if (!hasPidNamespace(spec)) own.sharedPid = true;
  if (input.rootlessCgroups) own.rootlessCgroups = true;
  if (input.systemdCgroup) own.systemdCgroup = true;
  if (input.noNewKeyring) own.noNewKeyring = true;
  const { poststart, poststop } = config.Hooks ?? {};
  if (poststart || poststop) {
    own.hooks = {};
    if (poststart) own.hooks.poststart = poststart;
    if (poststop) own.hooks.poststop = poststop;
  }
  if (input.startOps?.length) own.startOps = input.startOps;
  if (input.configFile) own.configFile = input.configFile;
  if (input.configDigest) own.configDigest = input.configDigest;
  if (input.notifySocket) own.notifySocket = input.notifySocket;
  if (input.mounts?.length) own.mounts = input.mounts;
  if (input.intelRdt?.own.length) own.rdtGroups = input.intelRdt.own;
  const state: State = {
    bunc: own,
    id: input.id,
    init_process_pid: -1,
    init_process_start: 0,
    created: input.created,
    cgroup_paths: input.cgroupPaths,
    namespace_paths: {},
    config,
  };
  if (input.rootlessEuid && input.rootlessCgroups) state.rootless = true;
  if (input.externalDescriptors) state.external_descriptors = input.externalDescriptors;
  if (input.intelRdt) state.intel_rdt_path = input.intelRdt.path;
  if (input.intelRdt?.monitoring) state.intel_rdt_mon_path = input.intelRdt.monitoring;
  return state;
}

function hasPidNamespace(spec: Spec): boolean {
  const namespaces = spec.linux?.namespaces ?? [];
  for (let i = 0; i < namespaces.length; i++) {
    if (namespaces[i]!.type === "pid") return !namespaces[i]!.path;
  }
  return false;
}

/**
 * What is kept of the operations after the wait for `start`.
 * @param first index of the first of them in the whole launch program
 */
export function startOps(ops: readonly Op[], first: number): StartOp[] {
  const list: StartOp[] = [];
  for (const op of ops) {
    const { about, hint } = op.options;
    const kept: StartOp = { index: first + list.length, call: op.call, phase: op.phase, path: op.path };
    if (about) kept.about = about;
    if (hint) kept.hint = hint;
    const hook = hookOfOp(op);
    if (hook) kept.hook = { path: hook.path, ...(hook.timeout ? { timeout: hook.timeout } : {}) };
    list.push(kept);
  }
  return list;
}
