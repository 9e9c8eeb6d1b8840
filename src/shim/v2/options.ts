/**
 * The options that containerd gives the shim, in either of their forms: containerd.runc.v1.Options, and the table of its
 * configuration as text (runtimeoptions.v1.Options), which is what CRI makes of it for every runtime but runc's own shim.
 */
import { BuncError } from "../../errors.ts";
import { text } from "../../linux/lib.ts";
import type { Any } from "../proto/bootstrap.gen.ts";
import { decode } from "../proto/codec.ts";
import { type Options, readOptions, readTableOptions } from "../proto/task.gen.ts";
import { isRuncs, isTable } from "./bootstrap.ts";

/**
 * The options; `systemd_cgroup` is undefined where nobody has said it. In a message of runc's type false is nothing said:
 * containerd makes one by itself to tell the owner of the streams of a pod with a user namespace.
 */
export type ShimOptions = Omit<Options, "systemd_cgroup"> & { systemd_cgroup: boolean | undefined };

/** The names of the table, which containerd compares without regard to case. */
const FIELDS: Readonly<Record<string, keyof Options>> = {
  nopivotroot: "no_pivot_root",
  nonewkeyring: "no_new_keyring",
  shimcgroup: "shim_cgroup",
  iouid: "io_uid",
  iogid: "io_gid",
  binaryname: "binary_name",
  root: "root",
  criupath: "criu_path",
  systemdcgroup: "systemd_cgroup",
  criuimagepath: "criu_image_path",
  criuworkpath: "criu_work_path",
};
/** What else may be in the table: it says where the table is. */
const OF_THE_TABLE = ["typeurl", "configpath", "configbody"];
const KINDS: Readonly<Record<string, string>> = {
  boolean: "true or false",
  number: "a number from 0 to 4294967295",
  string: "a string",
};
const HINT = "see the runtime's table of options in containerd's configuration";
const NOTHING = new Uint8Array(0);
/** Longer files are no options. */
const FILE_MAX = 1 << 20;

/**
 * Reads the options; all defaults where there are none.
 * @param warn is told of what is not known
 * @throws BuncError for a table that is no TOML or has a value of the wrong type, and for a file that cannot be read
 */
export async function readShimOptions(
  any: Any | undefined,
  warn: (message: string) => void = () => {},
): Promise<ShimOptions> {
  if (any && isRuncs(any)) {
    const options = decode(readOptions, any.value ?? NOTHING);
    return { ...options, systemd_cgroup: options.systemd_cgroup || undefined };
  }
  const defaults = decode(readOptions, NOTHING);
  const unsaid = { ...defaults, systemd_cgroup: undefined };
  if (!any?.value || !isTable(any)) return unsaid;
  const { config_path, config_body } = decode(readTableOptions, any.value);
  const table = config_path ? await readFile(config_path) : text(config_body ?? NOTHING);
  return { ...unsaid, ...said(parse(table, config_path || "config_body"), defaults, warn) };
}

async function readFile(path: string): Promise<string> {
  const { pathError, readText } = await import("../../linux/file.ts");
  const content = readText(path, FILE_MAX);
  if (typeof content === "number") throw pathError("read", path, content);
  return content;
}

function parse(table: string, where: string): object {
  try {
    return Bun.TOML.parse(table);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new BuncError(`${where} is not TOML: ${message}`, { code: "usage", hint: HINT });
  }
}

/** The fields that a table has, checked against the types of the defaults. */
function said(table: object, defaults: Options, warn: (message: string) => void): Partial<Options> {
  const fields: Partial<Options> = {};
  for (const [name, value] of Object.entries(table)) {
    const key = name.toLowerCase();
    const field = Object.hasOwn(FIELDS, key) ? FIELDS[key]! : undefined;
    if (!field) {
      if (!OF_THE_TABLE.includes(key))
        warn(`option ${JSON.stringify(name)} is not known and ignored (${HINT})`);
      continue;
    }
    const kind = typeof defaults[field];
    if (typeof value !== kind || (kind === "number" && value >>> 0 !== value)) {
      throw new BuncError(`${name} must be ${KINDS[kind]}`, { code: "usage", hint: HINT });
    }
    Object.assign(fields, { [field]: value });
  }
  return fields;
}
