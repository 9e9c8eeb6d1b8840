import { expect, test } from "bun:test";
import { alignSegments } from "./align.ts";

/** An ELF file of two pages' header and two more segments, each filled with a byte of its own, and a section of each. */
function elf(vaddrs: readonly bigint[]): Uint8Array {
  const [PHOFF, SEGMENT, SHOFF] = [64, 0x1000, 0x4000];
  const file = new Uint8Array(SHOFF + 64 * vaddrs.length);
  const view = new DataView(file.buffer);
  view.setUint32(0, 0x7f454c46);
  view.setUint16(4, 0x0201);
  view.setBigUint64(32, BigInt(PHOFF), true);
  view.setBigUint64(40, BigInt(SHOFF), true);
  view.setUint16(54, 56, true);
  view.setUint16(56, vaddrs.length, true);
  view.setUint16(58, 64, true);
  view.setUint16(60, vaddrs.length, true);
  vaddrs.forEach((vaddr, i) => {
    view.setUint32(PHOFF + i * 56, 1, true);
    view.setBigUint64(PHOFF + i * 56 + 8, BigInt(i * SEGMENT), true);
    view.setBigUint64(PHOFF + i * 56 + 16, vaddr, true);
    view.setBigUint64(SHOFF + i * 64 + 24, BigInt(i * SEGMENT), true);
    if (i > 0) file.fill(i, i * SEGMENT, (i + 1) * SEGMENT);
  });
  return file;
}

/** Where segments and sections lie in the file. */
function offsets(file: Uint8Array): { segments: number[]; sections: number[] } {
  const view = new DataView(file.buffer);
  const each = (table: number, size: number, field: number) =>
    Array.from({ length: view.getUint16(56, true) }, (_, i) =>
      Number(view.getBigUint64(Number(view.getBigUint64(table, true)) + i * size + field, true)),
    );
  return { segments: each(32, 56, 8), sections: each(40, 64, 24) };
}

test("segments lie in the file as in memory, with what is in them and what speaks of them", () => {
  const before = elf([0x200000n, 0x600000n + 0x9000n, 0xa00000n + 0x8000n]);
  const after = alignSegments(before);
  const { segments, sections } = offsets(after);
  expect(segments).toEqual([0, 0x9000, 0x208000]);
  expect(sections).toEqual(segments);
  expect(after.subarray(0x9000, 0xa000).every((byte) => byte === 1)).toBe(true);
  expect(after.subarray(0x208000, 0x209000).every((byte) => byte === 2)).toBe(true);
  // What follows the last segment follows it still.
  expect(after.length - before.length).toBe(0x208000 - 0x2000);
});

test("an executable that is aligned already stays as it is", () => {
  const aligned = alignSegments(elf([0x200000n, 0x601000n, 0xa02000n]));
  expect(aligned).toEqual(elf([0x200000n, 0x601000n, 0xa02000n]));
  const moved = alignSegments(elf([0n, 0x7000n]));
  expect(alignSegments(moved)).toEqual(moved);
});

test("what is no such executable is refused", () => {
  for (const file of [new Uint8Array(0), new Uint8Array(100), elf([0n]).fill(1, 4, 5)])
    expect(() => alignSegments(file)).toThrow("not a little-endian ELF file of 64 bits");
});
