/** Which cgroups an exec joins, and by which operations. */
import { describe, expect, test } from "bun:test";
import { BuncError } from "../errors.ts";
import { Part } from "../launch/program.ts";
import * as abi from "../linux/abi.gen.ts";
import { failure as refused } from "../testing.ts";
import { bornIn, enterV1, execCgroups, parseSubCgroups } from "./exec-cgroup.ts";

const V1 = { "": "/u/c", devices: "/d/c", cpu: "/cpu/c", cpuacct: "/cpu/c", freezer: "/f/c" };
const V2 = { "": "/sys/fs/cgroup/c" };

const failure = (run: () => unknown): string => refused(run).message;

const join = (paths: Record<string, string>, ...args: string[]) => execCgroups(paths, parseSubCgroups(args));

describe("--cgroup", () => {
  test("names directories below the container's", () => {
    expect(join(V2)).toEqual(V2);
    expect(join(V2, "/")).toEqual(V2);
    expect(join(V2, "/a//./b/")).toEqual({ "": "/sys/fs/cgroup/c/a/b" });
    expect(join(V1, "cpu,cpuacct:x", "devices:/y/z")).toEqual({
      ...V1,
      cpu: "/cpu/c/x",
      cpuacct: "/cpu/c/x",
      devices: "/d/c/y/z",
    });
    expect(join(V1, "x")).toEqual({
      "": "/u/c",
      devices: "/d/c/x",
      cpu: "/cpu/c/x",
      cpuacct: "/cpu/c/x",
      freezer: "/f/c/x",
    });
    // A path may hold colons of its own.
    expect(join(V1, "cpu:a:b").cpu).toBe("/cpu/c/a:b");
  });

  test("that leads out, or is no such thing, is refused", () => {
    for (const path of ["..", "../x", "a/../..", "cpu:../c"]) {
      expect(failure(() => join(V1, path))).toStartWith("bad sub cgroup path: ");
    }
    expect(failure(() => join(V2, "cpu:x"))).toBe("unknown controller cpu in --cgroup");
    expect(failure(() => join({ devices: "/d" }, "toString:x"))).toBe(
      "unknown controller toString in --cgroup",
    );
    expect(failure(() => join(V1, ":x"))).toContain("empty <controller> prefix");
    expect(failure(() => join(V1, "a", "cpu:x"))).toContain("missing <controller>: prefix");
    expect(failure(() => join(V1, "cpu:a", "cpu:b"))).toContain("controller cpu specified multiple times");
  });
});

test("v1: each directory is entered once, cgroup2 by the birth", () => {
  const part = new Part();
  enterV1(part, V1, false);
  const written = part.ops.filter((op) => op.call === abi.BUNC_OP_WRITE_AT).map((op) => op.args[1]);
  expect(written).toEqual(["/d/c/tasks", "/cpu/c/tasks", "/f/c/tasks"]);
  const none = new Part();
  enterV1(none, V2, false);
  expect(none.ops).toEqual([]);
});

describe("cgroup2", () => {
  const refusal = new BuncError("clone3: device or resource busy", { syscall: "clone3", errno: "EBUSY" });

  test("without one it is born anywhere", async () => {
    const birth = { path: undefined, optional: false, otherwise: 1 };
    expect(await bornIn(birth, (cgroup) => [cgroup])).toEqual([undefined]);
  });

  test("one that cannot be opened is an error, unless it is optional", async () => {
    const birth = { path: "/nonexistent", optional: false, otherwise: 0 };
    const message = await bornIn(birth, () => "").catch((error: BuncError) => error.message);
    expect(message).toBe("can't open cgroup: open /nonexistent: no such file or directory");
    expect(await bornIn({ ...birth, optional: true }, (cgroup) => [cgroup])).toEqual([undefined]);
  });

  test("one that takes no processes is an error in runc's words, and the descriptor is closed", async () => {
    let used = -1;
    const birth = { path: "/", optional: false, otherwise: 0 };
    const spawn = (cgroup: number | undefined): never => {
      used = cgroup!;
      throw refusal;
    };
    const error = (await bornIn(birth, spawn).catch((caught) => caught)) as BuncError;
    expect(error.message).toMatch(/ adding pid .* to cgroups: clone3: device or resource busy/);
    expect(used).toBeGreaterThan(2);
    expect(await Bun.file(`/proc/self/fd/${used}`).exists()).toBe(false);
  });

  test("any other failure of the birth is told as it is", async () => {
    const other = new BuncError("x", { syscall: "clone3", errno: "EAGAIN" });
    const birth = { path: "/", optional: true, otherwise: 0 };
    const caught = await bornIn(birth, () => {
      throw other;
    }).catch((error) => error);
    expect(caught).toBe(other);
  });
});
