/**
 * A timeline as a picture: above, the processes over time; below, the longest slices one to a row, in the order of time,
 * so that every label has a line of its own. One file without references, light or dark as the viewer is.
 */
import { leaves } from "./table.ts";
import type { Slice, Timeline } from "./timeline.ts";

const WIDTH = 1400;
const MARGIN = 20;
/** Left of the time axis stand the labels of the rows. */
const LABELS = 470;
/** Right of it there is room for the duration of a bar that ends there. */
const RIGHT = 90;
const AXIS = WIDTH - MARGIN - LABELS - RIGHT;
const ROW = 16;
/** A character of the font (11 px, monospace) is at most so wide. */
const CHARACTER = 6.7;
/** As many rows; what is shorter is in the overview and in the table only. */
const ROWS = 150;

const STYLE = `
svg { background: #ffffff; }
text { font: 11px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; }
.title { font-size: 15px; font-weight: bold; }
.dim { fill: #656d76; }
.bad { fill: #b3261e; font-weight: bold; }
.in { fill: #0d1117; }
.back { fill: #ffffff; }
.stripe { fill: #f3f5f7; }
.halo { paint-order: stroke; stroke: #ffffff; stroke-width: 4; stroke-linejoin: round; }
.on { stroke: #f3f5f7; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.step { fill: #7c8ea3; } .call { fill: #4a90d9; } .op { fill: #2f9e6e; } .wait { fill: #d8dee4; } .failed { fill: #d1242f; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; }
text { fill: #e6edf3; }
.dim { fill: #9198a1; }
.in { fill: #0d1117; }
.bad { fill: #ff7b72; }
.back { fill: #0d1117; }
.stripe { fill: #161b22; }
.grid { stroke: #30363d; }
.halo { stroke: #0d1117; }
.on { stroke: #161b22; }
.step { fill: #7d8590; } .call { fill: #539bf5; } .op { fill: #3fb97f; } .wait { fill: #768390; } .failed { fill: #f85149; }
}`;

/** The text of the file. */
export function traceSvg(timeline: Timeline): string {
  const { title, start, end, lanes, notes, error } = timeline;
  const whole = Math.max(1, end - start);
  const scale = (time: number) => LABELS + (AXIS * (Math.min(Math.max(time, start), end) - start)) / whole;
  const drawn = timeline.slices.filter((slice) => !slice.skipped && !slice.untimed);
  const out: string[] = [];
  let y = 34;
  const length = `: ${duration(whole)}`;
  const room = ((WIDTH - 2 * MARGIN) * 11) / 15 - length.length * CHARACTER;
  out.push(label(MARGIN, y, cut(title, room) + length, "title"));
  for (const line of [...(error === undefined ? [] : [`failed: ${error}`]), ...notes]) {
    y += ROW;
    out.push(
      label(
        MARGIN,
        y,
        cut(line, WIDTH - 2 * MARGIN),
        line === notes[0] || error === undefined ? "dim" : "bad",
      ),
    );
  }
  y += 24;
  const top = y;
  const body: string[] = [];
  y += ROW;
  body.push(...legend(y - 4));
  for (let lane = 0; lane < lanes.length; lane++) {
    const own = drawn.filter((slice) => slice.lane === lane);
    const depth = own.reduce((most, slice) => Math.max(most, slice.depth), 0);
    y += 6;
    const { name, pid } = lanes[lane]!;
    body.push(label(MARGIN, y + 12, `${name} (pid ${pid})`, ""));
    for (const slice of own) body.push(bar(slice, y + slice.depth * ROW, scale, start));
    y += (depth + 1) * ROW;
  }
  y += 20;
  const { rows, left } = longest(drawn);
  for (const [i, { slice, own }] of rows.entries()) {
    if (i % 2 === 0)
      body.push(
        `<rect class="stripe" x="${MARGIN}" y="${y}" width="${WIDTH - 2 * MARGIN}" height="${ROW}"/>`,
      );
    body.push(row(slice, own, lanes[slice.lane]!.name, y, i % 2 === 0, scale, start));
    y += ROW;
  }
  if (left > 0) {
    y += ROW;
    body.push(label(MARGIN, y, `${left} shorter ones are only in the overview`, "dim"));
  }
  const height = y + MARGIN;
  out.push(...grid(top, y, whole), ...body);
  return `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">
<title>${xml(title)}</title>
<style>${STYLE}
</style>
<rect class="back" width="${WIDTH}" height="${height}"/>
${out.join("\n")}
</svg>
`;
}

/** Lines at round times, with the time above. */
function grid(top: number, bottom: number, whole: number): string[] {
  const out: string[] = [];
  let step = 10 ** Math.floor(Math.log10(whole / 4));
  while (whole / step > 12) step *= step / 10 ** Math.floor(Math.log10(step)) < 1.5 ? 2 : 2.5;
  for (let at = 0; at <= whole; at += step) {
    const x = number(LABELS + (AXIS * at) / whole);
    out.push(`<line class="grid" x1="${x}" y1="${top + 2}" x2="${x}" y2="${bottom}"/>`);
    out.push(`<text class="dim" x="${x}" y="${top - 2}" text-anchor="middle">${round(at)}</text>`);
  }
  return out;
}

function legend(y: number): string[] {
  const kinds = [
    ["step", "steps of bunc"],
    ["call", "its system calls"],
    ["op", "operations"],
    ["wait", "waiting"],
  ] as const;
  const out: string[] = [];
  let x = MARGIN;
  for (const [kind, words] of kinds) {
    out.push(
      `<rect class="${kind}" x="${x}" y="${y - 8}" width="9" height="9"/>`,
      label(x + 13, y, words, "dim"),
    );
    x = Math.ceil(x + 13 + words.length * CHARACTER + 8);
  }
  return out;
}

/** A slice of the overview: with its name where that fits in. */
function bar(slice: Slice, y: number, scale: (time: number) => number, zero: number): string {
  const x = scale(slice.start);
  const width = Math.max(0.5, scale(slice.end) - x);
  const fits = slice.name.length * CHARACTER + 6 <= width;
  const shape = `<rect class="${style(slice)}" x="${number(x)}" y="${y}" width="${number(width)}" height="${ROW - 2}"/>`;
  const text = fits ? label(number(x + 3), y + 11, slice.name, "in") : "";
  return `<g>${tip(slice, zero)}${shape}${text}</g>`;
}

function row(
  slice: Slice,
  own: number,
  lane: string,
  y: number,
  striped: boolean,
  scale: (time: number) => number,
  zero: number,
): string {
  const x = scale(slice.start);
  const width = Math.max(1, scale(slice.end) - x);
  const base = y + 11;
  const side = slice.kind === "step" ? "" : `${lane} `;
  const index = slice.index === undefined ? "" : `${slice.index} `;
  const text = slice.text.replaceAll("AT_FDCWD, ", "");
  const words = cut(`${side}${index}${text}`, LABELS - MARGIN - 12);
  const span = duration(slice.end - slice.start);
  const part = duration(own);
  const time = `${span}${part === span ? "" : ` (${part} own)`}${slice.errno ? ` ${slice.errno}` : ""}`;
  const kind = `${slice.failed ? "bad" : "dim"} halo${striped ? " on" : ""}`;
  return [
    `<g>${tip(slice, zero)}`,
    label(MARGIN + 4, base, words, slice.failed ? "bad" : ""),
    `<rect class="${style(slice)}" x="${number(x)}" y="${y + 2}" width="${number(width)}" height="${ROW - 5}"/>`,
    beside(x, width, base, time, kind),
    "</g>",
  ].join("");
}

/** A bar's duration: right of it, left where there is no room for that, and in it where there is none either. */
function beside(x: number, width: number, y: number, text: string, kind: string): string {
  const needed = text.length * CHARACTER + 4;
  if (x + width + needed <= WIDTH - MARGIN) return label(number(x + width + 4), y, text, kind);
  const left = x - needed >= LABELS;
  const at = left ? x - 4 : x + width - 4;
  return `<text class="${left ? kind : "in"}" x="${number(at)}" y="${y}" text-anchor="end">${xml(text)}</text>`;
}

/** The slices with the most time of their own, in the order of time. */
function longest(slices: readonly Slice[]): { rows: { slice: Slice; own: number }[]; left: number } {
  const all = leaves(slices).map((entry, i) => ({ ...entry, i }));
  const chosen = [...all].sort(
    (a, b) => Number(b.slice.failed ?? 0) - Number(a.slice.failed ?? 0) || b.own - a.own,
  );
  const rows = chosen.slice(0, ROWS).sort((a, b) => a.slice.start - b.slice.start || a.i - b.i);
  return { rows, left: Math.max(0, all.length - ROWS) };
}

function style({ kind, failed }: Slice): string {
  return failed ? "failed" : kind;
}

/** What a viewer shows under the pointer. */
function tip({ text, path, start, end, errno }: Slice, zero: number): string {
  const lines = [text, path, `${duration(end - start)} at ${duration(start - zero)}`, errno ?? ""];
  return `<title>${xml(lines.filter(Boolean).join("\n"))}</title>`;
}

function label(x: number, y: number, text: string, kind: string): string {
  return `<text${kind ? ` class="${kind}"` : ""} x="${x}" y="${y}">${xml(text)}</text>`;
}

/** As much of a text as there is room for. */
function cut(text: string, width: number): string {
  const room = Math.floor(width / CHARACTER);
  return text.length <= room ? text : `${text.slice(0, room - 1)}…`;
}

function duration(nanoseconds: number): string {
  if (nanoseconds >= 1e9) return `${(nanoseconds / 1e9).toFixed(2)} s`;
  if (nanoseconds >= 1e6) return `${(nanoseconds / 1e6).toFixed(2)} ms`;
  return `${(nanoseconds / 1e3).toFixed(nanoseconds < 1e4 ? 1 : 0)} us`;
}

/** A round time, as short as it is exact: "0", "2.5 ms". */
function round(nanoseconds: number): string {
  for (const [unit, name] of [
    [1e9, "s"],
    [1e6, "ms"],
    [1e3, "us"],
  ] as const) {
    if (nanoseconds >= unit) return `${Number((nanoseconds / unit).toPrecision(6))} ${name}`;
  }
  return nanoseconds > 0 ? `${Math.round(nanoseconds)} ns` : "0";
}

function number(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Text for XML, which knows no control characters and no halves of a character. */
function xml(text: string): string {
  return text
    .toWellFormed()
    .replace(
      /[^\t\n\u0020-\u{10ffff}]|[\ufffe\uffff\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/gu,
      "?",
    )
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
