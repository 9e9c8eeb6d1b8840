/** `mounts add` and `mounts remove` (crun's): what is mounted in a container that runs. */
import { problemsError, renderProblem, validateMounts } from "../bundle/validate.ts";
import { readLayout } from "../cgroup/layout.ts";
import * as live from "../cgroup/live.ts";
import { BuncError } from "../errors.ts";
import type { LaunchSettings } from "../launch/context.ts";
import { LiveMountProgram } from "../launch/live-mounts.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, readInput } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { servesOthers } from "../linux/wait.ts";
import type { Mount, Spec } from "../oci/config.ts";
import { parseJson } from "../oci/json.ts";
import { containerSpec } from "./container-spec.ts";
import { hostFacts } from "./host-facts.ts";
import { Init } from "./init-channel.ts";
import { namespacesOf } from "./joined.ts";
import { notRunning } from "./kill.ts";
import { openInheritedFds } from "./launch-fds.ts";
import type { Summary } from "./state.ts";
import { openProcess, statusOf } from "./status.ts";
import { readSummary, statePath } from "./store.ts";
import type { LaunchOptions, Log } from "./types.ts";

/** The longest file of mounts that is read. */
const LONGEST = 16 << 20;

export interface MountsChange {
  action: "add" | "remove";
  /** Absolute path of a file with a JSON list of mounts. */
  file: string;
}

/**
 * Mounts in a created, running or paused container what a file says, one after the other, or removes it. What was done
 * before a failure stays.
 * @throws BuncError "container not running"; the problems of the file; the mount that failed
 */
export async function changeMounts(
  root: string,
  id: string,
  { action, file }: MountsChange,
  log: Log,
): Promise<void> {
  const summary = readSummary(root, id);
  if (statusOf(summary, statePath(root, id), live) === "stopped") throw notRunning();
  const spec = await containerSpec(root, summary);
  const mounts = action === "add" ? readMounts(file, spec.linux, log) : readDestinations(file);
  const options: LaunchOptions = {
    root,
    id,
    bundle: summary.bundle,
    noPivot: false,
    noNewKeyring: true,
    preserveFds: 0,
    systemdCgroup: summary.systemdCgroup,
    log,
  };
  const container = openProcess(summary);
  if (container < 0) throw notRunning();
  const euid = sys(abi.SYS_geteuid);
  try {
    const join = namespacesOf(summary.pid, container);
    if (!join) throw notRunning();
    if (!join.includes("mount")) throw noNamespace();
    const host = hostFacts(spec, false, readLayout());
    const program = new LiveMountProgram(
      spec,
      { action, mounts, join },
      settingsOf(summary, euid, join.includes("user")),
      host,
    );
    const { fds, firstFd } = program.context;
    const sources = { spec: { ...spec, mounts }, options, stateDir: "", consoleFd: undefined, euid };
    const opened = await openInheritedFds(fds, { ...sources, containerInit: container });
    let init: Init;
    try {
      init = Init.spawn({ flags: 0, firstFd, fds: opened.fds, preserve: 0 });
    } finally {
      for (const fd of opened.owned) closeFd(fd);
    }
    await follow(init, program, sources.spec);
  } finally {
    closeFd(container);
  }
}

async function follow(init: Init, program: LiveMountProgram, spec: Spec): Promise<void> {
  try {
    for (const { part, stage, mount } of program.parts()) {
      init.send(part);
      if (servesOthers()) await init.told();
      const event = init.next();
      if (event?.event !== stage) {
        throw new BuncError("the process that mounts ended before it was done", {
          code: "launch",
          hint: "the container may have ended, or be out of memory",
        });
      }
      if (mount === undefined) continue;
      const { mapInside } = await import("./trees.ts");
      mapInside(spec, init, event.value, mount);
    }
  } finally {
    init.kill();
  }
}

function settingsOf({ id, bundle, rootfs }: Summary, euid: number, user: boolean): LaunchSettings {
  return {
    id,
    bundle,
    rootfs,
    noPivot: false,
    noNewKeyring: true,
    preserve: 0,
    waitForStart: false,
    pidfdSocket: false,
    setgroups: euid === 0 || !user,
    rootless: euid !== 0,
    innerPid: 0,
    hookEnv: [],
    enterCgroup: undefined,
  };
}

function read(file: string): string {
  const text = readInput(file, LONGEST);
  if (typeof text === "number") throw pathError("open", file, text);
  return text;
}

function readMounts(file: string, linux: Parameters<typeof validateMounts>[1], log: Log): Mount[] {
  const { value, problems, warnings } = validateMounts(read(file), linux);
  if (value === undefined) throw problemsError(problems, file);
  for (const warning of warnings) log.warn(renderProblem(warning));
  return value;
}

/** Of mounts that are to be removed nothing but the destination need be right. */
function readDestinations(file: string): Mount[] {
  const list = parseJson(read(file));
  if (!Array.isArray(list)) throw new BuncError("mounts must be an array", { code: "config" });
  return list.map((mount, index) => {
    const destination = typeof mount === "object" && mount !== null && (mount as Mount).destination;
    if (typeof destination === "string" && destination !== "" && !destination.includes("\0")) {
      return { destination };
    }
    throw new BuncError("must be the path of a mount in the container", {
      code: "config",
      path: `mounts[${index}].destination`,
    });
  });
}

function noNamespace(): BuncError {
  return new BuncError("the container has no mounts of its own", {
    code: "state",
    hint: "it was made without a mount namespace: its mounts are the host's",
  });
}
