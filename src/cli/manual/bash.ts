/** Completion for bash: one function over the lists that the table gives. Needs nothing of the package bash-completion. */
import { type Command, commands, commandWords, type Flag, globalFlags, type Value } from "./values.ts";

/** The file /usr/share/bash-completion/completions/bunc. */
export function bashCompletion(): string {
  const all = commands();
  return `# Completion of bunc for bash. Generated from bunc's table of commands.
# For bunc under the name runc: complete -F _bunc runc

# The options of a command; "" is what stands before the command.
_bunc_options() {
  case $1 in
    '') printf '%s ' ${names(globalFlags())} ;;
${all.map((command) => `    ${pattern(command)}) printf '%s ' ${names(command.flags)} ;;`).join("\n")}
  esac
}

# What the value of an option is, or nothing if it has none.
_bunc_value() {
  case $1:$2 in
${[flagCases("", globalFlags()), ...all.map((command) => flagCases(pattern(command), command.flags))].join("")}  esac
}

# What argument number $2 of a command is.
_bunc_argument() {
  case $1:$2 in
${all.flatMap((command) => command.arguments.map((value, at) => `    ${cross(pattern(command), String(at + 1))}) echo '${kind(value)}' ;;\n`)).join("")}  esac
}

_bunc_ids() {
  local root=$1 dir
  root=\${root//[\\\\\\"\\']/}
  [[ $root == '~/'* ]] && root=$HOME/\${root:2}
  if [[ -z $root ]]; then
    root=/run/\${2##*/}
    [[ $root == /run/runc ]] || root=/run/bunc
    [[ $EUID != 0 && -n $XDG_RUNTIME_DIR ]] && root=$XDG_RUNTIME_DIR/\${root##*/}
  fi
  for dir in "$root"/*/state.json; do
    dir=\${dir%/state.json}
    dir=\${dir##*/}
    [[ $dir == *[!A-Za-z0-9_+.-]* ]] || printf '%s ' "$dir"
  done
}

_bunc() {
  # bash breaks words at "=" too: "--root=/x" is made "--root" "/x" again, and "-e A=b" is made "-e" "A=b".
  local words=() i word glue=
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == = && \${#words[@]} -gt 0 ]]; then
      if [[ \${words[-1]} == -* ]]; then
        ((i == COMP_CWORD)) && words+=("")
      else
        words[-1]+=$word
        glue=1
      fi
    elif [[ -n $glue ]]; then
      words[-1]+=$word
      glue=
    else
      words+=("$word")
    fi
  done

  local current=\${words[-1]} command= option= root= count=0 ended= kind
  for ((i = 0; i < \${#words[@]} - 1; i++)); do
    word=\${words[i]}
    if [[ -n $option ]]; then
      [[ -z $command && $option == --root ]] && root=$word
      option=
    elif [[ -z $ended && $word == -- ]]; then
      ended=1
    elif [[ -z $ended && $word == -?* ]]; then
      [[ -n $(_bunc_value "$command" "$word") ]] && option=$word
    elif [[ -z $command ]]; then
      command=$word
      ended=
    else
      ((count += 1))
      case $command in ${all
        .filter(({ spec }) => spec.flagsFirst)
        .map(pattern)
        .join("|")}) ended=1 ;; esac
    fi
  done

  COMPREPLY=()
  if [[ -n $option ]]; then
    kind=$(_bunc_value "$command" "$option")
  elif [[ -z $ended && $current == -* ]]; then
    COMPREPLY=($(compgen -W "$(_bunc_options "$command")" -- "$current"))
    return
  elif [[ -z $command ]]; then
    kind=command
  else
    kind=$(_bunc_argument "$command" $((count + 1)))
  fi
  case $kind in
    '' | any) ;;
    file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    directory) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    id) COMPREPLY=($(compgen -W "$(_bunc_ids "$root" "\${COMP_WORDS[0]}")" -- "$current")) ;;
    command) COMPREPLY=($(compgen -W "${commandWords().join(" ")}" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$kind" -- "$current")) ;;
  esac
}

complete -F _bunc bunc
`;
}

/** The spellings of a flag. */
function forms({ name, spec }: Flag): string[] {
  return spec.alias ? [`--${name}`, `-${spec.alias}`] : [`--${name}`];
}

function names(flags: readonly Flag[]): string {
  return flags.flatMap(forms).join(" ");
}

function pattern({ name, spec }: Command): string {
  return spec.alias ? `${name}|${spec.alias}` : name;
}

/** A pattern for every pair of a command's names and one of the second ones. */
function cross(command: string, second: string): string {
  return command
    .split("|")
    .flatMap((first) => second.split("|").map((last) => `${first}:${last}`))
    .join("|");
}

function flagCases(command: string, flags: readonly Flag[]): string {
  return flags
    .filter(({ value }) => value !== undefined)
    .map(
      (flag) =>
        `    ${cross(command, [...forms(flag), `-${flag.name}`].join("|"))}) echo '${kind(flag.value!)}' ;;\n`,
    )
    .join("");
}

function kind(value: Value): string {
  return typeof value === "string" ? value : value.join(" ");
}
