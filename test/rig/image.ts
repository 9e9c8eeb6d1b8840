// An image of one layer as a client imports it: an archive of an OCI image layout (image-spec, image-layout.md), which is
// also what `docker save` writes.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { output } from "./rootfs.ts";

/**
 * Makes the archive in an empty directory.
 * @param rootfs what the layer holds
 * @param name the image's, for the client
 * @param command what is run when nothing else is said
 * @returns its path
 */
export function makeImage(build: string, rootfs: string, name: string, command = ["sh"]): string {
  const layerFile = join(build, "layer.tar");
  output(["tar", "-C", rootfs, "-cf", layerFile, "."]);
  const blobs = join(build, "image/blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const put = (bytes: Uint8Array | string) => {
    const digest = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, digest), bytes);
    return { digest: `sha256:${digest}`, size: Buffer.byteLength(bytes) };
  };
  const type = (kind: string) => `application/vnd.oci.image.${kind}`;
  const layer = put(readFileSync(layerFile));
  const config = put(
    JSON.stringify({
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: { Env: ["PATH=/bin"], Cmd: command },
      rootfs: { type: "layers", diff_ids: [layer.digest] },
      history: [{ created_by: "the tests" }],
    }),
  );
  const manifest = put(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: type("manifest.v1+json"),
      config: { mediaType: type("config.v1+json"), ...config },
      layers: [{ mediaType: type("layer.v1.tar"), ...layer }],
    }),
  );
  const annotations = { "io.containerd.image.name": name };
  const index = {
    schemaVersion: 2,
    manifests: [{ mediaType: type("manifest.v1+json"), ...manifest, annotations }],
  };
  writeFileSync(join(build, "image/index.json"), JSON.stringify(index));
  writeFileSync(join(build, "image/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const blob = ({ digest }: { digest: string }) => `blobs/${digest.replace(":", "/")}`;
  const saved = [{ Config: blob(config), RepoTags: [name], Layers: [blob(layer)] }];
  writeFileSync(join(build, "image/manifest.json"), JSON.stringify(saved));
  const archive = join(build, "image.tar");
  output(["tar", "-C", join(build, "image"), "-cf", archive, "."]);
  return archive;
}
