// resctrl is played by a plain directory: what the kernel makes of the writes cannot be seen here.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { renderError } from "../errors.ts";
import { Part } from "../launch/program.ts";
import { failure } from "../testing.ts";
import type { Rdt } from "./resctrl.ts";
import { assumeRdt, enterGroups, planRdt, RdtGroup, updateRdt } from "./resctrl.ts";
import { lines } from "./testing.ts";

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "bunc-resctrl-"));
  for (const feature of ["L3", "MB"]) mkdirSync(join(root, "info", feature), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A group as the kernel shows one. */
function makeGroup(name: string, schemata = "    MB:0=100\n    L3:0=fffff\n"): string {
  const path = join(root, name);
  mkdirSync(join(path, "mon_groups"), { recursive: true });
  writeFileSync(join(path, "tasks"), "");
  writeFileSync(join(path, "schemata"), schemata);
  return path;
}

const plan = (rdt: Rdt) => planRdt(rdt, "c1", root);
const below = (text: string) => text.replaceAll(root, "R");

describe("the group", () => {
  const cases: [name: string, rdt: Rdt, path: string, own: string[]][] = [
    ["a container's own", {}, "R/c1", ["R/c1"]],
    ["a class that is named", { closID: "gold" }, "R/gold", []],
    ["the root's", { closID: "/" }, "R", []],
    ["with a monitoring group of its own", { enableMonitoring: true }, "R/c1", ["R/c1"]],
    ["one in a class", { closID: "gold", enableMonitoring: true }, "R/gold", ["R/gold/mon_groups/c1"]],
  ];
  for (const [name, rdt, path, own] of cases) {
    test(name, () => {
      const group = plan(rdt);
      expect(below(group.path)).toBe(path);
      expect(group.own.map(below)).toEqual(own);
    });
  }

  test("one of the container's name that was there before is not the container's", () => {
    makeGroup("c1");
    expect(plan({}).own).toEqual([]);
  });

  test("what is done, in which order", () => {
    const group = plan({
      l3CacheSchema: "L3:0=f",
      memBwSchema: "MB:0=20",
      schemata: ["L3CODE:0=f", "L3DATA:0=f0"],
      enableMonitoring: true,
    });
    const enter = new Part();
    group.compileEnter(enter);
    expect(
      [...lines(group.compileCreate()), ...lines(enter), ...lines(group.compileLimits())].map(below),
    ).toEqual([
      "mkdirat . R/c1 493 ?EEXIST",
      "mkdirat . R/c1/mon_groups/c1 493 ?EEXIST",
      "R/c1/tasks < 0",
      "R/c1/mon_groups/c1/tasks < 0",
      "R/c1/schemata < L3:0=f\nMB:0=20\nL3CODE:0=f\nL3DATA:0=f0\n",
    ]);
    expect(lines(group.compileRemove()).map(below)).toEqual(["unlinkat . R/c1 512"]);
    expect(lines(plan({ closID: "gold", schemata: [] }).compileLimits())).toEqual([]);
  });

  test("an exec joins it, and goes on when it is gone", () => {
    const part = new Part();
    enterGroups(part, "/r/g", undefined, "exec", true);
    expect(lines(part)).toEqual(["/r/g/tasks < 0 ?ENOENT"]);
  });
});

describe("making and removing", () => {
  test("shares of a class that is there", () => {
    const path = makeGroup("gold");
    const group = plan({ closID: "gold", l3CacheSchema: "L3:0=f", schemata: ["MB:0=50"] });
    group.create();
    group.limit();
    expect(readFileSync(join(path, "schemata"), "utf8")).toStartWith("L3:0=f\nMB:0=50\n");
    group.remove();
    expect(existsSync(path)).toBe(true);
  });

  test("its own directories, and away again", () => {
    const group = plan({});
    group.create();
    expect(existsSync(join(root, "c1"))).toBe(true);
    group.remove();
    expect(existsSync(join(root, "c1"))).toBe(false);
  });

  test("undo removes what was made and nothing else", () => {
    const path = makeGroup("gold");
    const group = plan({ closID: "gold", enableMonitoring: true });
    group.create();
    expect(existsSync(join(path, "mon_groups/c1"))).toBe(true);
    group.undo();
    expect(existsSync(join(path, "mon_groups/c1"))).toBe(false);
    expect(existsSync(path)).toBe(true);
  });

  test("a class without shares must be there", () => {
    const error = failure(() => plan({ closID: "gold" }).create());
    expect(error.message).toContain(
      "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)",
    );
    expect(existsSync(join(root, "gold"))).toBe(false);
    // With shares it is made, and stays.
    const group = plan({ closID: "gold", schemata: ["L3:0=f"] });
    group.create();
    group.remove();
    expect(existsSync(join(root, "gold"))).toBe(true);
  });

  test("a refusal says what the kernel said", () => {
    writeFileSync(join(root, "info/last_cmd_status"), "mask out of range\n");
    mkdirSync(join(root, "gold"));
    const group = plan({ closID: "gold", l3CacheSchema: "L3:0=fffffffff" });
    const error = failure(() => group.limit());
    expect(error.message).toContain('intelrdt: unable to write "L3:0=fffffffff\\n"');
    expect(error.message).toEndWith("last_cmd_status: mask out of range");
    expect(renderError(error)).not.toContain("\n");
  });
});

describe("hosts that lack it", () => {
  test("no resctrl, no CAT, no MBA: runc's words", () => {
    expect(failure(() => planRdt({}, "c1", null)).message).toBe(
      "intelRdt is specified in config, but Intel RDT is not enabled",
    );
    rmSync(join(root, "info"), { recursive: true });
    expect(failure(() => plan({ l3CacheSchema: "L3:0=f" })).message).toBe(
      "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled",
    );
    expect(failure(() => plan({ memBwSchema: "MB:0=1" })).fields.path).toBe("linux.intelRdt.memBwSchema");
    expect(plan({ schemata: ["L2:0=f"] }).path).toBe(join(root, "c1"));
  });

  test("explain assumes the usual place", () => {
    const { group, assumed } = assumeRdt({ closID: "x" }, "c1");
    expect(group).toBeInstanceOf(RdtGroup);
    if (assumed) expect(group.path).toBe("/sys/fs/resctrl/x");
  });
});

describe("update", () => {
  test("changes what is given and keeps the rest", () => {
    const path = makeGroup("c1");
    const old = { l3_cache_schema: "L3:0=f", schemata: ["L2:0=1"] };
    const changed = updateRdt(old, path, { memBwSchema: "MB:0=30" }, root);
    expect(changed as object).toEqual({ ...old, memBwSchema: "MB:0=30" });
    expect(readFileSync(join(path, "schemata"), "utf8")).toStartWith("L3:0=f\nMB:0=30\nL2:0=1\n");
  });

  test("errors in runc's words", () => {
    const path = makeGroup("c1");
    expect(failure(() => updateRdt(undefined, undefined, { l3CacheSchema: "L3:0=f" }, root)).message).toBe(
      "updating a non-existent Intel RDT configuration is not supported",
    );
    expect(
      failure(() => updateRdt({}, join(root, "gone"), { l3CacheSchema: "L3:0=f" }, root)).message,
    ).toContain("unable to write");
    rmSync(join(root, "info"), { recursive: true });
    expect(failure(() => updateRdt({}, path, { l3CacheSchema: "L3:0=f" }, root)).message).toBe(
      "Intel RDT/CAT: l3 cache schema is not enabled",
    );
    expect(failure(() => updateRdt({}, path, { memBwSchema: "MB:0=1" }, root)).message).toBe(
      "Intel RDT/MBA: memory bandwidth schema is not enabled",
    );
  });
});
