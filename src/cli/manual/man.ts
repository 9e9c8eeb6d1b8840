/** The man pages, in the macros of man(7): names and flags are the table's, the prose is in text.ts. */
import { OCI_VERSION } from "../../oci/spec-default.ts";
import { GLOBAL_FLAGS, HELP_FLAG } from "../flags.ts";
import type { CommandSpec, FlagSpec, FlagSpecs } from "../types.ts";
import {
  ENVIRONMENT,
  EXAMPLES,
  EXIT,
  FILES,
  INTRODUCTION,
  LONGER,
  PROGRAM_EXAMPLES,
  PROGRAM_EXIT,
  SEE,
} from "./text.ts";
import { commands, flagValue } from "./values.ts";

/** A file of the manual. */
export interface Page {
  /** E.g. "bunc-run.8". */
  file: string;
  text: string;
}

/** All pages: bunc(8) and one for each command; the date is YYYY-MM-DD. */
export function manualPages(version: string, date: string): Page[] {
  const all = commands().filter(({ name }) => name !== "help");
  const pages = all.map(({ name, spec }) => ({
    file: `bunc-${name}.8`,
    text: commandPage(name, spec, title(`bunc-${name}`, version, date)),
  }));
  return [{ file: "bunc.8", text: programPage(all, title("bunc", version, date)) }, ...pages];
}

function programPage(all: readonly { name: string; spec: CommandSpec }[], head: string): string {
  return [
    head,
    section("Name", "bunc \\- run containers described by OCI bundles"),
    section("Synopsis", ".B bunc\n.RI [ global-options ]\n.I command\n.RI [ options ]\n.RI [ arguments ]"),
    section("Description", prose(INTRODUCTION)),
    section(
      "Commands",
      all
        .map(({ name, spec }) => item(`.BR bunc\\-${dashes(name)} (8)`, roffText(`${spec.usage}.`)))
        .join("\n"),
    ),
    section("Global options", options(GLOBAL_FLAGS)),
    section("Exit status", pairs(PROGRAM_EXIT)),
    section("Environment", pairs(ENVIRONMENT)),
    section("Files", pairs(FILES)),
    section("Examples", examples(PROGRAM_EXAMPLES)),
    section(
      "Conforming to",
      prose([`OCI runtime\\-spec ${OCI_VERSION}; the command line is that of runc 1.5.`]),
    ),
    see(all.map(({ name }) => `bunc-${name}`).concat(SEE)),
  ].join("");
}

function commandPage(name: string, spec: CommandSpec, head: string): string {
  const words = spec.args.replace(/[<>]/g, "").split(" ");
  const synopsis = `.B bunc\n.RI [ global-options ]\n.B ${dashes(name)}\n.RI [ options ]\n${words
    .filter(Boolean)
    .map((word) => (/^\[|\]$/.test(word) ? roffText(word) : `.I ${dashes(word)}`))
    .join("\n")}`;
  const about = spec.about?.split("\n\n").map((paragraph) => paragraph.replace(/\n/g, " ")) ?? [];
  const shown = EXAMPLES[name];
  return [
    head,
    section("Name", `bunc\\-${dashes(name)} \\- ${roffText(spec.usage)}`),
    section("Synopsis", synopsis.trimEnd()),
    section("Description", prose([...about, ...(LONGER[name] ?? [`${upper(spec.usage)}.`])])),
    section("Options", options({ ...spec.flags, ...HELP_FLAG })),
    section("Exit status", pairs(EXIT[name] ?? EXIT.default!)),
    shown ? section("Examples", examples(shown)) : "",
    see(["bunc", ...(SEE_OF[name] ?? [])]),
  ].join("");
}

const SEE_OF: Readonly<Record<string, readonly string[]>> = {
  create: ["bunc-start", "bunc-run", "bunc-delete"],
  delete: ["bunc-kill"],
  exec: ["bunc-ps"],
  run: ["bunc-create", "bunc-start", "bunc-delete", "bunc-spec", "bunc-explain"],
  start: ["bunc-create"],
  kill: ["bunc-delete", "signal(7)"],
  pause: ["bunc-resume"],
  resume: ["bunc-pause"],
  checkpoint: ["bunc-restore", "criu(8)"],
  restore: ["bunc-checkpoint", "criu(8)"],
  explain: ["bunc-validate"],
  validate: ["bunc-explain", "bunc-spec"],
  spec: ["bunc-validate", "bunc-run"],
  ps: ["ps(1)"],
  update: ["bunc-events", "cgroups(7)"],
};

function title(name: string, version: string, date: string): string {
  return `.\\" Generated from bunc's table of commands.\n.TH ${name.toUpperCase().replace(/-/g, "\\-")} 8 "${date}" "bunc ${version}" "System administration"\n.nh\n.ad l\n`;
}

function section(name: string, body: string): string {
  return `.SH ${name.toUpperCase()}\n${body}\n`;
}

function prose(paragraphs: readonly string[]): string {
  return paragraphs.map((text) => roffText(text)).join("\n.PP\n");
}

function options(specs: FlagSpecs): string {
  return Object.entries(specs)
    .filter(([, spec]) => !spec.hidden)
    .map(([name, spec]) => item(flagHead(name, spec), roffText(`${upper(spec.usage)}.${defaultNote(spec)}`)))
    .join("\n");
}

function flagHead(name: string, { alias, kind }: FlagSpec): string {
  const value = kind === "bool" ? "" : ` " " ${valueName(name, kind)}`;
  const long = `.BI \\-\\-${dashes(name)}${value}`;
  return alias ? `${long} ", \\-${alias}"${value}` : long;
}

function valueName(name: string, kind: FlagSpec["kind"]): string {
  if (kind === "int") return "number";
  if (kind === "duration") return kind;
  const value = flagValue(name);
  return value === "file" || value === "directory" ? value : "value";
}

function defaultNote({ default: value }: FlagSpec): string {
  return value === undefined ? "" : ` Default: ${value}.`;
}

function item(head: string, text: string): string {
  return `.TP\n${head}\n${text}`;
}

function pairs(list: readonly (readonly [string, string])[]): string {
  return list.map(([head, text]) => item(`.B ${roffText(head)}`, roffText(text))).join("\n");
}

function examples(list: readonly (readonly [string, string])[]): string {
  return list
    .map(([text, code]) => `${roffText(text)}\n.PP\n.in +4n\n.EX\n${roffText(code)}\n.EE\n.in`)
    .join("\n.PP\n");
}

function see(names: readonly string[]): string {
  const refs = names.map((name) => {
    const [, page, number = "8"] = /^([^(]+)(?:\((\d)\))?$/.exec(name)!;
    return `.BR ${dashes(page!)} (${number})`;
  });
  return section("See also", refs.map((ref, at) => (at < refs.length - 1 ? `${ref},` : ref)).join("\n"));
}

/** Text for roff: no character of it is a request or an escape. */
export function roffText(text: string): string {
  return text
    .replace(/\\(?!-)/g, "\\e")
    .replace(/(?<!\\)-/g, "\\-")
    .replace(/^([.'])/gm, "\\&$1");
}

function dashes(text: string): string {
  return text.replace(/-/g, "\\-");
}

function upper(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
