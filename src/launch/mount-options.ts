/**
 * Mount options of the runtime-spec (config.md "Linux mount options", features.md): names to attributes of a mount,
 * parameters of a file system, propagation and the runtime's own extensions. What no table knows is a parameter.
 */
import { abi } from "../linux/abi.gen.ts";

/** The meaning of one mount's options. */
export interface MountFlags {
  /** MOUNT_ATTR_* to set and to clear on the mount itself. */
  set: number;
  clear: number;
  /** An option names such an attribute, even if it leaves it as it is. */
  named: boolean;
  /** The same on the mount and all below it (the options that begin with r). */
  recSet: number;
  recClear: number;
  /** Types of propagation (abi.MS_SHARED, ..., some with abi.MS_REC), in the order given. */
  propagation: number[];
  /** Flags of the superblock, by the name that fsconfig(2) takes: sync, dirsync, lazytime, mand. */
  superFlags: string[];
  /** Parameters of the file system: "size=64k", "newinstance". The number is the option's place in the list. */
  data: { text: string; index: number }[];
  bind: boolean;
  /** bind with everything mounted below the source. */
  recursive: boolean;
  tmpcopyup: boolean;
  idmap: boolean;
  idmapRecursive: boolean;
  /** Changes what is mounted at the destination instead of mounting anew. */
  remount: boolean;
}

// Switches instead of tables: they are in the bytecode as they are, where a table would be built at every start.

/** The attribute that an option sets, or clears (negative); 0 for an option of another kind. The r-form is recursive. */
function attribute(name: string): number {
  switch (name) {
    case "ro":
      return abi.MOUNT_ATTR_RDONLY;
    case "rw":
      return -abi.MOUNT_ATTR_RDONLY;
    case "nosuid":
      return abi.MOUNT_ATTR_NOSUID;
    case "suid":
      return -abi.MOUNT_ATTR_NOSUID;
    case "nodev":
      return abi.MOUNT_ATTR_NODEV;
    case "dev":
      return -abi.MOUNT_ATTR_NODEV;
    case "noexec":
      return abi.MOUNT_ATTR_NOEXEC;
    case "exec":
      return -abi.MOUNT_ATTR_NOEXEC;
    case "nodiratime":
      return abi.MOUNT_ATTR_NODIRATIME;
    case "diratime":
      return -abi.MOUNT_ATTR_NODIRATIME;
    case "nosymfollow":
      return abi.MOUNT_ATTR_NOSYMFOLLOW;
    case "symfollow":
      return -abi.MOUNT_ATTR_NOSYMFOLLOW;
    default:
      return 0;
  }
}

/** The access-time options name values of one enumeration; those that clear go back to relatime, the kernel's default. */
function accessTime(name: string): number | undefined {
  switch (name) {
    case "relatime":
    case "atime":
    case "nostrictatime":
    case "norelatime":
      return abi.MOUNT_ATTR_RELATIME;
    case "noatime":
      return abi.MOUNT_ATTR_NOATIME;
    case "strictatime":
      return abi.MOUNT_ATTR_STRICTATIME;
    default:
      return undefined;
  }
}

/** The propagation that an option or linux.rootfsPropagation names, or undefined. */
export function propagationFlag(name: string): number | undefined {
  switch (name) {
    case "private":
      return abi.MS_PRIVATE;
    case "rprivate":
      return abi.MS_PRIVATE | abi.MS_REC;
    case "slave":
      return abi.MS_SLAVE;
    case "rslave":
      return abi.MS_SLAVE | abi.MS_REC;
    case "shared":
      return abi.MS_SHARED;
    case "rshared":
      return abi.MS_SHARED | abi.MS_REC;
    case "unbindable":
      return abi.MS_UNBINDABLE;
    case "runbindable":
      return abi.MS_UNBINDABLE | abi.MS_REC;
    default:
      return undefined;
  }
}

/** Superblock flags by the name for fsconfig, with "-" where the option takes it back; "" for no such option. */
function superFlag(name: string): string {
  switch (name) {
    case "sync":
    case "dirsync":
    case "lazytime":
    case "mand":
    case "iversion":
      return name;
    case "async":
      return "-sync";
    case "nolazytime":
    case "nomand":
    case "noiversion":
      return `-${name.slice(2)}`;
    default:
      return "";
  }
}

/** Options that mean nothing for a mount of a container. */
function isIgnored(name: string): boolean {
  return name === "" || name === "defaults" || name === "silent" || name === "loud";
}

const ATTRIBUTE_NAMES = "ro rw nosuid suid nodev dev noexec exec nodiratime diratime nosymfollow symfollow";
const TIME_NAMES = "relatime norelatime noatime atime strictatime nostrictatime";
const OTHER_NAMES =
  "private rprivate slave rslave shared rshared unbindable runbindable sync async dirsync lazytime nolazytime mand " +
  "nomand iversion noiversion defaults silent loud remount bind rbind tmpcopyup idmap ridmap";

/** Every option name that is not a parameter of a file system, for `features` and the tests. */
export function knownMountOptions(): string[] {
  const recursive = `${ATTRIBUTE_NAMES} ${TIME_NAMES}`.split(" ");
  return [...recursive, ...recursive.map((name) => `r${name}`), ...OTHER_NAMES.split(" ")].sort();
}

/** Reads the options of one mount. Bind is told by option, and by the type "bind" as runc does. */
export function parseMountOptions(
  options: readonly string[] | undefined,
  type: string | undefined,
): MountFlags {
  const flags: MountFlags = {
    set: 0,
    clear: 0,
    named: false,
    recSet: 0,
    recClear: 0,
    propagation: [],
    superFlags: [],
    data: [],
    bind: type === "bind",
    recursive: false,
    tmpcopyup: false,
    idmap: false,
    idmapRecursive: false,
    remount: false,
  };
  if (options) for (let i = 0; i < options.length; i++) readOption(flags, options[i]!, i);
  return flags;
}

function readOption(flags: MountFlags, name: string, index: number): void {
  if (name === "bind" || name === "rbind") {
    flags.bind = true;
    flags.recursive ||= name === "rbind";
    return;
  }
  const attr = attribute(name);
  const time = attr ? undefined : accessTime(name);
  flags.named ||= attr !== 0 || time !== undefined;
  if (attr > 0) {
    flags.set |= attr;
    flags.clear &= ~attr;
    return;
  }
  if (attr < 0) {
    flags.set &= ~-attr;
    flags.clear |= -attr;
    return;
  }
  if (time !== undefined) {
    // An access-time value can only be set together with clearing the whole field (mount_setattr(2)).
    flags.set = (flags.set & ~abi.MOUNT_ATTR__ATIME) | time;
    flags.clear |= abi.MOUNT_ATTR__ATIME;
    return;
  }
  const propagation = propagationFlag(name);
  if (propagation !== undefined) flags.propagation.push(propagation);
  else if (!readSpecial(flags, name) && !isIgnored(name)) flags.data.push({ text: name, index });
}

function readSpecial(flags: MountFlags, name: string): boolean {
  const flag = superFlag(name);
  if (flag) {
    const plain = flag[0] === "-" ? flag.slice(1) : flag;
    flags.superFlags = flags.superFlags.filter((other) => other !== plain);
    if (plain === flag) flags.superFlags.push(flag);
  } else if (name === "tmpcopyup") {
    flags.tmpcopyup = true;
  } else if (name === "idmap" || name === "ridmap") {
    flags.idmap = true;
    flags.idmapRecursive ||= name === "ridmap";
  } else if (name === "remount") {
    flags.remount = true;
  } else {
    return name[0] === "r" && readRecursive(flags, name.slice(1));
  }
  return true;
}

function readRecursive(flags: MountFlags, name: string): boolean {
  const time = accessTime(name);
  const attr = attribute(name);
  if (time !== undefined) {
    flags.recSet = (flags.recSet & ~abi.MOUNT_ATTR__ATIME) | time;
    flags.recClear |= abi.MOUNT_ATTR__ATIME;
  } else if (attr > 0) {
    flags.recSet |= attr;
    flags.recClear &= ~attr;
  } else if (attr < 0) {
    flags.recSet &= ~-attr;
    flags.recClear |= -attr;
  } else {
    return false;
  }
  return true;
}

/** What a bind mount sets and clears; `implied` is the part of `clear` that stays where it is locked. */
export interface BindAttributes {
  set: number;
  clear: number;
  implied: number;
}

const PLAIN =
  abi.MOUNT_ATTR_RDONLY |
  abi.MOUNT_ATTR_NOSUID |
  abi.MOUNT_ATTR_NODEV |
  abi.MOUNT_ATTR_NOEXEC |
  abi.MOUNT_ATTR_NOSYMFOLLOW;
const TIMES = abi.MOUNT_ATTR__ATIME | abi.MOUNT_ATTR_NODIRATIME;

/**
 * The attributes of a bind mount, as runc gives them: those of its source when no option names one, else those that
 * are named and no others. Access times are an exception: they are the source's until an option sets one, and options
 * that clear one are without effect. In a user namespace, what is locked on the source stays, and naming the opposite is
 * an error; nosymfollow is never locked.
 */
export function bindAttributes(flags: MountFlags, options: readonly string[] = []): BindAttributes {
  if (!flags.named) return { set: 0, clear: 0, implied: 0 };
  let set = flags.set & PLAIN;
  let clear = PLAIN & ~set;
  const implied = clear & ~flags.clear & ~abi.MOUNT_ATTR_NOSYMFOLLOW;
  let time: number | undefined;
  for (let i = 0; i < options.length; i++) {
    const name = options[i]!;
    const cleared = clearedTime(name);
    if (cleared === undefined) time = accessTime(name) ?? time;
    else if (cleared === time) time = undefined;
  }
  const nodiratime = flags.set & abi.MOUNT_ATTR_NODIRATIME;
  if (time !== undefined || nodiratime) {
    set |= (time ?? abi.MOUNT_ATTR_RELATIME) | nodiratime;
    clear |= TIMES & ~nodiratime;
  }
  return { set, clear, implied };
}

/** The access time that an option takes back. */
function clearedTime(name: string): number | undefined {
  switch (name) {
    case "atime":
      return abi.MOUNT_ATTR_NOATIME;
    case "nostrictatime":
      return abi.MOUNT_ATTR_STRICTATIME;
    case "norelatime":
      return abi.MOUNT_ATTR_RELATIME;
    default:
      return undefined;
  }
}
