/**
 * The launch compiler: a validated bundle, settings and facts about the host in, a launch program out. Pure: it
 * touches nothing, so `explain` and the tests see exactly what would be executed.
 */
import { abi } from "../linux/abi.gen.ts";
import type { Spec } from "../oci/config.ts";
import { bindConsole, compileHostMaster } from "./console.ts";
import {
  Context,
  type HostFacts,
  type InheritedFd,
  type LaunchSettings,
  type SentPart,
  Stage,
} from "./context.ts";
import { compileDevices, compileNullStreams } from "./devices.ts";
import { PIDFD_FD, programSteps, STATE_DIR_FD } from "./finish.ts";
import { compileHooks, planHookFiles } from "./hooks.ts";
import type { Execve } from "./lookup.ts";
import { planTrees } from "./mount-sources.ts";
import { compileMounts, compileReadonlyMounts } from "./mounts.ts";
import {
  type Birth,
  compileCgroupNamespace,
  compileClocks,
  compileHiding,
  compileMountNamespaceJoin,
  compileNamespaces,
  compileTime,
  hidesFirst,
  planBirth,
} from "./namespaces.ts";
import { Parts } from "./parts.ts";
import { compileMaskedPaths, compileReadonlyPaths } from "./paths.ts";
import { compileKeyring, compileNames, compileSysctl } from "./process.ts";
import { Struct } from "./program.ts";
import { compileRenewal, renews } from "./renew.ts";
import { compilePivot, compileReadonlyRoot, compileRoot, compileRootPropagation } from "./rootfs.ts";
import { planTerminal } from "./terminal.ts";

/** What is known before init runs: how it is born, and which descriptors it inherits. */
export interface LaunchPlan {
  birth: Birth;
  fds: readonly InheritedFd[];
  /** Number of the first inherited descriptor in init. */
  firstFd: number;
  /** The parts that init executes while the rest is compiled: two with a new user namespace, else one. */
  first: readonly SentPart[];
}

/** Compiles in two steps, because init already works on the first part while the second is made. */
export class Launch {
  readonly context: Context;
  readonly plan: LaunchPlan;

  constructor(spec: Spec, settings: LaunchSettings, host: HostFacts) {
    const c = new Context(spec, settings, host);
    this.context = c;
    if (settings.waitForStart) c.inherit({ name: STATE_DIR_FD, from: { kind: "state-dir" } });
    if (settings.pidfdSocket) c.inherit({ name: PIDFD_FD, from: { kind: "pidfd-socket" } });
    planHookFiles(c);
    planTerminal(c);
    const birth = planBirth(c);
    planTrees(c);
    this.plan = { birth, fds: c.fds, firstFd: c.firstFd, first: compileNamespaces(c) };
  }

  /** The parts after the first, in the order they are sent; init can work on one while the next is compiled. */
  rest(): Parts {
    const c = this.context;
    return new Parts([
      () => {
        compileClocks(c);
        return renews(c) ? compileRenewal(c) : undefined;
      },
      () => {
        compileBody(c);
        return compileMounted(c);
      },
      () => compileRuntimeHooks(c),
      () => {
        compileChangedRoot(c);
        return undefined;
      },
      ...programSteps(c, { exposed: renews(c), bindConsole, sealRoot, hooks }),
    ]);
  }
}

function sealRoot(c: Context): void {
  if (!c.namespace("mount")) return;
  compileReadonlyMounts(c);
  compileReadonlyPaths(c);
  compileMaskedPaths(c);
  compileReadonlyRoot(c);
}

// runc gives startContainer hooks the program's environment when they have none; people rely on it.
function hooks(c: Context, env: Execve["env"]): void {
  compileHooks(c, "startContainer", env);
}

function compileBody(c: Context): void {
  const { part } = c;
  if (c.namespace("user")) {
    part.at("ids", "linux.uidMappings");
    // The parent has mapped the ids; root of the namespace is who sets the container up.
    part.op(abi.SYS_setresgid, [0, 0, 0], { tolerate: [[abi.EINVAL, 0]] });
    part.op(abi.SYS_setresuid, [0, 0, 0], { tolerate: [[abi.EINVAL, 0]] });
  }
  // Once more after the change of ids, which sysctl fs.suid_dumpable may have undone it by.
  if (c.isNew("user") || !hidesFirst(c)) compileHiding(c);
  part.at("process");
  part.op(abi.SYS_umask, [0]);
  compileKeyring(c);
  if (!c.namespace("user")) c.settings.enterCgroup?.(c.part);
  compileCgroupNamespace(c);
  compileTime(c);
  compileLoopback(c);
  c.settings.netDevices?.compileSetup(c);
  compileNames(c);
  compileSysctl(c);
  compileMountNamespaceJoin(c);
}

/** A new network namespace has a loopback device, but it is down. */
function compileLoopback(c: Context): void {
  if (!c.isNew("network")) return;
  const sock = c.slots.take("socket");
  const request = new Struct(40, "ifreq");
  request.view.setUint16(0, 0x6f6c, true); // "lo"
  request.view.setUint16(abi.IFNAMSIZ, abi.IFF_UP | abi.IFF_RUNNING, true);
  c.part.at("network", c.namespace("network")!.at);
  c.part.op(abi.SYS_socket, [abi.AF_INET, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0], { slot: sock });
  c.part.op(abi.SYS_ioctl, [sock, abi.SIOCSIFFLAGS, request], {
    about: "cannot bring the loopback device up",
  });
  c.part.op(abi.SYS_close, [sock]);
  c.slots.give(sock);
}

/** Root and mounts. */
function compileMounted(c: Context): SentPart[] {
  if (c.namespace("mount")) {
    compileRoot(c);
    const ended = compileMounts(c);
    ended.push(c.endPart(Stage.none));
    return ended;
  }
  c.part.at("rootfs", "root.path");
  c.part.op(
    abi.SYS_openat,
    [abi.AT_FDCWD, c.settings.rootfs, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0],
    { slot: c.root, about: `cannot open the rootfs ${JSON.stringify(c.settings.rootfs)}` },
  );
  compileHostMaster(c);
  return [];
}

/** Devices, and the stop for the hooks that the parent runs. */
function compileRuntimeHooks(c: Context): SentPart | undefined {
  if (c.namespace("mount")) compileDevices(c);
  const { prestart, createRuntime } = c.spec.hooks ?? {};
  if (!prestart?.length && !createRuntime?.length) return undefined;
  c.part.at("hooks", "hooks");
  return c.endPart(Stage.mounted);
}

/** The container's own hooks, and the change of root. */
function compileChangedRoot(c: Context): void {
  if (c.spec.hooks?.createContainer?.length) {
    c.part.at("hooks").op(abi.SYS_fchdir, [c.root]);
    compileHooks(c, "createContainer", c.settings.hookEnv);
  }
  compilePivot(c);
  if (!c.namespace("mount")) return;
  compileRootPropagation(c);
  compileNullStreams(c);
  c.part.at("process", "process.cwd");
  const cwd = c.slots.take("working directory");
  c.part.op(abi.BUNC_OP_MKPATH, [c.root, c.process.cwd, abi.S_IFDIR, 0o755], {
    slot: cwd,
    tolerate: [[abi.EACCES, 1]],
    about: `cannot make the working directory ${JSON.stringify(c.process.cwd)}`,
  });
  c.part.op(abi.SYS_close, [cwd]);
  c.slots.give(cwd);
}
