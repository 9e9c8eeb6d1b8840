/** The flags that `checkpoint` and `restore` have in common. */
import type { CriuOptions } from "../criu/options.ts";
import { BuncError } from "../errors.ts";
import { absolutePath, quote } from "./go.ts";
import type { CommandContext } from "./types.ts";

type Flags = CommandContext<"checkpoint">["flags"] | CommandContext<"restore">["flags"];

/** @throws BuncError for a namespace that cannot be left empty */
export function criuOptions(flags: Flags): CriuOptions {
  for (const name of flags["empty-ns"]) {
    // A network namespace always is: what it has is not the runtime's.
    if (name !== "network") {
      throw new BuncError(`namespace ${quote(name)} is not supported`, {
        code: "usage",
        hint: "--empty-ns takes network",
      });
    }
  }
  const options: CriuOptions = {
    imagePath: absolutePath(flags["image-path"] || "checkpoint"),
    tcpEstablished: flags["tcp-established"],
    extUnixSk: flags["ext-unix-sk"],
    shellJob: flags["shell-job"],
    fileLocks: flags["file-locks"],
    autoDedup: flags["auto-dedup"],
    lazyPages: flags["lazy-pages"],
    manageCgroupsMode: flags["manage-cgroups-mode"],
  };
  if (flags["work-path"]) options.workPath = absolutePath(flags["work-path"]);
  return options;
}
