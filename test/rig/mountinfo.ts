// /proc/PID/mountinfo (proc_pid_mountinfo(5)) as objects.

/** One mount. */
export interface MountInfo {
  id: number;
  parent: number;
  /** What of the filesystem is mounted. */
  root: string;
  point: string;
  /** Per-mount options, e.g. "ro", "nosuid". */
  options: string[];
  /** Optional fields: "shared:1", "master:2", "unbindable". */
  propagation: string[];
  type: string;
  source: string;
  /** Options of the filesystem. */
  superOptions: string[];
}

/** Parses the text of a mountinfo file. */
export function parseMountInfo(text: string): MountInfo[] {
  const mounts: MountInfo[] = [];
  for (const line of text.trim().split("\n")) {
    const [before, after] = line.split(" - ");
    if (after === undefined) continue;
    const [id, parent, , root, point, options, ...propagation] = before!.split(" ");
    const [type, source, superOptions] = after.split(" ");
    mounts.push({
      id: Number(id),
      parent: Number(parent),
      root: root!,
      point: point!,
      options: options!.split(","),
      propagation,
      type: type!,
      source: source!,
      superOptions: (superOptions ?? "").split(","),
    });
  }
  return mounts;
}

/** The mount that is on top at a path; throws when there is none. */
export function mountAt(mounts: MountInfo[], point: string): MountInfo {
  const found = mounts.findLast((mount) => mount.point === point);
  if (found === undefined)
    throw new Error(`no mount at ${point} among ${mounts.map((mount) => mount.point)}`);
  return found;
}
