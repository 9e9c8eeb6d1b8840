/** The process that works in a shim's place (apart.ts): does one job, says what has become of it, and ends. */
import { workFor } from "../../container/host-facts.ts";
import type { Stdio } from "../../container/init-channel.ts";
import type { Log } from "../../container/types.ts";
import { BuncError, renderError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, readText, writeAll } from "../../linux/file.ts";
import { bytesOf, sys } from "../../linux/lib.ts";
import { type Answer, APART_FDS, type Job, type Request } from "./apart.ts";
import { PROCESS_NAME } from "./spawn.ts";

/**
 * Does what is asked for.
 * @param fd of the request
 * @throws BuncError when there is none; what is wrong with the job is the answer
 */
export async function work(fd: number): Promise<void> {
  sys(abi.SYS_prctl, abi.PR_SET_NAME, PROCESS_NAME, 0, 0, 0);
  const path = `/proc/self/fd/${fd}`;
  const json = readText(path);
  if (typeof json === "number") throw pathError("open", path, json);
  const { job, caller, debugging, console } = JSON.parse(json) as Request;
  // They are not for hooks, nor for the container.
  for (let own: number = APART_FDS.request; own <= APART_FDS.console; own++)
    sys(abi.SYS_fcntl, own, abi.F_SETFD, abi.FD_CLOEXEC);
  workFor(caller);
  try {
    say({ done: await perform(job, logOf(debugging), console ? APART_FDS.console : undefined) });
  } catch (error) {
    if (error instanceof BuncError) say({ failed: { message: error.message, fields: error.fields } });
    else say({ failed: { message: renderError(error), fields: { code: "internal" } } });
  }
}

async function perform(job: Job, log: Log, consoleFd: number | undefined): Promise<{ pid?: number }> {
  const first = APART_FDS.stdio;
  const stdio: Stdio = [first, first + 1, first + 2];
  switch (job.kind) {
    case "create": {
      const { createContainer } = await import("../../container/create.ts");
      const { pid } = await createContainer({ ...job.options, stdio, log }, consoleFd);
      return { pid };
    }
    case "exec": {
      const { startExec } = await import("../../container/exec.ts");
      const console = consoleFd === undefined ? {} : { fd: consoleFd };
      const { pid } = await startExec({ ...job.options, stdio, log }, console);
      return { pid };
    }
    case "update": {
      const { updateContainer } = await import("../../container/update.ts");
      const { validateResources } = await import("../../bundle/validate.ts");
      const warn = (message: string) => log.warn(message);
      // The shim has found no problems in it.
      await updateContainer(job.root, job.id, validateResources(job.resources).value!, { warn });
      return {};
    }
  }
}

function say(answer: Answer): void {
  writeAll(APART_FDS.answers, bytesOf(`${JSON.stringify(answer)}\n`));
}

function logOf(debugging: boolean): Log {
  return {
    debugging,
    debug(message) {
      if (debugging) say({ log: "debug", message });
    },
    warn: (message) => say({ log: "warn", message }),
    error: (message) => say({ log: "error", message }),
  };
}
