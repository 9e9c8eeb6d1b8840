/** linux.resources in cgroup v2: which files are set, and how values made for v1 are converted (runc's fs2). */
import type { Part, Slots } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxCPU, LinuxResources } from "../oci/config.ts";
import { bytesMax, cpuWeight, swapMax } from "./convert.ts";
import { type Layout, v2Controllers } from "./layout.ts";
import { blockIoV2, limitsBlockIo } from "./limits-blkio.ts";
import { checkPageSize, hasExtras, pidsMax } from "./resources.ts";
import { configError, isUnset, noController, writeValue } from "./write.ts";

const CPU = "linux.resources.cpu";
const MEMORY = "linux.resources.memory";
const SIGN = -(2 ** 63);
/** cpu.max needs a period; this is the kernel's own. */
const DEFAULT_PERIOD = 100000;

/** Where limits are written: one directory for all controllers. */
export interface Target {
  dir: string;
  layout: Layout;
}

/** Resources that need a controller whose cgroup must not hold both processes and children (cgroups(7)). */
export function needsDomain(resources: LinuxResources): boolean {
  const { memory, cpu, blockIO, hugepageLimits } = resources;
  return (
    limitsBlockIo(blockIO) ||
    !isUnset(memory?.limit) ||
    !isUnset(memory?.swap) ||
    !isUnset(memory?.reservation) ||
    !isUnset(cpu?.shares) ||
    !isUnset(cpu?.quota) ||
    !isUnset(cpu?.period) ||
    cpu?.burst !== undefined ||
    cpu?.idle !== undefined ||
    (hugepageLimits ?? []).length > 0
  );
}

/** The file of a controller; the host must offer that controller. */
function fileOf({ dir, layout }: Target, controller: string, name: string, path: string): string {
  if (!v2Controllers(layout).includes(controller)) {
    const list = v2Controllers(layout).join(" ") || "none";
    throw noController(
      controller,
      path,
      `cgroup v2 of this host has no ${controller} controller (it has: ${list}); enable it, or take the limit out`,
    );
  }
  return `${dir}/${name}`;
}

function hintFor(controller: string): string {
  return `the ${controller} controller must be enabled in cgroup.subtree_control of every directory above`;
}

/** What is set before the container has any process: memory and cpuset. */
export function earlyLimitsV2(part: Part, resources: LinuxResources, target: Target): void {
  const write = (controller: string, name: string, value: string, path: string, options: object = {}) => {
    part.at("cgroup", path);
    writeValue(part, fileOf(target, controller, name, path), value, {
      hint: hintFor(controller),
      ...options,
    });
  };
  const { limit, swap, reservation } = resources.memory ?? {};
  const swapValue = swapMax(swap, limit);
  if (swapValue !== undefined) {
    // Where there is no swap, none is used, and any amount may be.
    const free = swapValue === "max" || swapValue === "0";
    write(
      "memory",
      "memory.swap.max",
      swapValue,
      `${MEMORY}.swap`,
      free ? { tolerate: [[abi.ENOENT, 0]] } : {},
    );
  }
  if (!isUnset(limit)) write("memory", "memory.max", bytesMax(limit), `${MEMORY}.limit`);
  if (!isUnset(reservation)) write("memory", "memory.low", bytesMax(reservation), `${MEMORY}.reservation`);
  const { cpus, mems } = resources.cpu ?? {};
  if (cpus) write("cpuset", "cpuset.cpus", cpus, `${CPU}.cpus`);
  if (mems) write("cpuset", "cpuset.mems", mems, `${CPU}.mems`);
  // Of `unified`, what belongs with the above: it says the last word about memory and cpuset.
  setUnified(part, resources, target, true);
}

/** What is set when the container is made and before anything of the bundle's runs in it. */
export function lateLimitsV2(part: Part, slots: Slots, resources: LinuxResources, target: Target): void {
  const limit = resources.pids?.limit;
  if (limit !== undefined) {
    part.at("cgroup", "linux.resources.pids.limit");
    writeValue(part, fileOf(target, "pids", "pids.max", part.path), pidsMax(limit), {
      hint: hintFor("pids"),
    });
  }
  if (resources.cpu) setCpu(part, slots, resources.cpu, target);
  if (resources.blockIO) {
    blockIoV2(part, resources.blockIO, (name, path) => fileOf(target, "io", name, path));
  }
  setHugepages(part, resources, target);
  if (hasExtras(resources)) {
    const { netLimitsV2 }: typeof import("./limits-net.ts") = require("./limits-net.ts");
    netLimitsV2(part, resources, (controller, name, path) => fileOf(target, controller, name, path));
  }
  setUnified(part, resources, target, false);
}

function setCpu(part: Part, slots: Slots, cpu: LinuxCPU, target: Target): void {
  const write = (field: string, name: string, value: string, options: object = {}) => {
    part.at("cgroup", `${CPU}.${field}`);
    writeValue(part, fileOf(target, "cpu", name, part.path), value, { hint: hintFor("cpu"), ...options });
  };
  const { idle, shares, quota, period, burst } = cpu;
  // The weight of an idle group cannot be changed, so it stops being one first and becomes one last.
  if (idle !== undefined && Number(idle) !== 1) write("idle", "cpu.idle", String(idle));
  if (!isUnset(shares)) write("shares", "cpu.weight", String(cpuWeight(shares)));
  const done = slots.take("result of cpu.max.burst");
  const limited = !isUnset(quota) || !isUnset(period);
  if (burst !== undefined) {
    // A burst beyond the old quota is tried again after the new one.
    write(
      "burst",
      "cpu.max.burst",
      String(burst),
      limited ? { slot: done, tolerate: [[abi.EINVAL, 0]] } : {},
    );
  }
  if (limited) {
    const max = !isUnset(quota) && quota > 0 ? String(quota) : "max";
    const value = `${max} ${isUnset(period) ? DEFAULT_PERIOD : period}`;
    write(isUnset(quota) ? "period" : "quota", "cpu.max", value);
    if (burst !== undefined) {
      part.op(abi.BUNC_OP_EXPECT, [done, SIGN, 0, abi.EINVAL], { okSkip: 1, tolerate: [[abi.EINVAL, 0]] });
      write("burst", "cpu.max.burst", String(burst));
    }
  }
  slots.give(done);
  if (idle !== undefined && Number(idle) === 1) write("idle", "cpu.idle", "1");
}

function setHugepages(part: Part, resources: LinuxResources, target: Target): void {
  const limits = resources.hugepageLimits ?? [];
  for (let i = 0; i < limits.length; i++) {
    const { pageSize, limit } = limits[i]!;
    const path = `linux.resources.hugepageLimits[${i}]`;
    checkPageSize(pageSize, `${path}.pageSize`);
    part.at("cgroup", path);
    const file = fileOf(target, "hugetlb", `hugetlb.${pageSize}`, path);
    writeValue(part, `${file}.max`, String(limit), {
      hint: `the kernel must have huge pages of ${pageSize}`,
    });
    writeValue(part, `${file}.rsvd.max`, String(limit), { tolerate: [[abi.ENOENT, 0]] });
  }
}

/** linux.resources.unified: names of files and what is written there, each line by itself. */
function setUnified(part: Part, resources: LinuxResources, target: Target, early: boolean): void {
  if (!resources.unified) return;
  for (const [name, value] of Object.entries(resources.unified)) {
    const path = `linux.resources.unified.${name}`;
    const dot = name.indexOf(".");
    const controller = dot < 0 ? "" : name.slice(0, dot);
    if ((controller === "memory" || controller === "cpuset") !== early) continue;
    if (name.includes("/"))
      throw configError(`unified resource ${JSON.stringify(name)} must be a file name (no slashes)`, path);
    if (dot <= 0) {
      throw configError(
        `unified resource ${JSON.stringify(name)} must be in the form CONTROLLER.PARAMETER`,
        path,
      );
    }
    if (controller !== "cgroup" && !v2Controllers(target.layout).includes(controller)) {
      throw configError(
        `unified resource ${JSON.stringify(name)} can't be set: controller ${JSON.stringify(controller)} not available`,
        path,
        `cgroup v2 of this host has: ${v2Controllers(target.layout).join(" ") || "none"}`,
      );
    }
    part.at("cgroup", path);
    for (const line of lines(value)) {
      writeValue(part, `${target.dir}/${name}`, line, {
        about: `unable to set unified resource ${JSON.stringify(name)}: failed to write ${JSON.stringify(line)}`,
        hint: hintFor(controller),
      });
    }
  }
}

/** The lines of a value, each with its newline; a value without any is one line, even when it is empty. */
function lines(value: string): string[] {
  const out: string[] = [];
  let start = 0;
  for (let end = value.indexOf("\n"); end >= 0; end = value.indexOf("\n", start)) {
    out.push(value.slice(start, end + 1));
    start = end + 1;
  }
  if (start < value.length || out.length === 0) out.push(value.slice(start));
  return out;
}
