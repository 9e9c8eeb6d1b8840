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
}

type Attr = readonly [attr: number, clear: boolean];

/** Options that set or clear an attribute; the r-form of each does it recursively. */
const ATTRS: Readonly<Record<string, Attr>> = {
  ro: [abi.MOUNT_ATTR_RDONLY, false],
  rw: [abi.MOUNT_ATTR_RDONLY, true],
  nosuid: [abi.MOUNT_ATTR_NOSUID, false],
  suid: [abi.MOUNT_ATTR_NOSUID, true],
  nodev: [abi.MOUNT_ATTR_NODEV, false],
  dev: [abi.MOUNT_ATTR_NODEV, true],
  noexec: [abi.MOUNT_ATTR_NOEXEC, false],
  exec: [abi.MOUNT_ATTR_NOEXEC, true],
  nodiratime: [abi.MOUNT_ATTR_NODIRATIME, false],
  diratime: [abi.MOUNT_ATTR_NODIRATIME, true],
  nosymfollow: [abi.MOUNT_ATTR_NOSYMFOLLOW, false],
  symfollow: [abi.MOUNT_ATTR_NOSYMFOLLOW, true],
};

/** The access-time options name values of one enumeration; those that clear go back to relatime. */
const ATIME: Readonly<Record<string, number>> = {
  relatime: abi.MOUNT_ATTR_RELATIME,
  norelatime: abi.MOUNT_ATTR_STRICTATIME,
  noatime: abi.MOUNT_ATTR_NOATIME,
  atime: abi.MOUNT_ATTR_RELATIME,
  strictatime: abi.MOUNT_ATTR_STRICTATIME,
  nostrictatime: abi.MOUNT_ATTR_RELATIME,
};

const PROPAGATION: Readonly<Record<string, number>> = {
  private: abi.MS_PRIVATE,
  rprivate: abi.MS_PRIVATE | abi.MS_REC,
  slave: abi.MS_SLAVE,
  rslave: abi.MS_SLAVE | abi.MS_REC,
  shared: abi.MS_SHARED,
  rshared: abi.MS_SHARED | abi.MS_REC,
  unbindable: abi.MS_UNBINDABLE,
  runbindable: abi.MS_UNBINDABLE | abi.MS_REC,
};

/** Superblock flags: [name for fsconfig, ""] to set, or the name that a later option takes back. */
const SUPER: Readonly<Record<string, readonly [set: string, clear: string]>> = {
  sync: ["sync", ""],
  async: ["", "sync"],
  dirsync: ["dirsync", ""],
  lazytime: ["lazytime", ""],
  nolazytime: ["", "lazytime"],
  mand: ["mand", ""],
  nomand: ["", "mand"],
  iversion: ["iversion", ""],
  noiversion: ["", "iversion"],
};

/** Options that mean nothing for a mount of a container. */
const IGNORED = new Set(["defaults", "silent", "loud", "remount"]);

/** Every option name that is not a parameter of a file system, for `features` and the tests. */
export function knownMountOptions(): string[] {
  const recursive = [...Object.keys(ATTRS), ...Object.keys(ATIME)].map((name) => `r${name}`);
  return [
    ...Object.keys(ATTRS),
    ...Object.keys(ATIME),
    ...recursive,
    ...Object.keys(PROPAGATION),
    ...Object.keys(SUPER),
    ...IGNORED,
    "bind",
    "rbind",
    "tmpcopyup",
    "idmap",
    "ridmap",
  ].sort();
}

/** The propagation that linux.rootfsPropagation names, or undefined. */
export function propagationFlag(name: string): number | undefined {
  return PROPAGATION[name];
}

/** Reads the options of one mount. Bind is told by option, and by the type "bind" as runc does. */
export function parseMountOptions(
  options: readonly string[] | undefined,
  type: string | undefined,
): MountFlags {
  const flags: MountFlags = {
    set: 0,
    clear: 0,
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
  };
  if (options) for (let i = 0; i < options.length; i++) readOption(flags, options[i]!, i);
  return flags;
}

function readOption(flags: MountFlags, name: string, index: number): void {
  if (name === "bind" || name === "rbind") {
    flags.bind = true;
    flags.recursive ||= name === "rbind";
  } else if (own(ATTRS, name)) {
    const [attr, clear] = ATTRS[name]!;
    flags.set = clear ? flags.set & ~attr : flags.set | attr;
    flags.clear = clear ? flags.clear | attr : flags.clear & ~attr;
  } else if (own(ATIME, name)) {
    // An access-time value can only be set together with clearing the whole field (mount_setattr(2)).
    flags.set = (flags.set & ~abi.MOUNT_ATTR__ATIME) | ATIME[name]!;
    flags.clear |= abi.MOUNT_ATTR__ATIME;
  } else if (own(PROPAGATION, name)) {
    flags.propagation.push(PROPAGATION[name]!);
  } else if (own(SUPER, name)) {
    const [set, clear] = SUPER[name]!;
    flags.superFlags = flags.superFlags.filter((flag) => flag !== (set || clear));
    if (set) flags.superFlags.push(set);
  } else if (name === "tmpcopyup") {
    flags.tmpcopyup = true;
  } else if (name === "idmap" || name === "ridmap") {
    flags.idmap = true;
    flags.idmapRecursive ||= name === "ridmap";
  } else if (name.startsWith("r") && (own(ATTRS, name.slice(1)) || own(ATIME, name.slice(1)))) {
    readRecursive(flags, name.slice(1));
  } else if (!IGNORED.has(name) && name !== "") {
    flags.data.push({ text: name, index });
  }
}

function readRecursive(flags: MountFlags, name: string): void {
  if (own(ATIME, name)) {
    flags.recSet = (flags.recSet & ~abi.MOUNT_ATTR__ATIME) | ATIME[name]!;
    flags.recClear |= abi.MOUNT_ATTR__ATIME;
    return;
  }
  const [attr, clear] = ATTRS[name]!;
  flags.recSet = clear ? flags.recSet & ~attr : flags.recSet | attr;
  flags.recClear = clear ? flags.recClear | attr : flags.recClear & ~attr;
}

function own(table: object, name: string): boolean {
  return Object.hasOwn(table, name);
}
