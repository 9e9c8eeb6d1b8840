// Commands on containers whose bundle is gone, or has become another's: as with runc all of them work, but for an exec that
// takes its process from the bundle. The containers are bunc's and runc's.
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isBunc } from "../rig/runtime.ts";
import { type Made, ok, present, type Ran, useTakeover } from "./takeover.rig.ts";

const { bunc, runc, create, bundle, scratch, until } = useTakeover();

/** What is refused by the filter, with an errno that nothing else gives. */
const EBADFD = "File descriptor in bad state";

function edit(config: Made["config"]): void {
  config.process.user = { uid: 0, gid: 0, umask: 0o27 };
  config.process.oomScoreAdj = 123;
  config.process.capabilities = Object.fromEntries(
    ["bounding", "effective", "permitted"].map((name) => [name, ["CAP_KILL", "CAP_CHOWN"]]),
  );
  config.linux.seccomp = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [
      { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 77 },
      ...[1, 2].map((index) => ({
        names: [index === 1 ? "chmod" : "fchmodat"],
        action: "SCMP_ACT_ERRNO",
        errnoRet: 77,
        args: [{ index, value: 0o123, op: "SCMP_CMP_EQ" }],
      })),
    ],
  };
}

const REPORT = [
  "grep -E ^Cap[PEB] /proc/self/status",
  "grep ^Seccomp: /proc/self/status",
  "cat /proc/self/oom_score_adj",
  "umask",
  "mkdir /x 2>&1",
  "chmod 123 / 2>&1",
  "chmod 755 / && echo changed",
  "true",
].join("; ");

/** An exec of a process that says no more than it must. */
function report(run: (...args: string[]) => Ran, made: Made, more: object = {}): Ran {
  const file = join(scratch.bundles, `${made.id}-process.json`);
  const process = { args: ["sh", "-c", REPORT], cwd: "/", env: ["PATH=/bin"], user: { uid: 0, gid: 0 } };
  writeFileSync(file, JSON.stringify({ ...process, ...more }));
  return run("exec", "--process", file, made.id);
}

/** A running container of bunc. */
function own(): Made {
  const made = bundle("exec sleep 60", edit);
  ok(bunc("run", "--detach", "--bundle", made.bundle, made.id));
  return made;
}

function theirs(): Made {
  const made = create("exec sleep 60", edit);
  ok(runc("start", made.id));
  return made;
}

const MASK = ((1n << 5n) | 1n).toString(16).padStart(16, "0");

describe.skipIf(!present || !isBunc)("a bundle that is gone", () => {
  for (const [whose, made] of [
    ["bunc", own],
    ["runc", theirs],
  ] as const) {
    test(`exec --process in a container of ${whose}: what the container says of it comes from state.json`, () => {
      const container = made();
      const before = ok(report(bunc, container));
      expect(before).toContain(
        `CapPrm:\t${MASK}\nCapEff:\t${MASK}\nCapBnd:\t${MASK}\nSeccomp:\t2\n123\n0027\n`,
      );
      expect(before).toContain(`mkdir: can't create directory '/x': ${EBADFD}`);
      expect(before).toMatch(new RegExp(`chmod: /: ${EBADFD}\nchanged\n$`));
      renameSync(container.bundle, `${container.bundle}-gone`);
      expect(ok(report(bunc, container))).toBe(before);
      // What the process says itself counts.
      const other = ok(report(bunc, container, { capabilities: {}, oomScoreAdj: 200 }));
      expect(other).toContain("CapPrm:\t0000000000000000\n");
      expect(other).toContain("\n200\n");
      // The container's own process, which others are made from, is nowhere but in the bundle.
      for (const run of [bunc, runc]) {
        const { code, stderr } = run("exec", container.id, "true");
        expect([code, stderr]).toEqual([255, expect.stringContaining("no such file or directory")]);
      }
    });
  }

  test("whose config.json is broken, or another's", () => {
    const container = own();
    const before = ok(report(bunc, container));
    for (const text of ["{", "", "[]", '{"ociVersion":7}']) {
      writeFileSync(join(container.bundle, "config.json"), text);
      expect(ok(report(bunc, container))).toBe(before);
      expect(bunc("exec", container.id, "true").code).toBe(255);
    }
    rmSync(join(container.bundle, "config.json"));
    expect(ok(report(bunc, container))).toBe(before);
  });

  test("a state.json with a filter that nobody knows is an error, not an exec without it", () => {
    const container = own();
    renameSync(container.bundle, `${container.bundle}-gone`);
    const path = join(scratch.root, container.id, "state.json");
    const state = JSON.parse(readFileSync(path, "utf8"));
    state.config.seccomp.syscalls[0].action = 99;
    writeFileSync(path, JSON.stringify(state));
    const { code, stderr } = report(bunc, container);
    expect([code, stderr]).toEqual([255, expect.stringContaining("seccomp action 99")]);
  });

  test("nor is the first state.json of a launch that was killed enough, which has none", () => {
    const container = own();
    renameSync(container.bundle, `${container.bundle}-gone`);
    const path = join(scratch.root, container.id, "state.json");
    const { config, ...rest } = JSON.parse(readFileSync(path, "utf8"));
    const { rootfs, labels, version } = config;
    const first = {
      rootfs,
      labels,
      version,
      mounts: null,
      namespaces: [{ type: "NEWPID" }],
      cgroups: { devices: [] },
    };
    writeFileSync(path, JSON.stringify({ ...rest, config: first }));
    const { code, stderr } = report(bunc, container);
    expect([code, stderr]).toEqual([255, expect.stringContaining("no such file or directory")]);
    writeFileSync(path, JSON.stringify({ ...rest, config }));
    ok(report(bunc, container));
  });

  test("all other commands", async () => {
    const made = bundle("exec sleep 60", edit);
    ok(bunc("create", "--bundle", made.bundle, made.id));
    renameSync(made.bundle, `${made.bundle}-gone`);
    const { id } = made;
    expect(JSON.parse(ok(bunc("state", id)))).toMatchObject({ status: "created", bundle: made.bundle });
    ok(bunc("start", id));
    await until(id, "running");
    expect(JSON.parse(ok(bunc("ps", "--format", "json", id)))).toHaveLength(1);
    expect(JSON.parse(ok(bunc("events", "--stats", id))).type).toBe("stats");
    ok(bunc("update", "--pids-limit", "30", id));
    ok(bunc("pause", id));
    ok(bunc("resume", id));
    expect(ok(bunc("list", "-q"))).toContain(id);
    const mounts = join(scratch.bundles, "mounts.json");
    writeFileSync(mounts, JSON.stringify([{ destination: "/mnt", type: "tmpfs", source: "tmpfs" }]));
    ok(bunc("mounts", "add", id, mounts));
    expect(ok(report(bunc, made, { args: ["grep", "-c", " /mnt ", "/proc/mounts"] }))).toBe("1\n");
    ok(bunc("mounts", "remove", id, mounts));
    ok(bunc("kill", id, "KILL"));
    await until(id, "stopped");
    ok(bunc("delete", id));
    expect(existsSync(join(scratch.root, id))).toBe(false);
  });
});
