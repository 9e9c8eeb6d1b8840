/** Completion for zsh, by its own _arguments. */
import { type Command, commands, type Flag, globalFlags, type Value } from "./values.ts";

/** The file site-functions/_bunc. */
export function zshCompletion(): string {
  const all = commands();
  return `#compdef bunc
# Completion of bunc for zsh. Generated from bunc's table of commands.

_bunc_ids() {
  local root=\${(Q)_bunc_root/#\\~\\//$HOME/}
  local -a ids
  if [[ -z $root ]]; then
    root=bunc
    [[ \${_bunc_program:t} == runc ]] && root=runc
    if (( EUID != 0 )) && [[ -n $XDG_RUNTIME_DIR ]]; then root=$XDG_RUNTIME_DIR/$root; else root=/run/$root; fi
  fi
  ids=($root/*/state.json(N:h:t))
  ids=(\${ids:#*[^A-Za-z0-9_+.-]*})
  compadd -a ids
}

_bunc_commands() {
  local -a list
  list=(
${all.map(({ name, spec }) => `    ${quoted(`${name}:${spec.usage}`)}`).join("\n")}
  )
  _describe command list
}

_bunc() {
  local curcontext=$curcontext state line _bunc_root _bunc_program=$words[1]
  typeset -A opt_args
  _arguments -C ${globalFlags().flatMap(specs).join(" \\\n    ")} \\
    '1:command:_bunc_commands' '*::argument:->arguments' && return
  [[ $state == arguments ]] || return
  _bunc_root=$opt_args[--root]
  curcontext=\${curcontext%:*:*}:bunc-$words[1]:
  case $words[1] in
${all.map(commandCase).join("")}  esac
}

_bunc "$@"
`;
}

function commandCase(command: Command): string {
  const { name, spec, flags } = command;
  // -A: no options after the first argument.
  const first = spec.flagsFirst ? ' -A "-*"' : "";
  const lines = [
    ...flags.flatMap(specs),
    ...command.arguments.map((value, at) => quoted(`${at + 1}:argument:${action(value)}`)),
    ...(spec.count[1] > command.arguments.length ? ["'*: :'"] : []),
  ];
  return `    ${spec.alias ? `${name}|${spec.alias}` : name}) _arguments${first} ${lines.join(" \\\n        ")} ;;\n`;
}

/** The specifications of one flag, which _arguments reads: "(excluded)--name[text]:message:action". */
function specs({ name, spec, value }: Flag): string[] {
  const text = spec.usage.replace(/[[\]:\\]/g, "\\$&");
  const forms = spec.alias ? [`--${name}`, `-${spec.alias}`] : [`--${name}`];
  const again = spec.kind === "strings" ? "*" : `(${forms.join(" ")})`;
  return forms.map((form) => {
    if (value === undefined) return quoted(`${again}${form}[${text}]`);
    return quoted(`${again}${form}${form.startsWith("--") ? "=" : "+"}[${text}]:value:${action(value)}`);
  });
}

function action(value: Value): string {
  if (typeof value !== "string") return `(${value.join(" ")})`;
  return { file: "_files", directory: "_files -/", id: "_bunc_ids", command: "_bunc_commands", any: " " }[
    value
  ];
}

function quoted(text: string): string {
  return `'${text.replace(/'/g, "'\\''")}'`;
}
