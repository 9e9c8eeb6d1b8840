// What is timed: start-up, `run`, the lifecycle in three commands, `state`, and `list` among many containers.
import type { Bundles, Container } from "./bundles.ts";
import { checked } from "./commands.ts";
import { command, type Runtime } from "./runtimes.ts";
import { type Entrant, type Times, time } from "./timer.ts";

/** One row group of the report: what was timed, and milliseconds by runtime. */
export interface Timing {
  what: string;
  times: { name: string; milliseconds: number[] }[];
}

/** How much is measured. */
export interface Amount {
  /** Counted rounds of `run`; the other measurements take a part of it. */
  runs: number;
  /** Containers that `list` lists. */
  containers: number;
  /** Cgroups of other containers beside which `run` is timed. */
  cgroups: number;
}

/** Seconds after which a measurement ends even when rounds are missing: a slow machine gets fewer rounds. */
const SECONDS = 25;
const WARMUP = 3;

const forever = ["sleep", "1000000"];

/** Times commands by turns, not longer than {@link SECONDS}. */
export async function measure(what: string, entrants: Entrant[], runs: number): Promise<Times[]> {
  process.stderr.write(`bench: ${what}\n`);
  return await time(entrants, { runs: Math.max(1, Math.ceil(runs)), warmup: WARMUP, seconds: SECONDS });
}

function timing(what: string, times: Times[], milliseconds: (steps: number[][]) => number[]): Timing {
  return {
    what: `${what}, ${times[0]!.steps[0]!.length} runs`,
    times: times.map(({ name, steps }) => ({ name, milliseconds: milliseconds(steps) })),
  };
}

/** Milliseconds of all steps of each run together. */
export function whole(steps: number[][]): number[] {
  return steps[0]!.map((_, run) => steps.reduce((sum, step) => sum + step[run]!, 0) / 1e6);
}

/** `--version`: what a runtime pays before it does anything. Beside it a spawn of the host's /bin/true. */
export async function timeStartUp(runtimes: Runtime[], amount: Amount): Promise<Timing> {
  const entrants = runtimes.map(
    ({ name, path }): Entrant => ({ name, steps: [{ run: [path, "--version"] }] }),
  );
  entrants.push({ name: "a spawn of /bin/true", steps: [{ run: ["/bin/true"] }] });
  const what = "start-up (`--version`)";
  return timing(what, await measure(what, entrants, amount.runs / 2), whole);
}

/** `run` of /bin/true in the foreground, which makes the container and removes it. */
export function runEntrants(runtimes: Runtime[], bundles: Bundles, name: string): Entrant[] {
  return runtimes.map((runtime) => {
    const container = bundles.container(runtime, name, ["/bin/true"]);
    return { name: runtime.name, steps: [{ run: container.run() }] };
  });
}

/** One after the other, with nothing else there. */
export async function timeRun(runtimes: Runtime[], bundles: Bundles, amount: Amount): Promise<Timing> {
  const entrants = runEntrants(runtimes, bundles, "run");
  const what = "`run` of /bin/true";
  return timing(what, await measure(what, entrants, amount.runs), whole);
}

/** `create`, `start`, wait for the end (as a subreaper, like conmon and the shims), `delete`: all, and each command. */
export async function timeLifecycle(
  runtimes: Runtime[],
  bundles: Bundles,
  amount: Amount,
): Promise<Timing[]> {
  const entrants = runtimes.map((runtime): Entrant => {
    const container = bundles.container(runtime, "life", ["/bin/true"]);
    return {
      name: runtime.name,
      steps: [
        { run: container.start("create") },
        { run: container.call("start") },
        { reap: container.pidFile },
        { run: container.call("delete") },
      ],
    };
  });
  const what = "`create`, `start`, end of /bin/true, `delete`";
  const times = await measure(what, entrants, amount.runs / 2);
  const step = (name: string, index: number): Timing =>
    timing(`of which \`${name}\``, times, (steps) => whole([steps[index]!]));
  return [timing(what, times, whole), step("create", 0), step("start", 1), step("delete", 3)];
}

async function startSleeping(container: Container): Promise<void> {
  await checked(container.start("run", "--detach"));
}

/** `state` of a running container. */
export async function timeState(runtimes: Runtime[], bundles: Bundles, amount: Amount): Promise<Timing> {
  const entrants: Entrant[] = [];
  for (const runtime of runtimes) {
    const container = bundles.container(runtime, "0", forever);
    await startSleeping(container);
    const state = JSON.parse(await checked(container.call("state"))) as { status?: unknown };
    if (state.status !== "running")
      throw new Error(`${runtime.name}: state of a running container: ${JSON.stringify(state)}`);
    entrants.push({ name: runtime.name, steps: [{ run: container.call("state") }] });
  }
  const what = "`state` of a running container";
  return timing(what, await measure(what, entrants, amount.runs / 2), whole);
}

/** `exec` of /bin/true in the running container of {@link timeState}. */
export async function timeExec(runtimes: Runtime[], bundles: Bundles, amount: Amount): Promise<Timing> {
  const entrants = runtimes.map((runtime): Entrant => {
    const container = bundles.container(runtime, "0", forever);
    return { name: runtime.name, steps: [{ run: [...container.call("exec"), "/bin/true"] }] };
  });
  const what = "`exec` of /bin/true in a running container";
  return timing(what, await measure(what, entrants, amount.runs), whole);
}

/** `list` with many running containers; the one of {@link timeState} is the first of them. */
export async function timeList(runtimes: Runtime[], bundles: Bundles, amount: Amount): Promise<Timing> {
  const what = `\`list\` of ${amount.containers} running containers`;
  process.stderr.write(`bench: starting ${(amount.containers - 1) * runtimes.length} containers\n`);
  for (const runtime of runtimes) {
    let next = 1;
    const worker = async (): Promise<void> => {
      while (next < amount.containers)
        await startSleeping(bundles.container(runtime, String(next++), forever));
    };
    await Promise.all([worker(), worker()]);
    const ids = (await checked(command(runtime, "list", "--quiet"))).trim().split("\n");
    if (ids.length !== amount.containers)
      throw new Error(`${runtime.name}: list --quiet prints ${ids.length} ids, not ${amount.containers}`);
  }
  const entrants = runtimes.map(
    (runtime): Entrant => ({ name: runtime.name, steps: [{ run: command(runtime, "list") }] }),
  );
  return timing(what, await measure(what, entrants, amount.runs / 4), whole);
}
