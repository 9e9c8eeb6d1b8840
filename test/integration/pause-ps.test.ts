// `pause`, `resume` and `ps`, and that Debian's runc and bunc do them to each other's containers.
import { describe, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { pauseContainer, resumeContainer } from "../../src/container/pause.ts";
import { containerProcesses } from "../../src/container/processes.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, cgroupMounts } from "../rig/runtime.ts";
import { message, ok, present, SLEEP, useTakeover } from "./takeover.rig.ts";

const rig = useRig();

/** A container that appends to a file in its root for ever. */
function ticker(): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    config.process.args = ["sh", "-c", "sleep 60 & while :; do echo x >>/ticks; sleep 0.01; done"];
  });
}

const ticks = (container: Container) => statSync(join(container.rootfs, "ticks")).size;

async function ticking(container: Container): Promise<boolean> {
  const before = (() => {
    try {
      return ticks(container);
    } catch {
      return 0;
    }
  })();
  for (let i = 0; i < 100; i++) {
    await Bun.sleep(10);
    try {
      if (ticks(container) > before) return true;
    } catch {
      // Not yet made.
    }
  }
  return false;
}

/** What the freezer's file says, v1 or v2. */
function freezer(container: Container): string {
  const mounts = cgroupMounts();
  const v1 = mounts.get("freezer");
  const path = container.config.linux!.cgroupsPath!;
  if (v1) return readFileSync(join(v1, path, "freezer.state"), "utf8").trim();
  const frozen = readFileSync(join(mounts.get("unified")!, path, "cgroup.freeze"), "utf8").trim();
  return frozen === "1" ? "FROZEN" : "THAWED";
}

describe("pause and resume", () => {
  test("stop everything in the container, and let it go on", async () => {
    const container = ticker();
    await container.detach();
    expect(await ticking(container)).toBe(true);
    (await container.call("pause")).ok();
    expect(freezer(container)).toBe("FROZEN");
    expect((await container.state()).status).toBe("paused");
    const stopped = ticks(container);
    await Bun.sleep(60);
    expect(ticks(container)).toBe(stopped);
    const again = await container.call("pause");
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("container not running");
    (await container.call("resume")).ok();
    expect(freezer(container)).toBe("THAWED");
    expect((await container.state()).status).toBe("running");
    expect(await ticking(container)).toBe(true);
    const twice = await container.call("resume");
    expect(twice.code).toBe(1);
    expect(twice.stderr).toContain("container not paused");
  });

  test("a created container can be paused too, one that has ended or does not exist cannot", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    await container.create();
    (await container.call("pause")).ok();
    expect((await container.state()).status).toBe("paused");
    (await container.call("resume")).ok();
    expect((await container.state()).status).toBe("created");
    (await container.call("start")).ok();
    await container.waitFor("stopped");
    for (const command of ["pause", "resume"]) {
      const result = await container.call(command);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(command === "pause" ? "container not running" : "container not paused");
      const absent = await rig.call([command, rig.unique()]);
      expect(absent.code).toBe(1);
      expect(absent.stderr).toContain("container does not exist");
    }
  });

  test("kill -9 ends a paused container", async () => {
    const container = ticker();
    await container.detach();
    (await container.call("pause")).ok();
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
  });
});

describe("ps", () => {
  test("as a table has the header and the container's processes only", async () => {
    const container = ticker();
    await container.detach();
    expect(await ticking(container)).toBe(true);
    const { pid } = await container.state();
    const lines = (await container.call("ps")).ok().stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^UID +PID +PPID/);
    const pids = lines.slice(1).map((line) => Number(line.trim().split(/\s+/)[1]));
    expect(pids).toContain(pid);
    expect(pids).not.toContain(process.pid);
    expect(lines.slice(1).join("\n")).toContain("sleep 60");
  });

  test("passes its options on to ps(1), even those it has itself", async () => {
    const container = ticker();
    await container.detach();
    const { pid } = await container.state();
    const result = (await rig.call(["ps", container.id, "-e", "-o", "pid,comm", "--format", "stat"])).ok();
    const [header, ...lines] = result.stdout.trimEnd().split("\n");
    expect(header!.trim().split(/\s+/)).toEqual(["PID", "COMMAND", "STAT"]);
    expect(lines.some((line) => Number(line.trim().split(/\s+/)[0]) === pid)).toBe(true);
  });

  test("as JSON is the bare pids", async () => {
    const container = ticker();
    await container.detach();
    (await container.call("pause")).ok();
    const { pid } = await container.state();
    const pids = JSON.parse((await rig.call(["ps", "-f", "json", container.id])).ok().stdout) as number[];
    expect(pids).toContain(pid);
    for (const one of pids) {
      const groups = readFileSync(`/proc/${one}/cgroup`, "utf8");
      expect(groups).toContain(container.config.linux!.cgroupsPath!);
    }
    (await container.call("resume")).ok();
  });

  test("says what is wrong with its options", async () => {
    const container = ticker();
    await container.detach();
    const cases: [string[], string][] = [
      [["ps", "--format", "xml", container.id], "invalid format option"],
      [["ps", container.id, "-o", "comm"], "couldn't find PID field in ps output"],
      [["ps", container.id, "--no-such-option"], "exit status 1: error: unknown gnu long option"],
      [["ps", rig.unique()], "container does not exist"],
    ];
    for (const [args, words] of cases) {
      const result = await rig.call(args);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(words);
    }
  });

  test("of a stopped container shows nothing", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
    });
    await container.detach();
    await container.waitFor("stopped");
    expect((await rig.call(["ps", "-f", "json", container.id])).ok().stdout).toBe("null\n");
  });
});

buncTest("features: the document of the runtime-spec", async () => {
  const text = (await rig.call(["features"])).ok().stdout;
  expect(text).toStartWith('{\n    "ociVersionMin"');
  const document = JSON.parse(text);
  expect(document).toMatchObject({ ociVersionMin: "1.0.0", ociVersionMax: "1.3.0" });
  expect(document.hooks).toHaveLength(6);
  for (const option of ["ro", "rbind", "rro", "tmpcopyup", "idmap"])
    expect(document.mountOptions).toContain(option);
  expect(document.linux.namespaces).toEqual([
    "cgroup",
    "ipc",
    "mount",
    "network",
    "pid",
    "time",
    "user",
    "uts",
  ]);
  expect(document.linux.capabilities).toContain("CAP_SYS_ADMIN");
  expect(document.linux.seccomp.actions).toContain("SCMP_ACT_NOTIFY");
  expect(document.linux.seccomp.archs).toContain("SCMP_ARCH_X86_64");
  expect(document.annotations["io.github.seccomp.libseccomp.version"]).toMatch(/^\d+\.\d+\.\d+$/);
});

describe.skipIf(!present)("containers of Debian's runc", () => {
  const { root, create, runc, status } = useTakeover();

  test("are paused, resumed and listed by bunc, and the other way round", async () => {
    const { id } = create(SLEEP);
    ok(runc("start", id));
    const pids = JSON.parse(ok(runc("ps", "--format", "json", id))) as number[];
    expect(containerProcesses(root, id)).toEqual(pids);
    await pauseContainer(root, id);
    expect(JSON.parse(ok(runc("state", id))).status).toBe("paused");
    expect(await message(pauseContainer(root, id))).toBe("container not running");
    ok(runc("resume", id));
    expect(status(id)).toBe("running");
    ok(runc("pause", id));
    expect(status(id)).toBe("paused");
    await resumeContainer(root, id);
    expect(JSON.parse(ok(runc("state", id))).status).toBe("running");
    expect(await message(resumeContainer(root, id))).toBe("container not paused");
  });
});
