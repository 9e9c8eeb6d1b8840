// The runtimes that are compared: bunc, and the runc and crun of this machine.
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { basename, delimiter, join, resolve } from "node:path";
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

/** Where the executables are copied to that are measured: beside the directory, not on the tmpfs that is mounted there. */
export function executables(dir: string): string {
  return `${dir}.bin`;
}

/**
 * Copies an executable as `make install` does, written in large pieces. How its pages lie in the page cache changes what
 * a start costs (bunc's by a fifth), and depends on how it came there, and on what the machine did since.
 */
function fresh(path: string, dir: string, key: string): string {
  const copy = join(dir, key, basename(path));
  mkdirSync(join(dir, key), { recursive: true });
  writeFileSync(copy, readFileSync(path), { mode: 0o755 });
  return copy;
}

/**
 * Finds the runtimes, copies them, and asks each for its version.
 *
 * @param dir where their roots are made, and beside it the copies
 */
export async function findRuntimes(dir: string): Promise<Runtime[]> {
  const found: Runtime[] = [];
  const all = { bunc: [buncPath], crun: paths("crun"), runc: paths("runc") };
  for (const kind of ["bunc", "crun", "runc"] as const) {
    for (const [index, original] of all[kind].entries()) {
      const key = `${kind}${index}`;
      const path = fresh(original, executables(dir), key);
      const text = await checked([path, "--version"]);
      const version = /version (\S+)/.exec(text)?.[1]?.replace("+bunc", "");
      if (version === undefined) throw new Error(`${path} --version prints no version: ${text.trim()}`);
      const name = `${kind} ${version}`;
      const taken = found.some((other) => other.name === name);
      const root = join(dir, `root-${key}`);
      mkdirSync(root, { mode: 0o711 });
      found.push({ kind, name: taken ? `${name} (${original})` : name, key, path, root });
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
