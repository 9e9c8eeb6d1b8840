/** How paths below the container's root are opened. */
import { abi } from "../linux/abi.gen.ts";
import { Struct } from "./program.ts";

/** struct open_how of openat2(2), for a path below the container's root. */
export function openHow(flags: number, resolve = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS): Struct {
  return new Struct(24, "open_how").u64(0, flags | abi.O_CLOEXEC).u64(16, resolve);
}
