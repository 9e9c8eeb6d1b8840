/**
 * All parts of a launch, of both sides, in the order in which src/container/launcher.ts has them executed. Facts about
 * the host are read where they can be read, and nothing else is touched.
 */
import { type Cgroup, planCgroup } from "../cgroup/cgroup.ts";
import { readLayout } from "../cgroup/layout.ts";
import { Launch } from "../launch/compile.ts";
import { type HostFacts, type LaunchSettings, Stage } from "../launch/context.ts";
import type { LaunchProgram, SidePart } from "../launch/explain.ts";
import { hookAbout, hookStruct } from "../launch/hooks.ts";
import { Part, Slots } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { bytesOf, memfdPath, sys } from "../linux/lib.ts";
import type { Hook, Spec } from "../oci/config.ts";

/** Stands for the id, which only `create` and `run` are given. */
const ID = "<container-id>";
/** Stands for init's pid in paths. */
const PID = "<pid of init>";
/** Stands for the environment of hooks that name none: it is the caller's, and nobody wants it printed. */
const HOOK_ENV = ["<environment of bunc>"];

/**
 * The program that `run` would execute for a valid bundle.
 *
 * @throws BuncError when the bundle asks for what cannot be compiled, or cannot be done on this host
 */
export async function launchProgram(spec: Spec, bundle: string): Promise<LaunchProgram> {
  const host = hostFacts();
  const group = planCgroup({ spec, id: ID, layout: host.cgroup!, slots: new Slots() });
  const launch = new Launch(spec, await settingsFor(spec, bundle, group), host);
  const { birth, fds, firstFd, first } = launch.plan;
  const parts: SidePart[] = [
    { side: "parent", part: group.compileCreate() },
    { side: "init", part: first },
  ];
  parent(parts, atNamespaces(spec));
  let limited = false;
  for (const { part, stage } of launch.rest()) {
    if (stage === Stage.last && !limited) parent(parts, group.compileLimits());
    parts.push({ side: "init", part });
    if (stage !== Stage.mounted) continue;
    parent(parts, group.compileLimits());
    limited = true;
    parent(parts, hooks(spec, "prestart", bundle, "creating"));
    parent(parts, hooks(spec, "createRuntime", bundle, "creating"));
  }
  parent(parts, hooks(spec, "poststart", bundle, "running"));
  return { birth, fds, firstFd, parts, before: 1 };
}

function parent(parts: SidePart[], part: Part): void {
  if (part.ops.length) parts.push({ side: "parent", part });
}

/** What the parent does while init waits in its new namespaces. */
function atNamespaces(spec: Spec): Part {
  const part = new Part();
  const score = spec.process?.oomScoreAdj;
  if (score !== undefined) {
    const value = bytesOf(String(score));
    part.at("process", "process.oomScoreAdj");
    part.op(abi.BUNC_OP_WRITE_AT, [
      abi.AT_FDCWD,
      `/proc/${PID}/oom_score_adj`,
      abi.O_WRONLY | abi.O_CLOEXEC,
      value,
      value.length,
    ]);
  }
  return part;
}

function hooks(
  spec: Spec,
  kind: "prestart" | "createRuntime" | "poststart",
  bundle: string,
  status: string,
): Part {
  const part = new Part();
  const list: readonly Hook[] = spec.hooks?.[kind] ?? [];
  // The pid is known only when init is there.
  const state = JSON.stringify({ ociVersion: spec.ociVersion, id: ID, status, pid: 0, bundle });
  for (let i = 0; i < list.length; i++) {
    part.at("hooks", `hooks.${kind}[${i}]`);
    part.op(abi.BUNC_OP_HOOK, [hookStruct(list[i]!, state, HOOK_ENV)], { about: hookAbout(kind, i) });
  }
  return part;
}

async function settingsFor(spec: Spec, bundle: string, group: Cgroup): Promise<LaunchSettings> {
  const userNamespace = spec.linux?.namespaces?.some(({ type }) => type === "user") ?? false;
  return {
    id: ID,
    bundle,
    rootfs: spec.root!.path,
    noPivot: false,
    noNewKeyring: false,
    preserve: 0,
    waitForStart: false,
    pidfdSocket: false,
    seccomp: await seccompFilter(spec),
    setgroups: sys(abi.SYS_geteuid) === 0,
    enterCgroup: userNamespace ? undefined : (part) => group.compileEnter(part),
    innerPid: 1,
    hookEnv: HOOK_ENV,
  };
}

/** Compiled here and not taken from the cache, which would be written to. */
async function seccompFilter(spec: Spec): Promise<LaunchSettings["seccomp"]> {
  const profile = spec.linux?.seccomp;
  if (!profile) return undefined;
  const [{ compileSeccomp }, { openSeccompLibrary }, { seccompImage }] = await Promise.all([
    import("../seccomp/compile.ts"),
    import("../seccomp/native.ts"),
    import("../seccomp/embedded.ts"),
  ]);
  return compileSeccomp(profile, openSeccompLibrary(memfdPath("libbunc-seccomp", seccompImage())));
}

/** Facts about this host; what cannot be read counts as not there, but for cgroups, which then are v2. */
function hostFacts(): HostFacts {
  const apparmor = readText("/sys/module/apparmor/parameters/enabled", 16);
  const found = readLayout();
  const unified = { controllers: [], mountPoint: "/sys/fs/cgroup", root: "/", noprefix: false };
  return {
    apparmor: typeof apparmor === "string" && apparmor.startsWith("Y"),
    selinux: typeof readText("/sys/fs/selinux/enforce", 16) === "string",
    fullProcMounts: [],
    cgroup: found.mode === "none" ? { ...found, mode: "v2", v2: unified } : found,
  };
}
