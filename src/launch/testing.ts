/** What the tests of launch programs share: bundles, whole compilations, a decoder and a simulator of control flow. */
import { abi, bunc_op_, bunc_part_, sizeof_ } from "../linux/abi.gen.ts";
import type { LinuxNamespace, Spec } from "../oci/config.ts";
import { defaultSpec } from "../oci/spec-default.ts";
import { Launch } from "./compile.ts";
import type { HostFacts, LaunchSettings, SentPart } from "./context.ts";
import { encodePart } from "./encode.ts";
import type { Op, Part } from "./program.ts";

/** Settings of `run` in a bundle of its own; tests replace what they are about. */
export function settings(replaced: Partial<LaunchSettings> = {}): LaunchSettings {
  return {
    id: "test",
    bundle: "/bundle",
    rootfs: "/bundle/rootfs",
    noPivot: false,
    noNewKeyring: false,
    preserve: 0,
    waitForStart: false,
    pidfdSocket: false,
    setgroups: true,
    enterCgroup: undefined,
    innerPid: 1,
    hookEnv: ["PATH=/bin"],
    ...replaced,
  };
}

/** A host that can apply any label. Mounts of cgroups need one that has them, so the bundles here have none. */
export const HOST: HostFacts = { apparmor: true, selinux: true, fullProcMounts: [], cgroup: undefined };

/** A filter of one instruction (allow everything), as seccomp(2) takes it. */
export const FILTER = new Uint8Array([6, 0, 0, 0, 0, 0, 0xff, 0x7f]);

function withoutCgroupMounts(spec: Spec): Spec {
  spec.mounts = spec.mounts!.filter(({ type }) => type !== "cgroup" && type !== "cgroup2");
  return spec;
}

/** The spec that `spec` writes, without a terminal. */
export function plainSpec(): Spec {
  const spec = withoutCgroupMounts(defaultSpec(true));
  spec.process!.terminal = false;
  return spec;
}

/** What Docker asks for: a terminal, binds, hooks, devices, many rights, no no_new_privs. */
export function dockerSpec(): Spec {
  const spec = plainSpec();
  const all = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT"];
  spec.process = {
    ...spec.process!,
    terminal: true,
    consoleSize: { height: 24, width: 80 },
    noNewPrivileges: false,
    user: { uid: 1000, gid: 1000, additionalGids: [10, 20] },
    capabilities: { bounding: all, effective: all, permitted: all, inheritable: all, ambient: ["CAP_KILL"] },
    cwd: "/work/dir",
    env: [...spec.process!.env!, "HOME=/root"],
  };
  spec.root!.readonly = false;
  spec.mounts!.push(
    { destination: "/etc/hosts", type: "bind", source: "/host/hosts", options: ["rbind", "rprivate"] },
    { destination: "/data", type: "bind", source: "data", options: ["bind", "ro", "nosuid"] },
    { destination: "/run", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup", "ro"] },
  );
  spec.linux!.devices = [
    { path: "/dev/fuse", type: "c", major: 10, minor: 229, fileMode: 0o660, uid: 0, gid: 44 },
    { path: "/dev/net/tun", type: "c", major: 10, minor: 200 },
    { path: "/dev/pipe", type: "p" },
  ];
  spec.hooks = {
    prestart: [{ path: "/hooks/prestart", args: ["prestart", "x"] }],
    createContainer: [{ path: "/hooks/create", timeout: 5 }],
    startContainer: [{ path: "/hooks/start", env: ["A=b"] }],
  };
  return spec;
}

/** A new user namespace. */
export function userSpec(): Spec {
  const spec = plainSpec();
  const mapping = [{ containerID: 0, hostID: 100000, size: 65536 }];
  spec.linux!.namespaces!.push({ type: "user" });
  spec.linux!.uidMappings = mapping;
  spec.linux!.gidMappings = mapping;
  spec.mounts!.push({ destination: "/data", type: "bind", source: "/host/data", options: ["rbind"] });
  spec.linux!.devices = [{ path: "/dev/pipe", type: "p", fileMode: 0o600 }];
  return spec;
}

/** Joins every namespace that it names, those of the user and of pids too. */
export function joinedSpec(
  types: readonly LinuxNamespace["type"][] = ["user", "pid", "network", "ipc"],
): Spec {
  const spec = plainSpec();
  for (const type of types) {
    const path = `/proc/1/ns/${type}`;
    const found = spec.linux!.namespaces!.find((namespace) => namespace.type === type);
    if (found) found.path = path;
    else spec.linux!.namespaces!.push({ type, path });
  }
  return spec;
}

/** The bundles that general claims about programs are tested with. */
export const BUNDLES: readonly (readonly [name: string, make: () => Spec])[] = [
  ["the default spec", plainSpec],
  ["a spec like Docker's", dockerSpec],
  ["a user namespace", userSpec],
  ["joined namespaces", joinedSpec],
  ["a joined mount namespace", () => joinedSpec(["mount", "uts"])],
];

/** A compiled bundle. */
export interface Compiled {
  launch: Launch;
  parts: Part[];
  stages: number[];
  /** The operations of all parts, by their index in the whole program. */
  ops: Op[];
}

/** Compiles a bundle as a whole. */
export function compile(
  spec: Spec,
  replaced: Partial<LaunchSettings> = {},
  host: HostFacts = HOST,
): Compiled {
  const launch = new Launch(spec, settings(replaced), host);
  const rest: SentPart[] = [...launch.rest()];
  const parts = [...launch.plan.first, ...rest].map(({ part }) => part);
  return { launch, parts, stages: rest.map(({ stage }) => stage), ops: parts.flatMap((part) => part.ops) };
}

/** The operations of a call with these first arguments (undefined for any). */
export function find({ ops }: Compiled, call: number, ...args: unknown[]): Op[] {
  return ops.filter(
    (op) => op.call === call && args.every((arg, i) => arg === undefined || op.args[i] === arg),
  );
}

/** The only operation of a call with these first arguments; throws when there is another number of them. */
export function only(compiled: Compiled, call: number, ...args: unknown[]): Op {
  const found = find(compiled, call, ...args);
  if (found.length !== 1) throw new Error(`${found.length} operations of call ${call} instead of one`);
  return found[0]!;
}

/** All parts as init would get them. */
export function encodeAll({ parts }: Compiled): Uint8Array[] {
  let first = 0;
  return parts.map((part) => {
    const bytes = encodePart(part.ops, { first });
    first += part.ops.length;
    return bytes;
  });
}

/** An operation as it lies in an encoded part. */
export interface DecodedOp {
  code: number;
  slot: number;
  okSkip: number;
  err: [number, number];
  skip: [number, number];
  logSlot: number;
  tags: number[];
  args: bigint[];
}

/** An encoded part, taken apart by the offsets that the C compiler gave. */
export interface DecodedPart {
  magic: number;
  size: number;
  first: number;
  flags: number;
  failAt: number;
  failErrno: number;
  traceFd: number;
  traceEnd: number;
  ops: DecodedOp[];
  relocs: number[];
  data: Uint8Array;
}

/** Takes an encoded part apart; throws when its sizes do not add up. */
export function decodePart(bytes: Uint8Array): DecodedPart {
  const PART = bunc_part_;
  const OP = bunc_op_;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u32 = (at: number) => view.getUint32(at, true);
  const opsAt = sizeof_.bunc_part;
  const relocsAt = opsAt + u32(PART.nops) * sizeof_.bunc_op;
  const dataAt = relocsAt + u32(PART.nrelocs) * 4;
  if (dataAt + u32(PART.data_size) !== bytes.length) throw new Error("the sizes in the header do not add up");
  const ops: DecodedOp[] = [];
  for (let at = opsAt; at < relocsAt; at += sizeof_.bunc_op) {
    const indexes = [0, 1, 2, 3, 4, 5];
    ops.push({
      code: view.getUint16(at + OP.code, true),
      slot: view.getUint8(at + OP.slot),
      okSkip: view.getUint8(at + OP.ok_skip),
      err: [view.getUint8(at + OP.err1), view.getUint8(at + OP.err2)],
      skip: [view.getUint8(at + OP.skip1), view.getUint8(at + OP.skip2)],
      logSlot: view.getUint16(at + OP.log_slot, true),
      tags: indexes.map((i) => (u32(at + OP.tags) >>> (4 * i)) & 15),
      args: indexes.map((i) => view.getBigUint64(at + OP.args + i * 8, true)),
    });
  }
  const relocs: number[] = [];
  for (let at = relocsAt; at < dataAt; at += 4) relocs.push(u32(at));
  return {
    magic: u32(PART.magic),
    size: u32(PART.size),
    first: u32(PART.first),
    flags: u32(PART.flags),
    failAt: u32(PART.fail_at),
    failErrno: u32(PART.fail_errno),
    traceFd: u32(PART.trace_fd) | 0,
    traceEnd: u32(PART.trace_end),
    ops,
    relocs,
    data: bytes.subarray(dataAt),
  };
}

/** How the operations of one part end, and which of them were executed. */
export interface Simulated {
  executed: Op[];
  /** The operation that ended it all, if one did. */
  failed: Op | undefined;
}

/** Follows the control flow of a part as bunc_execute does; `outcome` says the errno of an operation, 0 for success. */
export function simulate(ops: readonly Op[], outcome: (op: Op) => number): Simulated {
  const executed: Op[] = [];
  for (let i = 0; i < ops.length; i++) {
    const op = ops[i]!;
    executed.push(op);
    const errno = outcome(op);
    if (errno === 0) {
      i += op.options.okSkip ?? 0;
      continue;
    }
    const tolerated = op.options.tolerate?.find(([known]) => known === errno || known === abi.BUNC_ERR_ANY);
    if (!tolerated) return { executed, failed: op };
    i += tolerated[1];
  }
  return { executed, failed: undefined };
}

/** Reproducible numbers: the same seed gives the same run (mulberry32). */
export class Random {
  constructor(private seed: number) {}

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.seed ^ (this.seed >>> 15), 1 | this.seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x100000000) * limit);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}
