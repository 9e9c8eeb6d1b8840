/**
 * What the values of flags and the arguments of commands are, for shell completion: files, directories, words, ids.
 * It stands apart from the table because a command that runs has no use for it.
 */
import { GLOBAL_FLAGS, HELP_FLAG } from "../flags.ts";
import { commandNames, findCommand, TABLE } from "../table.ts";
import type { CommandSpec, FlagSpec, FlagSpecs } from "../types.ts";

/** `any`: nothing can be proposed. An array: one of these words. */
export type Value = "file" | "directory" | "id" | "command" | "any" | readonly string[];

const SIGNALS = "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP TSTP WINCH".split(" ");
const OF_FILES: readonly string[] = [
  "log",
  "console-socket",
  "pidfd-socket",
  "pid-file",
  "process",
  "resources",
  "config",
  "trace",
];
const OF_DIRECTORIES: readonly string[] = ["root", "bundle", "image-path", "work-path", "parent-path"];
const WORDS: Readonly<Record<string, readonly string[]>> = {
  "log-format": ["text", "json"],
  "log-level": ["error", "warning", "debug"],
  "cgroup-manager": ["cgroupfs", "systemd", "disabled"],
  rootless: ["true", "false", "auto"],
  format: ["table", "json"],
  "manage-cgroups-mode": ["soft", "full", "strict", "ignore"],
  "empty-ns": ["network"],
  "cpu-idle": ["0", "1"],
};

/** What the value of a flag is. */
export function flagValue(flag: string): Value {
  if (OF_FILES.includes(flag)) return "file";
  if (OF_DIRECTORIES.includes(flag)) return "directory";
  return WORDS[flag] ?? "any";
}

const ARGUMENTS: Readonly<Record<string, Value>> = {
  "<container-id>": "id",
  "[signal]": SIGNALS,
  "[command]": "command",
  "<file>": "file",
};

/** What the arguments of a command are, in order; "[ps options]", "<command> [arguments]" and the like are no one's guess. */
export function argumentsOf(spec: CommandSpec): Value[] {
  const values: Value[] = [];
  for (const word of spec.args.split(" ")) {
    const value = ARGUMENTS[word] ?? (/^\w+(\|\w+)+$/.test(word) ? word.split("|") : undefined);
    if (value === undefined) break;
    values.push(value);
  }
  return values;
}

/** A flag as completion needs it. */
export interface Flag {
  name: string;
  spec: FlagSpec;
  /** Undefined for flags without a value. */
  value?: Value;
}

/** A command as completion needs it. */
export interface Command {
  name: string;
  spec: CommandSpec;
  flags: Flag[];
  arguments: Value[];
}

/** The global options. */
export function globalFlags(): Flag[] {
  return visible(GLOBAL_FLAGS);
}

/** All commands of the table with the flags that help shows. */
export function commands(): Command[] {
  return commandNames().map((name) => {
    const spec: CommandSpec = TABLE[name]();
    return { name, spec, flags: visible({ ...spec.flags, ...HELP_FLAG }), arguments: argumentsOf(spec) };
  });
}

/** The names and aliases of all commands. */
export function commandWords(): string[] {
  return commandNames().flatMap((name) => [name, findCommand(name)![1].alias ?? []].flat());
}

function visible(specs: FlagSpecs): Flag[] {
  return Object.entries(specs)
    .filter(([, spec]) => !spec.hidden)
    .map(([name, spec]) => (spec.kind === "bool" ? { name, spec } : { name, spec, value: flagValue(name) }));
}
