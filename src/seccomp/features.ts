/**
 * What of linux.seccomp this build and the running kernel know, for `bunc features` (runtime-spec features-linux.md
 * "seccomp"). Lists have runc's order: sorted, flags as runc knows them.
 */
import type { SeccompLibrary } from "./native.ts";
import {
  FLAG_LOG,
  FLAG_SPEC_ALLOW,
  FLAG_WAIT_KILLABLE_RECV,
  libseccompName,
  SECCOMP_ARCHS,
} from "./profile.ts";

/** linux.seccomp of the features document, and the version that runc puts among the annotations. */
export interface SeccompFeatures {
  enabled: true;
  actions: string[];
  operators: string[];
  /** Those the linked libseccomp has tables for. */
  archs: string[];
  knownFlags: string[];
  /** Those of knownFlags that the kernel takes. */
  supportedFlags: string[];
  /** Annotation io.github.seccomp.libseccomp.version. */
  libseccompVersion: string;
}

const ACTIONS = [
  "SCMP_ACT_ALLOW",
  "SCMP_ACT_ERRNO",
  "SCMP_ACT_KILL",
  "SCMP_ACT_KILL_PROCESS",
  "SCMP_ACT_KILL_THREAD",
  "SCMP_ACT_LOG",
  "SCMP_ACT_NOTIFY",
  "SCMP_ACT_TRACE",
  "SCMP_ACT_TRAP",
];

const OPERATORS = [
  "SCMP_CMP_EQ",
  "SCMP_CMP_GE",
  "SCMP_CMP_GT",
  "SCMP_CMP_LE",
  "SCMP_CMP_LT",
  "SCMP_CMP_MASKED_EQ",
  "SCMP_CMP_NE",
];

/** TSYNC is taken and ignored; it needs nothing of the kernel. */
const FLAGS: [name: string, bit: number][] = [
  ["SECCOMP_FILTER_FLAG_TSYNC", 0],
  ["SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW],
  ["SECCOMP_FILTER_FLAG_LOG", FLAG_LOG],
  ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV],
];

/** The features of the opened library on this kernel. */
export function seccompFeatures(lib: SeccompLibrary): SeccompFeatures {
  return {
    enabled: true,
    actions: ACTIONS,
    operators: OPERATORS,
    archs: SECCOMP_ARCHS.filter((name) => lib.arch(libseccompName(name)) !== 0),
    knownFlags: FLAGS.map(([name]) => name),
    supportedFlags: FLAGS.filter(([, bit]) => (lib.info.kernelFlags & bit) === bit).map(([name]) => name),
    libseccompVersion: lib.info.version,
  };
}
