/**
 * The command line of the runtime: global options, the log, one command, and what becomes of errors.
 *
 * Nothing but the parser and one entry of the table is evaluated before the command is known; then its module is
 * imported. Everything up to there is synchronous: the first use of every asynchronous function costs a start.
 */
import type { ContainerLayer, Log } from "../container/types.ts";
import { BuncError, renderError } from "../errors.ts";
import { GLOBAL_FLAGS, HELP_FLAG } from "./flags.ts";
import { quote } from "./go.ts";
import type { Host } from "./host.ts";
import { createLog, type Level } from "./log.ts";
import { globalOptions } from "./options.ts";
import { output } from "./output.ts";
import { parseFlags, UsageError } from "./parse.ts";
import { system } from "./system.ts";
import { findCommand } from "./table.ts";
import type { FlagSpecs, Output, Parsed } from "./types.ts";

/** What a command line works with; tests put their own in. */
export interface Surroundings {
  readonly output: Output;
  readonly host: Host;
  /** Takes the place of what the commands import. */
  readonly containers?: ContainerLayer;
}

/**
 * Runs one command line of the runtime.
 * @param argv0 the name the program was started by, with or without a path
 * @param args the arguments after it
 * @returns the exit code; every error has been reported
 */
export function main(argv0: string, args: string[]): number | Promise<number> {
  return runCommandLine(argv0, args, { output, host: system });
}

/** `main` in surroundings of the caller's choice. */
export function runCommandLine(
  argv0: string,
  args: readonly string[],
  surroundings: Surroundings,
): number | Promise<number> {
  const run = new CommandLine(argv0, surroundings);
  try {
    const result = run.dispatch(args);
    return typeof result === "number" ? result : result.catch((error: unknown) => run.report(error));
  } catch (error) {
    return run.report(error);
  }
}

class CommandLine {
  /** Until --log has been read, and when it cannot be opened, errors go to stderr. */
  private log: Log | undefined;
  private logIsFile = false;

  constructor(
    private readonly argv0: string,
    private readonly surroundings: Surroundings,
  ) {}

  dispatch(args: readonly string[]): number | Promise<number> {
    const { output } = this.surroundings;
    let global: Parsed<typeof GLOBAL_FLAGS>;
    try {
      global = parseFlags(GLOBAL_FLAGS, args, true);
    } catch (error) {
      return this.usage(error, ".", GLOBAL_FLAGS);
    }
    const name = global.args[0];
    if (global.values.help || (!name && !global.values.version)) return this.help();
    if (global.values.version) {
      return import("./version.ts").then(({ versionText }) => output.stdout(versionText())).then(() => 0);
    }

    const log = this.openLog(global);
    return log instanceof Promise ? log.then((opened) => this.run(global, opened)) : this.run(global, log);
  }

  private run(global: Parsed<typeof GLOBAL_FLAGS>, log: Log): number | Promise<number> {
    const { argv0 } = this;
    const { output, host } = this.surroundings;
    const name = global.args[0];
    const options = globalOptions(argv0, global, host);
    const found = findCommand(name as string);
    if (!found) return import("./help.ts").then((help) => Promise.reject(help.noSuchCommand(name as string)));
    const [command, spec] = found;
    const flags = { ...spec.flags, ...HELP_FLAG };
    let parsed: Parsed<typeof flags>;
    try {
      parsed = parseFlags(flags, global.args.slice(1), spec.flagsFirst === true);
    } catch (error) {
      return this.usage(error, ":", flags, command);
    }
    if (parsed.values.help) return this.help(command);
    const [least, most] = spec.count;
    const count = parsed.args.length;
    if (count < least || count > most) {
      const wanted =
        least === most
          ? `exactly ${least}`
          : count < least
            ? `a minimum of ${least}`
            : `a maximum of ${most}`;
      // What follows an argument and is no flag of the command counts as an argument.
      const flag = count > most ? parsed.args.find((arg) => arg.length > 1 && arg[0] === "-") : undefined;
      const message = `${argv0}: "${command}" requires ${wanted} argument(s)`;
      return this.usage(new UsageError(message, flag), "", flags, command);
    }
    if (log.debugging) log.debug(`${command} ${JSON.stringify(global.args.slice(1))}`);

    return spec.load().then((module) =>
      module.command({
        argv0,
        args: parsed.args,
        flags: parsed.values as never,
        global: options,
        log,
        output,
        containers: (this.surroundings.containers ?? module.containers) as ContainerLayer,
      }),
    );
  }

  /**
   * Reports an error as runc does: as an entry of the log and, if that is a file, as a bare line on stderr.
   * @returns the exit code
   */
  report(error: unknown): number {
    const { output } = this.surroundings;
    const line = renderError(error);
    const verbatim = error instanceof BuncError && error.fields.verbatim;
    if (verbatim) {
      output.stderr(error.message);
      if (!this.logIsFile) return error.fields.exitCode ?? 1;
    } else if (this.logIsFile) output.stderr(line);
    try {
      const log = this.log ?? stderrLog("warning", "text", this.surroundings);
      if (!(error instanceof BuncError) && error instanceof Error) log.debug(error.stack ?? "");
      log.error(line);
    } catch (failure) {
      // The log's disk may be full, or libbunc itself what cannot be loaded.
      if (!this.logIsFile) output.stderr(line);
      output.stderr(renderError(failure));
    }
    return error instanceof BuncError ? (error.fields.exitCode ?? 1) : 1;
  }

  /** Prints what was wrong and the help that belongs to it on stdout, where runc has it, and rejects. */
  private async usage(
    error: unknown,
    punctuation: string,
    flags: FlagSpecs,
    command?: string,
  ): Promise<number> {
    if (!(error instanceof UsageError)) throw error;
    const line = punctuation ? `Incorrect Usage${punctuation} ${error.message}` : "Incorrect Usage.";
    // The error still goes to stderr; that stdout is closed is not worth a second one.
    await this.help(command, `${line}\n\n`).catch(() => {});
    if (error.flag === undefined) throw error;
    const { nearestFlag } = await import("./help.ts");
    throw new UsageError(error.message, error.flag, nearestFlag(error.flag, flags, command));
  }

  private async help(command?: string, before = ""): Promise<number> {
    const { programHelp, commandHelp } = await import("./help.ts");
    const found = command === undefined ? undefined : findCommand(command);
    const text = found ? commandHelp(this.argv0, found[0], found[1]) : programHelp(this.argv0);
    await this.surroundings.output.stdout(before + text);
    return 0;
  }

  private openLog({ values }: Parsed<typeof GLOBAL_FLAGS>): Log | Promise<Log> {
    const { host } = this.surroundings;
    const format = values["log-format"];
    if (format !== "" && format !== "text" && format !== "json") {
      throw new BuncError(`invalid log-format: ${format}`, { code: "usage", hint: "it is text or json" });
    }
    const form = format === "json" ? "json" : "text";
    const level = logLevel(values["log-level"], values.debug);
    const { log } = values;
    if (log === "") {
      this.log = stderrLog(level, form, this.surroundings);
    } else if (log.startsWith("journald:") || log.startsWith("syslog:")) {
      // A daemon's log is nobody's file: the error is on stderr as well.
      return host.daemonLog(log, level).then((opened) => {
        this.logIsFile = true;
        this.log = opened;
        return opened;
      });
    } else {
      const fd = host.openLog(log.startsWith("file:") ? log.slice(5) : log);
      this.log = createLog(
        level,
        () => form,
        (entry) => host.writeAll(fd, entry),
      );
      this.logIsFile = true;
    }
    return this.log;
  }
}

/** The least level that is logged; runc, without --debug, drops nothing but debug messages. */
function logLevel(given: string, debug: boolean): Level {
  if (given === "") return debug ? "debug" : "warning";
  if (given !== "error" && given !== "warning" && given !== "debug") {
    throw new BuncError(`invalid --log-level value ${quote(given)}`, {
      code: "usage",
      hint: "it is error, warning or debug",
    });
  }
  return debug ? "debug" : given;
}

function stderrLog(level: Level, form: "text" | "json", { host, output }: Surroundings): Log {
  return createLog(
    level,
    () => (form === "text" && host.isTerminal(2) ? "terminal" : form),
    (entry) => output.stderr(entry.slice(0, -1)),
  );
}
