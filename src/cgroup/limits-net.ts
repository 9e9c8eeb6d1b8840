/**
 * linux.resources.network and rdma, in cgroup v1 and v2 (runc's fs and fs2). Few bundles have them, so this is loaded
 * only for one that does.
 */
import type { Part } from "../launch/program.ts";
import type { LinuxResources } from "../oci/config.ts";
import { configError, isUnset, writeValue } from "./write.ts";

const NETWORK = "linux.resources.network";

/** The path of a controller's file; throws where the host has no such controller. */
type FileOf = (controller: string, name: string, path: string) => string;

/** What is set in cgroup v1. */
export function netLimitsV1(part: Part, resources: LinuxResources, fileOf: FileOf): void {
  const { classID, priorities = [] } = resources.network ?? {};
  if (!isUnset(classID)) {
    part.at("cgroup", `${NETWORK}.classID`);
    writeValue(part, fileOf("net_cls", "net_cls.classid", part.path), String(classID));
  }
  for (let i = 0; i < priorities.length; i++) {
    const { name, priority } = priorities[i]!;
    part.at("cgroup", `${NETWORK}.priorities[${i}]`);
    writeValue(part, fileOf("net_prio", "net_prio.ifpriomap", part.path), `${name} ${priority}`, {
      hint: `there must be a network device ${name} in the runtime's network namespace`,
    });
  }
  setRdma(part, resources, fileOf);
}

/** What is set in cgroup v2, which has no classes and priorities of networks. */
export function netLimitsV2(part: Part, resources: LinuxResources, fileOf: FileOf): void {
  setRdma(part, resources, fileOf);
}

function setRdma(part: Part, { rdma }: LinuxResources, fileOf: FileOf): void {
  for (const [device, { hcaHandles, hcaObjects }] of Object.entries(rdma ?? {})) {
    const path = `linux.resources.rdma.${device}`;
    if (device === "" || /\s/.test(device)) {
      throw configError(`invalid RDMA device name ${JSON.stringify(device)}`, path);
    }
    let value = device;
    if (hcaHandles !== undefined) value += ` hca_handle=${hcaHandles}`;
    if (hcaObjects !== undefined) value += ` hca_object=${hcaObjects}`;
    part.at("cgroup", path);
    writeValue(part, fileOf("rdma", "rdma.max", path), value, {
      hint: `this host must have an RDMA device ${device} (/sys/class/infiniband)`,
    });
  }
}
