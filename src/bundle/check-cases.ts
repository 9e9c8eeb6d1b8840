/** What the tests of the checks share: a table of changes to a document and the problems they cause. */
import { expect, test } from "bun:test";
import { renderProblem, validateConfig } from "./validate.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests write wrong things on purpose
export type Config = any;

/** Changes a document, validates it, and returns what was found as lines. */
export function check(
  config: Config,
  change: (config: Config) => void,
): { problems: string[]; warnings: string[] } {
  change(config);
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  const exact = (_key: string, value: unknown) =>
    typeof value === "bigint" ? rawJSON(String(value)) : value;
  const { problems, warnings } = validateConfig(JSON.stringify(config, exact));
  return { problems: problems.map(renderProblem), warnings: warnings.map(renderProblem) };
}

/** A change, and all problems it has to cause. */
export type Case = [what: string, change: (config: Config) => void, ...problems: string[]];

/** Tests each case on a new document. */
export function table(base: () => Config, cases: Case[]): void {
  test.each(cases)("%s", (_what, change, ...problems) => {
    expect(check(base(), change).problems).toEqual(problems as string[]);
  });
}
