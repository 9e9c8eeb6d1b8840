/**
 * Checks of a config.json beyond its shape: the MUSTs of the runtime-spec and what the kernel or runc would refuse,
 * as far as the document alone tells. Each looks only at parts the schema found sound, so all problems show at once.
 */
import type { Hook, Hooks, Spec } from "../oci/config.ts";
import { shown } from "../oci/path.ts";
import { checkLinux } from "./check-linux.ts";
import { checkMounts } from "./check-mounts.ts";
import { checkEnvironment, checkProcess } from "./check-process.ts";
import { type Findings, lacks, type Namespaces, problem, sound, warning } from "./findings.ts";

/** Checks a whole config.json; parts that `out` calls misshapen may hold anything. */
export function checkSpec(spec: Spec, out: Findings): void {
  const namespaces: Namespaces = sound(out, "linux.namespaces") ? (spec.linux?.namespaces ?? []) : undefined;
  if (sound(out, "ociVersion")) checkVersion(spec.ociVersion, out);
  if (spec.process === undefined) problem(out, "process", "process property must not be empty");
  else if (isOpen(spec.process)) checkProcess(spec.process, out, "process.");
  if (spec.root === undefined) problem(out, "root", "root must be specified");
  else if (sound(out, "root.path") && spec.root.path === "") problem(out, "root.path", "must not be empty");
  if (spec.hostname) checkName("hostname", spec.hostname, namespaces, out);
  if (spec.domainname) checkName("domainname", spec.domainname, namespaces, out);
  if (spec.mounts && Array.isArray(spec.mounts)) checkMounts(spec.mounts, namespaces, out);
  if (spec.hooks && isOpen(spec.hooks)) checkHooks(spec.hooks, out);
  if (spec.annotations && sound(out, "annotations") && Object.hasOwn(spec.annotations, "")) {
    warning(out, "annotations", "a key is empty");
  }
  if (spec.linux && isOpen(spec.linux)) checkLinux(spec, namespaces, out);
}

/** Whether a part is an object, so that the fields of it which are sound can be looked at. */
function isOpen(part: unknown): boolean {
  return typeof part === "object" && part !== null && !Array.isArray(part);
}

/** The version this runtime implements. */
const MAJOR = 1;
const MINOR = 3;

function checkVersion(version: string, out: Findings): void {
  const [major, minor, patch] = version.split(".");
  // x.y.z with or without a suffix; anything else is worth a RegExp, the first of which costs 50 us.
  const plain = Number(major) >= 0 && Number(minor) >= 0 && Number(patch?.[0]) >= 0;
  if (!plain && !/^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([-+][0-9A-Za-z.+-]+)?$/.test(version)) {
    warning(out, "ociVersion", `${shown(version)} is not a version like "1.3.0" (SemVer 2.0.0)`);
  } else if (Number(major) > MAJOR) {
    problem(out, "ociVersion", `${shown(version)} is not supported; this runtime implements 1.3.0`);
  } else if (Number(major) === MAJOR && Number(minor) > MINOR) {
    warning(out, "ociVersion", `${shown(version)} is newer than 1.3.0, which this runtime implements`);
  }
}

/** __NEW_UTS_LEN: what sethostname(2) and setdomainname(2) take. */
const LONGEST_NAME = 64;

function checkName(
  field: "hostname" | "domainname",
  name: string,
  namespaces: Namespaces,
  out: Findings,
): void {
  if (!sound(out, field)) return;
  if (lacks(namespaces, "uts")) problem(out, field, `unable to set ${field} without a private UTS namespace`);
  // A UTF-16 unit is three bytes at most; encoding is for those it can matter to.
  if (name.length * 3 > LONGEST_NAME && new TextEncoder().encode(name).length > LONGEST_NAME) {
    problem(out, field, `must not be longer than ${LONGEST_NAME} bytes`);
  }
}

const HOOKS = [
  "prestart",
  "createRuntime",
  "createContainer",
  "startContainer",
  "poststart",
  "poststop",
] as const;

function checkHooks(hooks: Hooks, out: Findings): void {
  for (const kind of HOOKS) {
    const list: readonly Hook[] | undefined = hooks[kind];
    if (!Array.isArray(list)) continue;
    for (let i = 0; i < list.length; i++) {
      const path = `hooks.${kind}[${i}]`;
      if (!sound(out, path)) continue;
      const hook = list[i]!;
      if (hook.path[0] !== "/")
        problem(out, `${path}.path`, `must be an absolute path, not ${shown(hook.path)}`);
      if (hook.env) checkEnvironment(hook.env, out, `${path}.env`);
    }
  }
}
