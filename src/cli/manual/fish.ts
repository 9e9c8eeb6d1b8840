/** Completion for fish. */
import { type Command, commands, type Flag, globalFlags, type Value } from "./values.ts";

/** The file vendor_completions.d/bunc.fish. */
export function fishCompletion(): string {
  const all = commands();
  const withValue = (flags: readonly Flag[]) =>
    flags
      .filter(({ value }) => value !== undefined)
      .flatMap(({ name, spec }) => [`--${name}`, `-${name}`, ...(spec.alias ? [`-${spec.alias}`] : [])]);
  return `# Completion of bunc for fish. Generated from bunc's table of commands.

# Reads the command line so far: prints the command, the number of its arguments, and the value of --root.
function __bunc_line
    set -l command
    set -l root
    set -l option
    set -l count 0
    for word in (commandline -opc)[2..-1]
        if test -n "$option"
            test -z "$command"; and string match -q -- --root $option; and set root $word
            set option
        else if string match -qr -- '^-.*=' $word
            test -z "$command"; and string match -q -- '--root=*' $word; and set root (string replace -- --root= '' $word)
        else if string match -qr -- '^-.' $word
            switch "$command:$word"
                case ${[
                  ...withValue(globalFlags()).map((name) => `:${name}`),
                  ...all.flatMap((command) =>
                    withValue(command.flags).flatMap((name) =>
                      titles(command).map((title) => `${title}:${name}`),
                    ),
                  ),
                ].join(" ")}
                    set option $word
            end
        else if test -z "$command"
            set command $word
        else
            set count (math $count + 1)
        end
    end
    echo "$command"
    echo $count
    echo "$root"
end

function __bunc_before_command
    set -l line (__bunc_line)
    test -z "$line[1]"
end

function __bunc_in
    set -l line (__bunc_line)
    contains -- "$line[1]" $argv
end

# Whether argument number $argv[1] of one of the commands $argv[2..] is to be typed.
function __bunc_argument
    set -l line (__bunc_line)
    test (math $line[2] + 1) = $argv[1]; and contains -- "$line[1]" $argv[2..-1]
end

function __bunc_ids
    set -l line (__bunc_line)
    set -l root (string replace -r '^~/' "$HOME/" -- "$line[3]")
    if test -z "$root"
        set -l name bunc
        string match -qr '(^|/)runc$' -- (commandline -opc)[1]; and set name runc
        set root /run/$name
        test (id -u) != 0 -a -n "$XDG_RUNTIME_DIR"; and set root $XDG_RUNTIME_DIR/$name
    end
    for file in $root/*/state.json
        string replace -rf '^.*/([A-Za-z0-9_+.-]+)/state.json$' '$1' -- $file
    end
end

complete -c bunc -f
${globalFlags()
  .map((flag) => flagLine("__bunc_before_command", flag))
  .join("")}
${all
  .map(
    (command) =>
      titles(command)
        .map(
          (title) =>
            `complete -c bunc -n __bunc_before_command -a ${title} -d ${quoted(command.spec.usage)}\n`,
        )
        .join("") +
      command.flags.map((flag) => flagLine(`__bunc_in ${titles(command).join(" ")}`, flag)).join("") +
      command.arguments.map((value, at) => argumentLine(command, at + 1, value)).join(""),
  )
  .join("\n")}`;
}

function titles({ name, spec }: Command): string[] {
  return spec.alias ? [name, spec.alias] : [name];
}

function flagLine(condition: string, { name, spec, value }: Flag): string {
  const alias = spec.alias ? ` -s ${spec.alias}` : "";
  return `complete -c bunc -n '${condition}' -l ${name}${alias}${value === undefined ? "" : ` -x${proposals(value)}`} -d ${quoted(spec.usage)}\n`;
}

function argumentLine(command: Command, number: number, value: Value): string {
  const list = proposals(value);
  return list === ""
    ? ""
    : `complete -c bunc -n '__bunc_argument ${number} ${titles(command).join(" ")}'${list}\n`;
}

function proposals(value: Value): string {
  if (typeof value !== "string") return ` -a '${value.join(" ")}'`;
  switch (value) {
    case "file":
      return ' -a \'(__fish_complete_path (commandline -ct | string replace -r -- "^-[^=]*=" ""))\'';
    case "directory":
      return ' -a \'(__fish_complete_directories (commandline -ct | string replace -r -- "^-[^=]*=" ""))\'';
    case "id":
      return " -a '(__bunc_ids)'";
    case "command":
      return ` -a '${commands()
        .map(({ name }) => name)
        .join(" ")}'`;
    case "any":
      return "";
  }
}

/** A word of fish: in single quotes only \\ and ' are special. */
function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
