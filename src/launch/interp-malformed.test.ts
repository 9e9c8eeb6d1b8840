/**
 * Parts that are not well formed: refused with -EINVAL or -EFBIG before anything is executed, and never a crash. Needs
 * a build and, for the sanitizers, gcc with libasan; no root.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as abi from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { sys } from "../linux/lib.ts";
import { encodePart } from "./encode.ts";
import { Part, Slot, Struct } from "./program.ts";
import { Random } from "./testing.ts";
import { inTemporary } from "./testing-run.ts";

const { bunc_part_: PART, bunc_op_: OP, bunc_state_: STATE, sizeof_ } = abi;
const REPOSITORY = join(import.meta.dir, "../..");

/** Runs bytes as a part of `size` bytes; "" or the errno by name. */
function load(bytes: Uint8Array, size = bytes.length): string {
  const state = new Uint8Array(sizeof_.bunc_state);
  const result = sys(abi.BUNC_CALL_RUN, bytes, size, state);
  const view = new DataView(state.buffer);
  if (result < 0) expect(view.getInt32(STATE.error, true)).toBe(-result);
  return result < 0 ? errnoName(-result) : "";
}

/** A part that is fine: one operation with a string, a slot and a structure with two pointers. */
function fine(): { bytes: Uint8Array; view: DataView; op: number; relocs: number; data: number } {
  const part = new Part();
  const struct = new Struct(16, "two").pointer(0, "a").pointer(8, "b");
  part.op(abi.SYS_getpid, ["text", new Slot(1, "one"), struct], { slot: new Slot(2, "two") });
  const bytes = encodePart(part.ops, { first: 7 });
  const view = new DataView(bytes.buffer);
  const op = sizeof_.bunc_part;
  const relocs = op + sizeof_.bunc_op;
  return { bytes, view, op, relocs, data: relocs + view.getUint32(PART.nrelocs, true) * 4 };
}

/** A fine part after a change. */
function changed(change: (part: ReturnType<typeof fine>) => void): Uint8Array {
  const part = fine();
  change(part);
  return part.bytes;
}

describe("a part is refused", () => {
  test("not when it is fine", () => {
    expect(load(fine().bytes)).toBe("");
  });

  test("when it is cut off anywhere", () => {
    const { bytes } = fine();
    for (let size = 0; size < bytes.length; size++) {
      expect([size, load(bytes.slice(), size)]).toEqual([size, "EINVAL"]);
      const short = bytes.slice(0, Math.max(size, 8));
      new DataView(short.buffer).setUint32(PART.size, size, true);
      expect([size, load(short, size)]).toEqual([size, "EINVAL"]);
    }
  });

  test.each(["magic", "size", "nops", "nrelocs", "data_size"] as const)("when its %s is wrong", (field) => {
    const right = fine().view.getUint32(PART[field], true);
    for (const value of [0, 1, right - 1, right + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
      if (value === right) continue;
      const bytes = changed(({ view }) => view.setUint32(PART[field], value, true));
      expect([value, load(bytes)]).toEqual([value, "EINVAL"]);
    }
  });

  test("when its sizes add up only modulo 2^32", () => {
    const bytes = changed(({ view }) => {
      // 2^26 operations of 64 bytes are 2^32 bytes.
      view.setUint32(PART.nops, view.getUint32(PART.nops, true) + 2 ** 32 / sizeof_.bunc_op, true);
    });
    expect(load(bytes)).toBe("EINVAL");
    const relocs = changed(({ view }) => {
      view.setUint32(PART.nrelocs, (view.getUint32(PART.nrelocs, true) + 2 ** 30) >>> 0, true);
    });
    expect(load(relocs)).toBe("EINVAL");
  });

  test("when a pointer lies outside of the data", () => {
    const size = fine().view.getUint32(PART.data_size, true);
    for (const value of [size - 7, size, size + 1, 0xfffffff8, 0xffffffff]) {
      expect(load(changed(({ view, relocs }) => view.setUint32(relocs, value, true)))).toBe("EINVAL");
    }
  });

  test("when a pointer leads outside of the data, or is listed twice", () => {
    const size = fine().view.getUint32(PART.data_size, true);
    for (const value of [BigInt(size) + 1n, 1n << 32n, 1n << 63n, 0xffffffffffffffffn]) {
      const bytes = changed(({ view, relocs, data }) => {
        view.setBigUint64(data + view.getUint32(relocs, true), value, true);
      });
      expect(load(bytes)).toBe("EINVAL");
    }
    const twice = changed(({ view, relocs }) =>
      view.setUint32(relocs + 4, view.getUint32(relocs, true), true),
    );
    expect(load(twice)).toBe("EINVAL");
  });

  test("when an argument leads outside of the data", () => {
    const size = fine().view.getUint32(PART.data_size, true);
    for (const value of [BigInt(size) + 1n, 1n << 32n, 0xffffffffffffffffn]) {
      expect(load(changed(({ view, op }) => view.setBigUint64(op + OP.args, value, true)))).toBe("EINVAL");
    }
  });

  test("when a slot is out of range", () => {
    for (const value of [abi.BUNC_SLOTS, 200, abi.BUNC_NO_SLOT - 1]) {
      expect(load(changed(({ view, op }) => view.setUint8(op + OP.slot, value)))).toBe("EINVAL");
    }
    expect(load(changed(({ view, op }) => view.setUint8(op + OP.slot, abi.BUNC_NO_SLOT)))).toBe("");
    for (const value of [BigInt(abi.BUNC_SLOTS), 1n << 32n, 0xffffffffffffffffn]) {
      expect(load(changed(({ view, op }) => view.setBigUint64(op + OP.args + 8, value, true)))).toBe(
        "EINVAL",
      );
    }
    for (const value of [abi.BUNC_SLOTS + 1, 0xffff]) {
      expect(load(changed(({ view, op }) => view.setUint16(op + OP.log_slot, value, true)))).toBe("EINVAL");
    }
  });

  test("when an argument is of no known kind", () => {
    for (let argument = 0; argument < 6; argument++) {
      for (const kind of [3, 7, 15]) {
        const bytes = changed(({ view, op }) => {
          const tags = view.getUint32(op + OP.tags, true) & ~(15 << (4 * argument));
          view.setUint32(op + OP.tags, tags | (kind << (4 * argument)), true);
        });
        expect([argument, kind, load(bytes)]).toEqual([argument, kind, "EINVAL"]);
      }
    }
  });

  test("when it is larger than any part", () => {
    const size = abi.BUNC_MAX_PART + 8;
    const bytes = new Uint8Array(size);
    const view = new DataView(bytes.buffer);
    view.setUint32(PART.magic, abi.BUNC_MAGIC, true);
    view.setUint32(PART.size, size, true);
    view.setUint32(PART.data_size, size - sizeof_.bunc_part, true);
    expect(load(bytes)).toBe("EFBIG");
  });

  test("as a whole: no operation of it is executed", () => {
    const part = new Part();
    part.op(abi.SYS_getpid, [], { slot: new Slot(5, "pid") });
    part.op(abi.SYS_getpid, [new Slot(3, "three")]);
    const bytes = encodePart(part.ops, { first: 0 });
    new DataView(bytes.buffer).setBigUint64(sizeof_.bunc_part + sizeof_.bunc_op + OP.args, 64n, true);
    const state = new Uint8Array(sizeof_.bunc_state);
    expect(sys(abi.BUNC_CALL_RUN, bytes, bytes.length, state)).toBe(-abi.EINVAL);
    expect(new DataView(state.buffer).getBigInt64(STATE.slots + 5 * 8, true)).toBe(0n);
  });
});

test("random corruption never crashes, and is answered as the format says", () => {
  const child = Bun.spawnSync(
    [process.execPath, join(REPOSITORY, "test/unit-c/fuzz-parts.ts"), "1", "6000"],
    {
      cwd: REPOSITORY,
      timeout: 60_000,
    },
  );
  expect([child.exitCode, child.signalCode ?? "", child.stderr.toString()]).toEqual([0, "", ""]);
  const answers: Record<string, number> = JSON.parse(child.stdout.toString());
  // Both happen, and often.
  expect(answers["0"]).toBeGreaterThan(500);
  expect(answers[String(-abi.EINVAL)]).toBeGreaterThan(500);
}, 90_000);

describe("under the sanitizers", () => {
  const dir = mkdtempSync(join(tmpdir(), "bunc-sanitize-"));
  const binary = join(dir, "sanitize");
  // What the Makefile makes the interpreter of.
  const makefile = readFileSync(join(REPOSITORY, "Makefile"), "utf8");
  const sources = /^INTERP := (.*)$/m.exec(makefile)![1]!.split(" ");
  const flags = ["-g", "-O1", "-std=gnu17", "-D_GNU_SOURCE", "-fsanitize=address,undefined"];
  const built = Bun.spawnSync(
    ["gcc", ...flags, "-fno-sanitize-recover=all", "-o", binary, "test/unit-c/sanitize.c", ...sources],
    { cwd: REPOSITORY, stderr: "pipe" },
  );
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  // Without libasan there is nothing to run; any other reason must not pass unseen.
  const missing = /cannot find.*asan|asan.*not found/.test(built.stderr.toString());

  function run(args: string[], input = ""): [number | null, string] {
    const child = Bun.spawnSync([binary, ...args], { stdin: Buffer.from(input), timeout: 60_000 });
    return [child.exitCode, child.stderr.toString()];
  }

  test.skipIf(missing)("the program builds", () => {
    expect([built.exitCode, built.stderr.toString()]).toEqual([0, ""]);
  });

  test.skipIf(missing)("corrupted parts", () => {
    expect(run(["load", "1", "30000"])).toEqual([0, ""]);
  });

  test.skipIf(missing)("random passwd files", () => {
    expect(run(["home", "1", "2000"])).toEqual([0, ""]);
  });

  test.skipIf(missing)("random paths in a tree of random links", async () => {
    await inTemporary((root) => {
      const random = new Random(1);
      const names = ["a", "b", "c", "..", ".", "", "d/e", "n".repeat(255), "x".repeat(200), "/"];
      const path = () => Array.from({ length: 1 + random.below(8) }, () => random.pick(names)).join("/");
      for (const name of ["a", "b", "c", "f"]) {
        for (const link of ["a", "b", "c", "d"]) {
          if (random.below(2)) continue;
          mkdirSync(join(root, name), { recursive: true });
          symlinkSync(path() || ".", join(root, name, link));
        }
        symlinkSync(
          path()
            .repeat(1 + random.below(20))
            .slice(0, 4000),
          join(root, `link-${name}`),
        );
      }
      const paths = Array.from(
        { length: 300 },
        () => (random.below(3) ? `/link-${random.pick(["a", "b", "f"])}/` : "/") + path(),
      );
      const long = [4094, 4095, 4096, 5000].map((size) => `/${"a".repeat(254)}`.repeat(20).slice(0, size));
      expect(run(["mkpath", root], `${[...paths, ...long].join("\n")}\n`)).toEqual([0, ""]);
    });
  });
});
