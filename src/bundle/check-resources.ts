/** Checks of `linux.resources` that need only the document (runtime-spec config-linux.md "Control groups"). */
import type {
  Integer,
  LinuxBlockIO,
  LinuxCPU,
  LinuxDeviceCgroup,
  LinuxMemory,
  LinuxResources,
} from "../oci/config.ts";
import { joinPath, shown } from "../oci/path.ts";
import { type Findings, problem, warning } from "./findings.ts";
import { countNumbers } from "./number-list.ts";

/**
 * Checks the resources.
 * @param at what the paths begin with: "linux.resources." in a config.json, "" in a file of its own
 */
export function checkResources(resources: LinuxResources, out: Findings, at: string): void {
  if (resources.devices) checkDeviceRules(resources.devices, out, `${at}devices`);
  if (resources.memory) checkMemory(resources.memory, out, `${at}memory`);
  if (resources.cpu) checkCpu(resources.cpu, out, `${at}cpu`);
  if (resources.blockIO) checkBlockIO(resources.blockIO, out, `${at}blockIO`);
  resources.hugepageLimits?.forEach(({ pageSize }, i) => {
    if (/^[1-9][0-9]*[KMG]B$/.test(pageSize)) return;
    problem(
      out,
      `${at}hugepageLimits[${i}].pageSize`,
      `${shown(pageSize)} is not a size like "64KB", "2MB" or "1GB"`,
    );
  });
  resources.network?.priorities?.forEach(({ name }, i) => {
    if (name === "" || /\s/.test(name)) {
      problem(out, `${at}network.priorities[${i}].name`, `invalid network device name ${shown(name)}`);
    }
  });
  for (const device in resources.rdma) {
    const limits = resources.rdma[device]!;
    if (limits.hcaHandles === undefined && limits.hcaObjects === undefined) {
      problem(out, joinPath(`${at}rdma`, device), "needs hcaHandles or hcaObjects");
    }
  }
  for (const key in resources.unified) {
    const path = joinPath(`${at}unified`, key);
    if (key.includes("/"))
      problem(out, path, `unified resource ${shown(key)} must be a file name (no slashes)`);
    else if (!/^[^.]+\../.test(key)) {
      problem(out, path, `unified resource ${shown(key)} must be in the form CONTROLLER.PARAMETER`);
    }
  }
}

function checkDeviceRules(rules: readonly LinuxDeviceCgroup[], out: Findings, at: string): void {
  for (let i = 0; i < rules.length; i++) {
    const { type, access, major, minor } = rules[i]!;
    if (!access) problem(out, `${at}[${i}].access`, `device access at ${i} field cannot be empty`);
    else if (access !== "rwm" && !/^[rwm]+$/.test(access)) {
      // runc's own tests have "rwa": it looks for the letters it knows.
      warning(out, `${at}[${i}].access`, `ignoring what is not "r", "w" or "m" in ${shown(access)}`);
    }
    if (type && type !== "c" && type !== "b" && type !== "a") {
      problem(out, `${at}[${i}].type`, `invalid cgroup device type ${shown(type)}; one of a, c, b`);
    }
    checkNumber(major, out, `${at}[${i}].major`);
    checkNumber(minor, out, `${at}[${i}].minor`);
  }
}

/** -1 is runc's own way to say "any". */
function checkNumber(number: Integer | undefined, out: Findings, path: string): void {
  if (number !== undefined && (number < -1 || number > 4294967295)) {
    problem(out, path, `must be an integer from -1 (any) to 4294967295, not ${number}`);
  }
}

const LIMITS = ["limit", "reservation", "swap", "kernel", "kernelTCP"] as const;

function checkMemory(memory: LinuxMemory, out: Findings, at: string): void {
  for (const name of LIMITS) {
    const bytes = memory[name];
    if (bytes !== undefined && bytes < -1) {
      problem(out, `${at}.${name}`, `must be a number of bytes, or -1 for no limit, not ${bytes}`);
    }
  }
  const { limit = 0, swap = 0, swappiness } = memory;
  if (swap > 0 && limit >= 0) {
    if (Number(limit) === 0) problem(out, `${at}.swap`, "unable to set swap limit without memory limit");
    else if (swap < limit) problem(out, `${at}.swap`, "memory+swap limit should be >= memory limit");
  }
  // 2^64-1 is -1 as runc's command line writes it: not set.
  if (swappiness !== undefined && swappiness > 100 && swappiness !== 2n ** 64n - 1n) {
    problem(out, `${at}.swappiness`, `invalid memory swappiness value: ${swappiness} (valid range is 0-100)`);
  }
  for (const name of ["kernel", "kernelTCP"] as const) {
    if (memory[name] !== undefined) {
      warning(out, `${at}.${name}`, "Kernel memory settings are ignored and will be removed");
    }
  }
}

function checkCpu(cpu: LinuxCPU, out: Findings, at: string): void {
  const { burst = 0, quota = 0, idle = 0 } = cpu;
  if (quota > 0 && burst > quota) {
    problem(out, `${at}.burst`, `must be no larger than the quota ${quota}, not ${burst}`);
  }
  if (idle < 0 || idle > 1) problem(out, `${at}.idle`, `must be 0 or 1, not ${idle}`);
  for (const name of ["cpus", "mems"] as const) {
    const list = cpu[name];
    if (list && countNumbers(list) === undefined) {
      problem(out, `${at}.${name}`, `${shown(list)} is not a list like "0-3,7"`);
    }
  }
}

const THROTTLES = [
  "throttleReadBpsDevice",
  "throttleWriteBpsDevice",
  "throttleReadIOPSDevice",
  "throttleWriteIOPSDevice",
] as const;

function checkBlockIO(blockIO: LinuxBlockIO, out: Findings, at: string): void {
  checkWeights(blockIO, out, at);
  blockIO.weightDevice?.forEach((device, i) => {
    const path = `${at}.weightDevice[${i}]`;
    if (device.weight === undefined && device.leafWeight === undefined) {
      problem(out, path, "needs weight or leafWeight");
    }
    checkWeights(device, out, path);
    checkBlockDevice(device, out, path);
  });
  for (const name of THROTTLES) {
    blockIO[name]?.forEach((device, i) => {
      checkBlockDevice(device, out, `${at}.${name}[${i}]`);
    });
  }
}

/** The range of the blkio controller; 0 is "not set". */
function checkWeights(
  weights: { weight?: number | undefined; leafWeight?: number | undefined },
  out: Findings,
  at: string,
): void {
  for (const name of ["weight", "leafWeight"] as const) {
    const weight = weights[name] ?? 0;
    if (weight !== 0 && (weight < 10 || weight > 1000)) {
      problem(out, `${at}.${name}`, `must be from 10 to 1000, or 0, not ${weight}`);
    }
  }
}

function checkBlockDevice(device: { major: Integer; minor: Integer }, out: Findings, at: string): void {
  for (const name of ["major", "minor"] as const) {
    if (device[name] < 0 || device[name] > 4294967295) {
      problem(out, `${at}.${name}`, `must be an integer from 0 to 4294967295, not ${device[name]}`);
    }
  }
}
