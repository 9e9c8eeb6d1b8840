/** `spec`: write a config.json to begin with. No container is started here, so node:fs is fine. */
import { statfsSync } from "node:fs";
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError, writeNew } from "../linux/file.ts";
import { defaultSpec, formatSpec, rootlessSpec } from "../oci/spec-default.ts";
import type { CommandContext } from "./types.ts";

/** CGROUP2_SUPER_MAGIC of linux/magic.h. */
const CGROUP2 = 0x63677270;

/** Whether the unified hierarchy is mounted where runc looks for it; no if there is nothing. */
function isCgroup2(): boolean {
  try {
    return statfsSync("/sys/fs/cgroup").type === CGROUP2;
  } catch {
    return false;
  }
}

export async function command({ flags }: CommandContext<"spec">): Promise<number> {
  const spec = flags.rootless
    ? rootlessSpec(process.geteuid?.() ?? 0, process.getegid?.() ?? 0, isCgroup2())
    : defaultSpec(isCgroup2());
  const path = flags.bundle ? `${flags.bundle}/config.json` : "config.json";
  const result = writeNew(path, formatSpec(spec), 0o666);
  if (result === -abi.EEXIST) {
    throw new BuncError("File config.json exists. Remove it first", { code: "exists" });
  }
  if (result < 0) throw pathError("open", path, result);
  return 0;
}
