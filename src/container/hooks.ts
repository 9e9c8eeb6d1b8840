/** Hooks that run in this process (runtime-spec config.md "POSIX-platform Hooks"); those of launch/hooks.ts run in init. */
import { BuncError } from "../errors.ts";
import { hookAbout, hookStruct } from "../launch/hooks.ts";
import { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { HostState, runPart } from "../linux/run-part.ts";
import { servesOthers } from "../linux/wait.ts";
import type { Hook } from "../oci/config.ts";
import type { HookName, LibcontainerHook } from "./libcontainer.ts";

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
  const env = hookEnvironment();
  const parts = hooks.map((hook, i) => {
    const part = new Part().at("hooks", `hooks.${kind}[${i}]`);
    part.op(abi.BUNC_OP_HOOK, [hookStruct(hook, stateJson, env)], { about: hookAbout(kind, i) });
    return part;
  });
  if (servesOthers()) return runApart(parts, options);
  const { failed, state = new HostState() } = options;
  for (const part of parts) {
    try {
      runPart(part, state);
    } catch (error) {
      if (!failed || !(error instanceof BuncError)) throw error;
      failed(error);
    }
  }
}

async function runApart(parts: readonly Part[], { failed }: HookOptions): Promise<void> {
  const { runPartApart } = await import("./hooks-apart.ts");
  for (const part of parts) {
    try {
      await runPartApart(part);
    } catch (error) {
      if (!failed || !(error instanceof BuncError)) throw error;
      failed(error);
    }
  }
}
