/**
 * Annotations of crun's that change how a container is made (crun(1), "Extensions to OCI"). All others that begin with
 * "run.oci." are ignored, as crun ignores those it does not know. run.oci.systemd.subgroup is in cgroup/systemd-names.ts.
 */
import { BuncError } from "../errors.ts";
import type { Spec } from "../oci/config.ts";

type Annotated = Pick<Spec, "annotations">;

const GROUPS = "run.oci.keep_original_groups";
const CONTEXT_TYPE = "run.oci.mount_context_type";
const HOOKS_STDOUT = "run.oci.hooks.stdout";
const HOOKS_STDERR = "run.oci.hooks.stderr";
const UNKNOWN_CALLS = "run.oci.seccomp_fail_unknown_syscall";

const CONTEXT_TYPES = ["context", "fscontext", "defcontext", "rootcontext"];

/** The place in config.json of an annotation, as errors and `explain` name it. */
export function annotationPath(name: string): string {
  return `annotations[${JSON.stringify(name)}]`;
}

/** Whether the program keeps the supplementary groups of the caller; additionalGids is ignored then. */
export function keepsGroups({ annotations }: Annotated): boolean {
  return annotations !== undefined && isSet(annotations[GROUPS]);
}

/**
 * The mount option that carries linux.mountLabel.
 * @throws BuncError for an option that there is not
 */
export function mountContextType({ annotations }: Annotated): string {
  const type = annotations?.[CONTEXT_TYPE];
  if (type === undefined) return "context";
  if (CONTEXT_TYPES.includes(type)) return type;
  throw new BuncError(`invalid mount context type ${JSON.stringify(type)}`, {
    code: "config",
    path: annotationPath(CONTEXT_TYPE),
    hint: `it is one of ${CONTEXT_TYPES.join(", ")}`,
  });
}

/**
 * Refuses a filter that libseccomp does not know all calls of, if the annotation says so.
 * @param unknown the warning about them
 */
export function refuseUnknownCalls({ annotations }: Annotated, unknown: string | undefined): void {
  if (unknown === undefined || !isSet(annotations?.[UNKNOWN_CALLS])) return;
  throw new BuncError(unknown.replace("ignored, ", ""), {
    code: "config",
    path: annotationPath(UNKNOWN_CALLS),
    hint: "correct the names, or leave the annotation out",
  });
}

/** A file that what hooks write to one of their streams is appended to. */
export interface HookFile {
  stream: "stdout" | "stderr";
  /** Absolute, or empty as it was given. */
  file: string;
  /** The annotation that names it. */
  path: string;
}

/**
 * The files that what hooks write is appended to, where the annotations name any.
 * @param bundle relative paths are relative to it
 */
export function hookFiles({ annotations }: Annotated, bundle: string): HookFile[] {
  if (!annotations) return [];
  const files: HookFile[] = [];
  for (const [stream, name] of HOOK_STREAMS) {
    const given = annotations[name];
    if (given === undefined) continue;
    const file = given === "" || given.startsWith("/") ? given : `${bundle}/${given}`;
    files.push({ stream, file, path: annotationPath(name) });
  }
  return files;
}

const HOOK_STREAMS = [
  ["stdout", HOOKS_STDOUT],
  ["stderr", HOOKS_STDERR],
] as const;

/** What `explain` says of annotations whose effect the operations do not show. */
export function annotationNotes(spec: Annotated & Pick<Spec, "hooks">, bundle: string): string[] {
  const notes = (hasHooks(spec) ? hookFiles(spec, bundle) : []).map(
    ({ stream, file, path }) => `${path}: what hooks write to ${stream} is appended to ${file}`,
  );
  if (keepsGroups(spec))
    notes.push(`${annotationPath(GROUPS)}: no setgroups, the program keeps the groups of the caller`);
  return notes;
}

/** Whether a bundle has hooks of any kind. */
export function hasHooks({ hooks }: Pick<Spec, "hooks">): boolean {
  for (const kind in hooks) if (hooks[kind as keyof typeof hooks]?.length) return true;
  return false;
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== "0";
}
