/**
 * The parser of flags: what urfave/cli v1 on top of Go's flag package accepts, which is what every caller of
 * runc was written against. One or two dashes, `--flag value` and `--flag=value`, `--` ends the flags, and flags
 * may follow arguments unless the command takes a command line of its own.
 *
 * One thing is read better than by runc 1.5.1, and as by its successor (urfave/cli v3): a boolean flag never
 * takes the argument after it along, so `run -d ID --keep` and `kill ID --all KILL` mean what they say.
 */
import { BuncError } from "../errors.ts";
import { parseBool, parseDuration, parseInteger, quote } from "./go.ts";
import type { FlagSpec, FlagSpecs, FlagValues, Parsed } from "./types.ts";

/** A command line that cannot be understood; the message is Go's, and help is printed with it. */
export class UsageError extends BuncError {
  /** @param flag the name of a flag that does not exist, as it was given */
  constructor(
    message: string,
    readonly flag?: string,
    hint?: string,
  ) {
    super(message, hint === undefined ? { code: "usage" } : { code: "usage", hint });
    this.name = "UsageError";
  }
}

/**
 * Parses flags and arguments.
 * @param specs the flags that exist
 * @param args what follows the program's or the command's name
 * @param flagsFirst true when the first argument ends the flags
 * @throws UsageError with the words of Go's flag package
 */
export function parseFlags<F extends FlagSpecs>(
  specs: F,
  args: readonly string[],
  flagsFirst: boolean,
): Parsed<F> {
  const values: Record<string, boolean | number | string | string[]> = {};
  for (const name in specs) values[name] = defaultOf(specs[name] as FlagSpec);
  // Under which name each flag was given: both names in one call are an error.
  const given = new Map<string, string>();
  const twoForms: string[] = [];

  const ordered = flagsFirst ? args : flagsToFront(specs, args);
  let at = 0;
  while (at < ordered.length) {
    const arg = ordered[at] as string;
    if (arg.length < 2 || arg[0] !== "-") break;
    at += 1;
    if (arg === "--") break;
    let name = arg.slice(arg[1] === "-" ? 2 : 1);
    if (name === "" || name[0] === "-" || name[0] === "=") throw new UsageError(`bad flag syntax: ${arg}`);
    const equals = name.indexOf("=");
    let value: string | undefined;
    if (equals !== -1) {
      value = name.slice(equals + 1);
      name = name.slice(0, equals);
    }
    const key = findFlag(specs, name);
    if (key === undefined) throw new UsageError(`flag provided but not defined: -${name}`, name);
    const { kind } = specs[key] as FlagSpec;
    if (kind === "bool") {
      const flag = value === undefined ? true : parseBool(value);
      if (flag === undefined) {
        throw new UsageError(`invalid boolean value ${quote(value as string)} for -${name}: parse error`);
      }
      values[key] = flag;
    } else {
      if (value === undefined) {
        if (at === ordered.length) throw new UsageError(`flag needs an argument: -${name}`);
        value = ordered[at] as string;
        at += 1;
      }
      if (kind === "int") {
        const number = parseInteger(value);
        if (typeof number === "string") {
          throw new UsageError(`invalid value ${quote(value)} for flag -${name}: ${number}`);
        }
        values[key] = number;
      } else if (kind === "duration") {
        const time = parseDuration(value);
        if (time === undefined) {
          throw new UsageError(`invalid value ${quote(value)} for flag -${name}: parse error`);
        }
        values[key] = time;
      } else if (kind === "strings") {
        (values[key] as string[]).push(value);
      } else {
        values[key] = value;
      }
    }
    if ((given.get(key) ?? name) !== name) twoForms.push(key);
    given.set(key, name);
  }
  // Every other mistake is reported before this one, and of several the one that comes first in the table.
  if (twoForms.length > 0) {
    const key = Object.keys(specs).find((name) => twoForms.includes(name)) as string;
    throw new UsageError(`Cannot use two forms of the same flag: ${specs[key]?.alias} ${key}`);
  }
  return { values: values as FlagValues<F>, given, args: ordered.slice(at) };
}

function defaultOf(spec: FlagSpec): boolean | number | string | string[] {
  switch (spec.kind) {
    case "bool":
      return false;
    case "int":
      return spec.default ?? 0;
    case "string":
      return spec.default ?? "";
    case "duration":
      return parseDuration(String(spec.default)) ?? 0;
    case "strings":
      return [];
  }
}

/** The flag's own name for a name or alias. Nothing is inherited here: `--constructor` is no flag. */
function findFlag<F extends FlagSpecs>(specs: F, name: string): string | undefined {
  for (const key in specs) if (key === name || (specs[key] as FlagSpec).alias === name) return key;
  return undefined;
}

/** The flag an argument would be, whatever its number of dashes (up to three, as in urfave/cli v1). */
function flagOf<F extends FlagSpecs>(specs: F, arg: string): FlagSpec | undefined {
  if (arg[0] !== "-" || arg === "-" || arg === "--") return undefined;
  let start = arg[1] === "-" ? 2 : 1;
  if (start === 2 && arg[2] === "-") start = 3;
  const equals = arg.indexOf("=", start);
  const key = findFlag(specs, equals === -1 ? arg.slice(start) : arg.slice(start, equals));
  return key === undefined ? undefined : specs[key];
}

/** Moves the flags, with their values, before the arguments. Unknown flags stay and count as arguments. */
function flagsToFront<F extends FlagSpecs>(specs: F, args: readonly string[]): readonly string[] {
  const flags: string[] = [];
  let rest: string[] = [];
  let wantsValue = false;
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] as string;
    const flag = flagOf(specs, arg);
    if (flag !== undefined) {
      flags.push(arg);
      wantsValue = flag.kind !== "bool" && !arg.includes("=");
    } else if (wantsValue) {
      flags.push(arg);
      wantsValue = false;
    } else if (arg === "--") {
      rest = ["--"].concat(rest, args.slice(i + 1));
      break;
    } else {
      rest.push(arg);
    }
  }
  return flags.concat(rest);
}
