/** Checks of `mounts` and of id mappings that need only the document (runtime-spec config.md "mounts"). */
import type { LinuxIDMapping, Mount } from "../oci/config.ts";
import { shown } from "../oci/path.ts";
import { type Findings, lacks, type Namespaces, problem, sound, warning } from "./findings.ts";

/**
 * The mount options that name flags or actions of the runtime (the table of config.md); any other option is for the
 * file system. Each stands between blanks.
 */
export const MOUNT_OPTIONS =
  " async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime " +
  "noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev " +
  "rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid " +
  "rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared " +
  "silent slave strictatime suid symfollow sync tmpcopyup unbindable ";

const NONE: readonly string[] = [];

/** Checks all mounts. */
export function checkMounts(mounts: readonly Mount[], namespaces: Namespaces, out: Findings): void {
  for (let i = 0; i < mounts.length; i++) checkMount(mounts[i]!, namespaces, out, `mounts[${i}]`);
}

function checkMount(mount: Mount, namespaces: Namespaces, out: Findings, path: string): void {
  if (!sound(out, path)) return;
  const { destination, options = NONE } = mount;
  if (destination === "") {
    problem(out, `${path}.destination`, "must not be empty");
  } else if (destination[0] !== "/") {
    warning(
      out,
      `${path}.destination`,
      `mount destination ${shown(destination)} is not absolute, taken as relative to "/" (deprecated)`,
    );
  }
  const bind = options.indexOf("bind") >= 0 || options.indexOf("rbind") >= 0;
  if (bind) {
    checkBind(mount, options, out, path);
  } else if (mount.type === "bind") {
    problem(out, `${path}.options`, 'a mount of type "bind" needs "bind" or "rbind" in its options');
  } else if (!mount.type && !options.includes("remount")) {
    problem(out, `${path}.type`, 'is required, unless the options have "bind" or "rbind"');
  }
  if (options.indexOf("tmpcopyup") >= 0 && (bind || mount.type !== "tmpfs")) {
    const what = bind ? "a bind mount" : shown(mount.type ?? "");
    problem(
      out,
      `${path}.options[${options.indexOf("tmpcopyup")}]`,
      `"tmpcopyup" is only for tmpfs, not ${what}`,
    );
  }
  const mapped = options.indexOf("idmap") >= 0 || options.indexOf("ridmap") >= 0;
  if (mapped || mount.uidMappings || mount.gidMappings) checkIdMapped(mount, bind, namespaces, out, path);
}

function checkBind(mount: Mount, options: readonly string[], out: Findings, path: string): void {
  if (!mount.source) problem(out, `${path}.source`, "is required for a bind mount");
  for (let i = 0; i < options.length; i++) {
    const option = options[i]!;
    if (option.indexOf(" ") < 0 && MOUNT_OPTIONS.indexOf(` ${option} `) >= 0) continue;
    // crun's form of per-mount mappings, "idmap=uids=...;gids=...", is no option of the file system either.
    if (option.startsWith("idmap=") || option.startsWith("ridmap=")) continue;
    problem(
      out,
      `${path}.options[${i}]`,
      `bind mounts cannot have any filesystem-specific options applied, and ${shown(option)} is one`,
    );
  }
}

function checkIdMapped(
  mount: Mount,
  bind: boolean,
  namespaces: Namespaces,
  out: Findings,
  path: string,
): void {
  const { uidMappings, gidMappings } = mount;
  if (!bind) problem(out, path, "id-mapped mounts are only supported for bind-mounts");
  if (uidMappings?.length || gidMappings?.length) {
    if (!uidMappings?.length || !gidMappings?.length) {
      const missing = uidMappings?.length ? "gidMappings" : "uidMappings";
      problem(out, `${path}.${missing}`, "id-mapped mounts must have both uid and gid mappings specified");
    }
    checkMappings(uidMappings, out, `${path}.uidMappings`);
    checkMappings(gidMappings, out, `${path}.gidMappings`);
  } else if (lacks(namespaces, "user")) {
    problem(out, path, "id-mapped mounts without mappings of their own need a user namespace");
  }
}

/** The most entries the kernel takes (UID_GID_MAP_MAX_EXTENTS). */
const MOST_MAPPINGS = 340;
const LAST_ID = 4294967294;

/** Checks a list of id mappings by the rules of user_namespaces(7). */
export function checkMappings(
  mappings: readonly LinuxIDMapping[] | undefined,
  out: Findings,
  path: string,
): void {
  if (!mappings) return;
  if (mappings.length > MOST_MAPPINGS) {
    problem(out, path, `has ${mappings.length} entries, and the kernel takes ${MOST_MAPPINGS} at most`);
    return;
  }
  for (let i = 0; i < mappings.length; i++) {
    const { size } = mappings[i]!;
    if (size === 0) problem(out, `${path}[${i}].size`, "must not be 0");
    for (const side of ["containerID", "hostID"] as const) {
      const first = mappings[i]![side];
      if (first + size - 1 > LAST_ID) {
        problem(out, `${path}[${i}].${side}`, `${size} ids from ${first} go beyond the last one, ${LAST_ID}`);
      }
      const other = mappings.findIndex(
        (before) => first < before[side] + before.size && before[side] < first + size,
      );
      if (other < i && other >= 0)
        problem(out, `${path}[${i}].${side}`, `overlaps the mapping at [${other}]`);
    }
  }
}

/** Whether an id of the container is mapped to one of the host. */
export function isMapped(id: number, mappings: readonly LinuxIDMapping[]): boolean {
  return mappings.some(({ containerID, size }) => id >= containerID && id < containerID + size);
}
