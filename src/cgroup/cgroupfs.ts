/** The driver that makes and removes directories of cgroup file systems itself (runc's fs and fs2). */
import { BuncError } from "../errors.ts";
import { Part, type Slot, type Slots } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { type HostState, runPart } from "../linux/run-part.ts";
import type { LinuxResources } from "../oci/config.ts";
import type { Cgroup, CgroupRequest } from "./cgroup.ts";
import * as ops from "./create.ts";
import { attachDeviceFilter } from "./device-bpf.ts";
import { type DeviceFilter, deviceFilter, ruleText } from "./devices.ts";
import { attachedFilters, detachFilters } from "./filters.ts";
import {
  DELEGATED,
  explainLimit,
  inspect,
  readDelegate,
  refuseOccupied,
  removeEmpty,
  removeMade,
  withUmask,
} from "./host.ts";
import { findHierarchy, type Layout } from "./layout.ts";
import { earlyLimitsV1, lateLimitsV1 } from "./limits-v1.ts";
import { earlyLimitsV2, lateLimitsV2, needsDomain } from "./limits-v2.ts";
import { type CgroupPaths, type GroupDir, groupDirs, innerPath, pathsOf } from "./names.ts";
import { ownerOf } from "./owner.ts";
import { ignoredFields } from "./resources.ts";
import { writeValue } from "./write.ts";

const NOTHING: LinuxResources = {};

export class CgroupfsGroup implements Cgroup {
  readonly driver = "cgroupfs";
  readonly layout: Layout;
  readonly paths: CgroupPaths;
  readonly warnings: readonly string[];
  readonly bearsInit: boolean;
  /** The container's directories, in the order in which they are made. */
  readonly dirs: readonly GroupDir[];

  private readonly slots: Slots;
  private readonly resources: LinuxResources;
  /** The container's directory in cgroup2, on v2 and hybrid hosts. */
  private readonly unified: GroupDir | undefined;
  private readonly devices: DeviceFilter | undefined;
  private readonly early: Part;
  private readonly late: Part;
  private readonly born: Slot;
  /** The host uid that the cgroup is given to. */
  private readonly owner: number | undefined;
  private existing: ops.Existing | undefined;

  /** @param unit the path below each hierarchy's mount point, where systemd chooses it and not linux.cgroupsPath */
  constructor(request: CgroupRequest, unit?: string) {
    const { spec, layout } = request;
    this.layout = layout;
    this.slots = request.slots;
    this.early = new Part();
    this.late = new Part();
    this.resources = spec.linux?.resources ?? NOTHING;
    const inner = unit ?? innerPath(spec.linux?.cgroupsPath, request.id);
    requireHierarchies(layout, request.userNamespace ?? false);
    this.dirs = groupDirs(layout, inner);
    this.paths = pathsOf(this.dirs);
    const last = this.dirs[this.dirs.length - 1];
    this.unified = last?.names[0] === "" ? last : undefined;
    this.bearsInit = this.unified !== undefined;
    this.warnings = ignoredFields(this.resources, layout.mode === "v2");
    this.devices = request.userNamespace ? undefined : deviceFilter(spec);
    this.born = this.slots.take("cgroup of init");
    this.owner = layout.mode === "v2" ? ownerOf(spec) : undefined;
    this.compileSettings();
  }

  /** Compiled at once, so that whatever is wrong with the limits is said before anything is made. */
  private compileSettings(): void {
    const { early, late, slots, resources, layout } = this;
    if (layout.mode === "v2") {
      const target = { dir: this.unified!.path, layout };
      earlyLimitsV2(early, resources, target);
      lateLimitsV2(late, slots, resources, target);
      if (this.devices) {
        late.at("cgroup", "linux.resources.devices");
        attachDeviceFilter(late, slots, target.dir, this.devices);
      }
    } else {
      earlyLimitsV1(early, resources, this.paths);
      lateLimitsV1(late, slots, resources, this.paths);
      if (this.devices) this.compileDevicesV1(late, this.devices);
    }
  }

  /** All are denied (or allowed) first, which also forgets what a cgroup that was there before had. */
  private compileDevicesV1(part: Part, filter: DeviceFilter): void {
    const dir = this.paths.devices;
    const list = this.slots.take(filter.allow ? "devices.deny" : "devices.allow");
    part.at("cgroup", "linux.resources.devices");
    const hint = "the cgroup above must allow these devices itself";
    writeValue(part, `${dir}/devices.${filter.allow ? "allow" : "deny"}`, "a *:* rwm", { hint });
    if (filter.exceptions.length > 0) {
      const file = `${dir}/devices.${filter.allow ? "deny" : "allow"}`;
      const flags = abi.O_WRONLY | abi.O_CLOEXEC;
      part.op(abi.SYS_openat, [abi.AT_FDCWD, file, flags, 0], { slot: list, about: `cannot open ${file}` });
      for (const exception of filter.exceptions) {
        const text = ruleText(exception);
        part.op(abi.SYS_write, [list, text, text.length], {
          about: `failed to write "${text}" to ${file}`,
          hint,
        });
      }
      part.op(abi.SYS_close, [list]);
    }
    this.slots.give(list);
  }

  compileCreate(delegated = DELEGATED, birth = true): Part {
    const part = new Part();
    const { slots, layout, dirs } = this;
    const existing = this.existing ?? ops.assumeMissing(dirs);
    if (layout.mode === "v2") {
      ops.makeV2(part, slots, this.unified!, existing, layout, needsDomain(this.resources));
    } else {
      ops.makeV1(part, slots, dirs, existing, this.resources.cpu);
    }
    if (this.owner !== undefined) ops.delegate(part, this.unified!.path, this.owner, delegated);
    for (const op of this.early.ops) part.ops.push(op);
    if (this.unified && birth) ops.openForBirth(part, this.born, this.unified);
    return part;
  }

  compileEnter(part: Part, fds?: readonly number[]): void {
    if (fds) ops.enterByDescriptors(part, this.v1Dirs(), fds);
    else ops.enter(part, this.v1Dirs());
    ops.resetAffinity(part);
  }

  compileLimits(): Part {
    return this.late;
  }

  create(state: HostState): number {
    for (let again = true; ; again = false) {
      this.check();
      try {
        this.make(state);
        const born = this.unified ? state.get(this.born) : -1;
        return born < 0 ? -1 : born;
      } catch (error) {
        if (this.existing) removeEmpty(this.dirs, this.existing);
        // A launch beside this one failed, and took back a directory that both need.
        if (!again || !isVanished(error)) throw error;
      }
    }
  }

  /** The first half of create(): refuses cgroups that cannot be used. What is not there now counts as made by us. */
  check(): void {
    const existing = inspect(this.dirs);
    refuseOccupied(this.paths, existing, this.resources, this.layout);
    this.existing = existing;
  }

  /**
   * The second half.
   * @param birth init is to be cloned into the cgroup
   */
  make(state: HostState, birth = true): void {
    const part = this.compileCreate(this.owner === undefined ? DELEGATED : readDelegate(), birth);
    try {
      withUmask(() => runPart(part, state));
    } catch (error) {
      throw explainLimit(error, this.paths, this.resources);
    }
  }

  place(state: HostState, pid: number, born: boolean): void {
    const part = new Part();
    ops.enter(part, born ? this.v1Dirs() : this.dirs, pid);
    ops.resetAffinity(part, pid);
    runPart(part, state);
  }

  /** @param shared somebody else has made the cgroup */
  limit(state: HostState, shared = false): void {
    // A cgroup that was there before may have filters of its own, which would go on to deny what is allowed now.
    const present = shared || this.existing?.present.has(this.paths[""]!);
    const before = this.layout.mode === "v2" && this.devices && present;
    const old = before ? attachedFilters(this.paths[""]!) : [];
    runPart(this.late, state);
    if (old.length > 0) detachFilters(this.paths[""]!, old);
  }

  taskFiles(): string[] {
    return ops.taskFiles(this.dirs);
  }

  async undo(): Promise<void> {
    const { existing } = this;
    this.existing = undefined;
    if (existing) await removeMade(this.dirs, existing);
  }

  private v1Dirs(): readonly GroupDir[] {
    return this.unified ? this.dirs.slice(0, -1) : this.dirs;
  }
}

function isVanished(error: unknown): boolean {
  return (
    error instanceof BuncError && error.fields.errno === "ENOENT" && error.fields.path === "linux.cgroupsPath"
  );
}

/** The words are runc's, which does without cgroups as little; the hints are ours. */
function requireHierarchies(layout: Layout, userNamespace: boolean): void {
  if (layout.mode === "none") {
    throw new BuncError("no cgroup mount found in mountinfo", {
      code: "host",
      phase: "cgroup",
      hint: "mount them: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    });
  }
  // Without it a container could use every device of the host.
  if (layout.mode !== "v2" && !userNamespace && !findHierarchy(layout, "devices")) {
    throw new BuncError("mountpoint for devices not found", {
      code: "host",
      phase: "cgroup",
      hint: "the devices controller of cgroup v1 is needed: mount -t cgroup -o devices cgroup /sys/fs/cgroup/devices",
    });
  }
}
