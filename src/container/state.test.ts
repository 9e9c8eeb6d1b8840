import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { failure } from "../testing.ts";
import { isWholeHead, parseState, parseSummary, readLabels, type State } from "./state.ts";
import { claimText, stateText, withProcess } from "./state-text.ts";

const fixture = (name: string): string =>
  readFileSync(join(import.meta.dir, "../../test/fixtures/state", name), "utf8");

const FILE = "/run/bunc/x/state.json";

function example(own: object = {}, config: object = {}): State {
  return {
    bunc: { version: 1, ociVersion: "1.3.0", bundle: "/b", rootfs: "/b/rootfs", ...own },
    id: "x",
    init_process_pid: 12,
    init_process_start: 345,
    created: "2026-11-20T23:53:25.9Z",
    cgroup_paths: { memory: "/sys/fs/cgroup/memory/x" },
    namespace_paths: {},
    config: { rootfs: "/b/rootfs", labels: ["bundle=/b"], cgroups: { devices: [] }, ...config },
  } as never;
}

describe("writing", () => {
  test("is JSON with bunc's part first and the config last", () => {
    const state = example({ annotations: { ',"config":{': '","config":{' } });
    const text = stateText(state);
    expect(JSON.parse(text)).toEqual(state);
    expect(text).toStartWith('{"bunc":{"version":1,');
    expect(text.indexOf(',"config":{')).toBe(text.lastIndexOf(',"config":{'));
    expect(text).toEndWith('"cgroups":{"devices":[]}}}');
  });

  test("a state with another process has the same config", () => {
    const state = example();
    const before = stateText(state);
    const live = withProcess(state, 99, 7);
    expect(parseState(stateText(live), FILE)).toEqual(live);
    expect(before).toContain('"init_process_pid":12');
  });

  test("a state of runc is written as it was read", () => {
    for (const name of ["runc-1.1.5.json", "runc-1.5.1.json"]) {
      const text = fixture(name);
      const state = parseState(text, FILE);
      const again = stateText(state);
      // Only the order of the fields differs; what JSON.parse would round is compared as text.
      expect(parseState(again, FILE)).toEqual(state);
      expect(again.length).toBe(text.length);
      expect(again.includes("9223372036854771712")).toBe(true);
    }
    expect(stateText(parseState(fixture("runc-1.1.5.json"), FILE))).toContain(
      '"value":18446744073709551615,"value_two":0',
    );
  });

  test("many annotations stand behind the config, and are read when they are wanted", () => {
    const annotations: Record<string, string> = { ',"config":{': "first", a: "=" };
    for (let i = 0; i < 2000; i++) annotations[`key${i}`] = "x".repeat(40);
    const state = example({ annotations, sharedPid: true });
    const text = stateText(state);
    expect(parseState(text, FILE)).toEqual(state);
    expect(stateText(parseState(text, FILE))).toBe(text);
    const head = text.slice(0, 4096);
    expect(isWholeHead(head)).toBe(true);
    let reads = 0;
    const read = (own: object) => {
      const whole = stateText(example({ annotations, ...own }));
      return parseSummary(whole.slice(0, 4096), FILE, () => {
        reads++;
        return whole;
      });
    };
    const summary = read({ sharedPid: true });
    expect([summary.pid, summary.sharedPid, reads]).toEqual([12, true, 0]);
    expect([summary.annotations, { ...summary }.annotations, reads]).toEqual([annotations, annotations, 1]);
    // The hook will want them when the file is gone.
    const hooked = read({ hooks: { poststop: [{ path: "/bin/true" }] } });
    expect(reads).toBe(2);
    expect([hooked.annotations, reads]).toEqual([annotations, 2]);
    // runc knows nothing of them.
    const { bunc, ...rest } = JSON.parse(text);
    expect(parseSummary(JSON.stringify({ ...rest, annotations }), FILE).own).toBeUndefined();
  });

  test("integers beyond 2^53 keep every digit", () => {
    const state = example({}, { cgroups: { devices: [], memory: 9223372036854775807n } });
    const text = stateText(state);
    expect(text).toContain('"memory":9223372036854775807}');
    expect(parseState(text, FILE)).toEqual(state);
  });
});

test("the first state is one that can be read, of a container without an init", () => {
  const claim = {
    id: "x",
    bundle: "/b",
    rootfs: "/b/rootfs",
    created: "2026-11-20T23:53:25Z",
    cgroupPaths: { "": "/sys/fs/cgroup/x" },
  };
  const text = claimText(claim);
  expect(isWholeHead(text)).toBe(true);
  const { own, ...summary } = parseSummary(text, FILE);
  expect(summary).toMatchObject({ ...claim, pid: -1, start: 0, sharedPid: false, ociVersion: "1.3.0" });
  expect(own?.version).toBe(1);
  expect(stateText(parseState(text, FILE))).toBe(text);
});

describe("the summary", () => {
  test("of bunc's own file needs only its beginning", () => {
    const text = stateText(example({ annotations: { a: "b" }, sharedPid: true }));
    const head = text.slice(0, text.indexOf("rootfs", text.indexOf(',"config":{')));
    expect(isWholeHead(head)).toBe(true);
    const summary = parseSummary(head, FILE);
    expect(summary).toEqual(parseSummary(text, FILE));
    expect(summary).toMatchObject({
      id: "x",
      pid: 12,
      start: 345,
      created: "2026-11-20T23:53:25.9Z",
      ociVersion: "1.3.0",
      bundle: "/b",
      rootfs: "/b/rootfs",
      annotations: { a: "b" },
      cgroupPaths: { memory: "/sys/fs/cgroup/memory/x" },
      sharedPid: true,
      rootlessCgroups: false,
      poststop: [],
    });
    expect(isWholeHead(text.slice(0, text.indexOf(',"config":{')))).toBe(false);
  });

  test("of a file of runc comes from its config", () => {
    for (const [name, version] of [
      ["runc-1.1.5.json", "1.0.2-dev"],
      ["runc-1.5.1.json", "1.3.0"],
    ] as const) {
      const text = fixture(name);
      expect(isWholeHead(text)).toBe(false);
      const summary = parseSummary(text, FILE);
      const { init_process_pid, init_process_start, created, cgroup_paths } = JSON.parse(text);
      expect(summary).toEqual({
        id: "cst-x1",
        pid: init_process_pid,
        start: init_process_start,
        created,
        ociVersion: version,
        bundle: "/tmp/cst/b",
        rootfs: "/tmp/cst/b/rootfs",
        annotations: { "org.example.a": "b=c", "org.example.empty": "" },
        cgroupPaths: cgroup_paths,
        sharedPid: false,
        rootlessCgroups: false,
        systemdCgroup: false,
        noNewKeyring: false,
        poststart: [],
        poststop: [{ path: "/bin/true", args: ["true", "x"], env: null, dir: "", timeout: 3_000_000_000 }],
        rdtGroups: [],
        rdt: undefined,
        own: undefined,
      });
    }
  });

  test("of a file of bunc that runc has rewritten comes from its config", () => {
    const { bunc: _, ...rest } = JSON.parse(stateText(example()));
    expect(parseSummary(JSON.stringify(rest), FILE)).toMatchObject({ bundle: "/b", sharedPid: true });
  });

  test("null is as good as absent", () => {
    const state = JSON.parse(fixture("runc-1.1.5.json"));
    Object.assign(state, { cgroup_paths: null, namespace_paths: null, external_descriptors: null });
    Object.assign(state.config, { labels: null, Hooks: null, namespaces: null, cgroups: null });
    expect(parseSummary(JSON.stringify(state), FILE)).toMatchObject({
      cgroupPaths: {},
      bundle: "",
      annotations: undefined,
      sharedPid: true,
      poststop: [],
    });
  });

  test("a class of resctrl that the bundle names is not the container's", () => {
    const state = JSON.parse(fixture("runc-1.5.1.json"));
    state.intel_rdt_path = "/sys/fs/resctrl/x";
    state.intel_rdt_mon_path = "/sys/fs/resctrl/x/mon_groups/x";
    state.config.intel_rdt = { closID: "x" };
    const summary = parseSummary(JSON.stringify(state), FILE);
    expect(summary.rdtGroups).toEqual(["/sys/fs/resctrl/x/mon_groups/x"]);
    expect(summary.rdt).toEqual({
      path: "/sys/fs/resctrl/x",
      monitoring: "/sys/fs/resctrl/x/mon_groups/x",
    });
    state.config.intel_rdt = {};
    expect(parseSummary(JSON.stringify(state), FILE).rdtGroups).toEqual([
      "/sys/fs/resctrl/x/mon_groups/x",
      "/sys/fs/resctrl/x",
    ]);
  });

  test("hostile keys stay data", () => {
    const state = JSON.parse(fixture("runc-1.5.1.json"));
    state.config.labels = ["__proto__=x", "constructor=y", "nothing", "=empty", "bundle=/b"];
    const { annotations, bundle } = parseSummary(JSON.stringify(state), FILE);
    expect(Object.entries(annotations ?? {})).toEqual([
      ["__proto__", "x"],
      ["constructor", "y"],
      ["", "empty"],
    ]);
    expect(bundle).toBe("/b");
  });

  test("labels: the last bundle counts, as in libcontainer", () => {
    expect(readLabels(["bundle=annotation", "bundles=1", "bundle=/real"])).toEqual({
      bundle: "/real",
      annotations: { bundles: "1" },
    });
    expect(readLabels(undefined)).toEqual({ bundle: "", annotations: undefined });
  });
});

describe("what cannot be read names the file and what to do", () => {
  const whole = stateText(example());
  const bad: [string, string, string][] = [
    ["an empty file", "", "is empty"],
    ["only blanks", " \n", "is empty"],
    ["null", "null", "is not an object"],
    ["a number", "1", "is not an object"],
    ["garbage", "\u0000\u0001garbage", "cannot be read: invalid JSON"],
    ["a file cut in the head", whole.slice(0, 60), "cannot be read: invalid JSON"],
    ["a file of runc that is cut", fixture("runc-1.1.5.json").slice(0, 3000), "cannot be read: invalid JSON"],
    ["a list", "[]", "has no id"],
    ["no pid", '{"id":"x"}', "has no init_process_pid"],
    ["a pid that is text", '{"id":"x","init_process_pid":"1"}', "has no init_process_pid"],
    ["a pid beyond 2^53", '{"id":"x","init_process_pid":18446744073709551615}', "has no init_process_pid"],
    ["no config", whole.slice(0, whole.indexOf(',"config":{')).concat("}"), ""],
    ["no rootfs", fixture("runc-1.5.1.json").replace('"rootfs"', '"other"'), "has no config.rootfs"],
    [
      "cgroups that are no object",
      whole.replace('{"memory":"/sys/fs/cgroup/memory/x"}', '"x"'),
      "has a cgroup_paths that is no object",
    ],
    [
      "a cgroup that is no path",
      whole.replace('"/sys/fs/cgroup/memory/x"', "7"),
      "has a cgroup_paths with something that is no string",
    ],
    ["no bundle", whole.replace('"bundle":"/b",', ""), "has no bunc.bundle"],
  ];
  for (const [name, text, words] of bad) {
    test(name, () => {
      const error = failure(() => parseSummary(text, FILE));
      expect(error.message).toStartWith(`${FILE} `);
      expect(error.message).toContain(words || "has no config");
      expect(error.fields).toMatchObject({ code: "state", hint: expect.stringContaining("delete --force") });
    });
  }

  test("a file of a newer bunc", () => {
    const error = failure(() => parseSummary(stateText(example({ version: 2 })), FILE));
    expect(error.message).toBe(`${FILE} was written by a newer bunc (format 2)`);
  });
});
