// The bundles that tests, `make demo` and the benchmark share, by name.
import { chownSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, defaultConfig, type Hook, hookKinds, type Place } from "../rig/config.ts";
import { makeRootfs, redisRootfs } from "../rig/rootfs.ts";
import { dockerConfig } from "./docker.ts";
import { redisConfig } from "./redis.ts";

/** A bundle's place, and the process whose namespaces the bundle `joined` joins. */
interface KindPlace extends Place {
  joined: number;
}

/** How a bundle is made: its root filesystem, and what its config has other than the default spec. */
interface Kind {
  describe: string;
  rootfs(dir: string, store: string): void;
  edit(config: Config, place: KindPlace): void;
}

const hook = (words: string): Hook => ({
  path: "/bin/busybox",
  args: ["sh", "-c", `cat >/dev/null; ${words}`],
});

/** Gives the directories of a root filesystem to another user; files may be shared with other root filesystems. */
function own(dir: string, uid: number): void {
  chownSync(dir, uid, uid);
  for (const entry of readdirSync(dir, { withFileTypes: true }))
    if (entry.isDirectory()) own(join(dir, entry.name), uid);
}

/** First host id of the user namespace bundle. */
const mappedRoot = 100000;

export const kinds = {
  default: {
    describe: "the spec of `bunc spec` over busybox; its program is `true`",
    rootfs: makeRootfs,
    edit: (config) => {
      config.process.args = ["true"];
    },
  },
  shell: {
    describe: "the same on a terminal; its program is `sh`",
    rootfs: makeRootfs,
    edit: (config) => {
      config.process.terminal = true;
    },
  },
  "terminal-hooks": {
    describe: "a terminal of a given size and a hook of every kind",
    rootfs: makeRootfs,
    edit: (config) => {
      config.process.terminal = true;
      config.process.consoleSize = { height: 30, width: 100 };
      config.process.args = ["true"];
      config.hooks = Object.fromEntries(hookKinds.map((kind) => [kind, [hook("true"), hook("exit 0")]]));
    },
  },
  "user-namespace": {
    describe: "a user namespace with mappings, a bind, a tmpfs that copies up, a cgroup namespace",
    rootfs: (dir, store) => {
      makeRootfs(dir, store);
      own(dir, mappedRoot);
    },
    edit: (config, { bundle }) => {
      const mapping = [{ containerID: 0, hostID: mappedRoot, size: 65536 }];
      config.process.args = ["true"];
      config.linux.namespaces.push({ type: "user" }, { type: "cgroup" });
      Object.assign(config.linux, { uidMappings: mapping, gidMappings: mapping });
      writeFileSync(join(bundle, "bound"), "bound\n");
      config.mounts.push(
        { destination: "/etc", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup", "nodev"] },
        { destination: "/etc/bound", source: "bound", options: ["bind", "ro"] },
      );
    },
  },
  joined: {
    describe: "all namespaces but the mount namespace joined by the paths of the caller's",
    rootfs: makeRootfs,
    edit: (config, place) => {
      const files = { network: "net", ipc: "ipc", uts: "uts", pid: "pid", cgroup: "cgroup" };
      config.process.args = ["true"];
      delete config.hostname;
      const joined = Object.entries(files).map(([type, file]) => ({
        type,
        path: `/proc/${place.joined}/ns/${file}`,
      }));
      config.linux.namespaces = [{ type: "mount" }, ...joined];
    },
  },
  docker: {
    describe: "what Docker writes for `docker run busybox true`",
    rootfs: makeRootfs,
    edit: (config, place) => dockerConfig(config, place, ["true"]),
  },
  redis: {
    describe: "redis-server of OCI 0.4.0 in the host's network, port 6379",
    rootfs: (dir) => void redisRootfs(dir),
    edit: (config, place) => redisConfig(config, place, 6379),
  },
} satisfies Record<string, Kind>;

export type KindName = keyof typeof kinds;

/**
 * Makes a bundle's root filesystem and returns its config, which the caller writes.
 *
 * @param joined pid of a process that lives as long as the bundle is used
 * @param store where copies of programs lie that root filesystems link to; on the same filesystem as the bundle
 */
export function makeKind(
  name: KindName,
  { id, bundle, rootfs }: Place,
  store: string,
  cgroupsPath: string,
  joined = process.pid,
): Config {
  const place: KindPlace = { id, bundle, rootfs, joined };
  const kind: Kind = kinds[name];
  const config = defaultConfig(cgroupsPath);
  kind.rootfs(place.rootfs, store);
  kind.edit(config, place);
  return config;
}
