/**
 * The builders every part of config.json is made of: thin covers over valibot that know Go's habits (`null` for any
 * optional field, integers of Go's sizes) and word their messages as clauses that follow a path. shape.macro.ts reads
 * what they build, so a new kind of schema has to be taught to it too.
 */
import * as v from "valibot";
import { shown } from "./path.ts";

/** An integer as read from config.json: a number when it is safe (below 2^53), otherwise a bigint. */
export type Integer = number | bigint;

function must(be: string): (issue: { input: unknown }) => string {
  return (issue) => `must be ${be}, not ${shown(issue.input)}`;
}

/** An optional field: absent or `null`, as Go writes empty lists and maps; the output never holds null. */
export function optional<const S extends v.GenericSchema>(schema: S): v.OptionalSchema<S, undefined> {
  return v.nullish(schema, absent) as unknown as v.OptionalSchema<S, undefined>;
}

function absent(): undefined {
  return undefined;
}

export const text = v.string(must("a string"));
export const flag = v.boolean(must("true or false"));

/** What valibot hands to a schema and gets back, as far as the two schemas below touch it. */
interface Dataset {
  value: unknown;
  typed?: boolean;
  issues?: v.BaseIssue<unknown>[] | undefined;
}
type Run = (dataset: Dataset, config: object) => Dataset;

/** Gives a schema another `~run`; `make` gets the one it had. */
function rerun<S extends v.GenericSchema>(schema: S, make: (self: S, run: Run) => Run): S {
  return Object.assign(schema, { "~run": make(schema, schema["~run"].bind(schema) as unknown as Run) });
}

/** An object with the given fields; others are ignored. Unlike valibot's own, it takes no list for an object. */
export function object<const E extends v.ObjectEntries>(entries: E) {
  return rerun(v.object(entries, must("an object")), (self, run) => (dataset, config) => {
    if (!Array.isArray(dataset.value)) return run(dataset, config);
    v._addIssue(self, "type", dataset as never, config as never);
    return dataset;
  });
}

export function list<const S extends v.GenericSchema>(item: S) {
  return v.array(item, must("a list"));
}

export const texts = list(text);

/** An object used as a map. Unlike valibot's own, it takes no list, and skips no key ("constructor" is one). */
export function map<const S extends v.GenericSchema>(item: S) {
  return rerun(v.record(v.string(), item, must("an object")), (self) => (dataset, config) => {
    const input = dataset.value;
    if (typeof input !== "object" || input === null || Array.isArray(input)) {
      v._addIssue(self, "type", dataset as never, config as never);
      return dataset;
    }
    dataset.value = {};
    dataset.typed = true;
    for (const [key, value] of Object.entries(input)) {
      const inner: Dataset = item["~run"]({ value }, config);
      const at: v.ObjectPathItem = { type: "object", origin: "value", input: input as never, key, value };
      for (const issue of inner.issues ?? []) {
        dataset.issues ??= [];
        dataset.issues.push({ ...issue, path: [at, ...(issue.path ?? [])] });
      }
      if (!inner.typed) dataset.typed = false;
      const field = { value: inner.value, enumerable: true, configurable: true, writable: true };
      Object.defineProperty(dataset.value, key, field);
    }
    return dataset;
  });
}

export const textMap = map(text);

/** The range of an integer schema, in the form shape.macro.ts reads back. */
export interface IntegerRange {
  min: Integer;
  max: Integer;
}

function integer(min: number, max: number) {
  const holds = (value: unknown) =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
  const schema = v.custom<number>(holds, must(`an integer from ${min} to ${max}`));
  return v.pipe(schema, v.metadata({ min, max } satisfies IntegerRange));
}

function wide(min: bigint, max: bigint) {
  const holds = (value: unknown) =>
    (typeof value === "bigint" || Number.isSafeInteger(value)) &&
    (value as Integer) >= min &&
    (value as Integer) <= max;
  const schema = v.custom<Integer>(holds, must(`an integer from ${min} to ${max}`));
  return v.pipe(schema, v.metadata({ min, max } satisfies IntegerRange));
}

export const uint16 = integer(0, 65535);
export const uint32 = integer(0, 4294967295);
export const int32 = integer(-2147483648, 2147483647);
export const int64 = wide(-(2n ** 63n), 2n ** 63n - 1n);
export const uint64 = wide(0n, 2n ** 64n - 1n);
/** An integer whose range is narrower than its type in Go, because the kernel takes no more. */
export const ranged = integer;

/**
 * One of the listed words. `what` names their kind in the message: '"nett" is not a namespace type; one of ...'.
 * @param wrong replaces the first part of the message, where callers match runc's words
 */
export function oneOf<const T extends readonly string[]>(
  what: string,
  values: T,
  wrong = (value: string) => `${value} is not ${what}`,
) {
  return v.picklist(values, (issue) => `${wrong(shown(issue.input))}; one of ${values.join(", ")}`);
}
