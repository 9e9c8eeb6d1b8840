/**
 * Standard streams that are fifos of the host: bunc's shim gives a process those of containerd themselves. criu has no
 * path for them in the container; it saves them as external files, and a restore puts its own streams in their place.
 */
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";

/**
 * criu's names ("file[MOUNT:INODE]", hexadecimal) of the standard streams of a process that are fifos with a path on the
 * host; "" for all others, fifos of the container's own too: those criu can open again.
 * @param mountinfo content of /proc/PID/mountinfo: the mounts that the container sees
 */
export function fifoNames(pid: number, mountinfo = readText(`/proc/${pid}/mountinfo`)): string[] {
  const lines = typeof mountinfo === "string" ? mountinfo.split("\n") : [];
  return [0, 1, 2].map((fd) => nameOf(pid, fd, lines));
}

function nameOf(pid: number, fd: number, mounts: readonly string[]): string {
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  const path = `/proc/${pid}/fd/${fd}`;
  if (sys(abi.SYS_newfstatat, abi.AT_FDCWD, path, new Uint8Array(stat.buffer), 0) < 0) return "";
  if ((stat.getUint32(stat_.st_mode, true) & abi.S_IFMT) !== abi.S_IFIFO) return "";
  const info = readText(`/proc/${pid}/fdinfo/${fd}`, 4096);
  if (typeof info !== "string") return "";
  const mount = fieldOf(info, "mnt_id:");
  if (mounts.some((line) => line.startsWith(`${mount} `))) return "";
  const inode = stat.getBigUint64(stat_.st_ino, true);
  return mount === undefined || isPipe(pid, fd) ? "" : `file[${mount.toString(16)}:${inode.toString(16)}]`;
}

/** A pipe has no path: its link is "pipe:[inode]". */
function isPipe(pid: number, fd: number): boolean {
  const link = new Uint8Array(8);
  const n = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/${pid}/fd/${fd}`, link, link.length);
  return n > 0 && link[0] !== SLASH;
}

const SLASH = 0x2f;

function fieldOf(info: string, name: string): number | undefined {
  for (const line of info.split("\n")) {
    if (line.startsWith(name)) return Number(line.slice(name.length));
  }
  return undefined;
}
