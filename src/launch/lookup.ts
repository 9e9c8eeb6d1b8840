/** What execve gets: the program, found as its user sees it, its arguments and its environment. */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import type { Context } from "./context.ts";
import { type Arg, Struct } from "./program.ts";

const HOME_SIZE = 1024;

/** What execve gets: the program's path, found now, its arguments and its environment. */
export interface Execve {
  args: readonly Arg[];
  /** The environment, HOME included. */
  env: readonly (string | Uint8Array)[];
}

/** HOME and the look-up of the program: both as the program's user, and before init waits to be started. */
export function compileLookup(c: Context): Execve {
  const { part, process } = c;
  const args = process.args ?? [];
  const env = cleanEnv(process.env ?? []);
  const pointers: (string | Uint8Array)[] = [...env.list];
  if (!env.home) {
    const home = new Uint8Array(HOME_SIZE);
    part.at("process", "process.env");
    part.op(abi.BUNC_OP_HOME, ["/etc/passwd", process.user.uid, home, HOME_SIZE]);
    pointers.push(home);
  }
  const found = c.slots.take("path of the program");
  const name = args[0]!;
  part.at("process", "process.args[0]");
  part.op(abi.BUNC_OP_LOOKPATH, [candidates(name, env.path)], {
    slot: found,
    about: `exec: ${JSON.stringify(name)}`,
  });
  return { args: [found, pointerArray(args, "argv"), pointerArray(pointers, "envp")], env: pointers };
}

/** The places where execvp would look, each ended by NUL. Relative directories of PATH are passed over, as in Go. */
function candidates(name: string, path: string): Uint8Array {
  let list = "";
  if (name.includes("/")) list = `${name}\0`;
  else for (const dir of path.split(":")) if (dir.startsWith("/")) list += `${dir}/${name}\0`;
  return new TextEncoder().encode(`${list}\0`);
}

/** The last of several entries of one name counts; an empty HOME is none. */
function cleanEnv(env: readonly string[]): { list: string[]; home: boolean; path: string } {
  // Where the last entry of a name stands. The map is only asked: walking one costs 50 us the first time.
  const last = new Map<string, number>();
  const entries: (string | undefined)[] = [];
  for (const entry of env) {
    const equals = entry.indexOf("=");
    if (equals <= 0 || entry.includes("\0")) {
      const what =
        equals < 0 ? "missing '='" : equals === 0 ? "name cannot be empty" : "contains nul byte (\\x00)";
      throw new BuncError(`invalid environment variable: ${what}`, { code: "config", path: "process.env" });
    }
    const name = entry.slice(0, equals);
    const before = last.get(name);
    if (before !== undefined) entries[before] = undefined;
    last.set(name, entries.length);
    entries.push(entry);
  }
  const value = (name: string): string | undefined => {
    const at = last.get(name);
    return at === undefined ? undefined : entries[at]!.slice(name.length + 1);
  };
  const home = value("HOME");
  if (home === "") entries[last.get("HOME")!] = undefined;
  const list: string[] = [];
  for (const entry of entries) if (entry !== undefined) list.push(entry);
  return { list, home: Boolean(home), path: value("PATH") ?? "" };
}

/** An array of pointers, ended by NULL. */
function pointerArray(items: readonly (string | Uint8Array)[], name: string): Struct {
  const array = new Struct((items.length + 1) * 8, name);
  for (let i = 0; i < items.length; i++) array.pointer(i * 8, items[i]!);
  return array;
}
