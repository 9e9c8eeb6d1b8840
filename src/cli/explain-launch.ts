/**
 * All parts of a launch, of both sides, in the order in which src/container/launcher.ts has them executed. Facts about
 * the host are read where they can be read, and nothing else is touched.
 */
import { type Cgroup, planCgroup } from "../cgroup/cgroup.ts";
import { readLayout } from "../cgroup/layout.ts";
import type { RdtGroup } from "../cgroup/resctrl.ts";
import { callersNofile } from "../container/host-facts.ts";
import { annotationNotes, hookFiles, refuseUnknownCalls } from "../launch/annotations.ts";
import { Launch } from "../launch/compile.ts";
import { type HostFacts, type LaunchSettings, Stage } from "../launch/context.ts";
import type { LaunchProgram, SidePart } from "../launch/explain.ts";
import { hookAbout, hookStruct } from "../launch/hooks.ts";
import { NetDeviceProgram, wantedNetDevices } from "../launch/net-devices.ts";
import { Part, Slot, Slots } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { bytesOf, memfdPath, sys } from "../linux/lib.ts";
import type { Hook, LinuxSeccomp, Spec } from "../oci/config.ts";
import { claim, mapMount, openings, passListener, plain, removal, save } from "./explain-parent.ts";

/** Stands for the id, which only `create` and `run` are given. */
const ID = "<container-id>";
/** Stands for init's pid in paths. */
const PID = "<pid of init>";
const PLACE = { stateDir: `<root>/${ID}`, pid: PID };
/** Stands for the environment of hooks that name none: it is the caller's, and nobody wants it printed. */
const HOOK_ENV = ["<environment of bunc>"];

/**
 * The program that `run` would execute for a valid bundle.
 *
 * @throws BuncError when the bundle asks for what cannot be compiled
 */
export async function launchProgram(spec: Spec, bundle: string): Promise<LaunchProgram> {
  const { host, notes } = hostFacts(spec);
  const group = planCgroup({ spec, id: ID, layout: host.cgroup!, slots: new Slots() });
  const rdt = await assumedRdt(spec, notes);
  const launch = new Launch(spec, await settingsFor(spec, bundle, group, rdt), host);
  const { birth, fds, firstFd, first } = launch.plan;
  const parts: SidePart[] = [];
  plain(parts, claim(PLACE));
  if (rdt) parent(parts, rdt.compileCreate());
  parent(parts, group.compileCreate());
  const locked = spec.linux?.namespaces?.some(({ type }) => type === "user") ?? false;
  plain(parts, openings(fds, { ...PLACE, locked }));
  const before = parts.length;
  for (const { part, stage } of first) {
    parts.push({ side: "init", part });
    if (stage === Stage.user) plain(parts, await idMaps(spec));
  }
  if (spec.linux?.netDevices) {
    const { movePart } = await import("../container/net-devices.ts");
    parent(parts, movePart(wantedNetDevices(spec), new Slot(0, "netlink socket"), 0));
  }
  let limited = false;
  for (const { part, stage, mount } of launch.rest()) {
    if (stage === Stage.last) plain(parts, save(PLACE));
    parts.push({ side: "init", part });
    if (stage === Stage.listener) plain(parts, passListener(spec));
    if (mount !== undefined) plain(parts, mapMount(mount));
    if (stage !== Stage.mounted && stage !== Stage.ready) continue;
    if (!limited) parent(parts, group.compileLimits());
    if (!limited && rdt) parent(parts, rdt.compileLimits());
    limited = true;
    if (stage !== Stage.mounted) continue;
    parent(parts, hooks(spec, "prestart", bundle, "creating"));
    parent(parts, hooks(spec, "createRuntime", bundle, "creating"));
  }
  parent(parts, hooks(spec, "poststart", bundle, "running"));
  if (rdt) plain(parts, rdt.compileRemove());
  plain(parts, removal(PLACE, group));
  parent(parts, hooks(spec, "poststop", bundle, "stopped"));
  return {
    birth,
    fds,
    firstFd,
    parts,
    before,
    intoCgroup: group.bearsInit,
    notes: notes.concat(annotationNotes(spec, bundle)),
  };
}

function parent(parts: SidePart[], part: Part): void {
  if (part.ops.length) parts.push({ side: "parent", part });
}

/** The mappings of a new user namespace, while init waits in it. */
async function idMaps(spec: Spec): Promise<Part> {
  const { mapText } = await import("../container/ids.ts");
  const part = new Part();
  for (const kind of ["uid", "gid"] as const) {
    part.at("ids", `linux.${kind}Mappings`);
    writeProc(part, `${kind}_map`, mapText(spec.linux?.[`${kind}Mappings`] ?? []));
  }
  return part;
}

/** A write to a file of init in /proc. */
function writeProc(part: Part, name: string, text: string): void {
  const bytes = bytesOf(text);
  const flags = abi.O_WRONLY | abi.O_CLOEXEC;
  part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, `/proc/${PID}/${name}`, flags, bytes, bytes.length]);
}

function hooks(
  spec: Spec,
  kind: "prestart" | "createRuntime" | "poststart" | "poststop",
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

async function assumedRdt(spec: Spec, notes: string[]): Promise<RdtGroup | undefined> {
  if (!spec.linux?.intelRdt) return undefined;
  const { group, assumed } = (await import("../cgroup/resctrl.ts")).assumeRdt(spec.linux.intelRdt, ID);
  if (assumed) notes.push("this host has no resctrl mounted, so run would refuse linux.intelRdt");
  return group;
}

async function settingsFor(
  spec: Spec,
  bundle: string,
  group: Cgroup,
  rdt: RdtGroup | undefined,
): Promise<LaunchSettings> {
  return {
    id: ID,
    bundle,
    rootfs: spec.root!.path,
    noPivot: false,
    noNewKeyring: false,
    preserve: 0,
    waitForStart: false,
    pidfdSocket: false,
    seccomp: spec.linux?.seccomp ? (await seccompFilter(spec))(spec.linux.seccomp) : undefined,
    setgroups: sys(abi.SYS_geteuid) === 0,
    enterCgroup: (part) => {
      group.compileEnter(part);
      rdt?.compileEnter(part);
    },
    nofile: spec.process?.rlimits?.some(({ type }) => type === "RLIMIT_NOFILE") ? undefined : callersNofile(),
    innerPid: 1,
    hookEnv: HOOK_ENV,
    hookFiles: hookFiles(spec, bundle),
    ...(spec.linux?.netDevices ? { netDevices: new NetDeviceProgram(wantedNetDevices(spec)) } : {}),
  };
}

/** Loads the compiler of seccomp profiles. The cache is left out: it would be written to. */
export async function seccompFilter(
  spec?: Spec,
): Promise<(profile: LinuxSeccomp) => LaunchSettings["seccomp"]> {
  const [{ compileSeccomp, UNKNOWN_NAMES }, { openSeccompLibrary }, { seccompImage }] = await Promise.all([
    import("../seccomp/compile.ts"),
    import("../seccomp/native.ts"),
    import("../seccomp/embedded.ts"),
  ]);
  return (profile) => {
    const compiled = compileSeccomp(
      profile,
      openSeccompLibrary(memfdPath("libbunc-seccomp", seccompImage())),
    );
    const unknown = compiled?.warnings.find((warning) => warning.startsWith(UNKNOWN_NAMES));
    if (spec) refuseUnknownCalls(spec, unknown);
    return compiled;
  };
}

/**
 * Facts about this host. What the bundle needs and the host lacks is assumed, with a note: the program is what is asked
 * for, and the bundle may be meant for another host.
 */
function hostFacts(spec: Spec): { host: HostFacts; notes: string[] } {
  const notes: string[] = [];
  const has = (wanted: unknown, path: string, prefix: string, name: string) => {
    const text = wanted ? readText(path, 64) : "";
    if (typeof text !== "string" || !text.startsWith(wanted ? prefix : "")) {
      notes.push(`this host has no ${name}, so run would refuse the label that the bundle asks for`);
    }
  };
  has(spec.process?.apparmorProfile, "/sys/module/apparmor/parameters/enabled", "Y", "AppArmor");
  has(spec.process?.selinuxLabel ?? spec.linux?.mountLabel, "/sys/fs/selinux/enforce", "", "SELinux");
  const found = readLayout();
  const none = found.mode === "none";
  if (none) notes.push("this host has no cgroups mounted; cgroup2 at /sys/fs/cgroup is assumed");
  const unified = { controllers: [], mountPoint: "/sys/fs/cgroup", root: "/", noprefix: false };
  const cgroup = none ? { ...found, mode: "v2" as const, v2: unified } : found;
  return { host: { apparmor: true, selinux: true, fullProcMounts: [], cgroup }, notes };
}
