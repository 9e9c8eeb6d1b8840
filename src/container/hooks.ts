/** Hooks that run in this process (runtime-spec config.md "POSIX-platform Hooks"); those of launch/hooks.ts run in init. */
import { BuncError } from "../errors.ts";
import type { HookFile } from "../launch/annotations.ts";
import { type HookFds, hookAbout, hookHint, hookStruct } from "../launch/hooks.ts";
import { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { HostState, runPart } from "../linux/run-part.ts";
import { servesOthers } from "../linux/wait.ts";
import type { Hook } from "../oci/config.ts";
import type { HookName, LibcontainerHook } from "./libcontainer.ts";

export { hookFiles } from "../launch/annotations.ts";

/**
 * The environment of hooks that name none: the caller's own, as in Go. Without what steers Bun (BUN_OPTIONS,
 * BUN_BE_BUN, ...), which a hook that is itself such a program would obey.
 */
export function hookEnvironment(env: Readonly<Record<string, string | undefined>> = process.env): string[] {
  const list: string[] = [];
  for (const name in env) {
    const value = env[name];
    if (value !== undefined && !name.startsWith("BUN_")) list.push(`${name}=${value}`);
  }
  return list;
}

/** A hook of a state.json as one of config.json. */
export function fromLibcontainer(hook: LibcontainerHook): Hook {
  return {
    path: hook.path,
    args: hook.args ?? undefined,
    env: hook.env ?? undefined,
    timeout: hook.timeout ? hook.timeout / 1_000_000_000 : undefined,
  };
}

/** How hooks are run. */
export interface HookOptions {
  /** Takes the error of a hook, and the rest are run; without it the first error is thrown. */
  failed?: (error: BuncError) => void;
  /** The program of this process that the hooks are part of: their operations are counted on from there. */
  state?: HostState;
  /** The files that what they write is appended to (`hookFiles`). */
  files?: readonly HookFile[] | undefined;
}

/** The files that hooks write to, open. */
export interface HookOutput {
  fds: HookFds;
  close(): void;
}

/** Appends only; a pipe that nobody reads is an error, not a wait; a terminal does not become this process's own. */
const APPEND = abi.O_WRONLY | abi.O_CREAT | abi.O_APPEND | abi.O_CLOEXEC | abi.O_NOCTTY | abi.O_NONBLOCK;

/**
 * Opens the files that hooks write to.
 * @throws BuncError naming the one that cannot be opened
 */
export function openHookFiles(files: readonly HookFile[]): HookOutput {
  const fds: [number, number] = [-1, -1];
  const close = () => {
    for (const fd of fds) closeFd(fd);
  };
  for (const { stream, file, path } of files) {
    const fd = openAppending(file);
    if (fd < 0) {
      close();
      const error = pathError("open", file, fd);
      const what = `cannot open the file for the ${stream} of hooks: ${error.message}`;
      throw new BuncError(what, { ...error.fields, path, hint: "name a file that can be written to" });
    }
    fds[stream === "stdout" ? 0 : 1] = fd;
  }
  return { fds, close };
}

/** A descriptor above the standard streams, which the hooks take, or -errno. */
function openAppending(file: string): number {
  const first = sys(abi.SYS_openat, abi.AT_FDCWD, file, APPEND, 0o600);
  if (first < 0) return first;
  sys(abi.SYS_fcntl, first, abi.F_SETFL, abi.O_APPEND);
  if (first > 2) return first;
  const fd = sys(abi.SYS_fcntl, first, abi.F_DUPFD_CLOEXEC, 3);
  closeFd(first);
  return fd;
}

/**
 * Runs hooks in the namespaces of this process, one after the other, each until it ends or its time is over.
 * @param stateJson what they get on stdin (`hookStateJson`)
 * @returns a promise where an event loop must go on meanwhile (linux/wait.ts)
 * @throws BuncError (code "hook") in runc's words
 */
export function runHooks(
  kind: HookName,
  hooks: readonly Hook[],
  stateJson: string,
  options: HookOptions = {},
): void | Promise<void> {
  if (hooks.length === 0) return;
  let output: HookOutput | undefined;
  try {
    if (options.files?.length) output = openHookFiles(options.files);
  } catch (error) {
    tell(error, options);
  }
  const apart = servesOthers();
  const given = output?.fds.filter((fd) => fd >= 0) ?? [];
  const number = (fd = -1) => (fd >= 0 && apart ? APART_FIRST + 1 + given.indexOf(fd) : fd);
  const stdio = [number(output?.fds[0]), number(output?.fds[1])] as const;
  const env = hookEnvironment();
  const parts = hooks.map((hook, i) => {
    const part = new Part().at("hooks", `hooks.${kind}[${i}]`);
    part.op(abi.BUNC_OP_HOOK, [hookStruct(hook, stateJson, env, stdio)], {
      about: hookAbout(kind, i),
      ...hookHint(output && options.files),
    });
    return part;
  });
  if (apart) return runApart(parts, given, options).finally(() => output?.close());
  const { state = new HostState() } = options;
  try {
    for (const part of parts) {
      try {
        runPart(part, state);
      } catch (error) {
        tell(error, options);
      }
    }
  } finally {
    output?.close();
  }
}

/** Number of the first descriptor that a bunc-init of its own inherits: its socket; the others follow. */
const APART_FIRST = 3;

async function runApart(parts: readonly Part[], fds: readonly number[], options: HookOptions): Promise<void> {
  const { runPartApart } = await import("./hooks-apart.ts");
  for (const part of parts) {
    try {
      await runPartApart(part, APART_FIRST, fds);
    } catch (error) {
      tell(error, options);
    }
  }
}

/** Passes an error to who wants to hear of each, else throws it. */
function tell(error: unknown, { failed }: HookOptions): void {
  if (!failed || !(error instanceof BuncError)) throw error;
  failed(error);
}
