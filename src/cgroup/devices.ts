/**
 * Which devices a container may use: linux.resources.devices and runc's own additions, brought to the form that both
 * cgroup v1 and the BPF filter of v2 take: a default and its exceptions. Rules are applied in order, as the devices
 * controller of v1 would; where that one silently ignores a rule, this is an error (runc's "emulator" does the same).
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxDeviceCgroup, Spec } from "../oci/config.ts";

/** Any number, as major or minor. */
export const ANY = -1;
const MAX_NUMBER = 0xffffffff;

/** Access as bits of the kernel's BPF_DEVCG_ACC_*. */
const READ = abi.BPF_DEVCG_ACC_READ;
const WRITE = abi.BPF_DEVCG_ACC_WRITE;
const MKNOD = abi.BPF_DEVCG_ACC_MKNOD;
export const ALL_ACCESS: number = READ | WRITE | MKNOD;

/** One exception from the default: a kind of device and the access that is decided the other way. */
export interface DeviceException {
  readonly type: "b" | "c";
  readonly major: number;
  readonly minor: number;
  readonly access: number;
}

/** What a container may do with devices. */
export interface DeviceFilter {
  /** What holds for a device that no exception names. */
  readonly allow: boolean;
  /** Sorted by major, minor and type. */
  readonly exceptions: readonly DeviceException[];
}

interface Rule {
  allow: boolean;
  type: "a" | "b" | "c";
  major: number;
  minor: number;
  access: number;
  /** Where in config.json it stands. */
  at: string;
}

type Default = readonly [type: "b" | "c", major: number, minor: number, access: number, path?: string];

/**
 * What runc allows every container besides the bundle's own rules (specconv.AllowedDevices): mknod of everything, the
 * standard devices, ptys and /dev/net/tun. Those with a path are left out when linux.devices has a node of that path.
 */
const defaults = (): readonly Default[] => [
  ["c", ANY, ANY, MKNOD],
  ["b", ANY, ANY, MKNOD],
  ["c", 1, 3, ALL_ACCESS, "/dev/null"],
  ["c", 1, 8, ALL_ACCESS, "/dev/random"],
  ["c", 1, 7, ALL_ACCESS, "/dev/full"],
  ["c", 5, 0, ALL_ACCESS, "/dev/tty"],
  ["c", 1, 5, ALL_ACCESS, "/dev/zero"],
  ["c", 1, 9, ALL_ACCESS, "/dev/urandom"],
  ["c", 136, ANY, ALL_ACCESS],
  ["c", 5, 2, ALL_ACCESS],
  ["c", 10, 200, ALL_ACCESS],
];

/**
 * The filter of a container. Without rules in the bundle everything but the defaults is denied.
 *
 * @throws BuncError for a rule that is malformed, or that would be a hole in a wildcard rule before it.
 */
export function deviceFilter(spec: Spec): DeviceFilter {
  const rules = spec.linux?.resources?.devices ?? [];
  const devices = spec.linux?.devices ?? [];
  if (devices.length === 0 && denyAll(rules)) return standard();
  const filter = new Emulator();
  for (let i = 0; i < rules.length; i++) filter.apply(readRule(rules[i]!, i));
  const replaced = new Set<string>();
  for (const device of devices) replaced.add(device.path);
  for (const [type, major, minor, access, path] of defaults()) {
    if (path !== undefined && replaced.has(path)) continue;
    filter.apply({ allow: true, type, major, minor, access, at: "linux.resources.devices" });
  }
  return { allow: filter.allowsAll, exceptions: filter.sorted() };
}

/** Whether the rules say only what holds without any; that is how most bundles begin, and many end there. */
function denyAll(rules: readonly LinuxDeviceCgroup[]): boolean {
  for (const { allow, type, access } of rules) {
    if (allow || access !== "rwm" || (type !== undefined && type !== "a")) return false;
  }
  return true;
}

/** "c 1:3 rwm", the form of devices.allow and devices.deny. */
export function ruleText(rule: DeviceException): string {
  const { type, major, minor, access } = rule;
  const letters = (access & READ ? "r" : "") + (access & WRITE ? "w" : "") + (access & MKNOD ? "m" : "");
  return `${type} ${major === ANY ? "*" : major}:${minor === ANY ? "*" : minor} ${letters}`;
}

/** The defaults alone, as the emulator would leave them: worked out here to spare that work at each start. */
const standard = (): DeviceFilter => ({
  allow: false,
  exceptions: [
    { type: "b", major: ANY, minor: ANY, access: MKNOD },
    { type: "c", major: ANY, minor: ANY, access: MKNOD },
    { type: "c", major: 1, minor: 3, access: ALL_ACCESS },
    { type: "c", major: 1, minor: 5, access: ALL_ACCESS },
    { type: "c", major: 1, minor: 7, access: ALL_ACCESS },
    { type: "c", major: 1, minor: 8, access: ALL_ACCESS },
    { type: "c", major: 1, minor: 9, access: ALL_ACCESS },
    { type: "c", major: 5, minor: 0, access: ALL_ACCESS },
    { type: "c", major: 5, minor: 2, access: ALL_ACCESS },
    { type: "c", major: 10, minor: 200, access: ALL_ACCESS },
    { type: "c", major: 136, minor: ANY, access: ALL_ACCESS },
  ],
});

function readRule(rule: LinuxDeviceCgroup, index: number): Rule {
  const at = `linux.resources.devices[${index}]`;
  const type = rule.type || "a";
  if (type !== "a" && type !== "b" && type !== "c") {
    throw wrong(`invalid cgroup device type ${JSON.stringify(type)}; one of a, b, c`, `${at}.type`);
  }
  const words = rule.access ?? "";
  if (words === "") throw wrong(`device access at ${index} field cannot be empty`, `${at}.access`);
  let access = 0;
  for (const letter of words) {
    // As in runc, other letters have no meaning.
    access |= letter === "r" ? READ : letter === "w" ? WRITE : letter === "m" ? MKNOD : 0;
  }
  if (access === 0)
    throw wrong(`unknown device access ${JSON.stringify(words)}; letters of "rwm"`, `${at}.access`);
  const major = readNumber(rule.major, `${at}.major`);
  const minor = readNumber(rule.minor, `${at}.minor`);
  return { allow: rule.allow, type, major, minor, access, at };
}

function readNumber(value: number | bigint | undefined, at: string): number {
  if (value === undefined) return ANY;
  const number = Number(value);
  if (number < ANY || number > MAX_NUMBER) {
    throw wrong(`invalid device number ${value}; 0 to ${MAX_NUMBER}, or -1 for any`, at);
  }
  return number;
}

function wrong(message: string, path: string): BuncError {
  return new BuncError(message, { code: "config", phase: "cgroup", path });
}

/** The devices controller of cgroup v1, as far as the order of rules matters. */
class Emulator {
  allowsAll = false;
  private readonly exceptions = new Map<string, DeviceException>();

  apply(rule: Rule): void {
    if (rule.type === "a") {
      // A rule for all devices sets the default, whatever numbers and access it names.
      this.allowsAll = rule.allow;
      this.exceptions.clear();
    } else if (rule.allow === this.allowsAll) {
      this.remove(rule, rule.type);
    } else {
      const key = keyOf(rule.type, rule.major, rule.minor);
      const access = rule.access | (this.exceptions.get(key)?.access ?? 0);
      this.exceptions.set(key, { type: rule.type, major: rule.major, minor: rule.minor, access });
    }
  }

  private remove(rule: Rule, type: "b" | "c"): void {
    const key = keyOf(type, rule.major, rule.minor);
    for (const wider of [keyOf(type, ANY, rule.minor), keyOf(type, rule.major, ANY), keyOf(type, ANY, ANY)]) {
      const exception = wider === key ? undefined : this.exceptions.get(wider);
      if (!exception || !(exception.access & rule.access)) continue;
      const word = rule.allow ? "deny" : "allow";
      throw wrong(
        `unable to remove '${word}' exception: cannot punch hole in existing wildcard rule "${ruleText(exception)}" ` +
          `with "${ruleText({ ...rule, type })}"`,
        rule.at,
      );
    }
    const exact = this.exceptions.get(key);
    if (!exact) return;
    const access = exact.access & ~rule.access;
    if (access) this.exceptions.set(key, { ...exact, access });
    else this.exceptions.delete(key);
  }

  sorted(): DeviceException[] {
    return [...this.exceptions.values()].sort(
      (a, b) => a.major - b.major || a.minor - b.minor || (a.type < b.type ? -1 : 1),
    );
  }
}

function keyOf(type: string, major: number, minor: number): string {
  return `${type} ${major}:${minor}`;
}
