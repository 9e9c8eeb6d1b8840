// Checkpoints of all kinds of containers by the real criu: mounts, limits, namespaces, hooks.
import { expect } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { useRig } from "../rig/rig.ts";
import { host, systemdDriver } from "../rig/runtime.ts";
import {
  COUNT,
  checkpoint,
  counting,
  expectGoesOn,
  places,
  realTest,
  restore,
  started,
} from "./checkpoint.rig.ts";

const rig = useRig();

realTest(
  "bind mounts, one in the other and one through a link; a tmpfs, masked paths, a device",
  async () => {
    const outer = rig.directory();
    const inner = rig.directory();
    const container = counting(rig, (config, made) => {
      made.file("real/");
      Bun.spawnSync(["ln", "-s", "real", join(made.rootfs, "link")]);
      config.mounts.push(
        { destination: "/link/outer", type: "bind", source: outer, options: ["rbind", "rw"] },
        { destination: "/link/outer/in/ner", type: "bind", source: inner, options: ["rbind", "ro"] },
        { destination: "/scratch", type: "tmpfs", source: "tmpfs" },
      );
      config.linux.devices = [{ path: "/dev/my-null", type: "c", major: 1, minor: 3 }];
      config.linux.maskedPaths!.push("/etc/passwd", "/home");
      config.process.args = ["sh", "-c", `echo kept >/scratch/file; ${COUNT}`];
    });
    await started(container);
    const where = places(rig);
    (await checkpoint(container, where)).ok();
    // The mount points in what is bound are made again.
    for (const name of readdirSync(outer)) Bun.spawnSync(["rm", "-r", join(outer, name)]);
    writeFileSync(join(inner, "file"), "inner\n");
    (await restore(container, where)).ok();
    await expectGoesOn(container, 1);
    const script = [
      "cat /scratch/file /real/outer/in/ner/file",
      "wc -c </etc/passwd",
      "echo x >/dev/my-null && echo null",
      "touch /real/outer/in/ner/x 2>/dev/null || echo read-only",
      "ls /home",
    ];
    const result = await container.call("exec", "sh", "-c", script.join(";"));
    expect(result.ok().stdout).toBe("kept\ninner\n0\nnull\nread-only\n");
  },
);

realTest("limits are those of the bundle, also in another cgroup", async () => {
  const container = counting(rig, (config) => {
    config.linux.resources!.pids = { limit: 50 };
  });
  await started(container);
  const where = places(rig);
  const before = container.cgroup("pids")!;
  (await checkpoint(container, where, "--manage-cgroups-mode", "ignore")).ok();
  container.config.linux.cgroupsPath = systemdDriver ? `:t:${container.id}-b` : `/${container.id}-b`;
  container.config.linux.resources!.pids = { limit: 60 };
  container.write();
  (await restore(container, where, "--manage-cgroups-mode", "ignore")).ok();
  await expectGoesOn(container, 1);
  expect(container.cgroupFile("pids", "pids.max")).toBe("60");
  const { pid } = await container.state();
  expect(container.cgroupFile("pids", "cgroup.procs").split("\n")).toContain(String(pid));
  expect(existsSync(before)).toBe(false);
});

realTest("a network namespace that was joined by path is joined again", async () => {
  const netns = await rig.background(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 300"]);
  const path = `/proc/${netns.pid}/ns/net`;
  const container = counting(rig, (config) => {
    config.linux.namespaces.find(({ type }) => type === "network")!.path = path;
  });
  await started(container);
  const where = places(rig);
  (await checkpoint(container, where)).ok();
  (await restore(container, where)).ok();
  await expectGoesOn(container, 1);
  const { pid } = await container.state();
  expect(readlinkSync(`/proc/${pid}/ns/net`)).toBe(readlinkSync(path));
});

realTest("a user namespace, whose root must be able to read the images", async () => {
  const container = counting(rig, (config, made) => {
    config.linux.namespaces.push({ type: "user" });
    // Its root can mount cgroup2 again only in a cgroup namespace.
    if (!host.cgroupV1) config.linux.namespaces.push({ type: "cgroup" });
    const mapping = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
    Object.assign(config.linux, { uidMappings: mapping, gidMappings: mapping });
    chownSync(made.rootfs, 100_000, 100_000);
  });
  await started(container);
  const where = places(rig);
  (await checkpoint(container, where)).ok();
  const refused = await restore(container, where);
  expect(refused.stderr).toContain("Permission denied");
  expect(refused.stderr).toContain("in a user namespace criu reads images as the container's root");
  chmodSync(where.images, 0o755);
  (await restore(container, where)).ok();
  await expectGoesOn(container, 1);
  const { pid } = await container.state();
  expect(readFileSync(`/proc/${pid}/uid_map`, "utf8").trim().split(/\s+/)).toEqual(["0", "100000", "65536"]);
});

realTest("hooks: createRuntime at restore, poststop at checkpoint", async () => {
  const said = join(rig.directory(), "said");
  const hook = (name: string) => [{ path: "/bin/sh", args: ["sh", "-c", `echo ${name} $(cat) >>${said}`] }];
  const container = counting(rig, (config) => {
    config.hooks = { createRuntime: hook("createRuntime"), poststop: hook("poststop") };
  });
  await started(container);
  const where = places(rig);
  (await checkpoint(container, where)).ok();
  (await restore(container, where)).ok();
  await expectGoesOn(container, 1);
  const lines = readFileSync(said, "utf8").trim().split("\n");
  expect(lines.map((line) => line.split(" ")[0])).toEqual(["createRuntime", "poststop", "createRuntime"]);
  expect(JSON.parse(lines[2]!.slice("createRuntime".length))).toMatchObject({
    id: container.id,
    pid: (await container.state()).pid,
  });
});
