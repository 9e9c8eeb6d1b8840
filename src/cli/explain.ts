/** `explain`: show what running a bundle would do, call by call. Reads the bundle and facts of the host, does nothing. */
import { loadBundle } from "../bundle/load.ts";
import { renderProblem, validateConfig } from "../bundle/validate.ts";
import { bundleIo } from "../container/bundle-io.ts";
import type { ExecOptions } from "../container/exec.ts";
import { BuncError, type Problem } from "../errors.ts";
import { explainProgram, renderJson, renderText } from "../launch/explain.ts";
import { readText } from "../linux/file.ts";
import { execOptions } from "./exec.ts";
import { launchProgram } from "./explain-launch.ts";
import { HELP_FLAG } from "./flags.ts";
import { absolutePath } from "./go.ts";
import { parseFlags } from "./parse.ts";
import { TABLE } from "./table.ts";
import type { CommandContext } from "./types.ts";

/** All problems of a config.json, to be listed one by one. */
class ProblemsError extends BuncError {
  constructor(readonly problems: readonly Problem[]) {
    super(`config.json has ${problems.length === 1 ? "1 problem" : `${problems.length} problems`}`, {
      code: "config",
    });
  }
}

export const containers = { explainBundle, explainExec };

type Context = CommandContext<"explain", "explainBundle" | "explainExec">;

export async function command(context: Context): Promise<number> {
  const { flags, output, args } = context;
  if (args.length > 0) return exec(context);
  try {
    await output.stdout(await context.containers.explainBundle(absolutePath(flags.bundle), flags.json));
    return 0;
  } catch (error) {
    // As `validate` has them; who asked for JSON gets only JSON on stdout, and all in the error.
    if (!(error instanceof ProblemsError)) throw error;
    const lines = error.problems.map(renderProblem);
    if (flags.json) throw new BuncError(`${error.message}: ${lines.join("; ")}`, error.fields);
    await output.stdout(lines.map((line) => `${line}\n`).join(""));
    throw error;
  }
}

/** `explain exec`, with the options that exec has. */
async function exec(context: Context): Promise<number> {
  const { argv0, args, flags, output } = context;
  const [name, ...rest] = args;
  if (name !== "exec" || flags.bundle) {
    const wrong = name === "exec" ? "--bundle: the container has one" : JSON.stringify(name);
    throw new BuncError(`${argv0} explain takes no ${wrong}`, {
      code: "usage",
      hint: 'it explains a bundle, or "exec [options] <container-id> <command>"',
    });
  }
  const spec = TABLE.exec();
  const parsed = parseFlags({ ...spec.flags, ...HELP_FLAG }, rest, true);
  if (parsed.values.help) {
    await output.stdout((await import("./help.ts")).commandHelp(argv0, "exec", spec));
    return 0;
  }
  const options = execOptions({ ...context, args: parsed.args, flags: parsed.values });
  await output.stdout(await context.containers.explainExec(options, flags.json));
  return 0;
}

/** Loaded only when it is asked for. */
async function explainExec(options: ExecOptions, json: boolean): Promise<string> {
  return (await import("./explain-exec.ts")).explainExec(options, json);
}

/**
 * The launch program that `run` would execute for a bundle, as text or JSON.
 *
 * @param bundle absolute path of its directory
 * @throws BuncError when the bundle cannot be loaded, has problems, or asks for what cannot be compiled here
 */
export async function explainBundle(bundle: string, json: boolean): Promise<string> {
  const { spec } = loadValid(bundle);
  const program = await launchProgram(spec, bundle);
  const explained = explainProgram(program);
  return json ? renderJson(explained) : renderText(explained, program.notes);
}

function loadValid(bundle: string): ReturnType<typeof loadBundle> {
  try {
    return loadBundle(bundle, bundleIo);
  } catch (error) {
    if (!(error instanceof BuncError) || error.fields.phase !== "validation") throw error;
    // loadBundle puts only the first of the problems into its one line.
    const text = readText(`${bundle}/config.json`);
    const problems = typeof text === "string" ? validateConfig(text).problems : [];
    throw problems.length ? new ProblemsError(problems) : error;
  }
}
