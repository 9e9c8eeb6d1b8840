/** The help texts, made from the table, in the layout of runc's; and the command `help`. */
import { BuncError } from "../errors.ts";
import { formatColumns } from "./columns.ts";
import { GLOBAL_FLAGS, HELP_FLAG } from "./flags.ts";
import { baseName, quote } from "./go.ts";
import { defaultRoot } from "./options.ts";
import { commandNames, findCommand, TABLE } from "./table.ts";
import type { CommandContext, CommandSpec, FlagSpec, FlagSpecs } from "./types.ts";
import { buncVersion } from "./version.ts";

const about = (
  program: string,
) => `Runs containers described by OCI bundles, with the commands and options of runc.

To start a container from the bundle in the current directory:

    # ${program} run <container-id>`;

/** Help for the whole program. */
export function programHelp(argv0: string): string {
  const program = baseName(argv0);
  const commands = commandNames().map((name) => {
    const spec: CommandSpec = TABLE[name]();
    return [`   ${spec.alias ? `${name}, ${spec.alias}` : name}`, spec.usage];
  });
  const root = { ...GLOBAL_FLAGS.root, default: defaultRoot(argv0) };
  return `NAME:
   ${program} - Open Container Initiative runtime

${about(program)}

USAGE:
   ${program} [global options] command [command options] [arguments...]

VERSION:
   ${buncVersion()}

COMMANDS:
${formatColumns(commands, 0, 2)}
GLOBAL OPTIONS:
${flagLines({ ...GLOBAL_FLAGS, root })}`;
}

/** Help for one command of the table. */
export function commandHelp(argv0: string, name: string, spec: CommandSpec): string {
  const full = `${baseName(argv0)} ${name}`;
  const about = spec.about ? `\nDESCRIPTION:\n${spec.about.replace(/^(?=.)/gm, "   ")}\n` : "";
  return `NAME:
   ${full} - ${spec.usage}

USAGE:
   ${full} [command options]${spec.args ? ` ${spec.args}` : ""}
${about}
OPTIONS:
${flagLines({ ...spec.flags, ...HELP_FLAG })}`;
}

function flagLines(specs: FlagSpecs): string {
  const visible = Object.entries(specs).filter(([, spec]) => !spec.hidden);
  return formatColumns(
    visible.map(([name, spec]) => [`   ${flagNames(name, spec)}`, spec.usage + defaultNote(spec)]),
    0,
    2,
  );
}

function flagNames(name: string, { alias, kind }: FlagSpec): string {
  const value = kind === "bool" ? "" : " value";
  return alias ? `--${name}${value}, -${alias}${value}` : `--${name}${value}`;
}

function defaultNote(spec: FlagSpec): string {
  if (typeof spec.default === "string" && spec.kind !== "duration")
    return ` (default: ${quote(spec.default)})`;
  return spec.default === undefined ? "" : ` (default: ${spec.default})`;
}

/** The error for a command or help topic that does not exist; exit code 3, as urfave/cli's. */
export function noSuchCommand(name: string): BuncError {
  const near = nearest(name, commandNames());
  const message = `No help topic for '${name}'`;
  return new BuncError(near ? `${message}. Did you mean ${quote(near)}?` : message, {
    code: "usage",
    exitCode: 3,
  });
}

/**
 * The hint for a flag that does not exist: the nearest one, or where it belongs if it is a global option.
 * @param command the command it was given to, undefined for none
 */
export function nearestFlag(given: string, flags: FlagSpecs, command?: string): string | undefined {
  const name = given.replace(/^-+/, "").replace(/=.*/s, "");
  if (command !== undefined && Object.hasOwn(GLOBAL_FLAGS, name) && !Object.hasOwn(flags, name)) {
    return `--${name} is a global option, which stands before "${command}"`;
  }
  const visible = Object.keys(flags).filter((flag) => !flags[flag]?.hidden);
  const near = name.length > 1 ? nearest(name, visible) : undefined;
  return near === undefined ? undefined : `did you mean --${near}?`;
}

/** The candidate that takes the fewest edits to reach, when they are few for a word of that length. */
function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > 32) return undefined;
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 2));
  for (const candidate of candidates) {
    const edits = distance(word, candidate);
    // Of two as near as each other, the one that merely continues the word: "stat" is "state", not "start".
    if (edits < least || (edits === least && (best === undefined || candidate.startsWith(word)))) {
      best = candidate;
      least = edits;
    }
  }
  return best;
}

/** Edits (insert, delete, replace, swap neighbours) between two words: optimal string alignment. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let edits = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits = Math.min(edits, before[j - 2]! + 1);
      }
      row.push(edits);
    }
    before = last;
    last = row;
  }
  return last[b.length]!;
}

/** `help [command]`. */
export async function command({ argv0, args, output }: CommandContext<"help">): Promise<number> {
  const topic = args[0];
  if (!topic) {
    await output.stdout(programHelp(argv0));
    return 0;
  }
  const found = findCommand(topic);
  if (!found) throw noSuchCommand(topic);
  await output.stdout(commandHelp(argv0, found[0], found[1]));
  return 0;
}
