/** `-info` and `-v`: what this runtime is and can do, for containerd's introspection and for CRI. */
import { buncVersion } from "../../cli/version.ts";
import { runtimeFeatures } from "../../container/features.ts";
import { bytesOf } from "../../linux/lib.ts";
import { readAny, writeRuntimeInfo } from "../proto/bootstrap.gen.ts";
import { decode, encode } from "../proto/codec.ts";
import { isOptions } from "./bootstrap.ts";
import { readInput } from "./input.ts";

const FEATURES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/**
 * The answer to `-info`: containerd.types.RuntimeInfo.
 * @throws BuncError when stdin cannot be read
 */
export async function runtimeInfo(): Promise<Uint8Array> {
  const stdin = readInput();
  const options = stdin.length > 0 ? attempt(() => decode(readAny, stdin)) : undefined;
  const features = await runtimeFeatures();
  return encode(writeRuntimeInfo, {
    name: "io.containerd.bunc.v2",
    version: { version: buncVersion(), revision: "" },
    options: isOptions(options) ? options : undefined,
    features: { type_url: FEATURES_TYPE, value: bytesOf(JSON.stringify(features)) },
    annotations: {},
  });
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The lines of `-v`, as containerd's pkg/shim prints them. */
export function versionLines(name: string): string {
  return `${name}:\n  Version:  ${buncVersion()}\n  Bun version: ${Bun.version}\n\n`;
}
