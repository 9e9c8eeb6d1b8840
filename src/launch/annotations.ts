/**
 * Annotations of crun's that change how a container is made (crun(1), "Extensions to OCI"). All others that begin with
 * "run.oci." are ignored, as crun ignores those it does not know. run.oci.systemd.subgroup is in cgroup/systemd-names.ts.
 */
import { BuncError } from "../errors.ts";
import type { Spec } from "../oci/config.ts";

type Annotated = Pick<Spec, "annotations">;

const GROUPS = "run.oci.keep_original_groups";
const CONTEXT_TYPE = "run.oci.mount_context_type";
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

/** What `explain` says of annotations whose effect is that something is not there. */
export function annotationNotes(spec: Annotated): string[] {
  if (!keepsGroups(spec)) return [];
  return [`${annotationPath(GROUPS)}: no setgroups, the program keeps the groups of the caller`];
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== "0";
}
