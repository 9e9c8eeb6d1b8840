/** Rarely needed parts of a launch, loaded only for bundles and callers that ask for them. */
import { BuncError } from "../errors.ts";
import { type HookFile, hasHooks } from "../launch/annotations.ts";
import type { LaunchSettings } from "../launch/context.ts";
import { abi } from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import type { Spec } from "../oci/config.ts";
import type { HookOutput } from "./hooks.ts";
import type { LaunchOptions } from "./types.ts";

/** What they come to. */
export interface Extras {
  seccomp: LaunchSettings["seccomp"];
  /** Descriptors from 3 on that the program inherits. */
  preserve: number;
  listenFds: number;
  /** $NOTIFY_SOCKET of the caller, "" for none. */
  notifySocket: string;
  hookEnv: string[];
  /** The files that take what the hooks write, and, until the launch is over, their descriptors. */
  hookFiles: readonly HookFile[];
  hookOutput?: HookOutput;
  /** The systemd driver, when that is to make the cgroups. */
  systemd?: typeof import("../cgroup/systemd.ts");
  /** The group of linux.intelRdt. */
  rdt?: import("../cgroup/resctrl.ts").RdtGroup;
  netDevices?: LaunchSettings["netDevices"];
  moveDevices?: (pid: number) => void;
}

/** Loads what the bundle and the caller's environment ask for, and adds it to the spec. */
export async function loadExtras(spec: Spec, options: LaunchOptions, stateDir: string): Promise<Extras> {
  const env = process.env;
  const extras: Extras = {
    seccomp: undefined,
    preserve: 0,
    listenFds: 0,
    notifySocket: "",
    hookEnv: [],
    hookFiles: [],
  };
  if (options.preserveFds > 0 || env.LISTEN_FDS) {
    const passed = (await import("./preserve.ts")).passedFds(options.preserveFds);
    extras.preserve = passed.count;
    extras.listenFds = passed.listenFds;
    if (passed.env.length) spec.process!.env = [...(spec.process!.env ?? []), ...passed.env];
  }
  if (env.NOTIFY_SOCKET) {
    const { addNotifyMount, makeNotifyDirectory } = await import("./notify.ts");
    extras.notifySocket = env.NOTIFY_SOCKET;
    makeNotifyDirectory(stateDir);
    addNotifyMount(spec, stateDir);
  }
  if (options.systemdCgroup) extras.systemd = await import("../cgroup/systemd.ts");
  if (spec.linux?.intelRdt)
    extras.rdt = (await import("../cgroup/resctrl.ts")).planRdt(spec.linux.intelRdt, options.id);
  const profile = spec.linux?.seccomp;
  if (profile) extras.seccomp = (await import("./seccomp-filter.ts")).loadFilter(profile, options, spec);
  if (spec.linux?.netDevices) {
    const { findNetDevices, moveNetDevices } = await import("./net-devices.ts");
    // An ordinary user has no rights on the devices of the host's network namespace.
    if (sys(abi.SYS_geteuid) !== 0) throw noDevices();
    const devices = findNetDevices(spec);
    extras.netDevices = devices;
    extras.moveDevices = (pid) => moveNetDevices(devices, pid);
  }
  if (spec.hooks) {
    const { hookEnvironment, hookFiles, openHookFiles } = await import("./hooks.ts");
    extras.hookEnv = hookEnvironment();
    // Hooks run in the bundle, as with runc.
    sys(abi.SYS_chdir, options.bundle);
    if (hasHooks(spec)) extras.hookFiles = hookFiles(spec, options.bundle);
    // Before anything is made, and for hooks of other commands too, as crun does.
    extras.hookOutput = openHookFiles(extras.hookFiles);
  }
  return extras;
}

/** runc's words. */
function noDevices(): BuncError {
  return new BuncError("network devices are not supported for rootless containers", {
    code: "config",
    path: "linux.netDevices",
    hint: "moving one needs CAP_NET_ADMIN on the host; slirp4netns or pasta connect a container without it",
  });
}
