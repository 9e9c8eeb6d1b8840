/** The process that `exec` starts: one of a file, or the container's own with what the command line changes. */
import { checkProcess } from "../bundle/check-process.ts";
import { type Findings, problem } from "../bundle/findings.ts";
import { LONGEST_CONFIG } from "../bundle/load.ts";
import { problemsError, renderProblem, validateProcess } from "../bundle/validate.ts";
import { BuncError } from "../errors.ts";
import { pathError, readInput } from "../linux/file.ts";
import type { Process } from "../oci/config.ts";
import type { Log } from "./types.ts";

/** What the command line says of the process; what is absent stays as the container's own process has it. */
export interface ExecChanges {
  args: readonly string[];
  cwd?: string;
  /** "NAME=value", after those of the container. */
  env: readonly string[];
  terminal: boolean;
  /** "uid" or "uid:gid". */
  user?: string;
  additionalGids: readonly number[];
  apparmor?: string;
  selinuxLabel?: string;
  noNewPrivileges?: boolean;
  /** Capabilities that it has beside its own. */
  caps: readonly string[];
}

/**
 * Reads and checks the file of --process.
 * @throws BuncError naming the file, or all its problems
 */
export function readProcess(path: string): Process {
  const text = readInput(path, LONGEST_CONFIG);
  if (typeof text === "number") throw pathError("open", path, text);
  try {
    return parseProcess(text);
  } catch (error) {
    if (!(error instanceof BuncError) || error.fields.path !== undefined) throw error;
    throw new BuncError(`${path}: ${error.message}`, error.fields);
  }
}

/**
 * A process from its JSON.
 * @throws BuncError with all its problems
 */
export function parseProcess(json: string): Process {
  const found = validateProcess(json);
  if (found.value === undefined) throw problemsError(found.problems, "the process");
  return found.value;
}

/** A process with what it takes from the container's where it says nothing; what that is follows runc (newInitConfig). */
export function inheritProcess(given: Process, own: Process | undefined): Process {
  if (!own) return given;
  const process = { ...given };
  process.capabilities ??= own.capabilities;
  process.scheduler ??= own.scheduler;
  process.ioPriority ??= own.ioPriority;
  process.execCPUAffinity ??= own.execCPUAffinity;
  process.oomScoreAdj ??= own.oomScoreAdj;
  if (!process.selinuxLabel) process.selinuxLabel = own.selinuxLabel;
  process.user = { ...process.user, umask: process.user.umask ?? own.user.umask };
  return process;
}

/**
 * The container's process as the command line changes it, checked as that of a config.json is.
 * @throws BuncError in runc's words, or with all problems of the process
 */
export function changeProcess(
  own: Process | undefined,
  changes: ExecChanges,
  log: Pick<Log, "warn">,
): Process {
  if (changes.args.length === 0) throw new BuncError("exec args cannot be empty", { code: "usage" });
  const process: Process = { ...(own ?? { cwd: "/", user: { uid: 0, gid: 0 } }) };
  process.args = [...changes.args];
  process.terminal = changes.terminal;
  process.env = [...(process.env ?? []), ...changes.env];
  if (changes.cwd) process.cwd = changes.cwd;
  if (changes.apparmor) process.apparmorProfile = changes.apparmor;
  if (changes.selinuxLabel) process.selinuxLabel = changes.selinuxLabel;
  if (changes.noNewPrivileges !== undefined) process.noNewPrivileges = changes.noNewPrivileges;
  process.user = changeUser(process.user, changes);
  if (changes.caps.length > 0) process.capabilities = addCapabilities(process.capabilities, changes.caps);
  const out: Findings = { problems: [], warnings: [], misshapen: 0 };
  checkProcess(process, out, "process.");
  findNul(changes, out);
  if (out.problems.length > 0) throw problemsError(out.problems, "the process");
  // What is to be said of the container's own was said when it was created.
  if (changes.caps.length > 0) for (const found of out.warnings) log.warn(renderProblem(found));
  return process;
}

/** A command line cannot have one, callers in process can. */
function findNul({ args, env, cwd }: ExecChanges, out: Findings): void {
  const all: readonly (readonly [string, readonly string[]])[] = [
    ["process.args", args],
    ["process.env", env],
    ["process.cwd", cwd ? [cwd] : []],
  ];
  for (const [path, values] of all) {
    for (const value of values) {
      if (value.includes("\0")) problem(out, path, "must not contain a NUL character");
    }
  }
}

function changeUser(own: Process["user"], { user, additionalGids }: ExecChanges): Process["user"] {
  const changed = { ...own };
  if (user) {
    const colon = user.indexOf(":");
    if (colon >= 0) changed.gid = id(user.slice(colon + 1), "gid");
    changed.uid = id(colon < 0 ? user : user.slice(0, colon), "uid");
  }
  for (const gid of additionalGids) {
    if (gid < 0) {
      throw new BuncError(`additional-gids must be a positive number ${gid}`, { code: "usage" });
    }
  }
  if (additionalGids.length > 0) {
    changed.additionalGids = [...(own.additionalGids ?? []), ...additionalGids.map((gid) => gid >>> 0)];
  }
  return changed;
}

/** -1 is what the kernel reads as "leave it". */
const LAST_ID = 0xfffffffe;

function id(text: string, what: string): number {
  const value = /^\+?[0-9]{1,10}$/.test(text) ? Number(text) : -1;
  if (value >= 0 && value <= LAST_ID) return value;
  throw new BuncError(`bad ${what}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`, {
    code: "usage",
    hint: `--user takes numbers from 0 to ${LAST_ID}: uid or uid:gid`,
  });
}

/** As runc: inheritable is left alone, and without it nothing can be ambient. */
function addCapabilities(
  own: Process["capabilities"],
  added: readonly string[],
): NonNullable<Process["capabilities"]> {
  const sets = own ?? {};
  return {
    ...sets,
    bounding: [...(sets.bounding ?? []), ...added],
    effective: [...(sets.effective ?? []), ...added],
    permitted: [...(sets.permitted ?? []), ...added],
    ...(sets.inheritable ? { ambient: [...(sets.ambient ?? []), ...added] } : {}),
  };
}
