/**
 * config.json of the OCI runtime-spec 1.3.0 for Linux: valibot schemas, and the types inferred from them under the
 * names of specs-go. Platform parts of others (windows, solaris, vm, zos, freebsd) are ignored, as unknown fields are.
 *
 * On the path of `run`, import only types from here: the schemas themselves bring in valibot and take 1.5 ms.
 */
import type * as v from "valibot";
import { LinuxIDMappingSchema, LinuxSchema } from "./config-linux.ts";
import { ProcessSchema } from "./config-process.ts";
import { flag, list, object, optional, ranged, text, textMap, texts } from "./schema.ts";

export * from "./config-linux.ts";
export * from "./config-process.ts";
export * from "./config-resources.ts";
export * from "./config-seccomp.ts";
export type { Integer } from "./schema.ts";

export const RootSchema = object({ path: text, readonly: optional(flag) });

export const MountSchema = object({
  destination: text,
  type: optional(text),
  source: optional(text),
  options: optional(texts),
  uidMappings: optional(list(LinuxIDMappingSchema)),
  gidMappings: optional(list(LinuxIDMappingSchema)),
});

export const HookSchema = object({
  path: text,
  args: optional(texts),
  env: optional(texts),
  timeout: optional(ranged(1, 2147483647)),
});

const hookList = optional(list(HookSchema));

export const HooksSchema = object({
  prestart: hookList,
  createRuntime: hookList,
  createContainer: hookList,
  startContainer: hookList,
  poststart: hookList,
  poststop: hookList,
});

export const SpecSchema = object({
  ociVersion: text,
  process: optional(ProcessSchema),
  root: optional(RootSchema),
  hostname: optional(text),
  domainname: optional(text),
  mounts: optional(list(MountSchema)),
  hooks: optional(HooksSchema),
  annotations: optional(textMap),
  linux: optional(LinuxSchema),
});

export type Root = v.InferOutput<typeof RootSchema>;
export type Mount = v.InferOutput<typeof MountSchema>;
export type Hook = v.InferOutput<typeof HookSchema>;
export type Hooks = v.InferOutput<typeof HooksSchema>;
export type Spec = v.InferOutput<typeof SpecSchema>;
