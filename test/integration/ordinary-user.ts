// Bundles and commands of an ordinary user, "joe". /etc/subuid and /etc/passwd are replaced in a mount namespace of the
// test's own.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config, IdMapping } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { Rig } from "../rig/rig.ts";

export const UID = 54321;
export const GID = 54322;

/** The mapping of one id, to root. */
export const own = (hostID: number): IdMapping => ({ containerID: 0, hostID, size: 1 });

/** What the tests of one rig need. */
export function ordinaryUser(rig: Rig) {
  /** A bundle as `spec --rootless` makes it: no network namespace of its own, no cgroup, no gid= options. */
  function rootless(uids: IdMapping[], gids: IdMapping[], script: string): Container {
    return rig.container((config: Config) => {
      config.process.args = ["sh", "-c", script];
      config.linux.namespaces = config.linux.namespaces.filter(
        ({ type }) => type !== "network" && type !== "cgroup",
      );
      config.linux.namespaces.push({ type: "user" });
      config.linux.uidMappings = uids;
      config.linux.gidMappings = gids;
      delete config.linux.resources;
      Reflect.deleteProperty(config.linux, "cgroupsPath");
      config.mounts = config.mounts
        .filter(({ type }) => type !== "sysfs" && type !== "cgroup")
        .map((mount) => ({
          ...mount,
          options: mount.options?.filter((option) => !option.startsWith("gid=")) ?? [],
        }));
    });
  }

  /** How to run a command as the user UID:GID, whose name is "joe", with these lines in /etc/subuid and /etc/subgid. */
  function asJoe(subuid: string, subgid: string, path = "/usr/bin:/bin"): { wrap: string[]; root: string } {
    const dir = rig.directory();
    const root = join(dir, "root");
    mkdirSync(root);
    chmodSync(root, 0o777);
    writeFileSync(join(dir, "passwd"), `root:x:0:0::/root:/bin/sh\njoe:x:${UID}:${GID}::/:/bin/sh\n`);
    writeFileSync(join(dir, "subuid"), subuid);
    writeFileSync(join(dir, "subgid"), subgid);
    const script = `for file in passwd subuid subgid; do mount --bind ${dir}/$file /etc/$file || exit 99; done
      exec setpriv --reuid=${UID} --regid=${GID} --clear-groups env PATH=${path} "$@"`;
    return { wrap: ["unshare", "-m", "sh", "-c", script, "sh"], root };
  }

  /** The scratch directory and all above the bundle can be walked through by everybody. */
  function letIn(container: Container): void {
    for (let dir = container.bundle; dir.startsWith(rig.scratch.dir); dir = join(dir, ".."))
      chmodSync(dir, 0o755);
  }

  return { rootless, asJoe, letIn };
}
