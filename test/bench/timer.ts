// Drives build/bench-timer (timer.c): makes the plan of one measurement, runs it, reads the nanoseconds.
import { mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { modified, repository } from "../rig/repository.ts";
import { call, checked } from "./commands.ts";

/** A command to run to its end, or a file with the pid of a container whose end is awaited. */
export type Step = { run: string[] } | { reap: string };

/** One competitor of a measurement: its steps are timed one by one. */
export interface Entrant {
  name: string;
  steps: Step[];
}

/** How often and how long. */
export interface Effort {
  /** Rounds that count. */
  runs: number;
  /** Rounds before those. */
  warmup: number;
  /** No new round begins after this time, once there are 5. */
  seconds: number;
}

/** Nanoseconds of one entrant: of each step in each run. */
export interface Times {
  name: string;
  steps: number[][];
}

const binary = join(repository, "build/bench-timer");
const source = join(import.meta.dir, "timer.c");

/** Compiles the timer when it is missing or older than its source. Needs a C compiler ($CC, else cc). */
export async function buildTimer(): Promise<void> {
  if (modified(binary) >= modified(source)) return;
  mkdirSync(join(repository, "build"), { recursive: true });
  const fresh = `${binary}.${process.pid}`;
  const flags = ["-O2", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"];
  await checked([process.env.CC ?? "cc", ...flags, "-o", fresh, source]);
  renameSync(fresh, binary);
}

/** The plan as timer.c reads it. Throws for a field that holds a tab or a newline. */
export function planText(entrants: Entrant[]): string {
  const lines = entrants.flatMap(({ steps }) => [
    ["entrant"],
    ...steps.map((step) => ("run" in step ? ["run", ...step.run] : ["reap", step.reap])),
  ]);
  const bad = lines.flat().find((field) => /[\t\n\0]/.test(field));
  if (bad !== undefined)
    throw new Error(`${JSON.stringify(bad)}: the timer takes no tabs or newlines in a command`);
  return lines.map((fields) => `${fields.join("\t")}\n`).join("");
}

/** Runs the steps of all entrants in interleaved rounds. Throws what the first failing command printed. */
export async function time(entrants: Entrant[], effort: Effort): Promise<Times[]> {
  const numbers = [effort.warmup, effort.runs, effort.seconds].map(String);
  const options = { stdin: planText(entrants), timeout: 600, endSignal: "SIGTERM" } as const;
  const result = await call([binary, ...numbers], options);
  if (result.code !== 0) throw new Error(result.stderr.trim() || `bench-timer: ${result.ended}`);
  const steps = JSON.parse(result.stdout) as number[][][];
  if (steps.length !== entrants.length) throw new Error(`bench-timer: ${steps.length} results`);
  return entrants.map(({ name }, index) => ({ name, steps: steps[index]! }));
}
