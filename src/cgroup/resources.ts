/** What of linux.resources the cgroups are set to: checks that need no host, and the fields that are not done yet. */
import type { LinuxResources } from "../oci/config.ts";
import { configError, isUnset } from "./write.ts";

/** 2^64-1, as which Docker wrote "no value" of a uint64 in old days. */
const UINT64_MINUS_ONE = 18446744073709551615n;

/** `swappiness` as a number from 0 to 100; undefined where the bundle sets none. */
export function swappinessOf(resources: LinuxResources): number | undefined {
  const value = resources.memory?.swappiness;
  if (value === undefined || value === UINT64_MINUS_ONE) return undefined;
  if (value > 100) {
    throw configError(
      `invalid memory swappiness value: ${value} (valid range is 0-100)`,
      "linux.resources.memory.swappiness",
    );
  }
  return Number(value);
}

/** pids.max for linux.resources.pids.limit: 0 becomes 1, as systemd can do no less, and a negative one is no limit. */
export function pidsMax(limit: number | bigint): string {
  if (limit > 0) return String(limit);
  return Number(limit) === 0 ? "1" : "max";
}

/** The size of a huge page in names of files: digits and KB, MB or GB. Nothing else may get into a path. */
export function checkPageSize(size: string, path: string): void {
  const digits = size.slice(0, -2);
  const unit = size.slice(-2);
  let right = digits !== "" && (unit === "KB" || unit === "MB" || unit === "GB");
  for (let i = 0; i < digits.length; i++) right &&= digits[i]! >= "0" && digits[i]! <= "9";
  if (!right)
    throw configError(`invalid huge page size ${JSON.stringify(size)}; a form such as 2MB or 1GB`, path);
}

/** Whether there is anything that limits-net.ts is for. */
export function hasExtras({ network, rdma }: LinuxResources): boolean {
  return network !== undefined || rdma !== undefined;
}

/** What is accepted and has no effect, for the log; runc says no more about it. */
export function ignoredFields(resources: LinuxResources, v2: boolean): string[] {
  const { memory, cpu, blockIO, network } = resources;
  const ignored: string[] = [];
  if (!memory && !cpu && !blockIO && !network) return ignored;
  if (memory && !(isUnset(memory.kernel) && isUnset(memory.kernelTCP))) {
    ignored.push("Kernel memory settings are ignored and will be removed");
  }
  if (memory?.useHierarchy === false) {
    ignored.push(
      "linux.resources.memory.useHierarchy: false is ignored: memory cgroups are always hierarchical",
    );
  }
  if (!v2) return ignored;
  const missing: string[] = [];
  if (swappinessOf(resources) !== undefined) missing.push("memory.swappiness");
  if (memory?.disableOOMKiller) missing.push("memory.disableOOMKiller");
  if (!isUnset(cpu?.realtimeRuntime)) missing.push("cpu.realtimeRuntime");
  if (!isUnset(cpu?.realtimePeriod)) missing.push("cpu.realtimePeriod");
  if (!isUnset(blockIO?.leafWeight)) missing.push("blockIO.leafWeight");
  if (!isUnset(network?.classID)) missing.push("network.classID");
  if (network?.priorities?.length) missing.push("network.priorities");
  for (const path of missing)
    ignored.push(`linux.resources.${path} is ignored: cgroup v2 has no such setting`);
  return ignored;
}
