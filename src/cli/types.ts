/**
 * The shapes of the command line: what an entry of the table may say, what the parser makes of arguments,
 * and what a command is called with. Types only.
 */
import type { ContainerLayer, Log } from "../container/types.ts";
import type { Table } from "./table.ts";

/**
 * Kinds of values: `bool` takes none (or `=true`), `int` is Go's base-0 integer, `strings` may be given
 * several times and collects, `duration` is Go's ("1m30s") and becomes milliseconds.
 */
export type FlagKind = "bool" | "string" | "int" | "strings" | "duration";

/** One flag; its name is the key under which it stands. */
export interface FlagSpec {
  readonly kind: FlagKind;
  /** Second, short name. Giving both names in one call is an error, as in runc. */
  readonly alias?: string;
  /** Value when the flag is absent; without it "", 0, false or []. */
  readonly default?: string | number;
  /** One line for help; no full stop. */
  readonly usage: string;
  readonly hidden?: boolean;
}

export type FlagSpecs = Readonly<Record<string, FlagSpec>>;

/** One command; its name is the key under which it stands. */
export interface CommandSpec {
  /** One line for help; no full stop. */
  readonly usage: string;
  /** Its arguments as help shows them, e.g. "<container-id> [signal]". */
  readonly args: string;
  /** Least and greatest number of arguments. */
  readonly count: readonly [min: number, max: number];
  readonly alias?: string;
  /** Paragraphs of help, after the synopsis. */
  readonly about?: string;
  readonly flags: FlagSpecs;
  /** Flags end at the first argument (exec and the like), instead of being allowed after it. */
  readonly flagsFirst?: boolean;
  /** Imports the one module that holds the command's body. */
  readonly load: () => Promise<CommandModule>;
}

/** What a command's file exports. */
export interface CommandModule {
  /** The body; returns the exit code. */
  command(context: CommandContext<never, keyof ContainerLayer>): number | Promise<number>;
  /** The functions of the container layer it calls; tests put others in their place. */
  readonly containers?: Partial<ContainerLayer>;
}

type ValueOf<F extends FlagSpec> = F["kind"] extends "bool"
  ? boolean
  : F["kind"] extends "int" | "duration"
    ? number
    : F["kind"] extends "string"
      ? string
      : string[];

/** The values of a set of flags by name, defaults filled in. */
export type FlagValues<F extends FlagSpecs> = { [N in keyof F]: ValueOf<F[N]> };

/** What the parser returns. */
export interface Parsed<F extends FlagSpecs> {
  values: FlagValues<F>;
  /** The flags that were given: by name, with the name or alias that was used. */
  given: ReadonlyMap<string, string>;
  /** What is left after the flags: the command's arguments. */
  args: string[];
}

/** The global options, checked. */
export interface GlobalOptions {
  /** Absolute and clean. */
  root: string;
  /** True when --root was not given, so that a missing directory means "no containers". */
  rootIsDefault: boolean;
  systemdCgroup: boolean;
  /** --cgroup-manager=disabled: the container stays in the caller's cgroups. */
  noCgroup: boolean;
  /** As given: "true", "false", "auto", or nonsense that only commands that use it refuse. */
  rootless: string;
}

/** Where a command's own output goes. */
export interface Output {
  /** Writes all of the text to stdout, or throws BuncError. */
  stdout(text: string): Promise<void>;
  /** Writes one line to stderr; failures are ignored, as there is nowhere to report them. */
  stderr(line: string): void;
}

type FlagsOf<N extends string> = N extends keyof Table ? FlagValues<Table[N]["flags"]> : never;

/** What a command is called with. `N` is its name in the table, `K` what it uses of the container layer. */
export interface CommandContext<N extends string = never, K extends keyof ContainerLayer = never> {
  /** The name the program was started by, for messages. */
  readonly argv0: string;
  readonly args: readonly string[];
  readonly flags: FlagsOf<N>;
  readonly global: GlobalOptions;
  readonly log: Log;
  readonly output: Output;
  readonly containers: Pick<ContainerLayer, K>;
}
