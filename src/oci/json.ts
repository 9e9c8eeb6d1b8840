/**
 * JSON with Go's integers: numbers beyond 2^53 become bigints instead of being rounded, and an error says where it is
 * in one line. Duplicate keys: the last one counts, as in Go; depth is bounded only by memory, or, with such numbers, the stack.
 */
import { BuncError } from "../errors.ts";

/** The parameter JSON.parse passes to a reviver besides key and value (ECMAScript 2026, "JSON.parse source text access"). */
interface Context {
  source?: string;
}

/**
 * Parses JSON exactly: an integer literal is a number when it is safe, otherwise a bigint.
 * @throws BuncError (code "config"): what is wrong, with line and column
 */
export function parseJson(text: string): unknown {
  return /[0-9]{16}/.test(text) ? guarded(text, exactly) : guarded(text);
}

/**
 * Parses JSON, rounding integers beyond 2^53 as JSON.parse does: the quicker way for a caller that finds out by itself
 * whether there are any (Number.isSafeInteger) and then calls parseJson.
 * @throws BuncError as parseJson
 */
export function parseJsonRounded(text: string): unknown {
  return guarded(text);
}

function guarded(
  text: string,
  reviver?: (key: string, value: unknown, context: Context) => unknown,
): unknown {
  try {
    return reviver ? JSON.parse(text, reviver as (key: string, value: unknown) => unknown) : JSON.parse(text);
  } catch (error) {
    if (error instanceof RangeError) throw new BuncError("invalid JSON: nested too deep", { code: "config" });
    const { findJsonError } = require("./json-scan.ts") as typeof import("./json-scan.ts");
    const found = findJsonError(text);
    const what = found
      ? `${found.message} at line ${found.line} column ${found.column}`
      : (error as Error).message;
    throw new BuncError(`invalid JSON: ${what}`, { code: "config" });
  }
}

function exactly(_key: string, value: unknown, { source }: Context): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value) || source === undefined) return value;
  // 2^64-1 and -2^63 have 20 characters. Longer ones are out of every range and may be megabytes of digits, for which
  // BigInt takes hours: they stay rounded.
  return source.length <= 20 && /^-?[0-9]+$/.test(source) ? BigInt(source) : value;
}
