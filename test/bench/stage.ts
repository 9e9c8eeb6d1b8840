// Where the benchmark runs: a mount namespace of its own with a tmpfs of its own. The process that was started stays
// outside, passes signals on, and in the end removes whatever the one inside may have left.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { checked } from "./commands.ts";
import { buncPath, executables } from "./runtimes.ts";
import { sweep } from "./sweep.ts";

/** Signals that end the benchmark, after it has cleaned up. */
export const STOP_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Runs `script --inside DIR` in a private mount namespace, where DIR is fresh and its name is the benchmark's tag.
 *
 * @returns the exit status for this process
 */
export async function inStage(script: string): Promise<number> {
  const problem =
    process.geteuid?.() !== 0
      ? "needs root: it makes containers, cgroups and a mount namespace"
      : !existsSync(buncPath)
        ? `${buncPath} does not exist: run \`make build\` or set BUNC`
        : undefined;
  if (problem !== undefined) {
    process.stderr.write(`bench: ${problem}\n`);
    return 1;
  }
  const dir = mkdtempSync(join(tmpdir(), `bunc-bench-${process.pid}-`));
  try {
    // When this process is killed, the one inside gets SIGTERM and cleans up.
    const wrapper = ["unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "TERM"];
    const child = Bun.spawn([...wrapper, process.execPath, script, "--inside", dir], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    for (const signal of STOP_SIGNALS) process.on(signal, () => child.kill(signal));
    await child.exited;
    return child.exitCode ?? 128 + (constants.signals[child.signalCode as NodeJS.Signals] ?? 0);
  } finally {
    for (const cgroup of sweep(basename(dir))) process.stderr.write(`bench: cannot remove ${cgroup}\n`);
    for (const made of [dir, executables(dir)]) rmSync(made, { recursive: true, force: true });
  }
}

/** Mounts a tmpfs on the directory, in this process's mount namespace: it is gone with the last process in there. */
export async function mountScratch(dir: string): Promise<void> {
  await checked(["mount", "-t", "tmpfs", "-o", "mode=755", "bunc-bench", dir]);
}

/** Unmounts the tmpfs and removes both directories, in case nobody outside is left to do it. Never throws. */
export function removeScratch(dir: string): void {
  Bun.spawnSync(["umount", "--lazy", dir], { stdio: ["ignore", "ignore", "ignore"] });
  rmSync(executables(dir), { recursive: true, force: true });
  try {
    rmSync(dir, { recursive: true, force: true });
  } catch {} // still mounted: it is empty outside, and the process there removes it
}
