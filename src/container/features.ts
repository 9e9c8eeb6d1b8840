/** What this build can do, as the runtime-spec's features document (features.md, features-linux.md). */
import { capabilityNames } from "../launch/capabilities.ts";
import { NAMESPACES } from "../launch/context.ts";
import { knownMountOptions } from "../launch/mount-options.ts";
import { memfdPath } from "../linux/lib.ts";
import { seccompImage } from "../seccomp/embedded.ts";
import { seccompFeatures } from "../seccomp/features.ts";
import { openSeccompLibrary } from "../seccomp/native.ts";
import { OCI_VERSION } from "./state.ts";

/** All hooks, in the order in which they run. */
const HOOKS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const MEMORY_POLICY_MODES = [
  "MPOL_BIND",
  "MPOL_DEFAULT",
  "MPOL_INTERLEAVE",
  "MPOL_LOCAL",
  "MPOL_PREFERRED",
  "MPOL_PREFERRED_MANY",
  "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_POLICY_FLAGS = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/**
 * The document. What is absent from the host is no matter: it tells what is compiled in.
 */
export function runtimeFeatures(): object {
  const { libseccompVersion, ...seccomp } = seccompFeatures(
    openSeccompLibrary(memfdPath("libbunc-seccomp", seccompImage())),
  );
  return {
    ociVersionMin: "1.0.0",
    ociVersionMax: OCI_VERSION,
    hooks: HOOKS,
    mountOptions: knownMountOptions(),
    linux: {
      namespaces: [...NAMESPACES].sort(),
      capabilities: [...capabilityNames()],
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: true, rdma: true },
      seccomp,
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: true, schemata: true, monitoring: true },
      memoryPolicy: { modes: MEMORY_POLICY_MODES, flags: MEMORY_POLICY_FLAGS },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: true },
    },
    annotations: {
      "io.github.seccomp.libseccomp.version": libseccompVersion,
      "org.opencontainers.runc.checkpoint.enabled": "true",
    },
    potentiallyUnsafeConfigAnnotations: ["bundle", "org.systemd.property.", "org.criu.config", "run.oci."],
  };
}
