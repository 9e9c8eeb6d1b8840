/** The mounts of config.json as libcontainer keeps them (runc's specconv createLibcontainerMount). */
import { absolute } from "../bundle/load.ts";
import { parseMountOptions } from "../launch/mount-options.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxIDMapping, Mount } from "../oci/config.ts";
import type { IdMap, LibcontainerMount } from "./libcontainer.ts";

/** The options that are flags of mount(2), as specconv has them: the flag, negative where the option clears it. */
const FLAGS: Readonly<Record<string, number>> = {
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
  let flags = 0;
  let cleared = 0;
  for (const option of mount.options ?? []) {
    if (!Object.hasOwn(FLAGS, option)) continue;
    const flag = FLAGS[option]!;
    flags = flag > 0 ? flags | flag : flags & ~-flag;
    cleared = flag > 0 ? cleared & ~flag : cleared | -flag;
  }
  const parsed = parseMountOptions(mount.options, mount.type);
  const bind = (flags & abi.MS_BIND) !== 0;
  const source = mount.source ?? "";
  const built: LibcontainerMount = {
    source: bind ? absolute(bundle, source) : source,
    destination: mount.destination,
    device: bind ? "bind" : (mount.type ?? ""),
  };
  if (flags) built.flags = flags;
  if (cleared) built.cleared_flags = cleared;
  if (parsed.propagation.length > 0) built.propagation_flags = parsed.propagation;
  if (parsed.data.length > 0) built.data = parsed.data.map(({ text }) => text).join(",");
  if (parsed.recSet || parsed.recClear) {
    built.rec_attr = { Attr_set: parsed.recSet, Attr_clr: parsed.recClear, Propagation: 0, Userns_fd: 0 };
  }
  if (parsed.tmpcopyup) built.extensions = COPY_UP;
  const mapped = mount.uidMappings || mount.gidMappings;
  if (parsed.idmap || mapped) {
    built.id_mapping = {};
    if (parsed.idmapRecursive) built.id_mapping.recursive = true;
    if (mount.uidMappings) built.id_mapping.uid_mappings = buildIdMaps(mount.uidMappings);
    if (mount.gidMappings) built.id_mapping.gid_mappings = buildIdMaps(mount.gidMappings);
  }
  return built;
}

/** Mappings of ids under libcontainer's names. */
export function buildIdMaps(mappings: readonly LinuxIDMapping[]): IdMap[] {
  return mappings.map(({ containerID, hostID, size }) => ({
    container_id: containerID,
    host_id: hostID,
    size,
  }));
}
