/** From the facts of a host to the findings of `doctor`, and those as text. Pure. */
import { checkCgroups, checkSystemd } from "./check-cgroups.ts";
import { checkCaller, checkKernel, checkMounts, checkNamespaces } from "./check-kernel.ts";
import { checkCriu, checkLimits, checkPlaces, checkSecurity } from "./check-rest.ts";
import { checkIdMaps, checkUserNamespaces } from "./check-users.ts";
import type { Facts, Finding } from "./facts.ts";

/** What a host offers and lacks for the caller. */
export interface Report {
  /** Whether containers of this caller can run. */
  canRun: boolean;
  findings: Finding[];
  facts: Facts;
}

/** Judges. */
export function judge(facts: Facts): Report {
  const findings = [
    ...checkKernel(facts),
    ...checkCaller(facts),
    // Without init nothing else could be tried.
    ...(facts.start === "ok" ? checkTried(facts) : []),
    ...checkCgroups(facts),
    ...checkSystemd(facts),
    ...checkSecurity(facts),
    ...checkCriu(facts),
    ...checkLimits(facts),
    ...checkPlaces(facts),
  ];
  const canRun = !findings.some(({ status, essential }) => status === "missing" && essential);
  return { canRun, findings, facts };
}

function checkTried(facts: Facts): Finding[] {
  return [
    ...checkNamespaces(facts),
    ...checkUserNamespaces(facts),
    ...checkIdMaps(facts),
    ...checkMounts(facts),
  ];
}

/** One line for each finding, and one that sums up. */
export function renderReport({ canRun, findings, facts }: Report): string {
  const lines = findings.map(({ topic, status, essential, detail, fix }) => {
    const needed = status === "missing" && essential ? " (no container runs without it)" : "";
    return `${status.padEnd(8)} ${topic}: ${detail}${needed}${fix ? `; fix: ${fix}` : ""}`;
  });
  const count = (wanted: string): number => findings.filter(({ status }) => status === wanted).length;
  const { name, uid } = facts.caller;
  const who = name || `uid ${uid}`;
  lines.push(
    `containers of ${who} ${canRun ? "can" : "cannot"} run here: ${count("ok")} ok, ` +
      `${count("warning")} with a warning, ${count("missing")} missing`,
  );
  return `${lines.join("\n")}\n`;
}
