// `make bench`: how fast and how small bunc is beside crun and runc. Prints a report and writes it to docs/bench.md.
//
// Needs root, runc and crun of Debian (a missing one is left out), busybox-static and a C compiler. Variables:
//   BUNC              the bunc to measure; ./bunc without it
//   CRUN, RUNC        more runtimes, a list like PATH; the first of a kind is what ratios and targets refer to
//   BENCH_RUNS        rounds of `run` (100); the other measurements take a half or a quarter
//   BENCH_CONTAINERS  containers that `list` lists (200)
//   BENCH_CGROUPS     cgroups of other containers beside which `run` is timed (1000)
//   BENCH_OUT         where the report goes instead of docs/bench.md
//
// Ends with 0 unless something failed to run: a target that is missed is marked in the table and no failure.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { repository } from "../rig/repository.ts";
import { Bundles } from "./bundles.ts";
import { Stopped, setDirectory, stopCommands } from "./commands.ts";
import { timeAmong } from "./crowd.ts";
import { hideUnified, load, machine } from "./machine.ts";
import { findLimits, LIMITS, weighInits } from "./memory.ts";
import {
  crowdTable,
  EXEC_TARGETS,
  limitTable,
  type Results,
  RUN_TARGETS,
  STATE_TARGETS,
  timeTable,
  weightTable,
} from "./report.ts";
import { findRuntimes, type Runtime } from "./runtimes.ts";
import { type Amount, timeExec, timeLifecycle, timeList, timeRun, timeStartUp, timeState } from "./speed.ts";
import { inStage, mountScratch, removeScratch, STOP_SIGNALS } from "./stage.ts";
import { sweep } from "./sweep.ts";
import { buildTimer } from "./timer.ts";

/** A whole number from the environment; throws for anything else. */
function setting(name: string, fallback: number, least: number, most: number): number {
  const text = process.env[name];
  if (text === undefined || text === "") return fallback;
  if (!/^\d{1,7}$/.test(text) || Number(text) < least || Number(text) > most)
    throw new Error(`$${name}: ${JSON.stringify(text)} is not a whole number from ${least} to ${most}`);
  return Number(text);
}

async function measure(runtimes: Runtime[], bundles: Bundles, amount: Amount): Promise<Results> {
  const timings: Results["timings"] = [];
  timings.push({ timing: await timeRun(runtimes, bundles, amount), targets: RUN_TARGETS });
  for (const timing of await timeLifecycle(runtimes, bundles, amount)) timings.push({ timing });
  timings.push({ timing: await timeStartUp(runtimes, amount) });
  const crowds = await timeAmong(runtimes, bundles, amount);
  const weights = await weighInits(runtimes, bundles);
  const limits = await findLimits(runtimes, bundles);
  timings.push({ timing: await timeState(runtimes, bundles, amount), targets: STATE_TARGETS });
  timings.push({ timing: await timeExec(runtimes, bundles, amount), targets: EXEC_TARGETS });
  timings.push({ timing: await timeList(runtimes, bundles, amount), targets: STATE_TARGETS }); // last: its containers slow the rest down
  return { timings, crowds, weights, limits };
}

function report(
  results: Results,
  runtimes: Runtime[],
  amount: Amount,
  facts: { cgroups: string; load: string },
): string {
  const versions = runtimes.map(({ name }) => name).join(", ");
  const missing = (["crun", "runc"] as const).filter(
    (kind) => !runtimes.some((other) => other.kind === kind),
  );
  const absent = missing.map((kind) => `- ${kind} is not installed here: no ratios to it\n`).join("");
  return `# How fast, how small

Written by \`make bench\` on ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC. Do not edit.

- ${machine()}; ${facts.load}
- ${versions}
- ${facts.cgroups}
${absent}
All runtimes run the same bundle: the default spec without a terminal over a busybox root filesystem, ociVersion 1.0.2
(crun 1.8 refuses later ones). Bundles and state lie on a tmpfs. All executables are
copies written as \`make install\` writes them: in large pieces, which the page cache keeps. Every round runs all runtimes
once, in random order. A small C program spawns each command and waits for it; the times include that spawn. Ratios are
of medians.

${timeTable(results, runtimes)}
By turns with no other cgroups, and beside ${amount.cgroups} in each hierarchy, as of so many other containers.

${crowdTable(results, runtimes)}
Private_Clean and Private_Dirty of /proc/PID/smaps_rollup. Alone, a runtime's own files count too, because nothing else
maps them; beside another container only what each container more takes.

${weightTable(results, runtimes)}
Found by bisection of linux.resources.memory.limit between ${LIMITS.least} and ${LIMITS.most} kB in steps of ${LIMITS.step} kB, ${LIMITS.tries} runs each.

${limitTable(results, runtimes)}`;
}

function writeReport(text: string): void {
  const path = resolve(process.env.BENCH_OUT ?? join(repository, "docs/bench.md"));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
  process.stderr.write(`bench: written to ${path}\n`);
}

/** The benchmark itself, in its private mount namespace. `dir` is a fresh directory whose name is the tag. */
async function perform(dir: string): Promise<number> {
  const tag = basename(dir);
  for (const signal of STOP_SIGNALS) process.on(signal, () => stopCommands(signal));
  try {
    const amount = {
      runs: setting("BENCH_RUNS", 100, 1, 10_000),
      containers: setting("BENCH_CONTAINERS", 200, 1, 2_000),
      cgroups: setting("BENCH_CGROUPS", 1000, 1, 10_000),
    };
    const facts = { load: load(), cgroups: "" };
    setDirectory(dir);
    await buildTimer();
    await mountScratch(dir);
    facts.cgroups = await hideUnified();
    const runtimes = await findRuntimes(dir);
    const results = await measure(runtimes, await Bundles.make(tag, dir), amount);
    const text = report(results, runtimes, amount, facts);
    process.stdout.write(text);
    writeReport(text);
    return 0;
  } catch (error) {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`);
    return error instanceof Stopped ? 130 : 1;
  } finally {
    for (const cgroup of sweep(tag)) process.stderr.write(`bench: cannot remove ${cgroup}\n`);
    removeScratch(dir);
  }
}

const [, , inside, dir] = process.argv;
process.exit(
  inside === "--inside" && dir !== undefined ? await perform(dir) : await inStage(import.meta.path),
);
