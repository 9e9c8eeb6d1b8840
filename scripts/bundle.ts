/**
 * Builds the executable: `bundle.ts OUTFILE NAME=VALUE...`. The names are the constants to define, and of the settings
 * at the end of this file those that the Makefile wants otherwise.
 *
 * Every chunk that a command loads costs 15 us, and Bun splits chunks as finely as all lazy imports together allow:
 * `run` would load 45. So it is built three times. The first time shows what the common commands load; the second time
 * modules that the same of them load are kept together, because everything that imports one lazily imports all; the third
 * time joins what is still apart. What Bun then makes is aligned (align.ts).
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import type { BuildConfig, BunPlugin } from "bun";
import { alignSegments } from "./align.ts";

/** Whose start-up time counts: the common commands, and a shim until its container runs. What they import lazily. */
const COMMON: Readonly<Record<string, readonly string[]>> = {
  state: ["src/cli/state.ts"],
  list: ["src/cli/list.ts"],
  start: ["src/cli/start.ts"],
  kill: ["src/cli/kill.ts"],
  delete: ["src/cli/delete.ts"],
  exec: ["src/cli/exec.ts"],
  create: ["src/cli/create.ts"],
  run: ["src/cli/run.ts"],
  // With little more than this the process would have a second thread, and could not become the server by fork(2).
  "shim start": ["src/shim/v2/main.ts", "src/shim/v2/start.ts"],
  "shim delete": ["src/shim/v2/main.ts", "src/shim/v2/delete.ts"],
  shim: ["src/shim/v2/main.ts", "src/shim/v2/serve.ts", "src/container/create.ts", "src/container/start.ts"],
};
const ROOT = resolve(import.meta.dir, "..");
const ENTRY = "src/main.ts";

/** Of Bun's metafile what is used here. */
interface Metafile {
  outputs: Record<string, Output>;
}

interface Output {
  inputs: Record<string, unknown>;
  imports: { path: string; kind: string }[];
  /** The source file that is imported lazily by this chunk. */
  entryPoint?: string;
  exports: string[];
}

/** What importing a source file lazily comes to; files are named by their paths from the root. */
class Loads {
  private readonly entries = new Map<string, Output>();

  constructor(private readonly meta: Metafile) {
    for (const output of Object.values(meta.outputs))
      if (output.entryPoint) this.entries.set(output.entryPoint, output);
  }

  /** Names that are used of the file. */
  exports(file: string): string[] {
    return this.entries.get(file)!.exports;
  }

  /** The source files that are loaded. */
  files(file: string): string[] {
    const chunks = new Set<Output>();
    const visit = (chunk: Output | undefined) => {
      if (chunk === undefined || chunks.has(chunk)) return;
      chunks.add(chunk);
      for (const { path, kind } of chunk.imports)
        if (kind === "import-statement") visit(this.meta.outputs[path]);
    };
    visit(this.entries.get(file));
    return [...chunks].flatMap(({ inputs }) => Object.keys(inputs));
  }
}

/** Source files that belong together, because the same common commands load them. */
interface Group {
  commands: readonly string[];
  files: string[];
}

function groupsOf(loads: Loads): Group[] {
  const all = Object.keys(COMMON);
  const always = loads.files(ENTRY).filter((file) => file !== ENTRY);
  const users = new Map<string, string[]>(always.map((file) => [file, all]));
  for (const [command, entries] of Object.entries(COMMON)) {
    for (const file of new Set(entries.flatMap((entry) => loads.files(entry)))) {
      if (!always.includes(file)) users.set(file, [...(users.get(file) ?? []), command]);
    }
  }
  const groups = new Map<string, Group>();
  for (const [file, commands] of users) {
    const group = groups.get(String(commands)) ?? { commands, files: [] };
    group.files.push(file);
    groups.set(String(commands), group);
  }
  return [...groups.values()];
}

/**
 * The groups that are to be loaded whole where the given files are: theirs, and what every command that loads one of
 * those loads anyhow. All that theirs need is among it.
 */
function wholeGroups(groups: readonly Group[], files: readonly string[]): Group[] {
  const touched = groups.filter((group) => group.files.some((file) => files.includes(file)));
  return groups.filter((group) =>
    touched.some(({ commands }) => commands.every((command) => group.commands.includes(command))),
  );
}

/** Puts a module in the place of each that is imported lazily: it imports whole groups first. */
function keepTogether(loads: Loads): BunPlugin {
  const groups = groupsOf(loads);
  return {
    name: "keep together",
    setup(build) {
      // Not by the file itself: it may belong to a group, too, and would be evaluated after what needs it.
      build.onResolve({ filter: /^\./ }, ({ path, importer, kind }) => {
        if (kind !== "dynamic-import" && kind !== "require-call") return undefined;
        // The colon: Bun takes two modules with one path for the same, whatever their namespaces.
        return { path: `${resolve(dirname(importer), path)}:`, namespace: "lazy" };
      });
      build.onLoad({ filter: /./, namespace: "lazy" }, async ({ path: key }) => {
        const name = relative(ROOT, key.slice(0, -1));
        const files = wholeGroups(groups, loads.files(name)).flatMap((group) => group.files);
        const lines = files.map((file) => `import ${JSON.stringify(resolve(ROOT, file))};`);
        lines.push(
          `export { ${loads.exports(name).join(", ")} } from ${JSON.stringify(resolve(ROOT, name))};`,
        );
        // Bun names a chunk by its content without the names of other chunks: something else must be in it.
        lines.push(`export const lazy = ${JSON.stringify(name)};`);
        return { contents: lines.join("\n"), loader: "ts" };
      });
    },
  };
}

const [outfile, ...rest] = process.argv.slice(2);
const settings = new Map(rest.map((setting) => setting.split(/=(.*)/s, 2) as [string, string]));
const take = (name: string): string | undefined => {
  const value = settings.get(name);
  settings.delete(name);
  return value || undefined;
};
const [target, executablePath, conditions] = [take("target"), take("executable"), take("conditions")];

const common: BuildConfig = {
  entrypoints: [resolve(ROOT, ENTRY)],
  target: "bun",
  format: "esm",
  splitting: true,
  minify: true,
  conditions: conditions ? [conditions] : [],
  define: Object.fromEntries([...settings].map(([name, value]) => [name, JSON.stringify(value)])),
};

process.chdir(ROOT);
const first = await Bun.build({ ...common, metafile: true });
const plugin = keepTogether(new Loads(first.metafile as unknown as Metafile));
const second = await Bun.build({ ...common, plugins: [plugin] });
// What Bun left apart although the same commands load it (a dozen chunks more) is joined when its own output is bundled.
// It has made an import.meta.require of each require, which it would not follow again.
const chunks: Record<string, string> = {};
for (const chunk of second.outputs) {
  const text = await chunk.text();
  chunks[resolve(ROOT, "chunks", chunk.path)] = text.replaceAll("import.meta.require(", "require(");
}
await Bun.build({
  ...common,
  entrypoints: [resolve(ROOT, "chunks", "main.js")],
  files: chunks,
  bytecode: true,
  compile: {
    outfile: resolve(outfile!),
    ...(target ? { target: target as Bun.Build.CompileTarget } : {}),
    ...(executablePath ? { executablePath } : {}),
    autoloadDotenv: false,
    autoloadBunfig: false,
    // A command is over before compiling its code to machine code pays: the JIT's threads would only take time from
    // init (22 ms of CPU against 17).
    jitPolicy: 100,
  },
});
// Written anew and in one piece: the page cache then holds it in pages as large as the file system allows.
const executable = alignSegments(readFileSync(outfile!));
rmSync(outfile!);
writeFileSync(outfile!, executable, { mode: 0o755 });
