/** Who holds a lock: looked up only for the message that a container is busy. */

import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";

/**
 * The holder of the flock(2) lock on an open file, as "process 12 (bunc start x)".
 * @returns undefined where /proc/locks does not tell, as on some overlay and network file systems
 */
export function lockHolder(fd: number): string | undefined {
  const bytes = new Uint8Array(sizeof_.stat);
  if (sys(abi.SYS_newfstatat, fd, "", bytes, abi.AT_EMPTY_PATH) < 0) return undefined;
  const stat = new DataView(bytes.buffer);
  const locks = readText("/proc/locks");
  if (typeof locks === "number") return undefined;
  const device = stat.getBigUint64(stat_.st_dev, true);
  const inode = stat.getBigUint64(stat_.st_ino, true);
  const pid = findHolder(locks, device, inode);
  if (pid === undefined) return undefined;
  const command = readText(`/proc/${pid}/cmdline`, 200);
  const words = typeof command === "string" ? command.split("\0").join(" ").trim() : "";
  return words ? `process ${pid} (${words})` : `process ${pid}`;
}

/** The pid in the line of /proc/locks for a lock on a file, proc_locks(5). */
export function findHolder(locks: string, device: bigint, inode: bigint): number | undefined {
  // makedev(3).
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  const hex = (n: bigint) => n.toString(16).padStart(2, "0");
  const file = `${hex(major)}:${hex(minor)}:${inode}`;
  for (const line of locks.split("\n")) {
    const fields = line.split(/ +/);
    // "1: -> FLOCK ..." is one that waits.
    if (fields[1] !== "FLOCK" || fields[5] !== file) continue;
    const pid = Number(fields[4]);
    if (pid > 0) return pid;
  }
  return undefined;
}
