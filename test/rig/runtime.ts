// Which runtime is under test, what the host can do, and what is therefore run or skipped.
import { describe, test } from "bun:test";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { repository } from "./repository.ts";

/** The runtime under test: `$BUNC`, else `./bunc` of the repository. */
export const runtime = resolve(process.env.BUNC ?? join(repository, "bunc"));

if (!existsSync(runtime))
  throw new Error(`${runtime} does not exist: run \`make build\` or set BUNC to a runtime`);

if (process.getuid?.() !== 0)
  throw new Error("tests that start containers need root: sudo make test-integration");

/** Whether systemd makes the cgroups of the containers (`$BUNC_CGROUP_DRIVER` is "systemd"), not the runtime. */
export const systemdDriver = process.env.BUNC_CGROUP_DRIVER === "systemd";

/** True when the runtime is bunc itself; a runc given by `$BUNC` is only there to check the tests against. */
export const isBunc = basename(realpathSync(runtime)) === "bunc";

/** A test of what only bunc does, or what an old runc lacks. */
export const buncTest = test.skipIf(!isBunc);

/** A group of such tests. */
export const buncDescribe = describe.skipIf(!isBunc);

/** A test that needs something of the machine: skipped with the reason in its name when `missing` is a reason. */
export function testUnless(
  missing: string | undefined,
  name: string,
  body: () => Promise<void> | void,
): void {
  if (missing === undefined) test(name, body);
  else test.skip(`${name} (skipped: ${missing})`, body);
}

/** Like {@link testUnless}, for what only bunc does. */
export function buncTestUnless(
  missing: string | undefined,
  name: string,
  body: () => Promise<void> | void,
): void {
  testUnless(missing ?? (isBunc ? undefined : "only bunc"), name, body);
}

/** The mount points of the cgroup hierarchies by controller ("memory", "name=systemd"); cgroup2 is "unified". */
export function cgroupMounts(): Map<string, string> {
  const mounts = new Map<string, string>();
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [before, after] = line.split(" - ");
    if (after === undefined) continue;
    const point = before!.split(" ")[4]!;
    const [type, , superOptions] = after.split(" ");
    if (type === "cgroup2") mounts.set("unified", point);
    if (type !== "cgroup") continue;
    for (const option of superOptions!.split(",")) {
      if (option !== "rw" && option !== "ro" && option !== "xattr") mounts.set(option, point);
    }
  }
  return mounts;
}

/**
 * The paths in what /proc/PID/cgroup says, by controller as in `cgroupMounts`. Left out is what is mounted nowhere: every
 * process of the machine is in such hierarchies too, and what a test left behind when it was killed is one.
 */
export function cgroupPaths(text: string): Map<string, string> {
  const mounted = cgroupMounts();
  const paths = new Map<string, string>();
  for (const line of text.trim().split("\n")) {
    const [id, controllers, path] = line.split(":");
    for (const name of id === "0" ? ["unified"] : controllers!.split(",")) {
      if (mounted.has(name)) paths.set(name, path!);
    }
  }
  return paths;
}

const capabilityMask = BigInt(
  `0x${/CapEff:\s*([0-9a-f]+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]}`,
);
const cgroups = cgroupMounts();

/** Facts of this machine that decide what can be tested. */
export const host = {
  cgroups,
  /** True when controllers are mounted as cgroup v1 (pure v1 or hybrid). */
  cgroupV1: cgroups.has("memory"),
  /** Numbers of <linux/capability.h>. */
  capable: (number: number): boolean => ((capabilityMask >> BigInt(number)) & 1n) === 1n,
  appArmor: existsSync("/sys/module/apparmor/parameters/enabled"),
  selinux: existsSync("/sys/fs/selinux/enforce"),
  timeNamespaces: existsSync("/proc/self/ns/time"),
};

/** CAP_SYS_RESOURCE of <linux/capability.h>. */
export const CAP_SYS_RESOURCE = 24;
