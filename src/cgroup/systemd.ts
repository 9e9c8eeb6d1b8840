/**
 * The systemd driver: a container's cgroup is a transient unit, usually a scope, that systemd makes around its init and
 * stops when it is deleted (docs/systemd.md of runc). What no property of a unit says is written to the cgroup file system,
 * by the other driver, which this one has inside. Loaded for --systemd-cgroup alone.
 */
import { BuncError } from "../errors.ts";
import type { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, writeExisting } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import type { HostState } from "../linux/run-part.ts";
import { inUserNamespace } from "../linux/user-namespace.ts";
import type { LinuxResources, Spec } from "../oci/config.ts";
import type { Cgroup, CgroupRequest } from "./cgroup.ts";
import { CgroupfsGroup } from "./cgroupfs.ts";
import { type DeviceFilter, deviceFilter } from "./devices.ts";
import type { Layout } from "./layout.ts";
import { destroy, killAll } from "./live.ts";
import type { CgroupPaths } from "./names.ts";
import { BusError, type Property, SystemdBus } from "./systemd-bus.ts";
import { type UnitNames, unitNames, unitOfPath, unitPath } from "./systemd-names.ts";
import {
  dropIdleWeight,
  type LimitProperties,
  limitProperties,
  roundQuota,
  unitProperties,
} from "./systemd-properties.ts";
import { configError } from "./write.ts";

const NAMED = "name=systemd";

/** Whether the manager is a user's, as `rootless` of the launch says. */
export interface SystemdRequest extends CgroupRequest {
  rootless: boolean;
}

/**
 * Plans the unit of a container. For a user's manager this connects to it, as only that one knows where its cgroups are.
 *
 * @throws BuncError for a bundle that no unit can be made of, and for a host without systemd
 */
export function planSystemd(request: SystemdRequest): Cgroup {
  const { spec, layout, rootless, id } = request;
  if (rootless && layout.mode !== "v2") {
    throw new BuncError("cannot use rootless systemd cgroups manager on cgroup v1", {
      code: "host",
      phase: "cgroup",
      hint: "boot with systemd.unified_cgroup_hierarchy=1, or leave --systemd-cgroup out",
    });
  }
  const names = unitNames(spec, id, rootless);
  const manager = new Manager(rootless);
  const above = rootless ? manager.bus.managerText("ControlGroup") : "";
  const devices = request.userNamespace ? undefined : deviceFilter(spec);
  return new SystemdGroup(request, names, above, manager, devices);
}

/** systemd, connected to when it is first needed. */
class Manager {
  private connection: SystemdBus | undefined;
  private number = 0;

  constructor(readonly user: boolean) {}

  get bus(): SystemdBus {
    this.connection ??= new SystemdBus(this.user);
    return this.connection;
  }

  /** 252 of "252.39-1~deb12u1"; 0 where it says nothing that can be read. */
  readonly version = (): number => {
    this.number ||= Number(/\d+/.exec(this.bus.managerText("Version"))?.[0] ?? 0);
    return this.number;
  };
}

class SystemdGroup implements Cgroup {
  readonly driver = "systemd";
  readonly bearsInit = false;
  readonly layout: Layout;
  readonly paths: CgroupPaths;
  readonly warnings: readonly string[];

  private readonly spec: Spec;
  private readonly fs: CgroupfsGroup;
  private started = false;
  private limits: LimitProperties | undefined;

  constructor(
    request: CgroupRequest,
    private readonly names: UnitNames,
    above: string,
    private readonly manager: Manager,
    private readonly devices: DeviceFilter | undefined,
  ) {
    this.layout = request.layout;
    const warnings: string[] = [];
    let resources = roundQuota(request.spec.linux?.resources ?? {});
    if (this.layout.mode === "v2") resources = dropIdleWeight(resources, (message) => warnings.push(message));
    this.spec = { ...request.spec, linux: { ...request.spec.linux, resources } };
    const inner = `${above === "/" ? "" : above}${unitPath(names)}`;
    this.fs = new CgroupfsGroup({ ...request, spec: this.spec }, inner);
    this.paths = this.fs.paths;
    this.warnings = [...warnings, ...this.fs.warnings];
  }

  private get resources(): LinuxResources {
    return this.spec.linux!.resources!;
  }

  compileCreate(): Part {
    return this.fs.compileCreate();
  }

  compileEnter(part: Part, fds?: readonly number[]): void {
    this.fs.compileEnter(part, fds);
  }

  taskFiles(): string[] {
    return this.fs.taskFiles();
  }

  compileLimits(): Part {
    return this.fs.compileLimits();
  }

  /** Nothing is made yet: systemd wants a process for a scope. */
  create(): number {
    this.fs.check();
    const host = { v2: this.layout.mode === "v2", version: this.manager.version };
    this.limits = limitProperties(this.resources, this.devices, host);
    // Connected to before there is an init, so that a host without systemd is told so first.
    this.manager.bus;
    return -1;
  }

  adopt(state: HostState, pid: number): void {
    const { unit, subgroup } = this.names;
    const host = { v2: this.layout.mode === "v2", version: this.manager.version };
    const properties = [...unitProperties(this.spec, this.names, pid, host), ...this.limits!.early];
    // Also after a failure there may be something to be stopped: a job that ends too late.
    this.started = true;
    startUnit(this.manager.bus, unit, properties);
    if (this.layout.mode === "v2" && (subgroup || unit.endsWith(".slice"))) this.move(pid);
    this.fs.make(state, false);
  }

  /** Into what systemd has not put it: a cgroup below the scope, or a slice. */
  private move(pid: number): void {
    const path = this.paths[""]!;
    const made = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o755);
    if (made < 0 && made !== -abi.EEXIST) throw pathError("mkdir", path, made);
    const result = writeExisting(`${path}/cgroup.procs`, String(pid));
    if (result < 0) throw pathError("write", `${path}/cgroup.procs`, result);
  }

  place(state: HostState, pid: number, born: boolean): void {
    this.fs.place(state, pid, born);
  }

  limit(state: HostState): void {
    setUnitProperties(this.manager.bus, this.names.unit, this.limits!.late);
    this.fs.limit(state, true);
  }

  async stop(): Promise<void> {
    await killAll(this.paths);
    stopUnit(this.manager.bus, this.names.unit);
  }

  async undo(): Promise<void> {
    if (!this.started) return;
    this.started = false;
    try {
      await this.stop();
      await destroy(this.paths);
    } catch (error) {
      if (!(error instanceof BuncError)) throw error;
    }
  }
}

/**
 * Whether a user's manager is meant: an ordinary user's own, and that of the user who made a user namespace, in which bunc
 * runs as root (rootless podman).
 */
export function isUserManager(euid: number): boolean {
  if (euid !== 0) return true;
  if (!inUserNamespace()) return false;
  return Boolean(process.env.DBUS_SESSION_BUS_ADDRESS || process.env.XDG_RUNTIME_DIR);
}

const REPLACE = { type: "s", value: "replace" };

/** Properties as StartTransientUnit and SetUnitProperties take them: a(sv). */
function listed(properties: readonly Property[]) {
  return { type: "a(sv)", value: properties.map(({ name, type, value }) => [name, { type, value }]) };
}

/** Starts a transient unit and waits until it is there. One that has failed before under this name makes way. */
function startUnit(bus: SystemdBus, unit: string, properties: readonly Property[]): void {
  const what = `unable to start unit "${unit}"`;
  const name = { type: "s", value: unit };
  const args = [name, REPLACE, listed(properties), { type: "a(sa(sv))", value: [] }];
  let result: string;
  try {
    result = bus.job("StartTransientUnit", args, what);
  } catch (error) {
    if (!isBusError(error, "UnitExists")) throw explained(error);
    // A slice may well be there and have others in it.
    if (unit.endsWith(".slice")) return;
    resetFailed(bus, unit);
    try {
      result = bus.job("StartTransientUnit", args, what);
    } catch (second) {
      throw explained(second);
    }
  }
  if (result === "done") return;
  resetFailed(bus, unit);
  throw new BuncError(
    result === "timeout"
      ? `Timeout waiting for systemd to create ${unit}`
      : `error creating systemd unit \`${unit}\`: got \`${result}\``,
    {
      code: "host",
      phase: "cgroup",
      path: "linux.cgroupsPath",
      hint: `systemctl status ${unit} may tell why`,
    },
  );
}

/** What can be done about a refusal. */
function explained(error: unknown): unknown {
  if (!(error instanceof BusError)) return error;
  const { message, busName } = error;
  let hint = "";
  if (busName.endsWith("UnitExists")) hint = "choose another linux.cgroupsPath, or stop that unit";
  else if (message.includes("or unknown property")) {
    hint =
      "this systemd does not have that property; see annotations org.systemd.property.* and linux.resources";
  } else if (busName.endsWith("InteractiveAuthorizationRequired") || busName.endsWith("AccessDenied")) {
    hint = "the system's units are root's; an ordinary user has those of its own session";
  }
  return new BuncError(message, { ...error.fields, path: "linux.cgroupsPath", ...(hint ? { hint } : {}) });
}

function isBusError(error: unknown, name: string): boolean {
  return error instanceof BusError && error.busName.endsWith(`.${name}`);
}

function resetFailed(bus: SystemdBus, unit: string): void {
  try {
    bus.run("ResetFailedUnit", [{ type: "s", value: unit }], `unable to reset ${unit}`);
  } catch (error) {
    // It has not failed, or is gone.
    if (!(error instanceof BusError)) throw error;
  }
}

/** Stops a unit and waits for its end; one that is gone is fine. */
function stopUnit(bus: SystemdBus, unit: string): void {
  try {
    const result = bus.job(
      "StopUnit",
      [{ type: "s", value: unit }, REPLACE],
      `unable to stop unit "${unit}"`,
    );
    if (result === "timeout") {
      throw new BuncError(`Timed out while waiting for systemd to remove ${unit}`, {
        code: "host",
        phase: "cgroup",
        hint: `systemctl status ${unit} may tell why`,
      });
    }
  } catch (error) {
    if (!isBusError(error, "NoSuchUnit")) throw error;
  }
  resetFailed(bus, unit);
}

function setUnitProperties(bus: SystemdBus, unit: string, properties: readonly Property[]): void {
  if (properties.length === 0) return;
  // Runtime: gone with the unit.
  const args = [{ type: "s", value: unit }, { type: "b", value: 1 }, listed(properties)];
  bus.run("SetUnitProperties", args, `unable to set unit properties of "${unit}"`);
}

/** The unit in the paths of a container's state; undefined where there is none. */
function unitOf(paths: CgroupPaths): string | undefined {
  return unitOfPath(paths[""] ?? paths[NAMED] ?? paths.devices ?? "");
}

/**
 * Stops the unit of a container whose processes are to be ended, before its cgroups are removed.
 *
 * @param paths cgroup_paths of its state.json
 * @param rootless the unit is of the caller's own manager
 * @throws BuncError without systemd, or when the unit does not stop
 */
export function stopContainerUnit(paths: CgroupPaths, rootless: boolean): void {
  const unit = unitOf(paths);
  if (unit === undefined) return;
  const bus = new SystemdBus(rootless);
  try {
    stopUnit(bus, unit);
  } finally {
    bus.close();
  }
}

/**
 * Sets the properties of a container's unit to new limits, as `update` does before it writes to the cgroup files.
 *
 * @param resources what changes; its devices are left alone
 * @returns the resources as they are to be written then: systemd rounds the quota, and an idle cgroup has no weight
 * @throws BuncError when systemd refuses one
 */
export function updateContainerUnit(
  paths: CgroupPaths,
  rootless: boolean,
  resources: LinuxResources,
  v2: boolean,
  warn: (message: string) => void,
): LinuxResources {
  const unit = unitOf(paths);
  if (unit === undefined) throw configError("the container has no systemd unit", "cgroup_paths");
  const manager = new Manager(rootless);
  try {
    const rounded = roundQuota(v2 ? dropIdleWeight(resources, warn) : resources);
    const { early, late } = limitProperties(rounded, undefined, { v2, version: manager.version });
    setUnitProperties(manager.bus, unit, [...early, ...late]);
    return rounded;
  } finally {
    manager.bus.close();
  }
}

/**
 * Has systemd move a process to a container's cgroup v2, where the caller may not: out of its session's cgroup an ordinary
 * user moves nothing, but systemd does.
 *
 * @param directory the cgroup, the container's or one below it
 * @throws BuncError when systemd does not
 */
export function attachToUnit(paths: CgroupPaths, rootless: boolean, directory: string, pid: number): void {
  const unit = unitOf(paths);
  if (unit === undefined) throw configError("the container has no systemd unit", "cgroup_paths");
  const base = paths[""]!;
  const below = directory.slice(base.lastIndexOf(`/${unit}`) + unit.length + 1) || "/";
  const bus = new SystemdBus(rootless);
  try {
    const args = [
      { type: "s", value: unit },
      { type: "s", value: below },
      { type: "au", value: [pid] },
    ];
    bus.run("AttachProcessesToUnit", args, `unable to add the process to unit "${unit}"`);
  } finally {
    bus.close();
  }
}
