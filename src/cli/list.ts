/** `list`: the containers below --root, as a table, as JSON, or their ids only. */
import { listContainers } from "../container/list.ts";
import type { Listing } from "../container/types.ts";
import { BuncError } from "../errors.ts";
import { formatColumns, printable } from "./columns.ts";
import { goJson } from "./go.ts";
import { stateJson } from "./state-json.ts";
import type { CommandContext } from "./types.ts";

export const containers = { listContainers };

type ListContext = CommandContext<"list", "listContainers">;

const HEADER = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

export async function command(context: ListContext): Promise<number> {
  const { flags, output } = context;
  if (!flags.quiet && flags.format !== "table" && flags.format !== "json") {
    throw new BuncError("invalid format option", { code: "usage", hint: "it is table or json" });
  }
  const { containers, errors } = await listing(context);
  // A container that cannot be read must not hide the others.
  for (const line of errors) output.stderr(line);
  if (flags.quiet) {
    await output.stdout(containers.map(({ id }) => `${id}\n`).join(""));
  } else if (flags.format === "json") {
    // Go marshals a slice that was never appended to as null.
    await output.stdout(`${containers.length > 0 ? goJson(containers.map(stateJson)) : "null"}\n`);
  } else {
    const rows = containers.map((c) =>
      [c.id, String(c.pid), c.status, c.bundle, c.created, c.owner].map(printable),
    );
    await output.stdout(formatColumns([HEADER, ...rows], 12, 3));
  }
  return 0;
}

/** A default root that does not exist yet holds no containers; one that was asked for has to exist. */
async function listing({ containers, global }: ListContext): Promise<Listing> {
  try {
    return await containers.listContainers(global.root);
  } catch (error) {
    const absent = error instanceof BuncError && error.fields.errno === "ENOENT";
    if (!(absent && global.rootIsDefault)) throw error;
    return { containers: [], errors: [] };
  }
}
