/** Ways to damage a document systematically; tests use them. */

/** Where a value is in a document. */
export type Keys = readonly (string | number)[];

/** Calls `visit` for every value in a document but the document itself, those with parts included. */
export function eachValue(
  document: unknown,
  visit: (keys: Keys, value: unknown) => void,
  keys: Keys = [],
): void {
  if (typeof document !== "object" || document === null) return;
  for (const [name, value] of Object.entries(document)) {
    const at = [...keys, Array.isArray(document) ? Number(name) : name];
    visit(at, value);
    eachValue(value, visit, at);
  }
}

/** A copy of a document with one value replaced. */
export function replaced<T>(document: T, keys: Keys, value: unknown): T {
  const copy = structuredClone(document);
  let part = copy as Record<string | number, unknown>;
  for (const key of keys.slice(0, -1)) part = part[key] as Record<string | number, unknown>;
  part[keys.at(-1)!] = value;
  return copy;
}

/** Values that no field can hold which holds the given value, because they are of another type. */
export function wrongValues(value: unknown): unknown[] {
  const others = [{ x: 1 }, ["x", 1], "\u{1f4a3}", true, 1.5].filter((other) => kind(other) !== kind(value));
  return typeof value === "number" ? [...others, 1.5, 1e300, -1e300] : others;
}

function kind(value: unknown): string {
  return Array.isArray(value) ? "list" : typeof value;
}
