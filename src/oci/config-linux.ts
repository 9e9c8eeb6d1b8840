/** config.json: the `linux` object and its parts, but for resources and seccomp (runtime-spec config-linux.md). */
import type * as v from "valibot";
import { LinuxResourcesSchema } from "./config-resources.ts";
import { LinuxSeccompSchema } from "./config-seccomp.ts";
import { flag, int64, list, map, object, oneOf, optional, text, textMap, texts, uint32 } from "./schema.ts";

const namespaceType = oneOf("a namespace type", [
  "pid",
  "network",
  "mount",
  "ipc",
  "uts",
  "user",
  "cgroup",
  "time",
]);

export const LinuxNamespaceSchema = object({ type: namespaceType, path: optional(text) });
export const LinuxIDMappingSchema = object({ containerID: uint32, hostID: uint32, size: uint32 });
export const LinuxTimeOffsetSchema = object({ secs: optional(int64), nanosecs: optional(uint32) });

export const LinuxDeviceSchema = object({
  path: text,
  type: oneOf("a device type", ["c", "u", "b", "p"]),
  major: optional(int64),
  minor: optional(int64),
  fileMode: optional(uint32),
  uid: optional(uint32),
  gid: optional(uint32),
});

export const LinuxNetDeviceSchema = object({ name: optional(text) });

export const LinuxPersonalitySchema = object({
  domain: oneOf("a personality domain", ["LINUX", "LINUX32"]),
  flags: optional(texts),
});

export const LinuxIntelRdtSchema = object({
  closID: optional(text),
  schemata: optional(texts),
  l3CacheSchema: optional(text),
  memBwSchema: optional(text),
  enableMonitoring: optional(flag),
});

export const LinuxMemoryPolicySchema = object({
  mode: oneOf(
    "a memory policy mode",
    [
      "MPOL_DEFAULT",
      "MPOL_BIND",
      "MPOL_INTERLEAVE",
      "MPOL_WEIGHTED_INTERLEAVE",
      "MPOL_PREFERRED",
      "MPOL_PREFERRED_MANY",
      "MPOL_LOCAL",
    ],
    (mode) => `invalid memory policy mode ${mode}`,
  ),
  nodes: optional(text),
  flags: optional(
    list(
      oneOf(
        "a memory policy flag",
        ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
        (name) => `invalid memory policy flag ${name}`,
      ),
    ),
  ),
});

const idMappings = optional(list(LinuxIDMappingSchema));

export const LinuxSchema = object({
  uidMappings: idMappings,
  gidMappings: idMappings,
  sysctl: optional(textMap),
  resources: optional(LinuxResourcesSchema),
  cgroupsPath: optional(text),
  namespaces: optional(list(LinuxNamespaceSchema)),
  devices: optional(list(LinuxDeviceSchema)),
  netDevices: optional(map(LinuxNetDeviceSchema)),
  seccomp: optional(LinuxSeccompSchema),
  rootfsPropagation: optional(
    oneOf("a mount propagation", [
      "private",
      "rprivate",
      "slave",
      "rslave",
      "shared",
      "rshared",
      "unbindable",
      "runbindable",
    ]),
  ),
  maskedPaths: optional(texts),
  readonlyPaths: optional(texts),
  mountLabel: optional(text),
  intelRdt: optional(LinuxIntelRdtSchema),
  memoryPolicy: optional(LinuxMemoryPolicySchema),
  personality: optional(LinuxPersonalitySchema),
  timeOffsets: optional(map(LinuxTimeOffsetSchema)),
});

export type LinuxNamespaceType = v.InferOutput<typeof namespaceType>;
export type LinuxNamespace = v.InferOutput<typeof LinuxNamespaceSchema>;
export type LinuxIDMapping = v.InferOutput<typeof LinuxIDMappingSchema>;
export type LinuxTimeOffset = v.InferOutput<typeof LinuxTimeOffsetSchema>;
export type LinuxDevice = v.InferOutput<typeof LinuxDeviceSchema>;
export type LinuxNetDevice = v.InferOutput<typeof LinuxNetDeviceSchema>;
export type LinuxPersonality = v.InferOutput<typeof LinuxPersonalitySchema>;
export type LinuxIntelRdt = v.InferOutput<typeof LinuxIntelRdtSchema>;
export type LinuxMemoryPolicy = v.InferOutput<typeof LinuxMemoryPolicySchema>;
export type Linux = v.InferOutput<typeof LinuxSchema>;
