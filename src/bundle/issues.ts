/**
 * What is wrong with the shape of a config.json, asked of its schemas. This is the one part of validation that runs
 * valibot, so validate.ts loads it only for a document that does not fit.
 */
import * as v from "valibot";
import type { Problem } from "../errors.ts";
import { LinuxResourcesSchema, ProcessSchema, SpecSchema } from "../oci/config.ts";
import { joinPath } from "../oci/path.ts";

/** The documents that have a schema of their own. */
const schemas = { config: SpecSchema, process: ProcessSchema, resources: LinuxResourcesSchema };
export type DocumentKind = keyof typeof schemas;

/** Fields for whose absence runc has words that callers match. */
const MISSING: Record<string, string> = {
  "linux.memoryPolicy.mode": 'invalid memory policy mode ""; it is required',
};

/** Every place where a value differs from the schema of its kind, each with its path; none if it fits. */
export function shapeProblems(kind: DocumentKind, value: unknown): Problem[] {
  const schema: v.GenericSchema = schemas[kind];
  return (v.safeParse(schema, value).issues ?? []).map(toProblem);
}

function toProblem(issue: v.BaseIssue<unknown>): Problem {
  let path = "";
  for (const item of issue.path ?? []) path = joinPath(path, item.key as string | number);
  const missing = issue.type === "object" && issue.path?.at(-1)?.origin === "key";
  return { path, message: missing ? (MISSING[path] ?? "is required") : issue.message };
}
