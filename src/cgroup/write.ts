/** Operations that write to files of cgroups, and the errors for what cannot be written. */
import { BuncError } from "../errors.ts";
import type { OpOptions, Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { bytesOf } from "../linux/lib.ts";

/** Makes an operation that writes a value to a file in one write, as files of cgroups want it. */
export function writeValue(part: Part, file: string, value: string, options?: OpOptions): void {
  const bytes = bytesOf(value);
  part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, file, abi.O_WRONLY | abi.O_CLOEXEC, bytes, bytes.length], {
    about: `failed to write ${JSON.stringify(value)} to ${file}`,
    ...options,
  });
}

/** An error of the bundle that concerns cgroups. */
export function configError(message: string, path: string, hint?: string): BuncError {
  return new BuncError(message, { code: "config", phase: "cgroup", path, ...(hint ? { hint } : {}) });
}

/** The bundle limits something that this host has no controller for; the first words are runc's. */
export function noController(controller: string, path: string, hint: string): BuncError {
  return new BuncError(`cannot set ${controller} limit: container could not join or create cgroup`, {
    code: "host",
    phase: "cgroup",
    path,
    hint,
  });
}

/** What a container without a cgroup would need: its user had no right to make one. */
export const NO_CGROUP =
  "the container has no cgroup; start it in a delegated one (systemd-run --user --scope -p Delegate=yes)";

/** Whether an integer of config.json is absent or 0, which mean the same wherever runc keeps it without a pointer. */
export function isUnset(value: number | bigint | undefined): value is undefined {
  return value === undefined || Number(value) === 0;
}
