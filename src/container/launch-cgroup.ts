/** The cgroups of a container that is being launched: made before init is born, removed again when the launch fails. */
import { type Cgroup, planCgroup } from "../cgroup/cgroup.ts";
import { resetAffinity } from "../cgroup/create.ts";
import { type Layout, readLayout } from "../cgroup/layout.ts";
import { oomKilled } from "../cgroup/live.ts";
import { BuncError } from "../errors.ts";
import { type Part, Slots } from "../launch/program.ts";
import { closeFd } from "../linux/process.ts";
import { HostState } from "../linux/run-part.ts";
import { inUserNamespace } from "../linux/user-namespace.ts";
import type { Spec } from "../oci/config.ts";
import type { Extras } from "./launch-extras.ts";
import type { LaunchOptions } from "./types.ts";

/** Errnos that mean "not with these rights": an ordinary user's container that asks for nothing goes on without. */
const DENIED = new Set(["EACCES", "EPERM", "EROFS"]);
/** runc's words. */
const NO_RIGHTS = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
const DELEGATE = "an ordinary user needs a delegated cgroup (systemd-run --user --scope -p Delegate=yes)";

/**
 * Chooses the driver where the caller leaves it open: Docker and CRI make linux.cgroupsPath in the form of the driver they
 * have, but tell that driver only to shims whose options they know.
 */
export function settleDriver(options: LaunchOptions, spec: Spec): void {
  if (!options.driverByPath) return;
  const parts = spec.linux?.cgroupsPath?.split(":");
  options.systemdCgroup = parts?.length === 3 && parts[0]!.endsWith(".slice");
}

/** One launch's view of src/cgroup. */
export class LaunchCgroup {
  readonly layout: Layout;
  /** Descriptor of the cgroup2 directory that init is cloned into, -1 for none. */
  fd = -1;
  /** Permission errors are ignored where neither limits nor a path are asked for: it runs in the caller's cgroups then. */
  readonly rootless: boolean;
  private group: Cgroup | undefined;
  private readonly rdt: Extras["rdt"];
  private readonly log: LaunchOptions["log"];
  private readonly systemd: boolean;
  private readonly state = new HostState();

  constructor(
    private readonly spec: Spec,
    { id, rootless, log, noCgroup }: LaunchOptions,
    euid: number,
    { systemd, rdt }: Pick<Extras, "systemd" | "rdt">,
  ) {
    this.layout = readLayout();
    this.rdt = rdt;
    this.log = log;
    this.systemd = systemd !== undefined;
    this.rootless = rootless ?? (systemd ? systemd.isUserManager(euid) : euid !== 0 || inUserNamespace());
    if (noCgroup) {
      if (wantsLimits(spec)) log.warn("linux.resources: ignored, as cgroups are disabled (--cgroup-manager)");
      return;
    }
    if (this.rootless && !systemd && this.layout.mode === "none") {
      this.goWithout();
      return;
    }
    // Device rules are for root of the host alone: an ordinary user's container has the devices that user has.
    const request = { spec, id, layout: this.layout, slots: new Slots(), userNamespace: this.rootless };
    this.group = systemd ? systemd.planSystemd({ ...request, rootless: this.rootless }) : planCgroup(request);
    for (const warning of this.group.warnings) log.warn(warning);
  }

  /** Directories for state.json; they need not exist yet. */
  get paths(): Readonly<Record<string, string>> {
    return this.group?.paths ?? {};
  }

  /** Whether the container has cgroups of its own; certain after create(). */
  get own(): boolean {
    return this.group !== undefined;
  }

  /**
   * Operations by which init enters the cgroups it was not born in. They also let it run on every cpu that its cgroups
   * allow, which is the same for a container that stays in those of the caller.
   */
  get enter(): (part: Part) => void {
    const { group, rdt } = this;
    return (part) => {
      if (group) group.compileEnter(part);
      else resetAffinity(part);
      rdt?.compileEnter(part);
    };
  }

  /** Makes the cgroups. */
  create(): void {
    this.rdt?.create();
    if (!this.group) return;
    try {
      this.fd = this.group.create(this.state);
    } catch (error) {
      if (!this.rootless || !(error instanceof BuncError) || !DENIED.has(error.fields.errno ?? ""))
        throw error;
      if (this.spec.linux?.cgroupsPath && !this.systemd) {
        const hint = `${DELEGATE}, or no linux.cgroupsPath`;
        throw new BuncError(error.message, { ...error.fields, path: "linux.cgroupsPath", hint });
      }
      if (wantsLimits(this.spec))
        throw new BuncError(`${NO_RIGHTS}: ${error.message}`, {
          ...error.fields,
          path: "linux.resources",
          hint: DELEGATE,
        });
      this.group = undefined;
      this.goWithout();
    }
  }

  /** As in runc, a container whose processes nothing holds together is made, but not silently. */
  private goWithout(): void {
    const pid = this.spec.linux?.namespaces?.find(({ type }) => type === "pid");
    if (pid && !pid.path) return;
    this.log.warn(
      "the container has neither a cgroup nor a pid namespace of its own, so what it starts may outlive it. " +
        "Such configuration is strongly discouraged",
    );
  }

  /** When init is there and waits for its program. */
  adopt(pid: number): void {
    this.group?.adopt?.(this.state, pid);
  }

  /** Before the cgroups of a container that has ended are removed. */
  async stop(): Promise<void> {
    this.rdt?.remove();
    await this.group?.stop?.();
  }

  /** After init is born. */
  closeBirth(): void {
    closeFd(this.fd);
  }

  /** The limits, before anything of the user's runs. */
  limit(): void {
    this.group?.limit(this.state);
    this.rdt?.limit();
  }

  /** After a failure. */
  async undo(): Promise<void> {
    await this.group?.undo();
    this.rdt?.undo();
  }

  /** Whether the kernel killed something in the container for want of memory. */
  oomKilled(): boolean {
    return this.group !== undefined && oomKilled(this.group.paths);
  }
}

function wantsLimits(spec: Spec): boolean {
  const { devices: _, ...limits } = spec.linux?.resources ?? {};
  return Object.values(limits).some((value) => value !== undefined);
}
