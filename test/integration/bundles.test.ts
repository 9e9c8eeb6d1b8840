// The bundles that tests, demo and benchmark share run as they are; the rig notices and removes what is left behind.
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type KindName, kinds, makeKind } from "../bundles/kinds.ts";
import { configText } from "../rig/config.ts";
import {
  findCgroups,
  findFiles,
  findMounts,
  findProcesses,
  removeEverything,
  removeLeaks,
} from "../rig/leaks.ts";
import { profileMissing } from "../rig/moby-profile.ts";
import { repository } from "../rig/repository.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { host } from "../rig/runtime.ts";
import { makeScratch } from "../rig/scratch.ts";

const rig = useRig();

describe("each shared bundle", () => {
  // redis does not end by itself: it has a file of its own.
  const missing = profileMissing() === undefined ? [] : ["docker"];
  const names = (Object.keys(kinds) as KindName[]).filter(
    (name) => name !== "redis" && !missing.includes(name),
  );

  test.each(names)("%s runs", async (name) => {
    const container = rig.container(undefined, () => {});
    const config = makeKind(name, container, rig.scratch.store, container.config.linux.cgroupsPath);
    writeFileSync(container.path("config.json"), configText(config));
    if (config.process.terminal) {
      const pty = rig.pty(["run", "--bundle", container.bundle, container.id]);
      if (name === "shell") pty.type("exit\n");
      expect([name, await pty.exited(), pty.text.includes("level=error")]).toEqual([name, 0, false]);
    } else {
      (await rig.call(["run", "--bundle", container.bundle, container.id])).ok();
    }
  });

  test("make.ts writes one that runs", async () => {
    const dir = join(rig.scratch.bundles, "made");
    const id = rig.unique();
    const make = join(repository, "test/bundles/make.ts");
    output([process.execPath, make, "default", dir, `/${id}`]);
    (await rig.call(["run", "--bundle", dir, id])).ok();
    const again = Bun.spawnSync([process.execPath, make, "default", dir], { stderr: "pipe" });
    expect([again.exitCode, again.stderr.toString()]).toEqual([1, expect.stringContaining("exists")]);
    output(["rm", "-r", dir]);
  });
});

describe("the rig", () => {
  const other = makeScratch();
  afterAll(() => removeEverything(other.tag, other.dir));

  test("finds processes, mounts, cgroups and files of its own, and removes them", async () => {
    expect(findProcesses(other.tag)).toEqual([]);
    // A process that only its environment gives away, one in a cgroup below a cgroup, and one whose root is a rootfs.
    const inEnvironment = Bun.spawn(["sleep", "60"], { env: { PATH: process.env.PATH!, MARK: other.tag } });
    const cgroup = join(host.cgroups.get("unified") ?? host.cgroups.get("memory")!, other.tag, "below");
    mkdirSync(cgroup, { recursive: true });
    const inCgroup = Bun.spawn(["sh", "-c", `echo $$ >${cgroup}/cgroup.procs && exec sleep 60`]);
    const mounted = join(other.dir, "mounted on");
    mkdirSync(mounted);
    output(["mount", "-t", "tmpfs", "x", mounted]);
    writeFileSync(join(other.tmp, "file"), "");
    for (let i = 0; i < 100 && findProcesses(other.tag).length < 2; i++) await Bun.sleep(10);
    expect(
      findProcesses(other.tag)
        .map(({ name }) => Number(name))
        .sort(),
    ).toEqual([inEnvironment.pid, inCgroup.pid].sort());
    expect(findMounts(other.tag).map(({ name }) => name)).toEqual([mounted]);
    expect(findCgroups(other.tag).map(({ name }) => name)).toEqual([cgroup, join(cgroup, "..")]);
    expect(findFiles(other.tag, other.dir, [other.tmp]).map(({ name }) => name)).toEqual([
      join(other.tmp, "file"),
    ]);
    removeLeaks(other.tag);
    expect([findProcesses(other.tag), findMounts(other.tag), findCgroups(other.tag)]).toEqual([[], [], []]);
    expect(await Promise.all([inEnvironment.exited, inCgroup.exited])).toEqual([137, 137]);
    expect(existsSync(cgroup)).toBe(false);
  });

  test("does not take another rig's for its own", async () => {
    const process = await rig.background(["sh", "-c", "echo; exec sleep 60"]);
    expect(findProcesses(other.tag)).toEqual([]);
    expect(findProcesses(rig.scratch.tag).map(({ name }) => Number(name))).toContain(process.pid);
  });
});
