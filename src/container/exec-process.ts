/** The process that `exec` starts: one of a file, or the container's own with what the command line changes. */
import { LONGEST_CONFIG } from "../bundle/load.ts";
import { problemsError, validateProcess } from "../bundle/validate.ts";
import { BuncError } from "../errors.ts";
import { pathError, readText } from "../linux/file.ts";
import type { Process } from "../oci/config.ts";

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
  const text = readText(path, LONGEST_CONFIG);
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

/**
 * The container's process as the command line changes it, checked again.
 * @throws BuncError in runc's words
 */
export function changeProcess(own: Process | undefined, changes: ExecChanges): Process {
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
  if (!process.cwd.startsWith("/")) {
    throw new BuncError("Cwd must be an absolute path", { code: "usage", path: "process.cwd" });
  }
  return process;
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
