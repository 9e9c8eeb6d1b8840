/** Times as protobuf has them. */
import { abi } from "../../linux/abi.gen.ts";
import { sys } from "../../linux/lib.ts";
import type { Timestamp } from "../proto/task.gen.ts";

/** The time now, to the nanosecond. */
export function now(): Timestamp {
  const time = new DataView(new ArrayBuffer(16));
  // CLOCK_REALTIME is 0.
  sys(abi.SYS_clock_gettime, 0, new Uint8Array(time.buffer));
  return {
    seconds: time.getUint32(0, true) + time.getUint32(4, true) * 0x100000000,
    nanos: time.getUint32(8, true),
  };
}
