/** Values that mean the same in cgroup v1, whose terms config.json uses, and v2: runc's conversions (utils.go). */
import { configError } from "./write.ts";

/**
 * cpu.weight (1 to 10000, default 100) for cpu.shares (2 to 262144, default 1024): the curve through both ends and
 * the default that runc uses since 1.3.2, where earlier ones drew a line. 0 stays 0, "unset".
 */
export function cpuWeight(shares: number | bigint): number {
  const value = Number(shares);
  if (value === 0) return 0;
  if (value <= 2) return 1;
  if (value >= 262144) return 10000;
  const log = Math.log2(value);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** io.weight (1 to 10000, default 100) for a weight of blkio (10 to 1000): the line through both ends. */
export function ioWeight(weight: number): number {
  return 1 + Math.floor(((weight - 10) * 9999) / 990);
}

/**
 * memory.swap.max for linux.resources.memory.swap, which counts memory and swap together.
 *
 * @returns undefined to leave it alone, otherwise what is to be written.
 * @throws BuncError when it is smaller than the memory limit, or there is none.
 */
export function swapMax(
  swap: number | bigint | undefined,
  limit: number | bigint | undefined,
): string | undefined {
  const total = BigInt(swap ?? 0);
  const memory = BigInt(limit ?? 0);
  if (total === -1n || (memory === -1n && total === 0n)) return "max";
  if (total === 0n) return undefined;
  if (memory === -1n) return String(total);
  const path = "linux.resources.memory.swap";
  if (memory === 0n) throw configError("unable to set swap limit without memory limit", path);
  if (memory < 0n) throw configError(`invalid memory value: ${memory}`, "linux.resources.memory.limit");
  if (total < memory) throw configError("memory+swap limit should be >= memory limit", path);
  return String(total - memory);
}

/** A limit in bytes for a file of v2: -1 becomes "max". */
export function bytesMax(value: number | bigint): string {
  return Number(value) === -1 ? "max" : String(value);
}
