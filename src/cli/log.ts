/**
 * Log entries in the two forms of logrus, which containerd, conmon and podman read: `time="…" level=error msg="…"`
 * and `{"level":"error","msg":"…","time":"…"}`; and the short coloured form logrus gives a person at a terminal.
 */
import type { Log } from "../container/types.ts";
import { goJson, quote } from "./go.ts";

export type Level = "debug" | "warning" | "error";

/** Which of the three forms an entry takes. */
export type Form = "text" | "json" | "terminal";

/** One entry, with its newline, in the form asked for; `time` is written with the seconds of local time. */
export function formatEntry(form: Form, level: Level, message: string, time: Date): string {
  if (form === "json") return `${goJson({ level, msg: message, time: rfc3339(time) })}\n`;
  if (form === "terminal") {
    const color = level === "error" ? 31 : level === "warning" ? 33 : 37;
    const elapsed = String(Math.floor(performance.now() / 1000)).padStart(4, "0");
    return `\x1b[${color}m${level.slice(0, 4).toUpperCase()}\x1b[0m[${elapsed}] ${printable(message)}\n`;
  }
  return `time="${rfc3339(time)}" level=${level} msg=${textValue(message)}\n`;
}

/**
 * A log that hands each entry of a level, or of one above it, to `write`.
 * @param form asked once, when the first entry is written
 */
export function createLog(least: Level, form: () => Form, write: (entry: string) => void): Log {
  let known: Form | undefined;
  return leveled(least, (level, message) => {
    known ??= form();
    write(formatEntry(known, level, message, new Date()));
  });
}

/** A log that hands each message of a level, or of one above it, to `entry`. */
export function leveled(least: Level, entry: (level: Level, message: string) => void): Log {
  return {
    debugging: least === "debug",
    debug: (message) => {
      if (least === "debug") entry("debug", message);
    },
    warn: (message) => {
      if (least !== "error") entry("warning", message);
    },
    error: (message) => entry("error", message),
  };
}

/** RFC 3339 with whole seconds and the local offset, as Go's time.RFC3339. */
export function rfc3339(time: Date): string {
  const offset = -time.getTimezoneOffset();
  const local = new Date(time.getTime() + offset * 60_000).toISOString().slice(0, 19);
  if (offset === 0) return `${local}Z`;
  const minutes = Math.abs(offset);
  return `${local}${offset < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** A message may quote what a hook in the container has said, which is not to command the terminal. */
function printable(text: string): string {
  let shown = "";
  for (const char of text) {
    const code = char.codePointAt(0)!;
    const commands = (code < 0x20 && char !== "\n" && char !== "\t") || (code >= 0x7f && code < 0xa0);
    shown += commands ? quote(char).slice(1, -1) : char;
  }
  return shown;
}

/** logrus leaves a value bare only when no reader could be misled by it. */
function textValue(text: string): string {
  return /^[a-zA-Z0-9\-._/@^+]*$/.test(text) ? text : quote(text);
}

function two(number: number): string {
  return String(number).padStart(2, "0");
}
