// Bind mounts whose source or destination is written as a path of the rootfs on the host.
import { expect, test } from "bun:test";
import { chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config, IdMapping } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest } from "../rig/runtime.ts";

const rig = useRig();
const map: IdMapping[] = [{ containerID: 0, hostID: 100000, size: 65536 }];

/** A tree of mounts at /mnt, and a bind of it at /copy; `edit` sees the config with the bind as its last mount. */
function copied(edit: (config: Config) => void = () => {}): Container {
  const outer = rig.directory();
  const inner = rig.directory();
  writeFileSync(join(inner, "file"), "inner\n");
  mkdirSync(join(outer, "sub"));
  return rig.container((config, container) => {
    config.root.readonly = false;
    for (const name of ["mnt", "copy"]) mkdirSync(container.path(`rootfs/${name}`), { recursive: true });
    config.mounts.push(
      { destination: "/mnt", source: outer, options: ["bind"] },
      { destination: join(container.rootfs, "mnt/sub"), source: inner, options: ["bind"] },
      {
        destination: `${container.rootfs}//copy/.`,
        source: join(container.rootfs, "mnt"),
        options: ["rbind"],
      },
    );
    config.process.args = ["cat", "/copy/sub/file"];
    edit(config);
  });
}

buncTest("what earlier mounts put there is bound, in order", async () => {
  expect(await copied().output()).toBe("inner\n");
});

buncTest("in a user namespace too", async () => {
  const container = copied((config) => {
    config.linux.namespaces.push({ type: "user" });
    config.linux.uidMappings = map;
    config.linux.gidMappings = map;
  });
  chownSync(container.rootfs, 100000, 100000);
  for (const name of ["mnt", "copy"]) chownSync(container.path(`rootfs/${name}`), 100000, 100000);
  expect(await container.output()).toBe("inner\n");
});

buncTest("with ids mapped, of the mount alone and of all below it", async () => {
  for (const [option, mapped] of [
    ["idmap", "0\n100000\n"],
    ["ridmap", "100000\n100000\n"],
  ] as const) {
    const container = copied((config) => {
      const mount = config.mounts.at(-1)!;
      Object.assign(mount, { uidMappings: map, gidMappings: map });
      mount.options!.push(option);
      config.process.args = ["sh", "-c", "stat -c %u /copy/sub/file /copy/sub/.. "];
    });
    expect(await container.output()).toBe(mapped);
  }
});

buncTest("with ids mapped, in a user namespace", async () => {
  for (const [option, mapped] of [
    ["idmap", "65534\n0\n"],
    ["ridmap", "0\n0\n"],
  ] as const) {
    const container = copied((config) => {
      config.linux.namespaces.push({ type: "user" });
      config.linux.uidMappings = map;
      config.linux.gidMappings = map;
      config.mounts.at(-1)!.options!.push(option);
      config.process.args = ["sh", "-c", "stat -c %u /copy/sub/file /copy/sub/.. "];
    });
    chownSync(container.rootfs, 100000, 100000);
    for (const name of ["mnt", "copy"]) chownSync(container.path(`rootfs/${name}`), 100000, 100000);
    expect(await container.output()).toBe(mapped);
    const explained = (await rig.call(["explain", "--bundle", container.bundle])).ok().stdout;
    expect(explained).toMatch(/tell the parent "mapping"[\s\S]*pidfd_getfd[\s\S]*mount_setattr/);
  }
});

buncTest("with ids that cannot be mapped: the error names the mount, and nothing is left", async () => {
  const container = copied((config) => {
    const mount = config.mounts.at(-1)!;
    Object.assign(mount, {
      source: mount.source!.replace(/mnt$/, "proc"),
      uidMappings: map,
      gidMappings: map,
    });
    mount.options = ["bind", "idmap"];
  });
  const result = await container.run();
  expect(result.code).toBe(1);
  expect(result.stderr).toContain("mount_setattr: the file system");
  expect(result.stderr).toContain(`/proc\\" to rootfs at`);
  expect((await container.call("state")).code).toBe(1);
});

test("a link of the image is followed in the image, not on the host", async () => {
  const container = rig.container((config, made) => {
    const path = (name: string) => made.path(name);
    config.root.readonly = false;
    mkdirSync(path("rootfs/target"));
    writeFileSync(path("rootfs/target/file"), "of the image\n");
    symlinkSync("/target", path("rootfs/link"));
    config.mounts.push({ destination: "/copy", source: join(made.rootfs, "link"), options: ["bind"] });
    config.process.args = ["cat", "/copy/file"];
  });
  expect(await container.output()).toBe("of the image\n");
  container.config.mounts.at(-1)!.source = join(container.rootfs, "absent");
  const { code, stderr } = await container.run();
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/\/absent.*no such file or directory.*mounts\[\d+\]\.source/),
  ]);
});
