// The benchmark's report in Markdown, aligned so that it also reads well on a terminal.
import type { Crowd } from "./crowd.ts";
import { LIMITS, type Limit, type Weights } from "./memory.ts";
import type { Runtime } from "./runtimes.ts";
import type { Timing } from "./speed.ts";

/** What bunc is to reach in a measurement. */
export interface Target {
  /** The runtime it is compared with; without one `most` is a value. */
  to?: "crun" | "runc";
  most: number;
}

/** The targets of `run` (issue 2: medians). */
export const RUN_TARGETS: Target[] = [
  { to: "crun", most: 1.0 },
  { to: "runc", most: 0.4 },
];
/** The targets of `exec` (issue 3). */
export const EXEC_TARGETS: Target[] = [
  { to: "runc", most: 0.5 },
  { to: "crun", most: 1.35 },
];
/** The target of `state` and `list` (issue 3). */
export const STATE_TARGETS: Target[] = [{ to: "runc", most: 1.0 }];
/** How much longer `run` may take beside the cgroups of many other containers. */
export const CROWD_TARGET = 1.1;
/** kB of private memory of a created container's init. */
export const INIT_TARGET: Target = { most: 200 };
/** kB of the smallest memory limit. */
export const LIMIT_TARGET: Target = { most: 512 };

/** All that was measured. */
export interface Results {
  timings: { timing: Timing; targets?: Target[] }[];
  crowds: Crowd[];
  weights: Weights[];
  limits: Limit[];
}

/** Middle value; of an even count the mean of the two in the middle. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

interface Figure {
  name: string;
  values: number[];
}

/** Columns "median", "min" and the ratio to the first crun and the first runc, for one measurement. */
class Group {
  constructor(
    private readonly what: string,
    private readonly figures: Figure[],
    private readonly runtimes: Runtime[],
    private readonly unit: { name: string; digits: number },
    private readonly targets: Target[] = [],
  ) {}

  private reference(kind: "crun" | "runc"): number | undefined {
    const name = this.runtimes.find((runtime) => runtime.kind === kind)?.name;
    const figure = this.figures.find((other) => other.name === name);
    return figure === undefined ? undefined : median(figure.values);
  }

  private show(value: number): string {
    return `${value.toFixed(this.unit.digits)} ${this.unit.name}`;
  }

  private verdict(target: Target, value: number): string {
    const { to, most } = target;
    if (to === undefined) return `target ${this.show(most)}: ${value <= most ? "met" : "missed"}`;
    const reference = this.reference(to);
    const met = reference === undefined ? `no ${to} here` : value <= most * reference ? "met" : "missed";
    return `target ${Number.isInteger(most * 10) ? most.toFixed(1) : most} x ${to}: ${met}`;
  }

  rows(): string[][] {
    return this.figures.map(({ name, values }, index) => {
      const middle = median(values);
      const ratios = (["crun", "runc"] as const).map((kind) => {
        const reference = this.reference(kind);
        return reference === undefined || reference === 0 ? "" : (middle / reference).toFixed(2);
      });
      const isBunc = this.runtimes.some((runtime) => runtime.kind === "bunc" && runtime.name === name);
      const verdicts = isBunc ? this.targets.map((target) => this.verdict(target, middle)) : [];
      const shown = [this.show(middle), this.show(Math.min(...values)), ...ratios];
      return [index === 0 ? this.what : "", name, ...shown, verdicts.join("; ")];
    });
  }
}

/** A Markdown table with padded cells; `right` are the columns whose cells stand at the right. */
export function table(header: string[], rows: string[][], right: number[]): string {
  const widths = header.map((cell, column) =>
    Math.max(3, cell.length, ...rows.map((row) => row[column]!.length)),
  );
  const line = (cells: string[]): string => {
    const padded = cells.map((cell, column) =>
      right.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
    );
    return `| ${padded.join(" | ")} |\n`;
  };
  const rule = widths.map((width, column) =>
    right.includes(column) ? `${"-".repeat(width - 1)}:` : "-".repeat(width),
  );
  return [header, rule, ...rows].map(line).join("");
}

/** The table of times: median, minimum and ratios of every measurement. */
export function timeTable(results: Results, runtimes: Runtime[]): string {
  const unit = { name: "ms", digits: 2 };
  const rows = results.timings.flatMap(({ timing, targets }) => {
    const figures = timing.times.map(({ name, milliseconds }) => ({ name, values: milliseconds }));
    return new Group(timing.what, figures, runtimes, unit, targets).rows();
  });
  const header = ["what", "runtime", "median", "min", "x crun", "x runc", "target"];
  return table(header, rows, [2, 3, 4, 5]);
}

/** The table of `run` beside the cgroups of other containers. */
export function crowdTable({ crowds }: Pick<Results, "crowds">, runtimes: Runtime[]): string {
  const rows = crowds.map(({ name, alone, among }, index) => {
    const ratio = median(among) / median(alone);
    const isBunc = runtimes.some((runtime) => runtime.kind === "bunc" && runtime.name === name);
    const verdict = `target ${CROWD_TARGET.toFixed(1)}: ${ratio <= CROWD_TARGET ? "met" : "missed"}`;
    const times = [alone, among].map((values) => `${median(values).toFixed(2)} ms`);
    const what = `\`run\` of /bin/true, ${alone.length} runs of each`;
    return [index === 0 ? what : "", name, ...times, ratio.toFixed(2), isBunc ? verdict : ""];
  });
  return table(["other cgroups", "runtime", "without", "with", "ratio", "target"], rows, [2, 3, 4]);
}

/** The table of private memory, its ratios and targets. */
export function weightTable(results: Results, runtimes: Runtime[]): string {
  const unit = { name: "kB", digits: 0 };
  const parts = [
    ["a created container alone", "alone"],
    ["one beside another", "beside"],
  ] as const;
  const rows = parts.flatMap(([what, part]) => {
    const figures = results.weights.map((weights) => ({ name: weights.name, values: weights[part] }));
    return new Group(what, figures, runtimes, unit, [INIT_TARGET]).rows();
  });
  const header = ["private memory of init", "runtime", "median", "min", "x crun", "x runc", "target"];
  return table(header, rows, [2, 3, 4, 5]);
}

/** The table of the smallest memory limits. */
export function limitTable(results: Results, runtimes: Runtime[]): string {
  const rows = results.limits.map(({ name, least }, index) => {
    const isBunc = runtimes.some((runtime) => runtime.kind === "bunc" && runtime.name === name);
    const met = least !== undefined && least <= LIMIT_TARGET.most ? "met" : "missed";
    const shown =
      least === undefined ? `> ${LIMITS.most} kB` : least === LIMITS.least ? `<= ${least} kB` : `${least} kB`;
    const what = "`run` of /bin/true";
    return [index === 0 ? what : "", name, shown, isBunc ? `target ${LIMIT_TARGET.most} kB: ${met}` : ""];
  });
  return table(["smallest memory limit", "runtime", "limit", "target"], rows, [2]);
}
