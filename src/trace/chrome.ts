/**
 * A timeline as Chrome's trace event format (JSON object form), which https://ui.perfetto.dev and chrome://tracing open.
 * Times are microseconds since the beginning; see "Trace Event Format" of the Chromium project.
 */
import type { Slice, Timeline } from "./timeline.ts";

/** The text of the file. One event to a line, so that it can be searched, too. */
export function chromeTrace(timeline: Timeline): string {
  const { lanes, slices, start, title, version, error, notes } = timeline;
  const events: object[] = [];
  for (const [i, { name, pid }] of lanes.entries()) {
    events.push({ ph: "M", name: "process_name", pid, tid: pid, args: { name } });
    events.push({ ph: "M", name: "thread_name", pid, tid: pid, args: { name } });
    events.push({ ph: "M", name: "process_sort_index", pid, tid: pid, args: { sort_index: i } });
  }
  for (const slice of slices) events.push(event(slice, lanes[slice.lane]!.pid, start));
  const lines = events.map((one) => JSON.stringify(one)).join(",\n");
  const otherData = { command: title, version, ...(error === undefined ? {} : { error }), notes };
  return `{"displayTimeUnit":"ns","otherData":${JSON.stringify(otherData)},"traceEvents":[\n${lines}\n]}\n`;
}

function event(slice: Slice, pid: number, zero: number): object {
  const { name, text, phase, path, kind, start, end, index, errno } = slice;
  const args: Record<string, unknown> = {};
  if (path) args.path = path;
  if (phase) args.phase = phase;
  args.call = text;
  if (index !== undefined) args.index = index;
  if (errno) args.errno = errno;
  for (const flag of ["failed", "skipped", "untimed", "unfinished"] as const)
    if (slice[flag]) args[flag] = true;
  const shown = slice.failed ? `${name}: ${errno ?? "failed"}` : name;
  const base = { name: shown, cat: kind, pid, tid: pid, ts: micros(start - zero), args };
  // Without a duration it is a mark on the thread: an operation that was passed over, or whose time nobody knows.
  if (slice.skipped || slice.untimed) return { ...base, ph: "i", s: "t" };
  return {
    ...base,
    ph: "X",
    dur: micros(Math.max(0, end - start)),
    ...(slice.failed ? { cname: "terrible" } : {}),
  };
}

/** Nanoseconds as microseconds, without digits that are noise. */
function micros(nanoseconds: number): number {
  return Math.round(nanoseconds) / 1000;
}
