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

/** The flag of mount(2) that an option is, as specconv has them: negative where the option clears it; 0 for no flag. */
function flagOf(option: string): number {
  switch (option) {
    case "async":
      return -abi.MS_SYNCHRONOUS;
    case "atime":
      return -abi.MS_NOATIME;
    case "bind":
      return abi.MS_BIND;
    case "dev":
      return -abi.MS_NODEV;
    case "diratime":
      return -abi.MS_NODIRATIME;
    case "dirsync":
      return abi.MS_DIRSYNC;
    case "exec":
      return -abi.MS_NOEXEC;
    case "iversion":
      return abi.MS_I_VERSION;
    case "lazytime":
      return abi.MS_LAZYTIME;
    case "loud":
      return -abi.MS_SILENT;
    case "mand":
      return abi.MS_MANDLOCK;
    case "noatime":
      return abi.MS_NOATIME;
    case "nodev":
      return abi.MS_NODEV;
    case "nodiratime":
      return abi.MS_NODIRATIME;
    case "noexec":
      return abi.MS_NOEXEC;
    case "noiversion":
      return -abi.MS_I_VERSION;
    case "nolazytime":
      return -abi.MS_LAZYTIME;
    case "nomand":
      return -abi.MS_MANDLOCK;
    case "norelatime":
      return -abi.MS_RELATIME;
    case "nostrictatime":
      return -abi.MS_STRICTATIME;
    case "nosuid":
      return abi.MS_NOSUID;
    case "nosymfollow":
      return abi.MS_NOSYMFOLLOW;
    case "rbind":
      return abi.MS_BIND | abi.MS_REC;
    case "relatime":
      return abi.MS_RELATIME;
    case "remount":
      return abi.MS_REMOUNT;
    case "ro":
      return abi.MS_RDONLY;
    case "rw":
      return -abi.MS_RDONLY;
    case "silent":
      return abi.MS_SILENT;
    case "strictatime":
      return abi.MS_STRICTATIME;
    case "suid":
      return -abi.MS_NOSUID;
    case "sync":
      return abi.MS_SYNCHRONOUS;
    case "symfollow":
      return -abi.MS_NOSYMFOLLOW;
    default:
      return 0;
  }
}

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
    const flag = flagOf(option);
    if (flag === 0) {
      // "size=64k": most options without a flag are such parameters.
      if (!option.includes("=") && isSpecial(option)) special = true;
      else if (option !== "defaults") data = data ? `${data},${option}` : option;
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
  return option.charCodeAt(0) === 0x72 && flagOf(option.slice(1)) !== 0;
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
