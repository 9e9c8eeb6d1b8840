// What is weighed: the private memory of a created container's init, and the smallest memory limit that is enough.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Bundles, Container } from "./bundles.ts";
import { call, checked } from "./commands.ts";
import { type Runtime, readPid } from "./runtimes.ts";
import { sweep } from "./sweep.ts";

/** kB are 1024 bytes here, as in /proc. */
export const KB = 1024;

/** Private memory in kB of each container that was weighed. */
export interface Weights {
  name: string;
  /** One container alone: what no other process maps, the pages of the runtime's own files included. */
  alone: number[];
  /** Beside a second created container: what each container more costs. */
  beside: number[];
}

/** Private_Clean and Private_Dirty of a process in kB (proc_pid_smaps_rollup(5)). */
function privateMemory(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const values = [...text.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)];
  if (values.length !== 2) throw new Error(`/proc/${pid}/smaps_rollup has no private memory:\n${text}`);
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Weighs the inits of created containers, several times. */
export async function weighInits(runtimes: Runtime[], bundles: Bundles, times = 3): Promise<Weights[]> {
  process.stderr.write("bench: private memory of a created container\n");
  const all: Weights[] = [];
  for (const runtime of runtimes) {
    const weights: Weights = { name: runtime.name, alone: [], beside: [] };
    const [first, second] = ["first", "second"].map((name) =>
      bundles.container(runtime, name, ["/bin/true"]),
    ) as [Container, Container];
    for (let i = 0; i < times; i++) {
      await checked(first.start("create"));
      await Bun.sleep(50); // init may still be on its way to where it waits
      weights.alone.push(privateMemory(readPid(first.pidFile)));
      await checked(second.start("create"));
      await Bun.sleep(50);
      weights.beside.push(privateMemory(readPid(second.pidFile)));
      for (const container of [first, second]) await checked(container.call("delete", "--force"));
    }
    all.push(weights);
  }
  return all;
}

/** The smallest limit that was enough, in kB, and the bounds of the search. */
export interface Limit {
  name: string;
  /** Undefined when {@link LIMITS.most} was not enough. */
  least: number | undefined;
}

/** The search for the smallest limit, in kB. */
export const LIMITS = { least: 256, most: 8192, step: 64, tries: 3, seconds: 10 } as const;

/** Finds by bisection under which linux.resources.memory.limit `run` of /bin/true still works, for each runtime. */
export async function findLimits(runtimes: Runtime[], bundles: Bundles): Promise<Limit[]> {
  process.stderr.write("bench: smallest memory limit\n");
  const all: Limit[] = [];
  for (const runtime of runtimes) {
    const works = (kilobytes: number): Promise<boolean> => worksUnder(runtime, bundles, kilobytes);
    all.push({ name: runtime.name, least: await bisect(works) });
  }
  return all;
}

/** Smallest multiple of the step between the bounds that works, given that more always works too. */
export async function bisect(works: (kilobytes: number) => Promise<boolean>): Promise<number | undefined> {
  let { least: fails, most: enough } = LIMITS as { least: number; most: number };
  if (!(await works(enough))) return undefined;
  if (await works(fails)) return fails;
  while (enough - fails > LIMITS.step) {
    const middle = fails + Math.floor((enough - fails) / 2 / LIMITS.step) * LIMITS.step;
    if (await works(middle)) enough = middle;
    else fails = middle;
  }
  return enough;
}

async function worksUnder(runtime: Runtime, bundles: Bundles, kilobytes: number): Promise<boolean> {
  const container = bundles.container(runtime, "limit", ["/bin/true"], kilobytes * KB);
  for (let i = 0; i < LIMITS.tries; i++) {
    const result = await call(container.run(), { timeout: LIMITS.seconds });
    if (result.code === 0) continue;
    await call(container.call("delete", "--force"), { timeout: LIMITS.seconds });
    const left = sweep(container.id); // whatever a failed start under this limit left
    if (left.length > 0) throw new Error(`${runtime.name} under ${kilobytes} kB: stays: ${left.join(" ")}`);
    rmSync(join(runtime.root, container.id), { recursive: true, force: true });
    return false;
  }
  return true;
}
