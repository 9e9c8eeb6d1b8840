/** Reading the files of a host that `doctor` looks at: text in, values out. */
import { capabilityNames } from "../launch/capabilities.ts";
import type { CallerFacts } from "./facts.ts";

/** Capabilities of a mask of /proc/PID/status, lowest number first, in the names of config.json. */
export function capabilitiesIn(mask: string, names: readonly string[]): string[] {
  if (!/^[0-9a-f]{1,16}$/.test(mask)) return [];
  const bits = BigInt(`0x${mask}`);
  return names.filter((_, number) => ((bits >> BigInt(number)) & 1n) === 1n);
}

/** What /proc/self/status (proc_pid_status(5)) says of the caller's rights. */
export function parseStatus(
  status: string,
): Pick<CallerFacts, "effective" | "bounding" | "noNewPrivs" | "seccomp"> {
  const field = (name: string): string =>
    new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1]?.trim() ?? "";
  const names = [...capabilityNames()];
  return {
    effective: capabilitiesIn(field("CapEff"), names),
    bounding: capabilitiesIn(field("CapBnd"), names),
    noNewPrivs: field("NoNewPrivs") === "1",
    seccomp: Number(field("Seccomp")) || 0,
  };
}

/** A user's ranges in a file like /etc/subuid (subuid(5)): lines of name or uid, first id, count. */
export function parseRanges(text: string, name: string, uid: number): { first: number; count: number }[] {
  const ranges: { first: number; count: number }[] = [];
  for (const line of text.split("\n")) {
    const [who, first, count, more] = line.trim().split(":");
    if (more !== undefined || !who || (who !== name && who !== String(uid))) continue;
    if (!/^\d{1,10}$/.test(first ?? "") || !/^\d{1,10}$/.test(count ?? "") || Number(count) === 0) continue;
    ranges.push({ first: Number(first), count: Number(count) });
  }
  return ranges;
}

/** One mount of mountinfo, as far as it is needed. */
export interface MountLine {
  point: string;
  type: string;
  options: string[];
  superOptions: string[];
}

/** The mounts of /proc/PID/mountinfo, in their order (proc_pid_mountinfo(5)). */
export function parseMounts(text: string): MountLine[] {
  const mounts: MountLine[] = [];
  for (const line of text.split("\n")) {
    const fields = line.split(" ");
    const dash = fields.indexOf("-", 6);
    const [, , , , point, options] = fields;
    const type = fields[dash + 1];
    if (dash < 0 || point === undefined || options === undefined || type === undefined) continue;
    mounts.push({
      point: point.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
      type,
      options: options.split(","),
      superOptions: (fields[dash + 3] ?? "").split(","),
    });
  }
  return mounts;
}

/** The mount that a clean absolute path lies on: the last one of those with the longest mount point. */
export function mountOf(mounts: readonly MountLine[], path: string): MountLine | undefined {
  let found: MountLine | undefined;
  for (const mount of mounts) {
    const inside = mount.point === "/" || path === mount.point || path.startsWith(`${mount.point}/`);
    if (inside && mount.point.length >= (found?.point.length ?? 0)) found = mount;
  }
  return found;
}

/** The names in /proc/filesystems, and those of modules (lines of modules.builtin and modules.dep). */
export function parseFilesystems(known: string, modules: string): string[] {
  const names = new Set<string>();
  for (const line of known.split("\n")) {
    const name = line.split("\t")[1];
    if (name) names.add(name);
  }
  for (const match of modules.matchAll(/\/([a-z0-9_-]+)\.ko/g)) names.add(match[1]!);
  return [...names];
}

/** A number of /proc/sys, null for a file that is not there or holds something else. */
export function parseNumber(text: string | number): number | null {
  if (typeof text !== "string" || !/^-?\d+\s*$/.test(text)) return null;
  return Number(text);
}
