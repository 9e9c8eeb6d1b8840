// Where the figures come from: the machine, its load, and how its cgroups are mounted for the benchmark.
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { checked } from "./commands.ts";
import { cgroupMounts } from "./sweep.ts";

/** A sentence on the machine: kernel, CPUs, memory. */
export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown CPU";
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  const architecture = process.arch === "x64" ? "x86_64" : process.arch;
  return `Linux ${release()} (${architecture}), ${availableParallelism()} CPUs (${model}), ${memory} GB of memory`;
}

/** The load of the last minute; says so when it is more than an idle machine's. */
export function load(): string {
  const value = loadavg()[0]!;
  const busy = value > availableParallelism() / 2;
  return `load average ${value.toFixed(1)} at the start${busy ? ": the machine was busy, do not trust these figures" : ""}`;
}

/**
 * Unmounts cgroup2 where it is mounted beside cgroup v1 (a hybrid host), in this process's mount namespace, which must
 * be private.
 *
 * @returns how the cgroups are mounted now, in words
 */
export async function hideUnified(): Promise<string> {
  const mounts = cgroupMounts();
  const controllers = mounts.filter(({ type }) => type === "cgroup");
  const unified = mounts.filter(({ type }) => type === "cgroup2");
  if (mounts.length === 0) throw new Error("no cgroup hierarchy is mounted");
  if (controllers.length === 0) return "cgroup v2";
  if (unified.length === 0) return "cgroup v1";
  for (const { point } of unified) await checked(["umount", point]);
  const points = unified.map(({ point }) => point).join(" and ");
  return `cgroup v1 (a hybrid host: ${points} is unmounted for all runtimes alike, in the benchmark's own mount namespace, because crun refuses to start beside it)`;
}
