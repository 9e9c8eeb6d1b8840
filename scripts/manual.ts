// Writes the man pages and the completions to a directory, as `make install` takes them: scripts/manual.ts DIRECTORY VERSION DATE
import { mkdirSync, writeFileSync } from "node:fs";
import { bashCompletion } from "../src/cli/manual/bash.ts";
import { fishCompletion } from "../src/cli/manual/fish.ts";
import { manualPages } from "../src/cli/manual/man.ts";
import { zshCompletion } from "../src/cli/manual/zsh.ts";

const [directory, version, date] = process.argv.slice(2);
if (!directory || !version || !date) throw new Error("usage: manual.ts DIRECTORY VERSION DATE");

function write(path: string, text: string): void {
  const file = `${directory}/${path}`;
  mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
  writeFileSync(file, text);
}

for (const { file, text } of manualPages(version, date)) write(`man/man8/${file}`, text);
write("bash-completion/completions/bunc", bashCompletion());
write("zsh/site-functions/_bunc", zshCompletion());
write("fish/vendor_completions.d/bunc.fish", fishCompletion());
