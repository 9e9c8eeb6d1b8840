/** config.json: `linux.resources`, what the control groups limit (runtime-spec config-linux.md "Control groups"). */
import type * as v from "valibot";
import { flag, int64, list, map, object, optional, text, textMap, uint16, uint32, uint64 } from "./schema.ts";

export const LinuxDeviceCgroupSchema = object({
  allow: flag,
  type: optional(text),
  major: optional(int64),
  minor: optional(int64),
  access: optional(text),
});

export const LinuxMemorySchema = object({
  limit: optional(int64),
  reservation: optional(int64),
  swap: optional(int64),
  kernel: optional(int64),
  kernelTCP: optional(int64),
  swappiness: optional(uint64),
  disableOOMKiller: optional(flag),
  useHierarchy: optional(flag),
  checkBeforeUpdate: optional(flag),
});

export const LinuxCPUSchema = object({
  shares: optional(uint64),
  quota: optional(int64),
  burst: optional(uint64),
  period: optional(uint64),
  realtimeRuntime: optional(int64),
  realtimePeriod: optional(uint64),
  cpus: optional(text),
  mems: optional(text),
  idle: optional(int64),
});

export const LinuxPidsSchema = object({ limit: optional(int64) });

export const LinuxWeightDeviceSchema = object({
  major: int64,
  minor: int64,
  weight: optional(uint16),
  leafWeight: optional(uint16),
});

export const LinuxThrottleDeviceSchema = object({ major: int64, minor: int64, rate: uint64 });

const throttles = optional(list(LinuxThrottleDeviceSchema));

export const LinuxBlockIOSchema = object({
  weight: optional(uint16),
  leafWeight: optional(uint16),
  weightDevice: optional(list(LinuxWeightDeviceSchema)),
  throttleReadBpsDevice: throttles,
  throttleWriteBpsDevice: throttles,
  throttleReadIOPSDevice: throttles,
  throttleWriteIOPSDevice: throttles,
});

export const LinuxHugepageLimitSchema = object({ pageSize: text, limit: uint64 });
export const LinuxInterfacePrioritySchema = object({ name: text, priority: uint32 });

export const LinuxNetworkSchema = object({
  classID: optional(uint32),
  priorities: optional(list(LinuxInterfacePrioritySchema)),
});

export const LinuxRdmaSchema = object({ hcaHandles: optional(uint32), hcaObjects: optional(uint32) });

export const LinuxResourcesSchema = object({
  devices: optional(list(LinuxDeviceCgroupSchema)),
  memory: optional(LinuxMemorySchema),
  cpu: optional(LinuxCPUSchema),
  pids: optional(LinuxPidsSchema),
  blockIO: optional(LinuxBlockIOSchema),
  hugepageLimits: optional(list(LinuxHugepageLimitSchema)),
  network: optional(LinuxNetworkSchema),
  rdma: optional(map(LinuxRdmaSchema)),
  unified: optional(textMap),
});

export type LinuxDeviceCgroup = v.InferOutput<typeof LinuxDeviceCgroupSchema>;
export type LinuxMemory = v.InferOutput<typeof LinuxMemorySchema>;
export type LinuxCPU = v.InferOutput<typeof LinuxCPUSchema>;
export type LinuxPids = v.InferOutput<typeof LinuxPidsSchema>;
export type LinuxWeightDevice = v.InferOutput<typeof LinuxWeightDeviceSchema>;
export type LinuxThrottleDevice = v.InferOutput<typeof LinuxThrottleDeviceSchema>;
export type LinuxBlockIO = v.InferOutput<typeof LinuxBlockIOSchema>;
export type LinuxHugepageLimit = v.InferOutput<typeof LinuxHugepageLimitSchema>;
export type LinuxInterfacePriority = v.InferOutput<typeof LinuxInterfacePrioritySchema>;
export type LinuxNetwork = v.InferOutput<typeof LinuxNetworkSchema>;
export type LinuxRdma = v.InferOutput<typeof LinuxRdmaSchema>;
export type LinuxResources = v.InferOutput<typeof LinuxResourcesSchema>;
