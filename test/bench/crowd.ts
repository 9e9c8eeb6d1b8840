// Whether a container starts as fast among the cgroups of many other containers as it does without them.
import { mkdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import type { Bundles } from "./bundles.ts";
import type { Runtime } from "./runtimes.ts";
import { type Amount, measure, runEntrants, whole } from "./speed.ts";
import { cgroupMounts } from "./sweep.ts";

/** Milliseconds of `run` of one runtime. */
export interface Crowd {
  name: string;
  alone: number[];
  /** With {@link Amount.cgroups} other cgroups beside the container's own, in every hierarchy. */
  among: number[];
}

/** Names of the directories; they begin with the tag, so that a sweep finds what is left of a benchmark that died. */
function crowdPaths(tag: string, count: number): string[] {
  return cgroupMounts().flatMap(({ point }) =>
    Array.from({ length: count }, (_, index) => join(point, `${tag}-other-${index}`)),
  );
}

function failedWith(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? "");
}

/** Does something while there are `count` empty cgroups more, beside those that the benchmark's containers get. */
export async function amongCgroups<T>(tag: string, count: number, action: () => Promise<T>): Promise<T> {
  const paths = crowdPaths(tag, count);
  try {
    for (const path of paths) {
      try {
        mkdirSync(path);
      } catch (error) {
        if (!failedWith(error, "EEXIST")) throw error; // the same hierarchy can be mounted twice
      }
    }
    return await action();
  } finally {
    for (const path of paths) {
      try {
        rmdirSync(path);
      } catch {} // the sweep tells of it
    }
  }
}

/** `run` of /bin/true, by turns without and with the cgroups; in the order A B B A, so that a drift adds to both. */
export async function timeAmong(runtimes: Runtime[], bundles: Bundles, amount: Amount): Promise<Crowd[]> {
  const entrants = runEntrants(runtimes, bundles, "crowd");
  const crowds = runtimes.map(({ name }): Crowd => ({ name, alone: [], among: [] }));
  const add = async (part: "alone" | "among"): Promise<void> => {
    const what = part === "alone" ? "`run` alone" : `\`run\` among ${amount.cgroups} cgroups`;
    const times = await measure(what, entrants, amount.runs / 4);
    for (const [index, { steps }] of times.entries()) crowds[index]![part].push(...whole(steps));
  };
  const among = () => amongCgroups(bundles.tag, amount.cgroups, () => add("among"));
  await add("alone");
  await among();
  await among();
  await add("alone");
  return crowds;
}
