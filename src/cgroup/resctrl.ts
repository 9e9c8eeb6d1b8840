/**
 * linux.intelRdt: the group of the resctrl file system (kernel Documentation/filesystems/resctrl.rst) that a container is
 * in, for shares of the L3 cache and of memory bandwidth. Loaded only for bundles that ask for it. Names, order and
 * messages are those of runc's libcontainer/intelrdt.
 */
import { BuncError } from "../errors.ts";
import { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { HostState, runPart } from "../linux/run-part.ts";
import type { LinuxIntelRdt } from "../oci/config.ts";
import { exists, rmdir } from "./tree.ts";
import { configError, writeValue } from "./write.ts";

const PATH = "linux.intelRdt";
const MOUNT = "mount -t resctrl resctrl /sys/fs/resctrl, if the processor has it, or take linux.intelRdt out";
/** Where `explain` assumes it on a host that has none. */
const USUAL_ROOT = "/sys/fs/resctrl";

/** The fields that bundles and state.json have in common. */
export type Rdt = LinuxIntelRdt;

/** Where resctrl is mounted, undefined for nowhere. */
export function resctrlRoot(): string | undefined {
  const mountinfo = readText("/proc/self/mountinfo");
  if (typeof mountinfo !== "string") return undefined;
  const mark = mountinfo.indexOf(" - resctrl ");
  if (mark < 0) return undefined;
  const line = mountinfo.slice(mountinfo.lastIndexOf("\n", mark) + 1, mark);
  return line
    .split(" ")[4]
    ?.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** One container's group. */
export class RdtGroup {
  /** Directory of the group, for state.json. */
  readonly path: string;
  /** Directory of the container's own monitoring group in it. */
  readonly monitoring: string | undefined;
  /** Directories that are the container's alone and are removed with it. */
  readonly own: readonly string[];
  /** The lines of the group's schemata that the bundle sets. */
  private readonly schemata: readonly string[];
  private readonly made: string[] = [];

  constructor(
    private readonly root: string,
    private readonly rdt: Rdt,
    id: string,
  ) {
    const { closID } = rdt;
    this.path = closID === "/" ? root : `${root}/${closID || id}`;
    this.schemata = schemataOf(rdt);
    this.monitoring = rdt.enableMonitoring ? `${this.path}/mon_groups/${id}` : undefined;
    // A class of service that the bundle names belongs to others too, and so does a group that was there before.
    const alone = !closID && !exists(this.path);
    this.own = alone ? [this.path] : this.monitoring === undefined ? [] : [this.monitoring];
  }

  /** Makes the directories. */
  compileCreate(): Part {
    const part = new Part().at("cgroup", PATH);
    for (const path of [this.path, this.monitoring]) {
      if (path === undefined) continue;
      part.op(abi.SYS_mkdirat, [abi.AT_FDCWD, path, 0o755], {
        tolerate: [[abi.EEXIST, 0]],
        about: `unable to apply Intel RDT configuration: mkdir ${path}`,
      });
    }
    return part;
  }

  /** Operations by which a process enters the group itself: the pid 0 means the writer. */
  compileEnter(part: Part): void {
    part.at("cgroup", PATH);
    enterGroups(part, this.path, this.monitoring, "unable to apply Intel RDT configuration");
  }

  /** Writes the schemata: all lines in one write, which the kernel takes as a whole or not. */
  compileLimits(): Part {
    const part = new Part().at("cgroup", `${PATH}.schemata`);
    if (this.schemata.length > 0) writeSchemata(part, this.path, this.schemata);
    return part;
  }

  /** Makes the directories before init is born. */
  create(): void {
    const { closID } = this.rdt;
    if (closID && this.schemata.length === 0 && !exists(this.path)) {
      throw configError(
        "unable to apply Intel RDT configuration: clos dir not accessible (must be pre-created when schemata, " +
          `l3CacheSchema and memBwSchema are empty): stat ${this.path}: no such file or directory`,
        `${PATH}.closID`,
        `mkdir ${this.path}, or say in linux.intelRdt.schemata what its share is`,
      );
    }
    for (const path of this.own) if (!exists(path)) this.made.push(path);
    this.run(this.compileCreate());
  }

  /** Sets the shares, before anything of the user's runs. */
  limit(): void {
    this.run(this.compileLimits());
  }

  /** Removes what is the container's alone, for `explain`. */
  compileRemove(): Part {
    const part = new Part().at("cgroup", PATH);
    for (const path of this.own) part.op(abi.SYS_unlinkat, [abi.AT_FDCWD, path, abi.AT_REMOVEDIR]);
    return part;
  }

  private run(part: Part): void {
    try {
      runPart(part, new HostState());
    } catch (error) {
      throw explainStatus(error, this.root);
    }
  }

  /** After a failure. Never throws. */
  undo(): void {
    for (const path of this.made) rmdir(path);
  }

  /** When the container has ended. A group may be removed with processes in it; they fall back to the group above. */
  remove(): void {
    for (const path of this.own) rmdir(path);
  }
}

function schemataOf({ l3CacheSchema, memBwSchema, schemata }: Rdt): string[] {
  return [l3CacheSchema ?? "", memBwSchema ?? "", ...(schemata ?? [])].filter((line) => line !== "");
}

function writeSchemata(part: Part, group: string, lines: readonly string[]): void {
  const value = `${lines.join("\n")}\n`;
  writeValue(part, `${group}/schemata`, value, {
    about: `error setting Intel RDT config: intelrdt: unable to write ${JSON.stringify(value)} to ${group}/schemata`,
    hint: "see the group's schemata and the directory info of resctrl for what this processor takes",
  });
}

/** Enters a group and its monitoring group; one that is gone is passed over when `optional`. */
export function enterGroups(
  part: Part,
  group: string,
  monitoring: string | undefined,
  about: string,
  optional = false,
): void {
  for (const path of [group, monitoring]) {
    if (path === undefined) continue;
    writeValue(part, `${path}/tasks`, "0", {
      about: `${about}: intelrdt: unable to join ${path}`,
      ...(optional ? { tolerate: [[abi.ENOENT, 0]] as const } : {}),
    });
  }
}

/** The kernel says in info/last_cmd_status why it has refused the last write. */
function explainStatus(error: unknown, root: string): unknown {
  if (!(error instanceof BuncError)) return error;
  const status = readText(`${root}/info/last_cmd_status`, 4096);
  if (typeof status !== "string") return error;
  return new BuncError(`${error.message}, last_cmd_status: ${status.trim()}`, error.fields);
}

/**
 * The group of a container that is about to be made.
 *
 * @throws BuncError in runc's words where there is no resctrl, or not for what the bundle asks for
 */
export function planRdt(rdt: Rdt, id: string, root: string | null = resctrlRoot() ?? null): RdtGroup {
  if (root === null) {
    throw configError("intelRdt is specified in config, but Intel RDT is not enabled", PATH, MOUNT);
  }
  requireFeature(root, "L3", rdt.l3CacheSchema, "l3CacheSchema", "CAT");
  requireFeature(root, "MB", rdt.memBwSchema, "memBwSchema", "MBA");
  return new RdtGroup(root, rdt, id);
}

function requireFeature(
  root: string,
  info: string,
  value: string | undefined,
  field: string,
  name: string,
): void {
  if (!value || exists(`${root}/info/${info}`)) return;
  throw configError(
    `intelRdt.${field} is specified in config, but Intel RDT/${name} is not enabled`,
    `${PATH}.${field}`,
    `take it out of config.json: resctrl has no info/${info} on this host`,
  );
}

/** For `explain`, which may be asked about a bundle for another host: nothing is required. */
export function assumeRdt(rdt: Rdt, id: string): { group: RdtGroup; assumed: boolean } {
  const root = resctrlRoot();
  return { group: new RdtGroup(root ?? USUAL_ROOT, rdt, id), assumed: root === undefined };
}

/**
 * `update`: other schemata for the group of a container.
 *
 * @param group its directory, from state.json; undefined when the container has none
 * @returns the settings for state.json
 * @throws BuncError in runc's words; the old schemata stand again then
 */
export function updateRdt<T extends { l3_cache_schema?: string; memBwSchema?: string; schemata?: string[] }>(
  old: T | null | undefined,
  group: string | undefined,
  change: { l3CacheSchema?: string; memBwSchema?: string },
  root = resctrlRoot(),
): T {
  const { l3CacheSchema, memBwSchema } = change;
  const enabled = (info: string): boolean => root !== undefined && exists(`${root}/info/${info}`);
  const hint = "resctrl must be mounted at /sys/fs/resctrl";
  if (l3CacheSchema && !enabled("L3")) {
    throw new BuncError("Intel RDT/CAT: l3 cache schema is not enabled", { code: "host", hint });
  }
  if (memBwSchema && !enabled("MB")) {
    throw new BuncError("Intel RDT/MBA: memory bandwidth schema is not enabled", { code: "host", hint });
  }
  if (!old || group === undefined) {
    throw new BuncError("updating a non-existent Intel RDT configuration is not supported", {
      code: "state",
    });
  }
  const changed = {
    ...old,
    ...(l3CacheSchema ? { l3_cache_schema: l3CacheSchema } : {}),
    ...(memBwSchema ? { memBwSchema } : {}),
  };
  try {
    setSchemata(group, changed);
  } catch (error) {
    const explained = explainStatus(error, root!);
    try {
      setSchemata(group, old);
    } catch {
      // The error is the first one; a write that was refused has changed nothing.
    }
    throw explained;
  }
  return changed;
}

function setSchemata(
  group: string,
  { l3_cache_schema, memBwSchema, schemata }: Parameters<typeof updateRdt>[0] & object,
): void {
  const lines = schemataOf({
    ...(l3_cache_schema ? { l3CacheSchema: l3_cache_schema } : {}),
    ...(memBwSchema ? { memBwSchema } : {}),
    ...(schemata ? { schemata } : {}),
  });
  const part = new Part().at("cgroup", `${PATH}.schemata`);
  if (lines.length > 0) writeSchemata(part, group, lines);
  runPart(part);
}
