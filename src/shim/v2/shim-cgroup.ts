/** Options.shim_cgroup: the cgroup that the shim itself is put into. */
import { readLayout } from "../../cgroup/layout.ts";
import { cleanGroupPath } from "../../cgroup/names.ts";
import { BuncError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, writeExisting } from "../../linux/file.ts";

/**
 * Moves a process into a cgroup that exists, in every hierarchy that has it.
 * @param path below the mounts of cgroups
 * @throws BuncError when there is none, or it takes no process
 */
export function enterShimCgroup(path: string, pid: number): void {
  const layout = readLayout();
  const hierarchies = layout.v2 ? [...layout.v1, layout.v2] : layout.v1;
  let entered = false;
  for (const { mountPoint } of hierarchies) {
    const file = `${mountPoint}${cleanGroupPath(path)}/cgroup.procs`;
    const result = writeExisting(file, String(pid));
    if (result === -abi.ENOENT) continue;
    if (result < 0) throw pathError("write", file, result);
    entered = true;
  }
  if (!entered) {
    throw new BuncError(`cannot join cgroup of shim: there is no cgroup ${path}`, {
      code: "host",
      hint: "containerd's option shim_cgroup must name one that exists",
    });
  }
}
