/** A timeline as a table for a terminal (`--trace -`): the slowest first, and what they add up to. */
import type { Slice, Timeline } from "./timeline.ts";

/** As many rows; the rest is summed up in one line. */
const ROWS = 40;

/** The text. */
export function traceTable(timeline: Timeline): string {
  const { slices, lanes, title, start, end, error, notes } = timeline;
  const whole = Math.max(1, end - start);
  const rows = leaves(slices).sort((a, b) => b.own - a.own);
  const shown = rows.slice(0, ROWS);
  const names = lanes.map(({ name }) => name);
  const cells = shown.map(({ slice, own }) => [
    micros(own),
    `${((100 * own) / whole).toFixed(1)}%`,
    micros(slice.start - start),
    names[slice.lane]!,
    slice.path || "-",
    describe(slice),
  ]);
  const head = ["TIME us", "SHARE", "AT us", "PROCESS", "PATH", "OPERATION"];
  let out = `${title}: ${micros(whole)} us\n`;
  const failed = slices.find((slice) => slice.failed);
  if (failed) out += `failed: ${names[failed.lane]}: ${describe(failed)}\n`;
  else if (error !== undefined) out += `failed: ${plain(error)}\n`;
  out += columns([head, ...cells]);
  const rest = rows.slice(ROWS);
  if (rest.length > 0)
    out += `and ${rest.length} more: ${micros(rest.reduce((sum, { own }) => sum + own, 0))} us\n`;
  for (const note of notes) out += `note: ${note}\n`;
  return out;
}

/** Every slice with the time that is its own: without the slices that it contains. */
export function leaves(slices: readonly Slice[]): { slice: Slice; own: number }[] {
  const rows: { slice: Slice; own: number }[] = [];
  const open: { slice: Slice; own: number }[] = [];
  for (const slice of slices) {
    if (slice.skipped || slice.untimed) continue;
    const row = { slice, own: Math.max(0, slice.end - slice.start) };
    rows.push(row);
    while (open.length > 0) {
      const top = open.at(-1)!;
      if (top.slice.lane === slice.lane && top.slice.depth < slice.depth && top.slice.end > slice.start)
        break;
      open.pop();
    }
    const parent = open.at(-1);
    if (parent) parent.own = Math.max(0, parent.own - row.own);
    open.push(row);
  }
  return rows;
}

function describe({ kind, text, errno, unfinished }: Slice): string {
  const what = kind === "step" ? `(${text})` : text;
  const cut = what.length > 100 ? `${what.slice(0, 99)}…` : what;
  return plain(`${cut}${errno ? ` = ${errno}` : ""}${unfinished ? " (still going on)" : ""}`);
}

/** Nothing of a bundle reaches a terminal as it is. */
function plain(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, "?");
}

function micros(nanoseconds: number): string {
  return (nanoseconds / 1000).toFixed(1);
}

/** The first three columns are numbers; the last is as long as it is. */
function columns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.min(40, Math.max(...rows.map((row) => row[i]!.length))));
  return rows
    .map((row) => {
      const cells = row.map((cell, i) =>
        i < 3 ? cell.padStart(widths[i]!) : i === 5 ? cell : cell.padEnd(widths[i]!),
      );
      return `${cells.join("  ").trimEnd()}\n`;
    })
    .join("");
}
