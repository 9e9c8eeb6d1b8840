/**
 * Validation of the documents a caller hands in: config.json, and the process or resources alone. Every problem is
 * reported at once, each with its path; warnings apart. Nothing here looks at the host.
 */
import { BuncError, type Problem } from "../errors.ts";
import type { LinuxResources, Mount, Process, Spec } from "../oci/config.ts";
import { parseJson, parseJsonRounded } from "../oci/json.ts";
import { isOldVersion, normalise, normaliseProcess, normaliseResources } from "../oci/legacy.ts";
import { joinPath, shown } from "../oci/path.ts";
import { fitsProcess, fitsResources, fitsSpec, foldCase } from "../oci/shape.ts";
import { checkProcess } from "./check-process.ts";
import { checkResources } from "./check-resources.ts";
import { checkSpec } from "./check-spec.ts";
import { type Findings, problem } from "./findings.ts";
import type { DocumentKind } from "./issues.ts";

/** The outcome of a validation. */
export interface Validated<T> {
  /** The document, old shapes made new and without nulls; there if and only if there are no problems. */
  value?: T;
  /** Why it cannot be used. */
  problems: Problem[];
  /** What is suspicious or will be ignored. */
  warnings: Problem[];
  /** The value is what JSON.parse makes of the text, and there are no warnings. */
  plain?: boolean;
}

/** How a kind of document is validated. */
interface Rules<T> {
  kind: DocumentKind;
  fits(value: unknown): value is T;
  normalise(value: unknown): Problem[];
  check(value: T, out: Findings): void;
}

const CONFIG: Rules<Spec> = { kind: "config", fits: fitsSpec, normalise, check: checkSpec };

const PROCESS: Rules<Process> = {
  kind: "process",
  fits: fitsProcess,
  normalise(value) {
    normaliseProcess(value);
    return [];
  },
  check(value, out) {
    checkProcess(value, out, "");
  },
};

const RESOURCES: Rules<LinuxResources> = {
  kind: "resources",
  fits: fitsResources,
  normalise(value) {
    normaliseResources(value);
    return [];
  },
  check(value, out) {
    checkResources(value, out, "");
  },
};

/**
 * Validates a config.json.
 * @throws BuncError (code "config") if the text is not JSON
 */
export function validateConfig(text: string): Validated<Spec> {
  return validate(CONFIG, text);
}

/** Validates the `process` object alone, as for `exec --process FILE`. @throws BuncError as validateConfig */
export function validateProcess(text: string): Validated<Process> {
  return validate(PROCESS, text);
}

/** Validates the `linux.resources` object alone, as for `update --resources FILE`. @throws BuncError as validateConfig */
export function validateResources(text: string): Validated<LinuxResources> {
  return validate(RESOURCES, text);
}

/**
 * Validates a list of mounts alone, as for `mounts add`, of the container that has this `linux`.
 * @throws BuncError as validateConfig
 */
export function validateMounts(text: string, linux: Spec["linux"]): Validated<Mount[]> {
  const mounts = parseJsonRounded(text);
  if (!Array.isArray(mounts)) {
    return { problems: [{ path: "", message: "mounts must be an array" }], warnings: [] };
  }
  const { uidMappings, gidMappings, namespaces } = linux ?? {};
  const { value, problems, warnings } = validateConfig(
    JSON.stringify({
      ociVersion: "1.3.0",
      process: { cwd: "/", args: ["none"], user: { uid: 0, gid: 0 } },
      root: { path: "/" },
      mounts,
      linux: { uidMappings, gidMappings, namespaces },
    }),
  );
  return value ? { value: value.mounts ?? [], problems, warnings } : { problems, warnings };
}

/** A document with more problems of shape is beyond further checks, each of which asks whether its part has one. */
const MOST_MISSHAPEN = 1000;

function validate<T>(rules: Rules<T>, text: string): Validated<T> {
  // The quick way first: nearly all documents are well-formed, say a version that has no old shapes, hold no integer
  // beyond 2^53, and name their fields as the specification does.
  let value = parseJsonRounded(text);
  let plain = rules.kind === "config" && !isOldVersion(value);
  let found = plain ? [] : rules.normalise(value);
  if (!rules.fits(value)) {
    plain = false;
    value = parseJson(text);
    foldCase(rules.kind, value);
    found = rules.normalise(value);
    if (!rules.fits(value)) found = found.concat(shapeProblems(rules.kind, value));
  }
  const out: Findings = { problems: found, warnings: [], misshapen: found.length };
  if (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    found.length <= MOST_MISSHAPEN
  ) {
    rules.check(value as T, out);
    // A string with a NUL would be cut short by the first system call it is passed to.
    if (text.includes("\\u0000")) findNul(value, "", 0, out);
  }
  const { problems, warnings } = out;
  if (problems.length > 0) return { problems, warnings };
  if (plain && warnings.length === 0) return { value: value as T, problems, warnings, plain };
  return { value: value as T, problems, warnings };
}

function shapeProblems(kind: DocumentKind, value: unknown): Problem[] {
  if (value === null) return [{ path: "", message: "config cannot be null" }];
  // Loaded only here: importing valibot and building the schemas takes longer than everything else in this file.
  const issues = require("./issues.ts") as typeof import("./issues.ts");
  return issues.shapeProblems(kind, value);
}

/** Deeper than any known field is: what is below, nothing reads. */
const DEEPEST = 16;

/** Annotations are left out: they are only kept and shown. */
function findNul(value: unknown, path: string, depth: number, out: Findings): void {
  if (typeof value === "string") {
    if (value.includes("\0")) problem(out, path, `must not contain a NUL character: ${shown(value)}`);
  } else if (typeof value === "object" && value !== null && path !== "annotations" && depth < DEEPEST) {
    for (const [key, item] of Object.entries(value)) {
      const at = joinPath(path, Array.isArray(value) ? Number(key) : key);
      if (key.includes("\0")) problem(out, at, "must not have a NUL character in its name");
      findNul(item, at, depth + 1, out);
    }
  }
}

/** The most problems an error spells out; `validate` lists all. */
const MOST_TOLD = 20;

/** All problems of a document (at least one) as one error of one line. */
export function problemsError(problems: readonly Problem[], file = "config.json"): BuncError {
  const told = problems.slice(0, MOST_TOLD).map(renderProblem);
  if (problems.length > MOST_TOLD) told.push(`and ${problems.length - MOST_TOLD} more`);
  const fields = { code: "config", phase: "validation" } as const;
  if (problems.length === 1) return new BuncError(told[0]!, { ...fields, path: problems[0]!.path });
  return new BuncError(`${file} has ${problems.length} problems: ${told.join("; ")}`, fields);
}

/** A problem or warning as one line: "linux.namespaces[2].type: ..." */
export function renderProblem({ path, message }: Problem): string {
  return path === "" ? message : `${path}: ${message}`;
}
