// What callers of crun pass: --config, --cgroup-manager, --regex, --log-level, and annotations that begin with run.oci.
import { describe, expect } from "bun:test";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest as test } from "../rig/runtime.ts";

const rig = useRig();

/** A container whose program sleeps until it is killed. */
function sleeper(): Container {
  return rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
}

describe("--config", () => {
  test("is read instead of the bundle's file, also by exec", async () => {
    const container = sleeper();
    container.config.process.env = ["PATH=/bin", "WHO=other"];
    container.write();
    const other = join(rig.directory(), "other.json");
    renameSync(container.path("config.json"), other);
    // The bundle has a file as well: it must not count.
    container.config.process.env = ["PATH=/bin", "WHO=bundle"];
    await container.detach(["--config", other]);
    const inside = (await rig.call(["exec", container.id, "sh", "-c", "echo $WHO"])).ok();
    expect(inside.stdout).toBe("other\n");
    (await container.call("delete", "--force")).ok();
  });
  test("that is missing or broken is named", async () => {
    const container = sleeper();
    const missing = await container.start("create", ["--config", "/nowhere/c.json"]);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain("read /nowhere/c.json: no such file or directory");
    const broken = join(rig.directory(), "broken.json");
    writeFileSync(broken, "{");
    const bad = await container.start("create", ["-f", broken]);
    expect(bad.code).toBe(1);
    expect(bad.stderr).toContain(`${broken}: `);
  });
});

describe("--cgroup-manager", () => {
  test("disabled: the container stays in the caller's cgroups and can be managed", async () => {
    const container = sleeper();
    container.config.linux.resources = { pids: { limit: 7 } };
    container.write();
    const own = readFileSync("/proc/self/cgroup", "utf8");
    const made = await rig.call([
      "--cgroup-manager=disabled",
      "create",
      "--bundle",
      container.bundle,
      container.id,
    ]);
    expect(made.ok().stderr).toContain("linux.resources: ignored");
    const { pid } = await container.state();
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toBe(own);
    (await container.call("start")).ok();
    expect((await container.state()).status).toBe("running");
    expect((await container.call("pause")).code).toBe(1);
    (await rig.call(["exec", container.id, "true"])).ok();
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    (await container.call("delete")).ok();
    expect((await rig.call(["list", "-q"])).ok().stdout).not.toContain(container.id);
  });
  test("cgroupfs is what there is without it", async () => {
    const container = sleeper();
    container.write();
    (
      await rig.call(["--cgroup-manager", "cgroupfs", "create", "--bundle", container.bundle, container.id])
    ).ok();
    const { pid } = await container.state();
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain(`/${container.id}\n`);
    (await container.call("delete", "--force")).ok();
  });
});

describe("--regex", () => {
  test("kill and delete every container that matches, and no other", async () => {
    const all = [sleeper(), sleeper(), sleeper()];
    for (const container of all) {
      await container.create();
      (await container.call("start")).ok();
    }
    const [first, second, third] = all as [Container, Container, Container];
    const expression = `^(${first.id}|${second.id})$`.replace(/\./g, "\\.");
    (await rig.call(["kill", "--regex", expression, "KILL"])).ok();
    await first.waitFor("stopped");
    await second.waitFor("stopped");
    expect((await third.state()).status).toBe("running");
    (await rig.call(["delete", "-r", expression])).ok();
    const left = (await rig.call(["list", "-q"])).ok().stdout;
    expect(left).not.toContain(`${first.id}\n`);
    expect(left).not.toContain(`${second.id}\n`);
    expect(left).toContain(`${third.id}\n`);
    // One that cannot be deleted is a warning: crun goes on with the others.
    const refused = await rig.call(["delete", "--regex", `^${third.id}$`]);
    expect([refused.code, refused.stderr]).toEqual([0, expect.stringContaining("level=warning")]);
    (await rig.call(["delete", "--regex", "--force", `^${third.id}$`])).ok();
    expect((await rig.call(["list", "-q"])).ok().stdout).not.toContain(third.id);
  });
  test("what is no expression is refused; one that matches none is none", async () => {
    const bad = await rig.call(["delete", "--regex", "a("]);
    expect([bad.code, bad.stderr]).toEqual([1, expect.stringContaining("invalid regular expression")]);
    (await rig.call(["kill", "--regex", "no-such-container-.*"])).ok();
  });
});

describe("annotations", () => {
  test("keep_original_groups", async () => {
    const groups = async (annotations: Record<string, string>): Promise<string> => {
      const container = rig.container((config) => {
        config.process.user = { uid: 0, gid: 0, additionalGids: [77] };
        config.annotations = annotations;
      });
      return (await container.shell("grep ^Groups: /proc/self/status")).replace(/\s+/g, " ").trim();
    };
    const own = readFileSync("/proc/self/status", "utf8")
      .match(/^Groups:.*/m)![0]
      .replace(/\s+/g, " ")
      .trim();
    expect(await groups({})).toBe("Groups: 77");
    expect(await groups({ "run.oci.keep_original_groups": "0" })).toBe("Groups: 77");
    expect(await groups({ "run.oci.keep_original_groups": "1" })).toBe(own);
  });
  test("seccomp_fail_unknown_syscall", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.linux.seccomp = {
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [{ names: ["no_such_call"], action: "SCMP_ACT_ERRNO" }],
      };
    });
    (await container.run()).ok();
    container.config.annotations = { "run.oci.seccomp_fail_unknown_syscall": "1" };
    // Twice: the second time the filter is in the cache.
    for (let i = 0; i < 2; i++) {
      const { code, stderr } = await container.run();
      expect(code).toBe(1);
      expect(stderr).toContain("no_such_call");
      expect(stderr).toContain("run.oci.seccomp_fail_unknown_syscall");
    }
    const explained = await rig.call(["explain", "--bundle", container.bundle]);
    expect([explained.code, explained.stderr]).toEqual([1, expect.stringContaining("no_such_call")]);
  });
  test("explain names what one changes", async () => {
    const container = rig.container((config) => {
      config.annotations = { "run.oci.keep_original_groups": "1" };
    });
    container.write();
    const kept = (await rig.call(["explain", "--bundle", container.bundle])).ok().stdout;
    expect(kept).toContain('annotations["run.oci.keep_original_groups"]');
    expect(kept).not.toContain("setgroups(");
    delete container.config.annotations;
    container.write();
    expect((await rig.call(["explain", "--bundle", container.bundle])).ok().stdout).toContain("setgroups(");
  });
  test("that nobody knows change nothing", async () => {
    const container = rig.container((config) => {
      config.process.args = ["echo", "fine"];
      config.annotations = { "run.oci.handler": "krun", "run.oci.nonsense": "1" };
    });
    expect((await container.run()).ok().stdout).toBe("fine\n");
  });
});

test("--log=file: is the same as the plain path", async () => {
  const directory = rig.directory();
  mkdirSync(join(directory, "logs"));
  const file = join(directory, "logs", "l.json");
  const { code } = await rig.call([`--log=file:${file}`, "--log-format=json", "state", "no-such-container"]);
  expect(code).toBe(1);
  expect(JSON.parse(readFileSync(file, "utf8")).msg).toContain("container does not exist");
});
