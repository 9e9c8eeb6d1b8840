/** `validate`: every problem of a bundle, one per line on stdout. No container is started here, so node:fs is fine. */
import { statSync } from "node:fs";
import { type BundleIo, LONGEST_CONFIG, loadBundle } from "../bundle/load.ts";
import { renderProblem, validateConfig } from "../bundle/validate.ts";
import { BuncError, type Problem } from "../errors.ts";
import { errnoName } from "../linux/errno.ts";
import { readBytes } from "../linux/file.ts";
import { text } from "../linux/lib.ts";
import { absolutePath } from "./go.ts";
import type { CommandContext } from "./types.ts";

const io: BundleIo = {
  readText(path, limit) {
    const bytes = readBytes(path, limit + 1);
    if (typeof bytes === "number") return { errno: errnoName(-bytes) };
    return bytes.length > limit ? { errno: "EFBIG" } : { value: text(bytes) };
  },
  isDirectory(path) {
    try {
      return { value: statSync(path).isDirectory() };
    } catch (error) {
      return { errno: (error as { code: string }).code };
    }
  },
};

export async function command({ flags, output }: CommandContext<"validate">): Promise<number> {
  const bundle = absolutePath(flags.bundle);
  const problems = problemsOf(bundle);
  if (problems.length > 0) {
    await output.stdout(problems.map((problem) => `${renderProblem(problem)}\n`).join(""));
    const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
    throw new BuncError(`config.json has ${count}`, { code: "config" });
  }
  const { warnings } = loadBundle(bundle, io);
  await output.stdout(warnings.map((warning) => `warning: ${renderProblem(warning)}\n`).join(""));
  return 0;
}

/** The problems of a config.json that can be read and parsed; what keeps it from that is loadBundle's error. */
function problemsOf(bundle: string): Problem[] {
  const config = io.readText(`${bundle}/config.json`, LONGEST_CONFIG);
  if (config.errno !== undefined) return [];
  try {
    return validateConfig(config.value).problems;
  } catch (error) {
    if (error instanceof BuncError) return [];
    throw error;
  }
}
