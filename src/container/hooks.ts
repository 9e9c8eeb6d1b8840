/** Hooks that run in this process (runtime-spec config.md "POSIX-platform Hooks"); those of launch/hooks.ts run in init. */
import { BuncError } from "../errors.ts";
import { hookFailure } from "../launch/hook-failure.ts";
import { hookAbout, hookStruct } from "../launch/hooks.ts";
import { Part } from "../launch/program.ts";
import { abi, bunc_state_ } from "../linux/abi.gen.ts";
import { HostState, runPart } from "../linux/run-part.ts";
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
 * Runs hooks here, one after the other, each until it ends or its time is over.
 * @param stateJson what they get on stdin (`hookStateJson`)
 * @throws BuncError (code "hook") in runc's words
 */
export function runHooks(
  kind: HookName,
  hooks: readonly Hook[],
  stateJson: string,
  { failed, state = new HostState() }: HookOptions = {},
): void {
  if (hooks.length === 0) return;
  const env = hookEnvironment();
  for (let i = 0; i < hooks.length; i++) {
    const hook = hooks[i]!;
    const place = `hooks.${kind}[${i}]`;
    const part = new Part().at("hooks", place);
    part.op(abi.BUNC_OP_HOOK, [hookStruct(hook, stateJson, env)], { about: hookAbout(kind, i) });
    try {
      runPart(part, state);
    } catch (error) {
      if (!(error instanceof BuncError)) throw error;
      const errno = new DataView(state.bytes.buffer).getInt32(bunc_state_.error, true);
      const failure = hookFailure(place, hook, errno, state.failure().text);
      if (!failed) throw failure;
      failed(failure);
    }
  }
}
