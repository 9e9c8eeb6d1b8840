/** Facts about cgroups: which there are, and where the caller may make some. */
import { deviceProgram } from "../cgroup/device-bpf.ts";
import { type Hierarchy, type Layout, ownPath, readLayout, v2Controllers } from "../cgroup/layout.ts";
import { exists } from "../cgroup/tree.ts";
import { Struct } from "../launch/program.ts";
import { abi, bpf_attr_, sizeof_ } from "../linux/abi.gen.ts";
import { sys } from "../linux/lib.ts";
import type { CgroupFacts, HierarchyFacts, Outcome } from "./facts.ts";
import { textOf } from "./gather-users.ts";
import { outcome, tryOut } from "./trial.ts";

const W_OK = 2;

/** Whether the caller may write to a path; the same as open(2) would answer. */
export function writable(path: string): Outcome {
  return outcome(sys(abi.SYS_faccessat2, abi.AT_FDCWD, path, W_OK, abi.AT_EACCESS));
}

const listOf = (text: string): string[] => text.split(/\s+/).filter(Boolean);

/** The directory above; that of the mount point is the mount point. */
function above(path: string, mountPoint: string): string {
  return path === mountPoint ? path : path.slice(0, path.lastIndexOf("/"));
}

function hierarchyFacts(layout: Layout, hierarchy: Hierarchy): HierarchyFacts {
  const { controllers, mountPoint } = hierarchy;
  const own = mountPoint + ownPath(layout, hierarchy);
  return { controllers: [...controllers], mountPoint, own, writable: writable(own) };
}

/** @param mountinfo content of /proc/self/mountinfo */
export function gatherCgroups(mountinfo: string): CgroupFacts {
  const layout = readLayout(mountinfo);
  const facts: CgroupFacts = { mode: layout.mode, v1: layout.v1.map((one) => hierarchyFacts(layout, one)) };
  if (layout.v2) {
    const base = hierarchyFacts(layout, layout.v2);
    // A container's cgroup is made beside the caller's: one with processes in it can have none with controllers below.
    const parent = above(base.own, base.mountPoint);
    const procs = writable(`${parent}/cgroup.procs`);
    facts.v2 = {
      ...base,
      controllers: [...v2Controllers(layout)],
      delegated: listOf(textOf(`${parent}/cgroup.controllers`, 4096)),
      writable: writable(parent),
      procs: procs === "ok" ? writable(`${parent}/cgroup.subtree_control`) : procs,
    };
    facts.deviceFilter = tryDeviceFilter();
  }
  const memory = layout.v1.find(({ controllers }) => controllers.includes("memory"));
  if (memory) facts.swap = exists(`${memory.mountPoint}/memory.memsw.limit_in_bytes`);
  else if (facts.v2?.delegated.includes("memory") && facts.v2.own !== facts.v2.mountPoint)
    facts.swap = exists(`${facts.v2.own}/memory.swap.max`);
  return facts;
}

/** Loads a device filter that denies nothing; it is attached to nothing, and gone with its descriptor (bpf(2)). */
function tryDeviceFilter(): Outcome {
  const program = deviceProgram({ allow: true, exceptions: [] });
  const load = new Struct(sizeof_.bpf_attr, "bpf_attr: prog_load")
    .u32(bpf_attr_.prog_type, abi.BPF_PROG_TYPE_CGROUP_DEVICE)
    .u32(bpf_attr_.insn_cnt, program.length / 8)
    .pointer(bpf_attr_.insns, program)
    .pointer(bpf_attr_.license, "Apache");
  const { start, steps } = tryOut({
    load: [{ call: abi.SYS_bpf, args: [abi.BPF_PROG_LOAD, load, load.size] }],
  });
  return start === "ok" ? steps.load! : start;
}
