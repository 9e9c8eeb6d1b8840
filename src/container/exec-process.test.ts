/** The process of `exec`: from a file, and from the container's own with what the command line changes. */
import { beforeEach, describe, expect, test } from "bun:test";
import type { Process } from "../oci/config.ts";
import { failure as refused } from "../testing.ts";
import {
  changeProcess,
  type ExecChanges,
  inheritProcess,
  parseProcess,
  readProcess,
} from "./exec-process.ts";

const OWN: Process = {
  terminal: true,
  user: { uid: 1, gid: 2, additionalGids: [3] },
  args: ["sleep"],
  env: ["PATH=/bin", "A=1"],
  cwd: "/own",
  noNewPrivileges: false,
};

let warnings: string[] = [];
beforeEach(() => {
  warnings = [];
});

function change(changes: Partial<ExecChanges>, own: Process | null = OWN): Process {
  const all = { args: ["id"], env: [], terminal: false, additionalGids: [], caps: [], ...changes };
  return changeProcess(own ?? undefined, all, { warn: (line) => warnings.push(line) });
}

const failure = (run: () => unknown): string => refused(run).message;

test("a process takes from the container's what it does not say, and nothing else", () => {
  const own: Process = {
    ...OWN,
    user: { uid: 1, gid: 2, umask: 0o77 },
    capabilities: { bounding: ["CAP_KILL"] },
    scheduler: { policy: "SCHED_BATCH" },
    ioPriority: { class: "IOPRIO_CLASS_IDLE" },
    execCPUAffinity: { final: "1" },
    oomScoreAdj: 5,
    selinuxLabel: "l",
    noNewPrivileges: true,
    apparmorProfile: "p",
    rlimits: [{ type: "RLIMIT_CORE", soft: 1, hard: 1 }],
  };
  const given: Process = { cwd: "/", user: { uid: 0, gid: 0 }, args: ["x"] };
  const { capabilities, scheduler, ioPriority, execCPUAffinity, oomScoreAdj, selinuxLabel } = own;
  expect(inheritProcess(given, own)).toEqual({
    ...given,
    user: { uid: 0, gid: 0, umask: 0o77 },
    ...{ capabilities, scheduler, ioPriority, execCPUAffinity, oomScoreAdj, selinuxLabel },
  } as Process);
  const whole: Process = {
    ...given,
    user: { uid: 0, gid: 0, umask: 0 },
    capabilities: {},
    scheduler: { policy: "SCHED_OTHER" },
    ioPriority: { class: "IOPRIO_CLASS_BE" },
    execCPUAffinity: {},
    oomScoreAdj: 0,
    selinuxLabel: "own",
  };
  expect(inheritProcess(whole, own)).toEqual(whole);
  expect(inheritProcess(given, undefined)).toEqual(given);
});

describe("changed", () => {
  test("what no flag names stays the container's own, which is not touched", () => {
    const before = structuredClone(OWN);
    expect(change({})).toEqual({ ...OWN, args: ["id"], terminal: false });
    change({
      env: ["B=2"],
      user: "5",
      additionalGids: [6],
      caps: ["CAP_KILL"],
      cwd: "/",
      noNewPrivileges: true,
    });
    expect(OWN).toEqual(before);
  });

  test("each flag", () => {
    const changed = change({
      env: ["B=2"],
      user: "5:6",
      additionalGids: [7],
      cwd: "/new",
      terminal: true,
      apparmor: "profile",
      selinuxLabel: "label",
      noNewPrivileges: true,
    });
    expect(changed).toEqual({
      terminal: true,
      user: { uid: 5, gid: 6, additionalGids: [3, 7] },
      args: ["id"],
      env: ["PATH=/bin", "A=1", "B=2"],
      cwd: "/new",
      noNewPrivileges: true,
      apparmorProfile: "profile",
      selinuxLabel: "label",
    });
    expect(change({ user: "5" }).user).toMatchObject({ uid: 5, gid: 2 });
  });

  test("capabilities: to all sets but inheritable, and to ambient only where there is that", () => {
    const caps = ["CAP_KILL"];
    expect(change({ caps }).capabilities).toEqual({ bounding: caps, effective: caps, permitted: caps });
    const inheritable = ["CAP_CHOWN"];
    const own = { ...OWN, capabilities: { inheritable, bounding: ["CAP_CHOWN"] } };
    expect(change({ caps }, own).capabilities).toMatchObject({
      inheritable,
      bounding: ["CAP_CHOWN", "CAP_KILL"],
      ambient: caps,
    });
    warnings = [];
    change({ caps: ["CAP_NOSUCH"] });
    expect(warnings.join()).toContain("CAP_NOSUCH");
  });

  test("a container without a process has root's", () => {
    expect(change({}, null)).toMatchObject({ args: ["id"], cwd: "/", user: { uid: 0, gid: 0 } });
  });

  test("what is no number of a user or group", () => {
    for (const user of [
      "x",
      "root",
      "-1",
      "1:-1",
      "1:",
      ":1",
      "4294967295",
      "1:4294967295",
      "1.5",
      "0x1",
      " 1",
    ]) {
      expect([user, failure(() => change({ user }))]).toEqual([
        user,
        expect.stringMatching(/^bad (uid|gid): /),
      ]);
    }
    expect(failure(() => change({ additionalGids: [-2] }))).toBe(
      "additional-gids must be a positive number -2",
    );
    expect(change({ user: "4294967294" }).user.uid).toBe(4294967294);
  });

  test("all other problems are told at once, with their places", () => {
    const message = failure(() => change({ cwd: "x", env: ["A", "=b"], args: ["a\0b"] }));
    for (const words of [
      "process.cwd: Cwd must be an absolute path",
      "process.env[2]: invalid environment variable: missing '='",
      "process.env[3]: invalid environment variable: name cannot be empty",
      "process.args: must not contain a NUL character",
    ]) {
      expect(message).toContain(words);
    }
    expect(failure(() => change({ args: [] }))).toBe("exec args cannot be empty");
  });
});

describe("of a file", () => {
  test("an old shape is made new", () => {
    const old = { user: { uid: 1 }, args: ["id"], cwd: "/", capabilities: ["CAP_KILL"] };
    expect(parseProcess(JSON.stringify(old))).toMatchObject({
      user: { uid: 1 },
      capabilities: { bounding: ["CAP_KILL"], effective: ["CAP_KILL"] },
    });
  });

  test("its problems, all at once", () => {
    const message = failure(() => parseProcess('{"args": 5, "cwd": "x", "env": ["A"], "user": {"uid": -1}}'));
    for (const place of ["args", "cwd", "env[0]", "user.uid"]) expect(message).toContain(`${place}: `);
    for (const text of ["", "{", "null", "[]", '"x"', "5", "\u0000"]) {
      expect(failure(() => parseProcess(text)).length).toBeGreaterThan(0);
    }
  });

  test("a file that is not there, or is none", () => {
    expect(failure(() => readProcess("/nonexistent/p"))).toBe(
      "open /nonexistent/p: no such file or directory",
    );
    expect(failure(() => readProcess("/"))).toContain("is a directory");
    expect(failure(() => readProcess("/dev/null"))).toContain("/dev/null");
  });
});
