/** `exec`: run another process in a container. Its own failures end with 255, as with runc. */
import type { ExecOptions } from "../container/exec.ts";
import { execContainer } from "../container/exec-command.ts";
import type { ExecChanges } from "../container/exec-process.ts";
import { BuncError } from "../errors.ts";
import { absolutePath } from "./go.ts";
import { containerId, maybeTraced } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { execContainer };

type Context = CommandContext<"exec", "execContainer">;

const OWN_FAILURE = 255;

export async function command(context: Context): Promise<number> {
  try {
    return await maybeTraced("exec", context, () =>
      context.containers.execContainer({ ...execOptions(context), detach: context.flags.detach }),
    );
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    throw new BuncError(`exec failed: ${error.message}`, { ...error.fields, exitCode: OWN_FAILURE });
  }
}

/** The options of an exec from its flags and arguments. */
export function execOptions({
  args,
  flags,
  global,
  log,
}: Pick<Context, "args" | "flags" | "global" | "log">): ExecOptions {
  const options: ExecOptions = {
    root: global.root,
    id: containerId(args),
    process: flags.process ? { file: flags.process } : { changes: changes(args.slice(1), flags) },
    preserveFds: flags["preserve-fds"],
    cgroups: flags.cgroup,
    ignorePaused: flags["ignore-paused"],
    log,
  };
  if (options.preserveFds < 0) {
    throw new BuncError(`--preserve-fds must not be negative: ${options.preserveFds}`, { code: "usage" });
  }
  // runc enters the bundle only for a process that it makes from the one there.
  const socket = (path: string) => (flags.process ? absolutePath(path) : path);
  if (flags["console-socket"]) options.consoleSocket = socket(flags["console-socket"]);
  if (flags["pidfd-socket"]) options.pidfdSocket = socket(flags["pidfd-socket"]);
  if (flags["pid-file"]) options.pidFile = absolutePath(flags["pid-file"]);
  return options;
}

function changes(args: readonly string[], flags: Context["flags"]): ExecChanges {
  const additionalGids: number[] = [];
  for (const id of flags["additional-gids"]) additionalGids.push(gid(id));
  const changed: ExecChanges = {
    args,
    env: flags.env,
    terminal: flags.tty,
    additionalGids,
    caps: flags.cap,
  };
  if (flags.cwd) changed.cwd = flags.cwd;
  if (flags.user) changed.user = flags.user;
  if (flags.apparmor) changed.apparmor = flags.apparmor;
  if (flags["process-label"]) changed.selinuxLabel = flags["process-label"];
  if (flags["no-new-privs"]) changed.noNewPrivileges = true;
  return changed;
}

function gid(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isSafeInteger(value) && value <= 0xfffffffe) return value;
  throw new BuncError(`invalid value ${JSON.stringify(text)} for flag -additional-gids: parse error`, {
    code: "usage",
  });
}
