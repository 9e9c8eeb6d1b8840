// Completion in the real shells: what bash, zsh and fish make of a line, with containers below a root of our own.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bashCompletion } from "../../src/cli/manual/bash.ts";
import { fishCompletion } from "../../src/cli/manual/fish.ts";
import { zshCompletion } from "../../src/cli/manual/zsh.ts";
import { Pty } from "../rig/pty.ts";

let dir = "";

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "bunc-complete-"));
  writeFileSync(join(dir, "bunc.bash"), bashCompletion());
  writeFileSync(join(dir, "_bunc"), zshCompletion());
  writeFileSync(join(dir, "bunc.fish"), fishCompletion());
  // No container's name, and nothing that is expanded: these must not be proposed.
  for (const id of ["web-1", "web-2", "db", "we$(touch pwned)", "we b"]) {
    mkdirSync(join(dir, "root", id), { recursive: true });
    writeFileSync(join(dir, "root", id, "state.json"), "{}");
  }
  mkdirSync(join(dir, "root", "web-empty"));
  mkdirSync(join(dir, "files", "bundle"), { recursive: true });
  writeFileSync(join(dir, "files", "limits.json"), "{}");
  mkdirSync(join(dir, "xdg"));
  symlinkSync(join(dir, "root"), join(dir, "xdg", "bunc"));
  symlinkSync("/bin/true", join(dir, "bunc"));
  chmodSync(dir, 0o755);
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Runs a shell without the user's start-up files, in the directory "files"; gives its output. */
async function shell(command: string[], stdin = ""): Promise<string> {
  const child = Bun.spawn(command, {
    cwd: join(dir, "files"),
    env: { PATH: `${dir}:/usr/bin:/bin`, HOME: dir, TERM: "dumb", LC_ALL: "C.UTF-8" },
    stdin: new Blob([stdin]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect([await child.exited, err]).toEqual([0, ""]);
  return out;
}

/**
 * What bash proposes at the end of a line. Interactive, so that readline itself breaks the line into words; what would
 * have been proposed goes to a file.
 */
async function bash(line: string): Promise<string[]> {
  const wrapper = `_shown() { _bunc "$@"; printf '<%s>\\n' "\${COMPREPLY[@]}" > "$SHOWN"; COMPREPLY=(); }; complete -F _shown bunc`;
  const shown = join(dir, "shown");
  rmSync(shown, { force: true });
  writeFileSync(join(dir, "rc"), `. ${dir}/bunc.bash\n${wrapper}\nSHOWN=${shown}\nPS1=READY\n`);
  const pty = new Pty(["bash", "--noprofile", "--rcfile", join(dir, "rc"), "-i"], {
    cwd: join(dir, "files"),
    env: { PATH: `${dir}:/usr/bin:/bin`, HOME: dir, TERM: "dumb", XDG_RUNTIME_DIR: join(dir, "xdg") },
    rows: 24,
    cols: 200,
  });
  await pty.until("READY");
  pty.type(`${line}\t\x15exit\n`);
  expect(await pty.exited()).toBe(0);
  const text = await Bun.file(shown).text();
  return [...text.matchAll(/^<(.+)>$/gm)].map(([, word]) => word!.trim()).sort();
}

/** What zsh has the line be after Tab: the common part of what it proposes is put in. */
async function zsh(line: string): Promise<string> {
  const script = `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "fpath=(${dir} $fpath); PS1=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D"
zpty -w z 'show() { print -r -- "LINE<$BUFFER>" >> ${dir}/zline; BUFFER=; zle accept-line }; zle -N show; bindkey "^X" show; unsetopt auto_list; print READY$((1+1))'
while zpty -r z out; do [[ $out == *READY2* ]] && break; done
zpty -w -n z ${JSON.stringify(line)}$'\\t\\x18'
for i in {1..100}; do [[ -s ${dir}/zline ]] && break; sleep 0.05; done
zpty -d z
cat ${dir}/zline`;
  rmSync(join(dir, "zline"), { force: true });
  const out = await shell(["zsh", "-f", "-c", script]);
  return /LINE<(.*)>/.exec(out)![1]!;
}

/** What fish proposes, without its descriptions. */
async function fish(line: string): Promise<string[]> {
  const script = `source ${dir}/bunc.fish; complete -C ${JSON.stringify(line)}`;
  const out = await shell(["fish", "--no-config", "-c", script]);
  const found = out
    .split("\n")
    .filter(Boolean)
    .map((word) => word.split("\t")[0]!)
    .sort();
  // fish 4 goes on with what has the word somewhere in it.
  const last = line.slice(line.lastIndexOf(" ") + 1);
  const begun = found.filter((word) => word.startsWith(last));
  return begun.length > 0 ? begun : found;
}

test("bash reads the file without the package bash-completion, and it runs nothing of a directory's name", async () => {
  expect(await shell(["bash", "--norc", "-u", "-c", `. ${dir}/bunc.bash; complete -p bunc`])).toBe(
    "complete -F _bunc bunc\n",
  );
});

describe("bash", () => {
  const cases: [string, string[]][] = [
    ["bunc ru", ["run"]],
    ["bunc pa", ["pause"]],
    ["bunc --ro", ["--root", "--rootless"]],
    ["bunc --rootless ", ["auto", "false", "true"]],
    ["bunc --debug --log-format=j", ["json"]],
    ["bunc list -f ", ["json", "table"]],
    ["bunc list --format=", ["json", "table"]],
    ["bunc run --no-", ["--no-new-keyring", "--no-pivot", "--no-subreaper"]],
    ["bunc --root ../root delete we", ["web-1", "web-2"]],
    ["bunc --root=../root delete ", ["db", "web-1", "web-2"]],
    ["bunc --root '../root' delete --force d", ["db"]],
    ["bunc --root ../root delete db ", []],
    ["bunc --root ../root kill db US", ["USR1", "USR2"]],
    ["bunc --root ../root exec -e A=b -t d", ["db"]],
    ["bunc --root ../root exec db ls ", []],
    ["bunc --root ../root exec db ls --", []],
    ["bunc --root ../none delete ", []],
    ["bunc run -b b", ["bundle"]],
    ["bunc update -r lim", ["limits.json"]],
    ["bunc help st", ["start", "state"]],
    ["bunc nonsense ", []],
  ];
  test.each(cases)("%s", async (line, words) => {
    expect(await bash(line)).toEqual(words);
  });
});

describe("zsh", () => {
  const cases: [string, string][] = [
    ["bunc ru", "bunc run "],
    ["bunc --log-f", "bunc --log-format="],
    ["bunc --log-format=j", "bunc --log-format=json "],
    ["bunc list -f j", "bunc list -f json "],
    ["bunc --root ../root delete w", "bunc --root ../root delete web-"],
    ["bunc --root ../root delete --force d", "bunc --root ../root delete --force db "],
    ["bunc --root ../root kill db KI", "bunc --root ../root kill db KILL "],
    ["bunc --root ../root exec -t d", "bunc --root ../root exec -t db "],
    ["bunc run -b b", "bunc run -b bundle/"],
    ["bunc update --resources=lim", "bunc update --resources=limits.json "],
  ];
  test.each(cases)("%s", async (line, result) => {
    expect(await zsh(line)).toBe(result);
  });
});

describe("fish", () => {
  const cases: [string, string[]][] = [
    ["bunc ru", ["run"]],
    ["bunc --ro", ["--root", "--rootless"]],
    ["bunc --log-format ", ["json", "text"]],
    ["bunc list --format=j", ["--format=json"]],
    ["bunc --root ../root delete we", ["web-1", "web-2"]],
    ["bunc --root=../root delete d", ["db"]],
    ["bunc --root ../root delete db ", []],
    ["bunc --root ../root kill db US", ["USR1", "USR2"]],
    ["bunc --root ../root exec -e A=b -t d", ["db"]],
    ["bunc --root ../none delete ", []],
    ["bunc run -b b", ["bundle/"]],
    ["bunc update -r lim", ["limits.json"]],
    ["bunc help st", ["start", "state"]],
  ];
  test.each(cases)("%s", async (line, words) => {
    expect(await fish(line)).toEqual(words);
  });
});
