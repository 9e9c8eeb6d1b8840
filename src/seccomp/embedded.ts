/**
 * libbunc-seccomp.so inside the executable, as text. A module of its own because it cannot be imported before the
 * library is built; src/seccomp's tests open a library by its path instead.
 */
import image from "../../build/libbunc-seccomp.ts";
import { seccompBuildId } from "./build-id.macro.ts" with { type: "macro" };

/** The library's bytes. */
export function seccompImage(): Uint8Array {
  return Uint8Array.fromBase64(image());
}

/** Identifies this build's seccomp compiler: part of every key of the cache. */
export const SECCOMP_BUILD_ID: string = seccompBuildId();
