/** Writes state.json (state.ts): the short first one of a container that is being made, and the whole one. */
import { CONFIG_KEY, OCI_VERSION, OWN_VERSION, type State } from "./state.ts";

/** The same container with its init; nothing else of the state depends on the process. */
export function withProcess(state: State, pid: number, start: number): State {
  const dir = `/proc/${pid}/ns/`;
  return {
    ...state,
    init_process_pid: pid,
    init_process_start: start,
    namespace_paths: {
      NEWUSER: `${dir}user`,
      NEWIPC: `${dir}ipc`,
      NEWUTS: `${dir}uts`,
      NEWNET: `${dir}net`,
      NEWPID: `${dir}pid`,
      NEWNS: `${dir}mnt`,
      NEWCGROUP: `${dir}cgroup`,
      NEWTIME: `${dir}time`,
    },
  };
}

/** What is known of a container before anything of it is made. */
export interface Claim {
  id: string;
  bundle: string;
  rootfs: string;
  created: string;
  cgroupPaths: Readonly<Record<string, string>>;
  annotations?: Record<string, string> | undefined;
  /** The file that was read instead of the bundle's config.json. */
  config?: string | undefined;
  /** Its cgroup is a unit of systemd, with `rootlessCgroups` of the user's. */
  systemdCgroup?: boolean;
  rootlessCgroups?: boolean;
  /** Mount points that are made in the state directory, relative to it. */
  mounts?: string[];
  /** The criu that restores it. */
  criu?: { pid: number; start: number };
  /** Directories of resctrl that are made for it alone. */
  rdtGroups?: readonly string[];
  /** Its init and when that was started, once it is there. */
  init?: { pid: number; start: number };
}

/**
 * The first state.json, written before there are cgroups or an init, and again with the init before anything of the
 * user's runs: what `delete --force` needs should the launch be killed before it has written the whole one, which is
 * made while init already executes its last part. runc can read it, too: it crashes on a cgroup without `devices`, and of a
 * container without a pid namespace it would kill all that is in the cgroups, whoever's they are.
 */
export function claimText(claim: Claim): string {
  const { id, bundle, rootfs, created, cgroupPaths, annotations, systemdCgroup, rootlessCgroups, init } =
    claim;
  const { mounts, criu, rdtGroups, config } = claim;
  const state: State = {
    bunc: {
      version: OWN_VERSION,
      ociVersion: OCI_VERSION,
      bundle,
      rootfs,
      ...(annotations ? { annotations } : {}),
      ...(systemdCgroup ? { systemdCgroup } : {}),
      ...(rootlessCgroups ? { rootlessCgroups } : {}),
      ...(config ? { configFile: config } : {}),
      ...(mounts ? { mounts } : {}),
      ...(criu ? { criu } : {}),
      ...(rdtGroups?.length ? { rdtGroups } : {}),
    },
    id,
    init_process_pid: init ? init.pid : -1,
    init_process_start: init ? init.start : 0,
    created,
    cgroup_paths: cgroupPaths,
    namespace_paths: {},
    config: {
      rootfs,
      mounts: null,
      devices: null,
      namespaces: [{ type: "NEWPID" }],
      cgroups: systemdCgroup ? { devices: [], Systemd: true } : { devices: [] },
      version: OCI_VERSION,
      labels: [`bundle=${bundle}`],
    },
  };
  // "config" is the last key already.
  return JSON.stringify(state);
}

/** The JSON of each config that was written: commands that change a state (update) write it again. */
const written = new WeakMap<object, string>();

/** A longer head takes some time to read and parse, which most commands need not spend. */
const LONGEST_HEAD = 64 << 10;

/** The text of state.json. */
export function stateText(state: State): string {
  const { bunc, config, ...rest } = state;
  let configText = written.get(config);
  if (configText === undefined) {
    configText = stringify(config);
    written.set(config, configText);
  }
  let head = stringify(bunc ? { bunc, ...rest } : rest);
  let last = "";
  if (bunc?.annotations && head.length > LONGEST_HEAD) {
    const { annotations, ...own } = bunc;
    head = stringify({ bunc: { ...own, annotationsLast: true }, ...rest });
    last = `,"annotations":${stringify(annotations)}`;
  }
  return `${head.slice(0, -1)}${CONFIG_KEY}${configText.slice(1)}${last}}`;
}

function stringify(value: object): string {
  try {
    return JSON.stringify(value);
  } catch {
    // Integers beyond 2^53 are bigints (oci/json.ts), for which JSON.stringify needs to be told the form.
    return JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? rawJson(String(part)) : part));
  }
}

/** JSON.rawJSON (ECMAScript 2026, "JSON.parse source text access"); TypeScript's library does not have it yet. */
function rawJson(text: string): object {
  return (JSON as unknown as { rawJSON(text: string): object }).rawJSON(text);
}
