/** The config.json of a container that is there, or what is known of it without its bundle. */
import { loadBundle } from "../bundle/load.ts";
import { BuncError } from "../errors.ts";
import type { Spec } from "../oci/config.ts";
import { bundleIo } from "./bundle-io.ts";
import type { Summary } from "./state.ts";

/**
 * The container's config.json; if that cannot be read, what state.json holds of it (spec-of-state.ts).
 * @throws BuncError when neither can be read
 */
export async function containerSpec(root: string, { id, bundle, own }: Summary): Promise<Spec> {
  try {
    return loadBundle(bundle, bundleIo, own?.configFile, own?.configDigest).spec;
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    const spec = (await import("./spec-of-state.ts")).readSpec(root, id);
    if (spec) return spec;
    throw error;
  }
}
