/**
 * Where mounts come from and where they go, as paths and descriptors: destinations below the rootfs, and the sources of
 * bind mounts, which lie on the host or in the rootfs itself.
 */
import { abi } from "../linux/abi.gen.ts";
import type { Mount } from "../oci/config.ts";
import { type Context, type SentPart, Stage } from "./context.ts";
import { type MountFlags, parseMountOptions } from "./mount-options.ts";
import type { Field } from "./program.ts";
import { openHow } from "./resolve.ts";

/** A destination as an absolute path without "." and ".." and double slashes. */
export function cleanPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") out.pop();
    else out.push(part);
  }
  return `/${out.join("/")}`;
}

/** A destination below the rootfs. One that names the rootfs' own path on the host as well is taken as meant, as by runc. */
export function targetPath(c: Context, destination: string): string {
  const path = cleanPath(destination);
  return below(cleanPath(c.settings.rootfs), path) ?? path;
}

/** What of `path` is below `directory`, both clean; undefined when it is not below it. */
function below(directory: string, path: string): string | undefined {
  if (directory === "/" || !path.startsWith(directory)) return undefined;
  return path[directory.length] === "/" ? path.slice(directory.length) : undefined;
}

/** The source tree of a bind mount that the parent must open: name of the inherited descriptor. */
export function treeFd(index: number): string {
  return `mount:${index}`;
}

/**
 * Declares the descriptors of bind sources that init could not open itself: with a user namespace it may lack the
 * right to walk to them, and an idmapped mount can only be made by the parent. A parent without rights has nothing to
 * give: init, in its own mount namespace, then has more of them. A source in the rootfs may be an earlier mount of the
 * container, which only init sees.
 *
 * @param joined the process that mounts joins a container: it sees nothing of the host
 */
export function planTrees(c: Context, joined = false): void {
  const mounts = c.spec.mounts ?? [];
  const user = c.namespace("user") !== undefined;
  for (let i = 0; i < mounts.length; i++) {
    const flags = parseMountOptions(mounts[i]!.options, mounts[i]!.type);
    if (!flags.bind || flags.remount) continue;
    if (!joined && !isMapped(mounts[i]!, flags) && (!user || c.settings.rootless)) continue;
    if (sourceInside(c, mounts[i]!) !== undefined) continue;
    c.inherit({
      name: treeFd(i),
      from: { kind: "tree", source: bindSource(c, mounts[i]!), recursive: flags.recursive, mount: i },
    });
  }
}

function isMapped(mount: Mount, flags: MountFlags): boolean {
  return flags.idmap || (mount.uidMappings?.length ?? 0) > 0 || (mount.gidMappings?.length ?? 0) > 0;
}

/** The source of a bind mount on the host; a relative one is relative to the bundle. */
export function bindSource(c: Context, mount: Mount): string {
  const source = mount.source ?? "";
  return source.startsWith("/") ? source : `${c.settings.bundle}/${source}`;
}

/** The path below the rootfs of a source that lies in it. */
export function sourceInside(c: Context, mount: Mount): string | undefined {
  return below(cleanPath(c.settings.rootfs), cleanPath(bindSource(c, mount)));
}

/**
 * Opens a source in the rootfs as a detached mount, below the root as everything of a hostile image, and puts its
 * descriptor into `tree`. Its ids are mapped by the parent, which may, on the mount that is seen only here.
 */
export function openInside(
  c: Context,
  index: number,
  path: string,
  flags: MountFlags,
  tree: Field,
  ended: SentPart[],
): void {
  const { part, slots } = c;
  const source = slots.take("source of the bind mount");
  const clone = slots.take("bind mount");
  part.at("mounts", `mounts[${index}].source`);
  const how = openHow(abi.O_PATH);
  const about = `cannot open ${JSON.stringify(path)} of the rootfs to bind it`;
  part.op(abi.SYS_openat2, [c.root, path, how, how.size], { slot: source, about });
  const recursive = flags.recursive ? abi.AT_RECURSIVE : 0;
  const how2 = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH | recursive;
  part.op(abi.SYS_open_tree, [source, "", how2], { slot: clone, about });
  part.op(abi.SYS_close, [source]);
  part.at("mounts", `mounts[${index}]`);
  if (isMapped(c.spec.mounts![index]!, flags))
    ended.push({ ...c.endPart(Stage.mapping, clone), mount: index });
  c.part.op(abi.BUNC_OP_PATCH, [tree, 8, 0, clone]);
  slots.give(source, clone);
}
