/** Hooks that init runs itself, in the container's namespaces: createContainer before the change of root, startContainer after. */
import { abi, bunc_hook_, sizeof_ } from "../linux/abi.gen.ts";
import type { Hook } from "../oci/config.ts";
import type { Context } from "./context.ts";
import { Struct } from "./program.ts";

/** The kinds of hooks that run inside. */
export type InnerHook = "createContainer" | "startContainer";

/** struct bunc_hook: program, arguments, environment, the state on stdin, and a deadline. */
export function hookStruct(
  hook: Hook,
  state: string | Uint8Array,
  defaultEnv: readonly (string | Uint8Array)[],
): Struct {
  const input = typeof state === "string" ? new TextEncoder().encode(state) : state;
  const pointers = (items: readonly (string | Uint8Array)[], name: string) => {
    const array = new Struct((items.length + 1) * 8, name);
    for (let i = 0; i < items.length; i++) array.pointer(i * 8, items[i]!);
    return array;
  };
  return new Struct(sizeof_.bunc_hook, "hook")
    .pointer(bunc_hook_.path, hook.path)
    .pointer(bunc_hook_.argv, pointers(hook.args?.length ? hook.args : [hook.path], "argv"))
    .pointer(bunc_hook_.envp, pointers(hook.env ?? defaultEnv, "envp"))
    .pointer(bunc_hook_.input, input)
    .u64(bunc_hook_.input_size, input.length)
    .u64(bunc_hook_.timeout_ms, hook.timeout === undefined ? -1n : hook.timeout * 1000);
}

/** Words of a failing hook, as runc has them. */
export function hookAbout(kind: string, index: number): string {
  return `error running ${kind} hook #${index}`;
}

/** Appends the hooks of one kind. Their state says the pid that init has in the container's own pid namespace; env is for those that name none. */
export function compileHooks(c: Context, kind: InnerHook, env: readonly (string | Uint8Array)[]): void {
  const hooks = c.spec.hooks?.[kind] ?? [];
  if (!hooks.length) return;
  const { id, bundle } = c.settings;
  const state = JSON.stringify({
    ociVersion: c.spec.ociVersion,
    id,
    status: kind === "createContainer" ? "creating" : "created",
    pid: c.settings.innerPid,
    bundle,
    ...(c.spec.annotations ? { annotations: c.spec.annotations } : {}),
  });
  for (let i = 0; i < hooks.length; i++) {
    c.part.at("hooks", `hooks.${kind}[${i}]`);
    c.part.op(abi.BUNC_OP_HOOK, [hookStruct(hooks[i]!, state, env)], { about: hookAbout(kind, i) });
  }
}
