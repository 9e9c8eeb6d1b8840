/** What a launch keeps on disk: state.json, first in short and then whole, the exec fifo, and the pid file. */

import type { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, writeAtomic } from "../linux/file.ts";
import { startTime } from "../linux/process.ts";
import { tracer } from "../linux/trace.ts";
import type { Spec } from "../oci/config.ts";
import { buildState, startOps } from "./build-state.ts";
import { descriptorName } from "./host-facts.ts";
import type { LaunchCgroup } from "./launch-cgroup.ts";
import type { Extras } from "./launch-extras.ts";
import type { State } from "./state.ts";
import { claimText, withProcess } from "./state-text.ts";
import { timestamp } from "./status.ts";
import type { StateDir } from "./store.ts";
import type { LaunchOptions } from "./types.ts";

/** The record of one container that is being launched. */
export class LaunchRecord {
  private readonly created = timestamp();
  /** When init was started, in clock ticks since boot. */
  private started = 0;
  private state: State | undefined;

  constructor(
    private readonly dir: StateDir,
    private readonly spec: Spec,
    private readonly options: LaunchOptions,
    private readonly extras: Pick<Extras, "rdt" | "notifySocket">,
    private readonly euid: number,
    private readonly configDigest: string | undefined,
  ) {}

  /**
   * A state.json with all that `delete --force` needs should this process be killed before the whole one is written.
   * @param pid of init, once it is there
   */
  claim(cgroup: LaunchCgroup, pid?: number): void {
    const { options, extras, spec, created } = this;
    if (pid !== undefined) this.started = startTime(pid);
    const text = claimText({
      id: options.id,
      bundle: options.bundle,
      rootfs: spec.root!.path,
      created,
      cgroupPaths: cgroup.paths,
      annotations: spec.annotations,
      config: options.config,
      ...(options.systemdCgroup ? { systemdCgroup: true, rootlessCgroups: cgroup.rootless } : {}),
      ...(pid === undefined ? {} : { init: { pid, start: this.started } }),
      ...(extras.rdt ? { rdtGroups: extras.rdt.own } : {}),
    });
    if (pid === undefined) this.dir.claim(text);
    else this.dir.saveText(text);
  }

  /**
   * Writes the whole state.json.
   * @param pid of init
   * @param last the program's last part, of which `start` tells what fails after its wait, and the index of its first
   * operation in the whole program
   */
  save(cgroup: LaunchCgroup, pid: number | undefined, last?: { part: Part; first: number }): void {
    tracer?.step("write the whole state.json");
    const { options, extras } = this;
    const [stdin, stdout, stderr] = options.stdio ?? [0, 1, 2];
    this.state ??= buildState(this.spec, {
      id: options.id,
      bundle: options.bundle,
      rootfs: this.spec.root!.path,
      noPivot: options.noPivot,
      noNewKeyring: options.noNewKeyring,
      systemdCgroup: options.systemdCgroup,
      rootlessEuid: this.euid !== 0,
      rootlessCgroups: cgroup.rootless,
      created: this.created,
      cgroupPaths: { ...cgroup.paths },
      externalDescriptors: [descriptorName(stdin), descriptorName(stdout), descriptorName(stderr)],
      notifySocket: extras.notifySocket,
      intelRdt: extras.rdt,
      configFile: options.config,
      configDigest: this.configDigest,
    });
    if (pid !== undefined) {
      const ops = last ? startOpsOf(last.part, last.first) : [];
      if (ops.length && this.state.bunc) this.state.bunc.startOps = ops;
      this.state = withProcess(this.state, pid, this.started);
    }
    this.dir.save(this.state);
  }

  /** The exec fifo: init opens it for writing once it waits, so it belongs to root of the container. */
  makeFifo(): void {
    const { uidMappings, gidMappings } = this.spec.linux ?? {};
    this.dir.makeFifo(hostId(0, uidMappings), hostId(0, gidMappings));
  }

  /** Writes the pid file, beside its final name first. */
  writePidFile(pid: number): void {
    const path = this.options.pidFile;
    if (!path) return;
    tracer?.step("write the pid file");
    const result = writeAtomic(path, String(pid), 0o666);
    if (result < 0) throw pathError("open", path, result);
  }
}

/** What the operations after the wait for `start` are, for the message of a failure that `start` reads. */
function startOpsOf(part: Part, first: number): ReturnType<typeof startOps> {
  const { ops } = part;
  for (let i = 0; i < ops.length; i++)
    if (ops[i]!.call === abi.BUNC_OP_ERRORS_TO) return startOps(ops.slice(i + 1), first + i + 1);
  return [];
}

/** The id on the host that an id of the container is mapped to. */
function hostId(
  id: number,
  mappings: { containerID: number; hostID: number; size: number }[] | undefined,
): number {
  for (const { containerID, hostID, size } of mappings ?? []) {
    if (id >= containerID && id < containerID + size) return hostID + id - containerID;
  }
  return id;
}
