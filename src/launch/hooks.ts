/** Hooks that init runs itself, in the container's namespaces: createContainer before the change of root, startContainer after. */
import { abi, bunc_hook_, sizeof_ } from "../linux/abi.gen.ts";
import type { Hook } from "../oci/config.ts";
import type { HookFile } from "./annotations.ts";
import type { Context } from "./context.ts";
import { Struct } from "./program.ts";

/** The kinds of hooks that run inside. */
export type InnerHook = "createContainer" | "startContainer";

/** Descriptors that become stdout and stderr of a hook; -1: what it writes is kept for the error, should it fail. */
export type HookFds = readonly [stdout: number, stderr: number];

const KEPT: HookFds = [-1, -1];

/** struct bunc_hook: program, arguments, environment, the state on stdin, a deadline, and where the output goes. */
export function hookStruct(
  hook: Hook,
  state: string | Uint8Array,
  defaultEnv: readonly (string | Uint8Array)[],
  output: HookFds = KEPT,
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
    .u64(bunc_hook_.timeout_ms, hook.timeout === undefined ? -1n : hook.timeout * 1000)
    .u32(bunc_hook_.stdio, output[0])
    .u32(bunc_hook_.stdio + 4, output[1]);
}

/** Words of a failing hook, as runc has them. */
export function hookAbout(kind: string, index: number): string {
  return `error running ${kind} hook #${index}`;
}

/** What an error of a hook cannot quote, as it has gone to the files. */
export function hookHint(files: readonly HookFile[] = []): { hint?: string } {
  if (!files.length) return {};
  return { hint: `${files.map(({ stream, file }) => `its ${stream} is in ${file}`).join(", ")}` };
}

/** Name of the inherited descriptor of a file that takes what hooks write. */
function fileFd(stream: HookFile["stream"]): string {
  return `hook-${stream}`;
}

/** Declares the descriptors of the files for hooks that init runs. */
export function planHookFiles(c: Context): void {
  const { createContainer, startContainer } = c.spec.hooks ?? {};
  if (!createContainer?.length && !startContainer?.length) return;
  for (const file of c.settings.hookFiles ?? [])
    c.inherit({ name: fileFd(file.stream), from: { kind: "hook-file", file } });
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
  const output = [c.fd(fileFd("stdout")) ?? -1, c.fd(fileFd("stderr")) ?? -1] as const;
  const hint = hookHint(c.settings.hookFiles);
  for (let i = 0; i < hooks.length; i++) {
    c.part.at("hooks", `hooks.${kind}[${i}]`);
    c.part.op(abi.BUNC_OP_HOOK, [hookStruct(hooks[i]!, state, env, output)], {
      about: hookAbout(kind, i),
      ...hint,
    });
  }
}
