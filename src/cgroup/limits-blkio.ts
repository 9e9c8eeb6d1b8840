/** linux.resources.blockIO: weights and throttles of block devices, in cgroup v1 (blkio) and v2 (io). */
import type { OpOptions, Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import type { LinuxBlockIO, LinuxThrottleDevice } from "../oci/config.ts";
import { ioWeight } from "./convert.ts";
import { isUnset, writeValue } from "./write.ts";

const BLOCK_IO = "linux.resources.blockIO";
/** The scheduler BFQ and the older CFQ (v1) or iocost (v2) have files of their own; which of them a kernel has varies. */
const WEIGHT_HINT =
  "weights need the scheduler bfq (/sys/block/*/queue/scheduler) or, with cgroup v2, iocost";
const THROTTLE_HINT = "the device must exist (ls -l /dev) and be a whole disk or a partition of this host";

/** Fields of config.json, the files of v1 and the keys of io.max in v2. */
const THROTTLES = [
  ["throttleReadBpsDevice", "read_bps_device", "rbps"],
  ["throttleWriteBpsDevice", "write_bps_device", "wbps"],
  ["throttleReadIOPSDevice", "read_iops_device", "riops"],
  ["throttleWriteIOPSDevice", "write_iops_device", "wiops"],
] as const;

/** Writes to the first of two files, or where there is none, to the second. */
function writeEither(
  part: Part,
  first: readonly [string, string],
  second: readonly [string, string],
  options: OpOptions,
) {
  writeValue(part, first[0], first[1], { okSkip: 1, tolerate: [[abi.ENOENT, 0]], ...options });
  writeValue(part, second[0], second[1], options);
}

/** Calls back for each limit of bandwidth or operations. */
function eachThrottle(
  part: Part,
  blockIO: LinuxBlockIO,
  write: (device: LinuxThrottleDevice, file: string, key: string) => void,
): void {
  for (const [field, file, key] of THROTTLES) {
    const devices = blockIO[field] ?? [];
    for (let i = 0; i < devices.length; i++) {
      part.at("cgroup", `${BLOCK_IO}.${field}[${i}]`);
      write(devices[i]!, file, key);
    }
  }
}

/**
 * What cgroup v1 is told.
 * @param dirOf the directory of the blkio controller, asked for with the place in config.json when there is a limit
 */
export function blockIoV1(part: Part, blockIO: LinuxBlockIO, dirOf: (path: string) => string): void {
  const { weight, leafWeight, weightDevice = [] } = blockIO;
  const options = { hint: WEIGHT_HINT };
  const file = (name: string) => `${dirOf(part.path)}/blkio.${name}`;
  if (!isUnset(weight)) {
    part.at("cgroup", `${BLOCK_IO}.weight`);
    writeEither(part, [file("weight"), String(weight)], [file("bfq.weight"), String(weight)], options);
  }
  if (!isUnset(leafWeight)) {
    part.at("cgroup", `${BLOCK_IO}.leafWeight`);
    writeValue(part, file("leaf_weight"), String(leafWeight), options);
  }
  for (let i = 0; i < weightDevice.length; i++) {
    const { major, minor, weight, leafWeight } = weightDevice[i]!;
    part.at("cgroup", `${BLOCK_IO}.weightDevice[${i}]`);
    if (!isUnset(weight)) {
      const value = `${major}:${minor} ${weight}`;
      writeEither(part, [file("weight_device"), value], [file("bfq.weight_device"), value], options);
    }
    if (!isUnset(leafWeight))
      writeValue(part, file("leaf_weight_device"), `${major}:${minor} ${leafWeight}`, options);
  }
  eachThrottle(part, blockIO, ({ major, minor, rate }, name) => {
    writeValue(part, file(`throttle.${name}`), `${major}:${minor} ${rate}`, { hint: THROTTLE_HINT });
  });
}

/**
 * What cgroup v2 is told. A leaf weight has no counterpart there.
 * @param fileOf the path of a file of the io controller, asked for with the place in config.json
 */
export function blockIoV2(
  part: Part,
  blockIO: LinuxBlockIO,
  fileOf: (name: string, path: string) => string,
): void {
  const { weight, weightDevice = [] } = blockIO;
  const file = (name: string) => fileOf(name, part.path);
  const write = (device: string, weight: number) => {
    const bfq = `${device}${weight}`;
    const other = `${device}${ioWeight(weight)}`;
    writeEither(part, [file("io.bfq.weight"), bfq], [file("io.weight"), other], { hint: WEIGHT_HINT });
  };
  if (!isUnset(weight)) {
    part.at("cgroup", `${BLOCK_IO}.weight`);
    write("", weight);
  }
  for (let i = 0; i < weightDevice.length; i++) {
    const { major, minor, weight } = weightDevice[i]!;
    part.at("cgroup", `${BLOCK_IO}.weightDevice[${i}]`);
    if (!isUnset(weight)) write(`${major}:${minor} `, weight);
  }
  eachThrottle(part, blockIO, ({ major, minor, rate }, _, key) => {
    // 0, with which v1 lifts a limit, is no limit io.max would take.
    const value = `${major}:${minor} ${key}=${isUnset(rate) ? "max" : rate}`;
    writeValue(part, file("io.max"), value, { hint: THROTTLE_HINT });
  });
}

/** Whether anything of it is set, so that the controller is needed. */
export function limitsBlockIo(blockIO: LinuxBlockIO | undefined): boolean {
  if (!blockIO) return false;
  for (const name in blockIO) {
    const value = blockIO[name as keyof LinuxBlockIO];
    if (typeof value === "object" ? value.length > 0 : !isUnset(value)) return true;
  }
  return false;
}
