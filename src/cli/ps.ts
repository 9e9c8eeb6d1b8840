/** `ps`: the processes of a container, as the host's ps(1) shows them, or their pids as JSON. */
import { containerProcesses } from "../container/processes.ts";
import { BuncError } from "../errors.ts";
import { containerId, warnOfCgroups } from "./launch-options.ts";
import type { CommandContext } from "./types.ts";

export const containers = { containerProcesses };

export async function command(context: CommandContext<"ps", "containerProcesses">): Promise<number> {
  const { args, flags, global, containers, log, output } = context;
  const id = containerId(args);
  const pids = await warnOfCgroups("ps", log, () => containers.containerProcesses(global.root, id));
  if (flags.format === "json") {
    // Go's form of a list that was never made.
    await output.stdout(pids.length ? `${JSON.stringify(pids)}\n` : "null\n");
    return 0;
  }
  if (flags.format !== "table") {
    throw new BuncError("invalid format option", { code: "usage", hint: "it is table or json" });
  }
  const options = args.slice(1);
  await output.stdout(selectLines(await runPs(options.length ? options : ["-ef"]), pids));
  return 0;
}

/** What the host's ps(1) prints. */
async function runPs(options: string[]): Promise<string> {
  let ps: Bun.SyncSubprocess<"pipe", "pipe">;
  try {
    ps = Bun.spawnSync(["ps", ...options], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  } catch {
    throw new BuncError('exec: "ps": executable file not found in $PATH', {
      code: "host",
      hint: "the package procps has it; --format json does without",
    });
  }
  const text = ps.stdout.toString();
  if (ps.exitCode === 0) return text;
  const how = ps.signalCode ? `signal: ${ps.signalCode}` : `exit status ${ps.exitCode}`;
  throw new BuncError(`${how}: ${(text + ps.stderr.toString()).trimEnd()}`, {
    code: "host",
    hint: "the options after the container's id are those of the host's ps",
  });
}

/**
 * The header, and the lines whose PID is one of `pids`.
 * @throws BuncError when there is no column PID, or something else than a number in it
 */
export function selectLines(text: string, pids: readonly number[]): string {
  const [header = "", ...lines] = text.split("\n");
  const column = fields(header).indexOf("PID");
  if (column < 0) {
    throw new BuncError("couldn't find PID field in ps output", {
      code: "usage",
      hint: "the format must have the column pid",
    });
  }
  const wanted = new Set(pids);
  let selected = `${header}\n`;
  for (const line of lines) {
    if (line === "") continue;
    const pid = Number(fields(line)[column]);
    if (!Number.isInteger(pid)) throw new BuncError(`unable to parse pid: ${line}`, { code: "host" });
    if (wanted.has(pid)) selected += `${line}\n`;
  }
  return selected;
}

function fields(line: string): string[] {
  return line.split(/\s+/).filter((field) => field !== "");
}
