/** The cache: keys, hits without the library, damage of every kind, and the bounded number of files. */
import { describe, expect, test } from "bun:test";
import type { LinuxSeccomp } from "../oci/config.ts";
import { cacheKey, decodeEntry, encodeEntry, loadSeccomp, SLOTS, slotPath } from "./cache.ts";
import { compileSeccomp } from "./compile.ts";
import { engineProfile, profileOf, testLibrary } from "./testing.ts";

/** A directory in memory that counts what is done to it. */
class Files {
  readonly content = new Map<string, Uint8Array>();
  reads = 0;
  writes = 0;
  opened = 0;
  failWrites = false;

  read = (path: string): Uint8Array | undefined => {
    this.reads++;
    return this.content.get(path);
  };
  writeAtomic = (path: string, bytes: Uint8Array): void => {
    this.writes++;
    if (this.failWrites) throw new Error("ENOSPC");
    this.content.set(path, bytes.slice());
  };
  load(profile: unknown, buildId = "build 1") {
    const library = () => {
      this.opened++;
      return testLibrary();
    };
    return loadSeccomp(profileOf(profile), { root: "/run/bunc", files: this, buildId, library });
  }
}

const small = (value: unknown, extra: object = {}) => ({
  defaultAction: "SCMP_ACT_ERRNO",
  syscalls: [
    { names: ["read", "no_such"], action: "SCMP_ACT_ALLOW", args: [{ index: 0, value, op: "SCMP_CMP_EQ" }] },
  ],
  ...extra,
});
const hex = (profile: unknown, build = "b") =>
  Buffer.from(cacheKey(profileOf(profile), build)).toString("hex");

describe("keys", () => {
  test("differ in everything that decides the program", () => {
    const profiles = [
      small(1),
      small(2),
      small("1"),
      small(2 ** 53),
      small(2n ** 53n + 1n),
      small(18446744073709551615n),
      small("18446744073709551615"),
      small({ rawJSON: "1" }),
      small(1, { flags: [] }),
      small(1, { flags: ["SECCOMP_FILTER_FLAG_LOG"] }),
      small(1, { architectures: ["SCMP_ARCH_X86"] }),
      small(1, { defaultErrnoRet: 1 }),
      small(1, { defaultAction: "SCMP_ACT_KILL" }),
      { ...small(1), syscalls: [] },
    ];
    const keys = new Set(profiles.map((profile) => hex(profile)));
    expect(keys.size).toBe(profiles.length);
    expect(hex(small(1), "a")).not.toBe(hex(small(1), "b"));
    expect(hex(small(1))).toHaveLength(64);
  });

  test("do not differ in what does not", () => {
    expect(hex(small(1, { listenerPath: "/a", listenerMetadata: "x" }))).toBe(hex(small(1)));
    expect(hex(small(1, { flags: null, architectures: undefined }))).toBe(hex(small(1)));
    expect(hex(small(5n))).toBe(hex(small(5)));
  });

  test("cannot be made equal by moving text from one field to another", () => {
    expect(hex({ defaultAction: 'A",null,["B', architectures: null })).not.toBe(
      hex({ defaultAction: "A", architectures: ["B"] }),
    );
  });
});

describe("loadSeccomp", () => {
  test("a second start takes the filter from the cache, without the library", () => {
    const files = new Files();
    const profile = engineProfile();
    const compiled = files.load(profile);
    expect(compiled).toEqual(compileSeccomp(profile, testLibrary())!);
    expect([files.opened, files.writes, files.content.size]).toEqual([1, 1, 1]);
    expect([...files.content.keys()][0]).toMatch(/^\/run\/bunc\/\.seccomp-[0-3][0-9a-f]$/);
    expect(files.load(profile)).toEqual(compiled!);
    expect(files.load({ ...profile, listenerPath: "/x" })).toEqual(compiled!);
    expect([files.opened, files.writes]).toEqual([1, 1]);
    expect(compiled!.warnings).toHaveLength(1);
  });

  test("another build does not take it", () => {
    const files = new Files();
    files.load(small(1), "build 1");
    files.load(small(1), "build 2");
    expect(files.opened).toBe(2);
  });

  test("a profile that asks for nothing reads and writes nothing", () => {
    const files = new Files();
    expect(files.load({})).toBeUndefined();
    expect([files.reads, files.writes, files.opened]).toEqual([0, 0, 0]);
  });

  test("errors are not stored, and a missing listenerPath is found on a hit too", () => {
    const files = new Files();
    expect(() => files.load(small("x"))).toThrow("is not an integer");
    expect(() => files.load(small("x"))).toThrow("is not an integer");
    expect(files.writes).toBe(0);
    const notify = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_NOTIFY" }],
    };
    expect(files.load({ ...notify, listenerPath: "/run/agent" })!.listener).toBe(true);
    expect(() => files.load(notify)).toThrow("seccomp listenerPath is not set");
  });

  test("an entry that read() does not trust is compiled again", () => {
    const files = new Files();
    files.load(small(1));
    files.read = () => undefined;
    files.load(small(1));
    expect([files.opened, files.writes, files.content.size]).toEqual([2, 2, 1]);
  });

  test("a directory that cannot be written does not matter", () => {
    const files = new Files();
    files.failWrites = true;
    expect(files.load(small(1))!.filter.length).toBeGreaterThan(0);
    expect(files.load(small(1))!.filter.length).toBeGreaterThan(0);
    expect(files.opened).toBe(2);
  });

  test("a damaged entry is noticed and replaced", () => {
    for (const damage of [
      (b: Uint8Array) => b.subarray(0, 100),
      (b: Uint8Array) => b.fill(0, 60),
      () => new Uint8Array(0),
    ]) {
      const files = new Files();
      const good = files.load(small(1))!;
      const [path, bytes] = [...files.content][0]!;
      files.content.set(path, damage(bytes));
      expect(files.load(small(1))).toEqual(good);
      expect(files.load(small(1))).toEqual(good);
      expect([files.opened, files.writes, files.content.size]).toEqual([2, 2, 1]);
    }
  });

  test("a thousand profiles leave at most SLOTS files, and each start gets its own filter", () => {
    const files = new Files();
    const lib = testLibrary();
    const programs = new Map<string, string>();
    for (let i = 0; i < 1000; i++) {
      const compiled = files.load(small(i))!;
      programs.set(String(i), Buffer.from(compiled.filter).toString("hex"));
    }
    expect(files.content.size).toBeLessThanOrEqual(SLOTS);
    expect(new Set(programs.values()).size).toBe(1000);
    for (let i = 0; i < 1000; i += 97) {
      const expected = compileSeccomp(profileOf(small(i)) as LinuxSeccomp, lib)!.filter;
      expect(files.load(small(i))!.filter).toEqual(expected);
    }
  });

  test("profiles that share their first slot use the second", () => {
    const files = new Files();
    const firstSlot = (i: number) => slotPath("", cacheKey(profileOf(small(i)), "build 1")[0]!);
    const secondSlot = (i: number) => slotPath("", cacheKey(profileOf(small(i)), "build 1")[1]!);
    const mine = firstSlot(0);
    let other = 1;
    while (firstSlot(other) !== mine || secondSlot(other) === mine) other++;
    for (let round = 0; round < 3; round++) {
      files.load(small(0));
      files.load(small(other));
    }
    expect([files.opened, files.content.size]).toEqual([2, 2]);
  });
});

describe("entries", () => {
  const key = cacheKey(profileOf(small(1)), "b");
  const compiled = {
    filter: Uint8Array.from({ length: 24 }, (_, i) => i),
    flags: 12,
    listener: true,
    warnings: ["a: ü", "b"],
  };
  const bytes = encodeEntry(compiled, key);

  test("come back as they were", () => {
    expect(decodeEntry(bytes, key)).toEqual(compiled);
    const bare = { filter: compiled.filter, flags: 0, listener: false, warnings: [] };
    expect(decodeEntry(encodeEntry(bare, key), key)).toEqual(bare);
    // A view into a larger buffer, as a reader may return it.
    const larger = new Uint8Array(bytes.length + 7);
    larger.set(bytes, 5);
    expect(decodeEntry(larger.subarray(5, 5 + bytes.length), key)).toEqual(compiled);
  });

  test("of another key are not taken", () => {
    expect(decodeEntry(bytes, cacheKey(profileOf(small(2)), "b"))).toBeUndefined();
  });

  test("truncated, extended or with any bit changed are refused", () => {
    expect(decodeEntry(undefined, key)).toBeUndefined();
    for (let size = 0; size < bytes.length; size++)
      expect(decodeEntry(bytes.subarray(0, size), key)).toBeUndefined();
    expect(decodeEntry(Uint8Array.of(...bytes, 0), key)).toBeUndefined();
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 1; bit < 256; bit <<= 1) {
        const broken = bytes.slice();
        broken[at]! ^= bit;
        expect(decodeEntry(broken, key)).toBeUndefined();
      }
    }
  });
});
