// The runtimes that are compared: bunc, and the runc and crun of this machine.
import { existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { repository } from "../rig/repository.ts";
import { checked } from "./commands.ts";

/** A runtime under test. */
export interface Runtime {
  kind: "bunc" | "crun" | "runc";
  /** Kind and version; unique. */
  name: string;
  /** Short unique name for ids and files: the kind and a number. */
  key: string;
  path: string;
  /** Its --root: one of its own. */
  root: string;
}

/** The bunc that is measured: $BUNC, else ./bunc of the repository. */
export const buncPath = resolve(process.env.BUNC ?? join(repository, "bunc"));

/** Paths of the runtimes of a kind: those in the variable $CRUN or $RUNC (a list like PATH), then Debian's. */
function paths(kind: "crun" | "runc"): string[] {
  const named = (process.env[kind.toUpperCase()] ?? "").split(delimiter).filter((path) => path !== "");
  const missing = named.find((path) => !existsSync(path));
  if (missing !== undefined) throw new Error(`$${kind.toUpperCase()}: ${missing} does not exist`);
  const debian = Bun.which(kind, { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" });
  return [...new Set([...named, ...(debian === null ? [] : [debian])].map((path) => realpathSync(path)))];
}

/**
 * Finds the runtimes and asks each for its version.
 *
 * @param dir where their roots are made
 */
export async function findRuntimes(dir: string): Promise<Runtime[]> {
  const found: Runtime[] = [];
  const all = { bunc: [buncPath], crun: paths("crun"), runc: paths("runc") };
  for (const kind of ["bunc", "crun", "runc"] as const) {
    for (const [index, path] of all[kind].entries()) {
      const text = await checked([path, "--version"]);
      const version = /version (\S+)/.exec(text)?.[1]?.replace("+bunc", "");
      if (version === undefined) throw new Error(`${path} --version prints no version: ${text.trim()}`);
      const name = `${kind} ${version}`;
      const taken = found.some((other) => other.name === name);
      const key = `${kind}${index}`;
      const root = join(dir, `root-${key}`);
      mkdirSync(root, { mode: 0o711 });
      found.push({ kind, name: taken ? `${name} (${path})` : name, key, path, root });
    }
  }
  return found;
}

/** A command line of a runtime, with its root. */
export function command(runtime: Runtime, ...args: string[]): string[] {
  return [runtime.path, "--root", runtime.root, ...args];
}

/** Process id that a runtime wrote with --pid-file. */
export function readPid(file: string): number {
  const text = readFileSync(file, "utf8");
  if (!/^\d{1,10}\n?$/.test(text)) throw new Error(`${file}: ${JSON.stringify(text)} is no pid`);
  return Number(text);
}
