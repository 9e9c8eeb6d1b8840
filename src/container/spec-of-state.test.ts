import { expect, test } from "bun:test";
import { BuncError } from "../errors.ts";
import type { LinuxSeccomp, Spec } from "../oci/config.ts";
import { buildConfig } from "./build-config.ts";
import { specOfConfig } from "./spec-of-state.ts";
import { claimText } from "./state-text.ts";

const INPUT = {
  id: "x",
  bundle: "/b",
  rootfs: "/b/rootfs",
  noPivot: false,
  noNewKeyring: false,
  systemdCgroup: false,
  rootlessEuid: false,
  rootlessCgroups: false,
};

const SECCOMP: LinuxSeccomp = {
  defaultAction: "SCMP_ACT_ERRNO",
  defaultErrnoRet: 38,
  architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_LOONGARCH64"],
  flags: ["SECCOMP_FILTER_FLAG_LOG"],
  listenerPath: "/run/agent",
  listenerMetadata: "m",
  syscalls: [
    { names: ["read"], action: "SCMP_ACT_ALLOW" },
    { names: ["write"], action: "SCMP_ACT_ERRNO", errnoRet: 0 },
    {
      names: ["clone"],
      action: "SCMP_ACT_NOTIFY",
      args: [{ index: 0, value: 2114060288, valueTwo: 1, op: "SCMP_CMP_MASKED_EQ" }],
    },
    {
      names: ["personality"],
      action: "SCMP_ACT_LOG",
      args: [{ index: 5, value: 18446744073709551615n, valueTwo: 0, op: "SCMP_CMP_NE" }],
    },
  ],
};

const SPEC: Spec = {
  ociVersion: "1.3.0",
  root: { path: "/b/rootfs" },
  annotations: { "run.oci.keep_original_groups": "1", a: "b=c" },
  process: {
    cwd: "/",
    user: { uid: 0, gid: 0, umask: 0 },
    capabilities: { bounding: ["CAP_KILL"], effective: ["CAP_KILL"], permitted: ["CAP_KILL"] },
    noNewPrivileges: true,
    selinuxLabel: "system_u:x",
    oomScoreAdj: 0,
    scheduler: { policy: "SCHED_BATCH", nice: 3 },
    ioPriority: { class: "IOPRIO_CLASS_BE", priority: 6 },
    execCPUAffinity: { initial: "0,3", final: "1,64,130" },
  },
  linux: {
    namespaces: [{ type: "pid" }, { type: "network", path: "/run/netns/a" }, { type: "user" }],
    uidMappings: [{ containerID: 0, hostID: 100000, size: 65536 }],
    gidMappings: [{ containerID: 0, hostID: 200000, size: 1 }],
    mountLabel: "system_u:m",
    seccomp: SECCOMP,
    personality: { domain: "LINUX32" },
    memoryPolicy: { mode: "MPOL_INTERLEAVE", flags: ["MPOL_F_STATIC_NODES"], nodes: "0,2" },
    resources: { cpu: { cpus: "0-1" } },
  },
};

/** As it is read back from a file. */
const kept = (spec: Spec) => {
  const config = buildConfig(spec, INPUT);
  return JSON.parse(
    JSON.stringify(config, (_, value) => (typeof value === "bigint" ? `big ${value}` : value)),
    (_, value) => (typeof value === "string" && value.startsWith("big ") ? BigInt(value.slice(4)) : value),
  );
};

test("what an exec needs comes back as it was", () => {
  expect(specOfConfig(kept(SPEC))).toEqual(SPEC);
});

test("entries with several names come back as one for each, in their order", () => {
  const seccomp = {
    defaultAction: "SCMP_ACT_ALLOW" as const,
    syscalls: [{ names: ["a", "b"], action: "SCMP_ACT_KILL" as const }],
  };
  const back = specOfConfig(kept({ ...SPEC, linux: { seccomp } })).linux!.seccomp!;
  expect(back.syscalls).toEqual([
    { names: ["a"], action: "SCMP_ACT_KILL" },
    { names: ["b"], action: "SCMP_ACT_KILL" },
  ]);
  expect(back.flags).toEqual(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
});

test("a bundle that asks for nothing", () => {
  expect(specOfConfig(kept({ ociVersion: "1.0.0", root: { path: "rootfs" } }))).toEqual({
    ociVersion: "1.3.0",
    root: { path: "/b/rootfs" },
    process: { cwd: "/", user: { uid: 0, gid: 0 } },
    linux: { namespaces: [] },
  });
});

test("runc's own file, with null for what is not there", () => {
  const config = {
    ...kept({ ociVersion: "1.0.0", root: { path: "rootfs" } }),
    capabilities: {
      Bounding: ["CAP_CHOWN"],
      Effective: null,
      Inheritable: null,
      Permitted: null,
      Ambient: null,
    },
    seccomp: { default_action: 4, architectures: null, flags: null, syscalls: null, default_errno_ret: null },
    uid_mappings: null,
    umask: null,
    exec_cpu_affinity: null,
    namespaces: [{ type: "NEWNS", path: "" }, { type: "NEWSOMETHING" }],
    labels: null,
  };
  expect(specOfConfig(config as never)).toMatchObject({
    process: { capabilities: { bounding: ["CAP_CHOWN"] } },
    linux: { namespaces: [{ type: "mount" }], seccomp: { defaultAction: "SCMP_ACT_ALLOW", syscalls: [] } },
  });
});

test("the first record of a launch tells itself apart from a whole one", () => {
  const claim = { id: "x", bundle: "/b", rootfs: "/r", created: "", cgroupPaths: {} };
  expect(JSON.parse(claimText(claim)).config.mounts).toBeNull();
  expect(kept({ ociVersion: "1.0.0", root: { path: "rootfs" } }).mounts).toEqual([]);
});

test("an action that is not known is an error, not a filter without it", () => {
  const config = kept(SPEC);
  config.seccomp.syscalls[0].action = 77;
  expect(() => specOfConfig(config)).toThrow(BuncError);
  expect(() => specOfConfig(config)).toThrow("seccomp action 77");
});
