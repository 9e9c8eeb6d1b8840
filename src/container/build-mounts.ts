/**
 * The mounts of config.json as libcontainer keeps them (runc's specconv createLibcontainerMount).
 *
 * Like all that builds a state this runs once in each process, cold: plain loops and literals, no spreads and no
 * destructuring of lists, which cost ten times as much there.
 */
import { absolute } from "../bundle/load.ts";
import { parseMountOptions, propagationFlag } from "../launch/mount-options.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxIDMapping, Mount } from "../oci/config.ts";
import type { IdMap, LibcontainerMount } from "./libcontainer.ts";

/** The options that are flags of mount(2), as specconv has them: the flag, negative where the option clears it. */
const FLAGS: Readonly<Record<string, number | undefined>> = {
  __proto__: null as never,
  async: -abi.MS_SYNCHRONOUS,
  atime: -abi.MS_NOATIME,
  bind: abi.MS_BIND,
  dev: -abi.MS_NODEV,
  diratime: -abi.MS_NODIRATIME,
  dirsync: abi.MS_DIRSYNC,
  exec: -abi.MS_NOEXEC,
  iversion: abi.MS_I_VERSION,
  lazytime: abi.MS_LAZYTIME,
  loud: -abi.MS_SILENT,
  mand: abi.MS_MANDLOCK,
  noatime: abi.MS_NOATIME,
  nodev: abi.MS_NODEV,
  nodiratime: abi.MS_NODIRATIME,
  noexec: abi.MS_NOEXEC,
  noiversion: -abi.MS_I_VERSION,
  nolazytime: -abi.MS_LAZYTIME,
  nomand: -abi.MS_MANDLOCK,
  norelatime: -abi.MS_RELATIME,
  nostrictatime: -abi.MS_STRICTATIME,
  nosuid: abi.MS_NOSUID,
  nosymfollow: abi.MS_NOSYMFOLLOW,
  rbind: abi.MS_BIND | abi.MS_REC,
  relatime: abi.MS_RELATIME,
  remount: abi.MS_REMOUNT,
  ro: abi.MS_RDONLY,
  rw: -abi.MS_RDONLY,
  silent: abi.MS_SILENT,
  strictatime: abi.MS_STRICTATIME,
  suid: -abi.MS_NOSUID,
  sync: abi.MS_SYNCHRONOUS,
  symfollow: -abi.MS_NOSYMFOLLOW,
};

/** libcontainer's EXT_COPYUP. */
const COPY_UP = 1;

/**
 * One mount.
 * @param bundle what a relative source of a bind mount is relative to
 */
export function buildMount(mount: Mount, bundle: string): LibcontainerMount {
  const options = mount.options ?? [];
  let flags = 0;
  let cleared = 0;
  let data = "";
  let special = mount.uidMappings !== undefined || mount.gidMappings !== undefined;
  for (let i = 0; i < options.length; i++) {
    const option = options[i]!;
    const flag = FLAGS[option];
    if (flag === undefined) {
      if (isSpecial(option)) special = true;
      else if (option !== "defaults") data += data ? `,${option}` : option;
    } else if (flag > 0) {
      flags |= flag;
      cleared &= ~flag;
    } else {
      flags &= ~-flag;
      cleared |= -flag;
    }
  }
  const bind = (flags & abi.MS_BIND) !== 0;
  const source = mount.source ?? "";
  const built: LibcontainerMount = {
    source: bind ? absolute(bundle, source) : source,
    destination: mount.destination,
    device: bind ? "bind" : (mount.type ?? ""),
  };
  if (flags) built.flags = flags;
  if (cleared) built.cleared_flags = cleared;
  if (data) built.data = data;
  if (special) setSpecial(built, mount);
  return built;
}

/** Whether an option is neither a flag of mount(2) nor a parameter of the file system. */
function isSpecial(option: string): boolean {
  if (option === "tmpcopyup" || option === "idmap" || option === "ridmap") return true;
  if (propagationFlag(option) !== undefined) return true;
  // rro, rnosuid, ...: an attribute for the whole tree of mounts.
  return option.charCodeAt(0) === 0x72 && FLAGS[option.slice(1)] !== undefined;
}

function setSpecial(built: LibcontainerMount, mount: Mount): void {
  const parsed = parseMountOptions(mount.options, mount.type);
  if (parsed.propagation.length > 0) built.propagation_flags = parsed.propagation;
  if (parsed.recSet || parsed.recClear) {
    built.rec_attr = { Attr_set: parsed.recSet, Attr_clr: parsed.recClear, Propagation: 0, Userns_fd: 0 };
  }
  if (parsed.tmpcopyup) built.extensions = COPY_UP;
  if (!parsed.idmap && !mount.uidMappings && !mount.gidMappings) return;
  built.id_mapping = {};
  if (parsed.idmapRecursive) built.id_mapping.recursive = true;
  if (mount.uidMappings) built.id_mapping.uid_mappings = buildIdMaps(mount.uidMappings);
  if (mount.gidMappings) built.id_mapping.gid_mappings = buildIdMaps(mount.gidMappings);
}

/** Mappings of ids under libcontainer's names. */
export function buildIdMaps(mappings: readonly LinuxIDMapping[]): IdMap[] {
  return mappings.map(({ containerID, hostID, size }) => ({
    container_id: containerID,
    host_id: hostID,
    size,
  }));
}
