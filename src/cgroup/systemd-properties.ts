/**
 * linux.resources as properties of a systemd unit (the table of runc's docs/systemd.md; systemd.resource-control(5)), pure.
 * What has no property is written to the cgroup file system alone; what has one is written there as well.
 */
import type { LinuxResources, Spec } from "../oci/config.ts";
import { cpuWeight, swapMax } from "./convert.ts";
import { ALL_ACCESS, ANY, type DeviceFilter, ruleText } from "./devices.ts";
import { parseGvariant } from "./gvariant.ts";
import { pidsMax } from "./resources.ts";
import type { Property } from "./systemd-bus.ts";
import type { UnitNames } from "./systemd-names.ts";
import { configError, isUnset } from "./write.ts";

const INFINITY = 0xffffffffffffffffn;
const DEFAULT_PERIOD = 100000n;

/** What the properties depend on besides the bundle. */
export interface PropertyHost {
  v2: boolean;
  /** Version of systemd, such as 252; asked for only where it matters, as it costs a call. */
  version: () => number;
}

/** Properties of a limit, in two lots: as `early` and `late` limits of the cgroup interface (cgroup.ts). */
export interface LimitProperties {
  early: Property[];
  late: Property[];
}

function uint(name: string, value: number | bigint): Property {
  return { name, type: "t", value: BigInt.asUintN(64, BigInt(value)) };
}

function flag(name: string, value: boolean): Property {
  return { name, type: "b", value: value ? 1 : 0 };
}

function text(name: string, value: string): Property {
  return { name, type: "s", value };
}

/**
 * What a unit is made with.
 *
 * @param pid the process that a scope begins with; a slice has none
 */
export function unitProperties(spec: Spec, names: UnitNames, pid: number, host: PropertyHost): Property[] {
  const { unit, slice, name } = names;
  const properties = [text("Description", `libcontainer container ${name}`)];
  if (unit.endsWith(".slice")) {
    properties.push({ name: "Wants", type: "as", value: [slice] });
  } else {
    properties.push(text("Slice", slice), flag("Delegate", true), { name: "PIDs", type: "au", value: [pid] });
  }
  for (const kind of ["Memory", "CPU", host.v2 ? "IO" : "BlockIO", "Tasks"]) {
    properties.push(flag(`${kind}Accounting`, true));
  }
  properties.push(flag("DefaultDependencies", false), ...annotationProperties(spec.annotations));
  // systemd lets nobody change this one later.
  const group = spec.linux?.resources?.unified?.["memory.oom.group"]?.trim();
  if (host.v2 && (group === "0" || group === "1") && host.version() >= 253) {
    properties.push(text("OOMPolicy", group === "1" ? "kill" : "continue"));
  }
  return properties;
}

const PREFIX = "org.systemd.property.";

/** Properties in annotations: values in GVariant's text format; a name in "Sec" becomes the one in "USec". */
export function annotationProperties(annotations: Record<string, string> = {}): Property[] {
  const properties: Property[] = [];
  for (const [key, source] of Object.entries(annotations)) {
    if (!key.startsWith(PREFIX)) continue;
    let name = key.slice(PREFIX.length);
    const path = `annotations[${JSON.stringify(key)}]`;
    if (!/^[A-Za-z]{3,}$/.test(name)) {
      const problem = name.length < 3 ? "too short" : "contains non-alphabetic character";
      throw configError(`annotation ${key} name incorrect: ${problem}`, path);
    }
    try {
      let { type, value } = parseGvariant(source);
      if (/[a-z]Sec$/.test(name)) {
        name = `${name.slice(0, -3)}USec`;
        value = microseconds(type, value);
        type = "t";
      }
      properties.push({ name, type, value });
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      throw configError(
        `annotation ${key}=${source} value parse error: ${problem}`,
        path,
        "the value is in GVariant text format, such as 'text', true, uint64 5 or ['a', 'b']",
      );
    }
  }
  return properties;
}

function microseconds(type: string, value: unknown): bigint {
  if (type === "d") return BigInt(Math.trunc((value as number) * 1e6));
  if (!"ynqiuxt".includes(type)) throw new Error("not a number");
  return BigInt.asUintN(64, BigInt(value as number) * 1000000n);
}

/**
 * systemd knows a quota in whole percents of a cpu: one in between is raised to the next, here too, so that what is written
 * to the cgroup is the same. Everything else stays.
 */
export function roundQuota(resources: LinuxResources): LinuxResources {
  const { cpu } = resources;
  if (!cpu || isUnset(cpu.quota) || cpu.quota < 0) return resources;
  const period = isUnset(cpu.period) ? DEFAULT_PERIOD : BigInt(cpu.period);
  const perSecond = quotaPerSecond(BigInt(cpu.quota), period);
  if ((BigInt(cpu.quota) * 1000000n) / period === perSecond) return resources;
  return { ...resources, cpu: { ...cpu, quota: Number((perSecond * period) / 1000000n) } };
}

/**
 * systemd makes a unit idle by the weight 0, and the kernel refuses another weight of an idle cgroup: of the two, idle is
 * kept (cgroup v2), with a warning in runc's words.
 */
export function dropIdleWeight(resources: LinuxResources, warn: (message: string) => void): LinuxResources {
  const { cpu, unified } = resources;
  const left = { ...resources };
  const unifiedIdle = unified?.["cpu.idle"]?.trim() === "1";
  const idle = unifiedIdle || (cpu?.idle !== undefined && Number(cpu.idle) === 1);
  if (idle && cpu && !isUnset(cpu.shares)) {
    warn("unable to apply both CPUWeight and CpuIdle to systemd, ignoring CPUWeight");
    const { shares: _, ...rest } = cpu;
    left.cpu = rest;
  }
  if (unifiedIdle && unified?.["cpu.weight"] !== undefined) {
    warn("unable to apply both cpu.weight and cpu.idle to systemd, ignoring cpu.weight");
    const { "cpu.weight": _, ...rest } = unified;
    left.unified = rest;
  }
  return left;
}

/** Microseconds of a cpu per second, a multiple of 10 ms. */
function quotaPerSecond(quota: bigint, period: bigint): bigint {
  const exact = (quota * 1000000n) / period;
  return ((exact + 9999n) / 10000n) * 10000n;
}

/**
 * The limits of a container.
 *
 * @param devices undefined where the devices are left alone
 * @throws BuncError with the path in config.json for a value that no property can have
 */
export function limitProperties(
  resources: LinuxResources,
  devices: DeviceFilter | undefined,
  host: PropertyHost,
): LimitProperties {
  const early = memoryProperties(resources, host.v2);
  const { cpu, pids, blockIO } = resources;
  early.push(...cpusetProperties(cpu?.cpus, cpu?.mems, host, "linux.resources.cpu"));
  const late = devices ? deviceProperties(devices, host) : [];
  const idle = host.v2 && cpu?.idle !== undefined && Number(cpu.idle) === 1 && host.version() >= 252;
  if (idle) late.push(uint("CPUWeight", 0));
  else if (!isUnset(cpu?.shares)) {
    late.push(host.v2 ? uint("CPUWeight", cpuWeight(cpu.shares)) : uint("CPUShares", cpu.shares));
  }
  late.push(...quotaProperties(cpu?.quota, cpu?.period, host));
  if (!host.v2 && !isUnset(blockIO?.weight)) late.push(uint("BlockIOWeight", blockIO.weight));
  if (pids?.limit !== undefined)
    late.push(uint("TasksMax", numberOrMax(pidsMax(pids.limit), "linux.resources.pids.limit")));
  if (host.v2) addUnified(resources.unified ?? {}, early, late, host);
  return { early, late };
}

function memoryProperties({ memory }: LinuxResources, v2: boolean): Property[] {
  const properties: Property[] = [];
  if (!memory) return properties;
  const { limit, reservation, swap } = memory;
  if (!isUnset(limit)) properties.push(uint(v2 ? "MemoryMax" : "MemoryLimit", limit));
  if (!v2) return properties;
  if (!isUnset(reservation)) properties.push(uint("MemoryLow", reservation));
  const swapValue = swapMax(swap, limit);
  if (swapValue !== undefined)
    properties.push(uint("MemorySwapMax", numberOrMax(swapValue, "linux.resources.memory.swap")));
  return properties;
}

function quotaProperties(
  quota: number | bigint | undefined,
  period: number | bigint | undefined,
  host: PropertyHost,
): Property[] {
  const properties: Property[] = [];
  if (!isUnset(period) && host.version() >= 242) properties.push(uint("CPUQuotaPeriodUSec", period));
  if (isUnset(quota) && isUnset(period)) return properties;
  const limited = !isUnset(quota) && quota > 0;
  const perSecond = limited
    ? quotaPerSecond(BigInt(quota), isUnset(period) ? DEFAULT_PERIOD : BigInt(period))
    : INFINITY;
  properties.push(uint("CPUQuotaPerSecUSec", perSecond));
  return properties;
}

function cpusetProperties(
  cpus: string | undefined,
  mems: string | undefined,
  host: PropertyHost,
  path: string,
): Property[] {
  const properties: Property[] = [];
  if ((!cpus && !mems) || host.version() < 244) return properties;
  if (cpus) properties.push({ name: "AllowedCPUs", type: "ay", value: listBits(cpus, `${path}.cpus`) });
  if (mems)
    properties.push({ name: "AllowedMemoryNodes", type: "ay", value: listBits(mems, `${path}.mems`) });
  return properties;
}

/** More cpus than a kernel can be built for. */
const LIST_MAX = 65536;

/**
 * "0-2,5" as a mask, the lowest first in each byte and byte by byte.
 *
 * @throws BuncError for what is no list, or an empty one
 */
export function listBits(list: string, path: string): number[] {
  const bytes: number[] = [];
  for (const item of list.split(",")) {
    const range = item.trim();
    if (range === "") continue;
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? [];
    const from = Number(first);
    const to = Number(last);
    if (first === undefined || from > to || to >= LIST_MAX) {
      throw configError(`${JSON.stringify(list)} is no list such as 0-3,7`, path);
    }
    for (let bit = from; bit <= to; bit++) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (1 << (bit & 7));
  }
  if (bytes.length === 0) throw configError(`${JSON.stringify(list)} is an empty list`, path);
  return Array.from(bytes, (byte) => byte ?? 0);
}

/**
 * DevicePolicy= and DeviceAllow=. systemd has lists of what is allowed alone, without "any major, this minor". Where a
 * filter needs more, bunc's own is the only one on v2; on v1, where systemd would write to the same list again when it is
 * reloaded, all is denied then, as in runc.
 */
function deviceProperties(filter: DeviceFilter, host: PropertyHost): Property[] {
  const none = { name: "DeviceAllow", type: "a(ss)", value: [] as [string, string][] };
  const simple = !filter.exceptions.some(({ major, minor }) => major === ANY && minor !== ANY);
  const allowsAll = filter.allow && filter.exceptions.length === 0;
  if (allowsAll || (host.v2 && (filter.allow || !simple))) return [none, text("DevicePolicy", "auto")];
  const properties = [none, text("DevicePolicy", "strict")];
  if (filter.allow) return properties;
  const list: [string, string][] = [];
  for (const exception of filter.exceptions) {
    const { type, major, minor, access } = exception;
    if (major === ANY && minor !== ANY) continue;
    const kind = type === "b" ? "block" : "char";
    const name =
      major === ANY ? `${kind}-*` : minor === ANY ? `${kind}-${major}` : `/dev/${kind}/${major}:${minor}`;
    list.push([name, access === ALL_ACCESS ? "rwm" : ruleText(exception).split(" ")[2]!]);
  }
  properties.push({ name: "DeviceAllow", type: "a(ss)", value: list });
  return properties;
}

/** Names of files in cgroup v2 whose values are bytes, with their properties. */
const BYTES: Readonly<Record<string, string>> = {
  "memory.high": "MemoryHigh",
  "memory.low": "MemoryLow",
  "memory.min": "MemoryMin",
  "memory.max": "MemoryMax",
  "memory.swap.max": "MemorySwapMax",
};

function addUnified(
  unified: Record<string, string>,
  early: Property[],
  late: Property[],
  host: PropertyHost,
): void {
  const idle = unified["cpu.idle"]?.trim() === "1" && host.version() >= 252;
  for (const [key, given] of Object.entries(unified)) {
    const path = `linux.resources.unified.${key}`;
    const value = given.trim();
    if (key.includes("/"))
      throw configError(`unified resource ${JSON.stringify(key)} must be a file name (no slashes)`, path);
    if (key.indexOf(".") <= 0) {
      throw configError(
        `unified resource ${JSON.stringify(key)} must be in the form CONTROLLER.PARAMETER`,
        path,
      );
    }
    if (BYTES[key]) early.push(uint(BYTES[key], numberOrMax(value, path)));
    else if (key === "cpuset.cpus") early.push(...cpusetProperties(value, undefined, host, path));
    else if (key === "cpuset.mems") early.push(...cpusetProperties(undefined, value, host, path));
    else if (key === "pids.max") {
      const limit = numberOrMax(value, path);
      late.push(uint("TasksMax", limit === 0n ? 1 : limit));
    } else if (key === "cpu.idle" && idle) late.push(uint("CPUWeight", 0));
    else if (key === "cpu.weight" && !idle) late.push(uint("CPUWeight", numberOrMax(value, path)));
    else if (key === "cpu.max") {
      const [quota, period, more] = value.split(/\s+/);
      if (!quota || more !== undefined)
        throw configError(
          `unified resource ${JSON.stringify(key)} value invalid: ${JSON.stringify(value)}`,
          path,
        );
      const limit = quota === "max" ? undefined : numberOrMax(quota, path);
      late.push(
        ...quotaProperties(limit, period === undefined ? DEFAULT_PERIOD : numberOrMax(period, path), host),
      );
    }
  }
}

function numberOrMax(value: string, path: string): bigint {
  if (value === "max") return INFINITY;
  if (/^\d{1,19}$/.test(value)) return BigInt(value);
  throw configError(`${JSON.stringify(value)} is neither a number nor "max"`, path);
}
