/**
 * Reading the files of a cgroup that tell what was used: what is absent, unreadable or not as documented is undefined.
 * Numbers of 64 bits are exact: those beyond 2^53 are bigints.
 */
import { readBytes } from "../linux/file.ts";
import { text } from "../linux/lib.ts";
import type { Integer } from "../oci/config.ts";

/** Files of cgroups have some kB; io.stat may have a line for each of thousands of disks. */
const LONGEST = 4 << 20;

/** The text of a file of a cgroup. */
export function readStat(dir: string | undefined, file: string): string | undefined {
  if (dir === undefined || dir === "") return undefined;
  const bytes = readBytes(`${dir}/${file}`, LONGEST);
  return typeof bytes === "number" ? undefined : text(bytes);
}

/** 2^64 - 1: what "max" is in the statistics. */
export function unlimited(): bigint {
  return BigInt("18446744073709551615");
}

/** A decimal number that fits 64 bits; "max" is 2^64 - 1, and what a bug of the kernel made negative is 0, as in runc. */
export function parseCount(word: string): Integer | undefined {
  if (word === "max") return unlimited();
  const length = word.length;
  const negative = word.charCodeAt(0) === 0x2d;
  if (length > 20 || length === (negative ? 1 : 0)) return undefined;
  for (let i = negative ? 1 : 0; i < length; i++) {
    const c = word.charCodeAt(i);
    if (c < 0x30 || c > 0x39) return undefined;
  }
  if (negative) return 0;
  const value = Number(word);
  if (Number.isSafeInteger(value)) return value;
  const exact = BigInt(word);
  return exact > unlimited() ? undefined : exact;
}

/** The number in a file. */
export function readCount(dir: string | undefined, file: string): Integer | undefined {
  const found = readStat(dir, file);
  return found === undefined ? undefined : parseCount(found.trim());
}

/** A sum. */
export function plus(a: Integer, b: Integer): Integer {
  const sum = Number(a) + Number(b);
  return Number.isSafeInteger(sum) ? sum : BigInt(a) + BigInt(b);
}

/** A product; undefined stays. */
export function times(a: Integer | undefined, factor: number): Integer | undefined {
  if (a === undefined) return undefined;
  const product = Number(a) * factor;
  return Number.isSafeInteger(product) ? product : BigInt(a) * BigInt(factor);
}

/** Calls for each line that is not empty with its words. */
export function forEachLine(lines: string, each: (words: string[]) => void): void {
  for (const line of lines.split("\n")) {
    const words: string[] = [];
    for (const word of line.split(" ")) if (word !== "") words.push(word);
    if (words.length > 0) each(words);
  }
}

/** "8:0" */
export function deviceNumbers(device: string): { major: Integer; minor: Integer } | undefined {
  const colon = device.indexOf(":");
  const major = colon < 0 ? undefined : parseCount(device.slice(0, colon));
  const minor = parseCount(device.slice(colon + 1));
  return major === undefined || minor === undefined ? undefined : { major, minor };
}

/** A file of lines "key value"; undefined when there is none. */
export function readKeyed(dir: string | undefined, file: string): Record<string, Integer> | undefined {
  const found = readStat(dir, file);
  if (found === undefined) return undefined;
  const values: Record<string, Integer> = Object.create(null);
  forEachLine(found, ([key, word = ""]) => {
    const value = parseCount(word);
    if (value !== undefined) values[key!] = value;
  });
  return values;
}

/** The numbers of a list such as "0-3,7" (cpuset(7) "List format"); undefined for what is none. */
export function parseList(list: string): number[] | undefined {
  const numbers: number[] = [];
  for (const part of list.trim().split(",")) {
    if (part === "") continue;
    const dash = part.indexOf("-");
    const first = parseCount(dash < 0 ? part : part.slice(0, dash));
    const last = dash < 0 ? first : parseCount(part.slice(dash + 1));
    if (typeof first !== "number" || typeof last !== "number" || last > 0xffff) return undefined;
    for (let n = first; n <= last; n++) numbers.push(n);
  }
  return numbers;
}
