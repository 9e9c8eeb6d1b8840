// The state of a new container, compared field by field with what runc 1.1.5 (Debian) and 1.5.1 wrote for the same
// config.json (test/fixtures/state).
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { hookStruct } from "../launch/hooks.ts";
import { Part } from "../launch/program.ts";
import * as abi from "../linux/abi.gen.ts";
import type { Spec } from "../oci/config.ts";
import { parseJson } from "../oci/json.ts";
import { fitsSpec } from "../oci/shape.ts";
import { buildState, type StateInput, startOps } from "./build-state.ts";
import { parseState, type State } from "./state.ts";
import { withProcess } from "./state-text.ts";

const fixtures = join(import.meta.dir, "../../test/fixtures/state");
const fixture = (name: string): string => readFileSync(join(fixtures, name), "utf8");

function specOf(text: string): Spec {
  const spec = parseJson(text);
  if (!fitsSpec(spec)) throw new Error("the fixture is no config.json");
  return spec;
}

const spec = specOf(fixture("config.json"));
const runc115 = parseState(fixture("runc-1.1.5.json"), "runc-1.1.5.json");
const runc151 = parseState(fixture("runc-1.5.1.json"), "runc-1.5.1.json");

/** What the fixtures were made with. */
function inputOf(like: State): StateInput {
  return {
    id: "cst-x1",
    bundle: "/tmp/cst/b",
    rootfs: "/tmp/cst/b/rootfs",
    noPivot: false,
    noNewKeyring: false,
    systemdCgroup: false,
    rootlessEuid: false,
    rootlessCgroups: false,
    created: like.created,
    cgroupPaths: like.cgroup_paths ?? {},
    externalDescriptors: ["/dev/null", "/tmp/cst/o", "/tmp/cst/o"],
  };
}

/** A value without what Go's omitempty leaves out; runc 1.1 writes all of it. */
function compact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(compact);
  if (typeof value !== "object" || value === null) return value;
  const kept: Record<string, unknown> = {};
  for (const [key, part] of Object.entries(value)) {
    if (part === null || part === 0 || part === "" || part === false) continue;
    if (Array.isArray(part) && part.length === 0) continue;
    kept[key] = compact(part);
  }
  return kept;
}

/** Every path in a value, list indices included. */
function paths(value: unknown, at = ""): string[] {
  if (typeof value !== "object" || value === null) return [at];
  const below = Object.entries(value).flatMap(([key, part]) => paths(part, at ? `${at}.${key}` : key));
  return [at, ...below].filter(Boolean);
}

describe("buildState", () => {
  test("is what runc 1.5.1 writes, beside bunc's own part", () => {
    // That runc was built without seccomp.
    const { linux, ...rest } = structuredClone(spec);
    delete linux?.seccomp;
    const built = buildState({ ...rest, linux }, inputOf(runc151));
    const { bunc, ...state } = withProcess(built, runc151.init_process_pid, runc151.init_process_start);
    expect(state as State).toEqual(runc151);
    expect(bunc).toEqual({
      version: 1,
      ociVersion: "1.3.0",
      bundle: "/tmp/cst/b",
      rootfs: "/tmp/cst/b/rootfs",
      annotations: { "org.example.a": "b=c", "org.example.empty": "" },
      hooks: {
        poststop: [{ path: "/bin/true", args: ["true", "x"], env: null, dir: "", timeout: 3_000_000_000 }],
      },
    });
  });

  test("has every field that runc 1.1.5 fills, but for the reviewed ones", () => {
    const built = buildState(spec, inputOf(runc115));
    const { bunc: _, ...state } = withProcess(built, runc115.init_process_pid, runc115.init_process_start);
    const ours = compact(state) as State;
    const theirs = compact(runc115) as State;
    // Reviewed: all that runc 1.1.5 writes and bunc does not.
    const known = new Set(paths(ours));
    expect(paths(theirs).filter((path) => !known.has(path))).toEqual([]);
    // Reviewed: what bunc writes for newer versions, which 1.1.5 skips.
    const written = new Set(paths(theirs));
    expect(paths(ours).filter((path) => !written.has(path))).toEqual([
      "namespace_paths.NEWTIME",
      "config.seccomp.flags",
      "config.seccomp.flags.0",
    ]);
    // The values are the same but for the version, and the weight, whose formula runc 1.4 changed.
    ours.config.version = theirs.config.version;
    expect([ours.config.cgroups.cpu_weight, theirs.config.cgroups.cpu_weight]).toEqual([59, 20]);
    delete ours.config.cgroups.cpu_weight;
    delete theirs.config.cgroups.cpu_weight;
    expect(ours).toMatchObject(theirs);
  });

  test("without a process has none", () => {
    const state = buildState(spec, inputOf(runc151));
    expect([state.init_process_pid, state.init_process_start, state.namespace_paths]).toEqual([-1, 0, {}]);
    const live = withProcess(state, 12, 345);
    expect([live.init_process_pid, live.init_process_start]).toEqual([12, 345]);
    expect(live.namespace_paths?.NEWNS).toBe("/proc/12/ns/mnt");
    expect(live.config).toBe(state.config);
    expect(state.init_process_pid).toBe(-1);
  });

  test("keeps what later commands need", () => {
    const hook = { path: "/h" };
    const state = buildState(
      {
        ociVersion: "1.0.2",
        linux: { namespaces: [{ type: "pid", path: "/proc/1/ns/pid" }] },
        hooks: { poststart: [hook], createRuntime: [hook] },
      },
      {
        ...inputOf(runc151),
        rootlessEuid: true,
        rootlessCgroups: true,
        systemdCgroup: true,
        notifySocket: "/run/systemd/notify",
        mounts: ["masks"],
        intelRdt: {
          path: "/sys/fs/resctrl/x",
          monitoring: "/sys/fs/resctrl/x/mon_groups/x",
          own: ["/sys/fs/resctrl/x"],
        },
      },
    );
    const poststart = [{ path: "/h", args: null, env: null, dir: "", timeout: null }];
    expect(state.bunc).toMatchObject({
      sharedPid: true,
      rootlessCgroups: true,
      systemdCgroup: true,
      hooks: { poststart },
      notifySocket: "/run/systemd/notify",
      mounts: ["masks"],
      rdtGroups: ["/sys/fs/resctrl/x"],
    });
    expect(state.bunc?.annotations).toBeUndefined();
    expect(state.rootless).toBe(true);
    expect(state.intel_rdt_path).toBe("/sys/fs/resctrl/x");
    expect(state.intel_rdt_mon_path).toBe("/sys/fs/resctrl/x/mon_groups/x");
    expect(state.config.cgroups).toMatchObject({ Systemd: true, Rootless: true, scope_prefix: "runc" });
    expect(state.config.Hooks).toMatchObject({ poststart, createRuntime: poststart, prestart: null });
  });

  test("a container without a list of namespaces shares its pids", () => {
    expect(buildState({ ociVersion: "1.0.2" }, inputOf(runc151)).bunc?.sharedPid).toBe(true);
    const own = { namespaces: [{ type: "pid" as const }] };
    expect(buildState({ ociVersion: "1.0.2", linux: own }, inputOf(runc151)).bunc?.sharedPid).toBeUndefined();
  });
});

describe("startOps", () => {
  test("keeps what a message needs, hooks with what runc's words need", () => {
    const part = new Part().at("start", "process.args");
    part.op(abi.SYS_execve, ["/bin/x"], { about: "exec /bin/x", hint: "look" });
    part.at("hooks", "hooks.startContainer[0]");
    part.op(abi.BUNC_OP_HOOK, [hookStruct({ path: "/hook", timeout: 2 }, "{}", [])]);
    expect(startOps(part.ops, 70)).toEqual([
      {
        index: 70,
        call: abi.SYS_execve,
        phase: "start",
        path: "process.args",
        about: "exec /bin/x",
        hint: "look",
      },
      {
        index: 71,
        call: abi.BUNC_OP_HOOK,
        phase: "hooks",
        path: "hooks.startContainer[0]",
        hook: { path: "/hook", timeout: 2 },
      },
    ]);
  });
});
