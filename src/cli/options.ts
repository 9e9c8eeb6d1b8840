/** The global options: where container state lives, and what the rest is read into. */
import { BuncError } from "../errors.ts";
import type { GLOBAL_FLAGS } from "./flags.ts";
import { absolutePath, baseName, quote } from "./go.ts";
import type { Host } from "./host.ts";
import type { GlobalOptions, Parsed } from "./types.ts";

/** The directory for state when neither --root nor $XDG_RUNTIME_DIR says otherwise. */
export function defaultRoot(argv0: string): string {
  return `/run/${programDirectory(argv0)}`;
}

/** Started under the name runc, bunc shares runc's state directory; under any other name it has its own. */
function programDirectory(argv0: string): string {
  return baseName(argv0) === "runc" ? "runc" : "bunc";
}

/**
 * Checks the global options and settles the root.
 * @throws BuncError for a root that is "/" or empty, or an XDG directory that cannot be made
 */
export function globalOptions(argv0: string, parsed: Parsed<typeof GLOBAL_FLAGS>, host: Host): GlobalOptions {
  const rootIsDefault = !parsed.given.has("root");
  return {
    root: rootIsDefault ? implicitRoot(argv0, host) : explicitRoot(parsed.values.root),
    rootIsDefault,
    ...cgroupManager(parsed),
    rootless: parsed.values.rootless,
  };
}

/** crun's flag wins over runc's, and is as strict about its value. */
function cgroupManager({ values, given }: Parsed<typeof GLOBAL_FLAGS>) {
  const manager = values["cgroup-manager"];
  if (!given.has("cgroup-manager")) return { systemdCgroup: values["systemd-cgroup"], noCgroup: false };
  if (manager !== "cgroupfs" && manager !== "systemd" && manager !== "disabled") {
    throw new BuncError(`invalid --cgroup-manager value ${quote(manager)}`, {
      code: "usage",
      hint: "it is cgroupfs, systemd or disabled",
    });
  }
  return { systemdCgroup: manager === "systemd", noCgroup: manager === "disabled" };
}

function explicitRoot(value: string): string {
  // runc takes "" for the current directory, where `delete --force ID` would then remove the directory ID.
  if (value === "") throw new BuncError("Option --root argument should not be empty", { code: "usage" });
  const root = absolutePath(value);
  if (root === "/") throw new BuncError("Option --root argument should not be set to /", { code: "usage" });
  return root;
}

function implicitRoot(argv0: string, host: Host): string {
  if (!honoursXdg(host)) return defaultRoot(argv0);
  const runtimeDirectory = host.variable("XDG_RUNTIME_DIR");
  if (!runtimeDirectory) return defaultRoot(argv0);
  const root = absolutePath(`${runtimeDirectory}/${programDirectory(argv0)}`);
  try {
    host.makeDirectories(root, 0o700);
    // The XDG specification: files without the sticky bit may be pruned after six hours.
    host.changeMode(root, 0o1700);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    const hint = "$XDG_RUNTIME_DIR must name a directory the user may write to";
    throw new BuncError(error.message, { ...error.fields, hint });
  }
  return root;
}

/**
 * Root outside user namespaces ignores $XDG_RUNTIME_DIR, as runc does for compatibility; in a user namespace it
 * counts unless $USER says that this is meant to be root.
 */
function honoursXdg(host: Host): boolean {
  if (host.effectiveUid() !== 0) return true;
  return host.inUserNamespace() && host.variable("USER") !== "root";
}
