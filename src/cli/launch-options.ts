/** What `create` and `run` share: reading their flags, and the prefix of their errors. */
import type { LaunchOptions, Log } from "../container/types.ts";
import { BuncError } from "../errors.ts";
import { absolutePath, parseBool, quote } from "./go.ts";
import type { CommandContext } from "./types.ts";

type LaunchContext = Pick<
  CommandContext<"create"> | CommandContext<"run">,
  "args" | "flags" | "global" | "log"
>;

/** The options of a launch from the flags that create and run share. */
export function launchOptions({ args, flags, global, log }: LaunchContext): LaunchOptions {
  const options: LaunchOptions = {
    root: global.root,
    id: containerId(args),
    bundle: absolutePath(flags.bundle),
    noPivot: flags["no-pivot"],
    noNewKeyring: flags["no-new-keyring"],
    preserveFds: flags["preserve-fds"],
    systemdCgroup: global.systemdCgroup,
    log,
  };
  if (options.preserveFds < 0) {
    throw new BuncError(`--preserve-fds must not be negative: ${options.preserveFds}`, { code: "usage" });
  }
  if (global.noCgroup) options.noCgroup = true;
  // As crun has it: the plain name is that of the bundle's file, all else is the caller's.
  if (flags.config && flags.config !== "config.json") options.config = absolutePath(flags.config);
  if (flags["console-socket"]) options.consoleSocket = flags["console-socket"];
  if (flags["pidfd-socket"]) options.pidfdSocket = flags["pidfd-socket"];
  if (flags["pid-file"]) options.pidFile = absolutePath(flags["pid-file"]);
  const rootless = parseRootless(global.rootless);
  if (rootless !== undefined) options.rootless = rootless;
  return options;
}

/** The id a command was given; "" is refused here, everything else by the container layer. */
export function containerId(args: readonly string[]): string {
  const id = args[0];
  if (!id) throw new BuncError("container id cannot be empty", { code: "usage" });
  return id;
}

function parseRootless(value: string): boolean | undefined {
  if (value === "" || value.toLowerCase() === "auto") return undefined;
  const rootless = parseBool(value);
  if (rootless === undefined) {
    throw new BuncError(`invalid --rootless value ${quote(value)}`, {
      code: "usage",
      hint: "it is true, false or auto",
    });
  }
  return rootless;
}

/**
 * Runs the body of create, run or exec and puts runc's prefix before the message of its error. The prefix is
 * "runc …" whatever bunc is called: runc itself keeps it under any name, containerd, moby and podman pass it on
 * without looking at it, and tools further up know errors of containers by it.
 */
export function withPrefix<T>(prefix: string, body: () => T | Promise<T>): T | Promise<T> {
  try {
    const result = body();
    return result instanceof Promise ? result.catch((error: unknown) => prefixed(prefix, error)) : result;
  } catch (error) {
    return prefixed(prefix, error);
  }
}

function prefixed(prefix: string, error: unknown): never {
  if (error instanceof BuncError && error.fields.verbatim) throw error;
  if (error instanceof BuncError) throw new BuncError(prefix + error.message, error.fields);
  if (error instanceof Error) error.message = prefix + (error.message || error.name);
  throw error;
}

/** Runs the body of a command, with a trace if --trace asks for one. */
export function maybeTraced<T>(
  name: string,
  { args, flags, log }: { args: readonly string[]; flags: { trace: string }; log: Log },
  body: () => T | Promise<T>,
): T | Promise<T> {
  if (!flags.trace) return body();
  const traced = { file: flags.trace, title: `${name} ${args[0] ?? ""}`.trimEnd(), log };
  return import("./trace.ts").then((module) => module.traced(traced, body));
}

/** Runs what needs rights on a container's cgroups; that they may be missing is said before the error. */
export async function warnOfCgroups<T>(command: string, log: Log, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    const errno = error instanceof BuncError ? error.fields.errno : undefined;
    if (errno === "EACCES" || errno === "EPERM") {
      log.warn(`runc ${command} failure might be caused by lack of full access to cgroups`);
    }
    throw error;
  }
}

/** 0, once a call that has no result is over. */
export function zero(result: unknown): number | Promise<number> {
  return result instanceof Promise ? result.then(() => 0) : 0;
}
