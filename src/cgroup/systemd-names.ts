/** Names of units and slices, and where systemd puts their cgroups: pure. */
import type { Spec } from "../oci/config.ts";
import { configError } from "./write.ts";

const PATH = "linux.cgroupsPath";
const SLICE = ".slice";
/** systemd's UNIT_NAME_MAX, without the NUL. */
const NAME_MAX = 255;

/** Where a container goes. */
export interface UnitNames {
  /** As on the bus: "system.slice". */
  slice: string;
  /** "prefix-name.scope", or a slice. */
  unit: string;
  /** The name without prefix and suffix, for people. */
  name: string;
  /** Path of the slice below the manager's own cgroup, "/a.slice/a-b.slice"; "" for the root. */
  slicePath: string;
  /** A cgroup in the unit's that the container gets, "" for none (crun's annotation). */
  subgroup: string;
}

/**
 * Reads "slice:prefix:name".
 *
 * @param user the manager is a user's
 * @throws BuncError in runc's words for another form, and for what systemd would refuse
 */
export function unitNames(spec: Spec, id: string, user: boolean): UnitNames {
  const path = spec.linux?.cgroupsPath || `:runc:${id}`;
  const parts = path.split(":");
  if (parts.length !== 3) {
    throw configError(
      `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got ${JSON.stringify(path)} instead`,
      PATH,
    );
  }
  const [parent, prefix, name] = parts as [string, string, string];
  const slice = parent === "-" ? "-.slice" : parent || (user ? "user.slice" : "system.slice");
  const unit = name.endsWith(SLICE) ? name : `${prefix}-${name}.scope`;
  if (!isUnitName(unit)) {
    const shown = unit.length > 80 ? `${unit.slice(0, 80)}...` : unit;
    throw configError(
      `invalid unit name: ${JSON.stringify(shown)}`,
      PATH,
      `letters, digits and :-_.\\@ are allowed, at most ${NAME_MAX}`,
    );
  }
  const slicePath = expandSlice(slice);
  if (unit.endsWith(SLICE)) expandSlice(unit);
  return { slice, unit, name, slicePath, subgroup: subgroupOf(spec) };
}

function isUnitName(unit: string): boolean {
  return unit.length <= NAME_MAX && /^[A-Za-z0-9:_.\\@-]+$/.test(unit);
}

/**
 * The path of a slice: "a-b.slice" lies in "a.slice".
 *
 * @throws BuncError "invalid slice name: ..."
 */
export function expandSlice(slice: string): string {
  const invalid = () =>
    configError(`invalid slice name: ${slice}`, PATH, 'such as "system.slice" or "machine-pods.slice"');
  if (!slice.endsWith(SLICE) || !isUnitName(slice)) throw invalid();
  const stem = slice.slice(0, -SLICE.length);
  if (stem === "-") return "";
  let path = "";
  let prefix = "";
  for (const part of stem.split("-")) {
    if (part === "") throw invalid();
    prefix += prefix === "" ? part : `-${part}`;
    path += `/${prefix}${SLICE}`;
  }
  return path;
}

/** A slice as a unit does not lie in what `slice:` names, but where its own name says. */
export function unitPath({ unit, slicePath, subgroup }: UnitNames): string {
  const path = unit.endsWith(SLICE) ? expandSlice(unit) : `${slicePath}/${unit}`;
  return subgroup ? `${path}/${subgroup}` : path;
}

const SUBGROUP = "run.oci.systemd.subgroup";

function subgroupOf(spec: Spec): string {
  const name = spec.annotations?.[SUBGROUP] ?? "";
  if (name === "" || (!name.includes("/") && name !== "." && name !== ".." && name.length <= NAME_MAX))
    return name;
  throw configError(
    `annotation ${SUBGROUP} must be the name of one directory, not ${JSON.stringify(name)}`,
    "annotations",
  );
}

/** The unit that a container's cgroups belong to, from their paths in a state.json; undefined for none. */
export function unitOfPath(path: string): string | undefined {
  const parts = path.split("/");
  for (let i = parts.length - 1; i >= 0; i--) {
    if (parts[i]!.endsWith(".scope") || parts[i]!.endsWith(SLICE)) return parts[i];
  }
  return undefined;
}
