/** `explain exec`: the program of an exec in a container that is there, and which option or file each call comes from. */
import { type ExecOptions, planExec } from "../container/exec.ts";
import { Stage } from "../launch/context.ts";
import {
  type ExplainedPart,
  explainProgram,
  type LaunchProgram,
  renderJson,
  renderText,
  type SidePart,
} from "../launch/explain.ts";
import { seccompFilter } from "./explain-launch.ts";
import { openings, passListener, plain } from "./explain-parent.ts";

/**
 * The launch program that `exec` would execute, as text or JSON.
 *
 * @throws BuncError as exec does, when the container is not there or the process has mistakes
 */
export async function explainExec(options: ExecOptions, json: boolean): Promise<string> {
  const { spec, program, cgroups } = await planExec(options, await seccompLoader());
  const { fds, firstFd } = program;
  const parts: SidePart[] = [];
  plain(parts, openings(fds, { stateDir: `${options.root}/${options.id}`, pid: "<pid of the container>" }));
  const before = parts.length;
  for (const { part, stage } of program.parts()) {
    parts.push({ side: "init", part });
    if (stage === Stage.listener) plain(parts, passListener(spec));
  }
  const intoCgroup = cgroups[""] !== undefined;
  const birth = { flags: 0, pidns: undefined };
  const whole: LaunchProgram = { birth, fds, firstFd, parts, before, intoCgroup };
  const explained = explainProgram(whole);
  addOrigins(explained, options);
  return json ? renderJson(explained) : renderText(explained, []);
}

/** The filter is compiled here and not taken from the cache, which would be written to. */
async function seccompLoader(): Promise<Parameters<typeof planExec>[1]> {
  const compile = await seccompFilter();
  return (profile) => compile(profile);
}

/** Names the flag or the file in place of the field of the container's config.json that it changes. */
function addOrigins(parts: readonly ExplainedPart[], options: ExecOptions): void {
  const of = originOf(options);
  for (const { ops } of parts) {
    for (const op of ops) {
      const origin = op.phase === "cgroup" && options.cgroups.length > 0 ? "--cgroup" : of(op.path);
      if (origin !== undefined) op.origin = origin;
    }
  }
}

function originOf({ process, pidfdSocket }: ExecOptions): (path: string) => string | undefined {
  if (!("changes" in process)) {
    const file = "file" in process ? process.file : "process";
    return (path) =>
      path === "process" || path.startsWith("process.") ? `${file}: ${path.slice(8)}` : undefined;
  }
  const { changes } = process;
  const flags: [path: string, flag: string][] = [["process.args", "command"]];
  const given = (value: unknown, path: string, flag: string) => {
    if (Array.isArray(value) ? value.length > 0 : value) flags.push([path, flag]);
  };
  given(changes.additionalGids, "process.user.additionalGids", "--additional-gids");
  given(changes.user, "process.user", "--user");
  given(changes.cwd, "process.cwd", "--cwd");
  given(changes.env, "process.env", "--env");
  given(changes.terminal, "process.terminal", "--tty");
  given(changes.apparmor, "process.apparmorProfile", "--apparmor");
  given(changes.selinuxLabel, "process.selinuxLabel", "--process-label");
  given(changes.noNewPrivileges, "process.noNewPrivileges", "--no-new-privs");
  given(changes.caps, "process.capabilities", "--cap");
  given(pidfdSocket, "process.pidfdSocket", "--pidfd-socket");
  return (path) =>
    flags.find(
      ([field]) => path === field || path.startsWith(`${field}.`) || path.startsWith(`${field}[`),
    )?.[1];
}
