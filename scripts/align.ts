/**
 * Moves the segments of an ELF executable in its file so that each lies there as it does in memory, modulo 2 MB: only then
 * can the kernel map what the page cache holds in huge pages by one entry of the page table, instead of by a fault for
 * every 64 kB. A command touches some 20 MB of the executable. Padding between segments costs less than 2 MB each.
 *
 * Nothing in memory moves, so nothing in the segments has to change. See elf(5).
 */

/** What a huge page maps on amd64, and on arm64 with pages of 4 kB. */
const HUGE_PAGE = 0x200000n;
const PT_LOAD = 1;
/** Byte offsets of 64-bit fields. */
const EHDR = { phoff: 32, shoff: 40, phentsize: 54, phnum: 56, shentsize: 58, shnum: 60 } as const;
const PHDR = { type: 0, offset: 8, vaddr: 16 } as const;
const SHDR = { offset: 24 } as const;

/** A part of the file that begins with a loadable segment, and by how many bytes it is moved. */
interface Move {
  from: bigint;
  by: bigint;
}

/** The executable with its segments aligned; throws for what is not a little-endian ELF of 64 bits. */
export function alignSegments(file: Uint8Array): Uint8Array {
  const from = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 64 || from.getUint32(0) !== 0x7f454c46 || from.getUint16(4) !== 0x0201)
    throw new Error("not a little-endian ELF file of 64 bits");
  const table = (offset: number, size: number, count: number) =>
    Array.from(
      { length: from.getUint16(count, true) },
      (_, i) => Number(from.getBigUint64(offset, true)) + i * from.getUint16(size, true),
    );
  const programHeaders = table(EHDR.phoff, EHDR.phentsize, EHDR.phnum);
  const sectionHeaders = table(EHDR.shoff, EHDR.shentsize, EHDR.shnum);

  const segments = programHeaders
    .filter((header) => from.getUint32(header + PHDR.type, true) === PT_LOAD)
    .map((header) => ({
      offset: from.getBigUint64(header + PHDR.offset, true),
      vaddr: from.getBigUint64(header + PHDR.vaddr, true),
    }))
    .filter(({ offset }) => offset > 0n)
    .sort((a, b) => Number(a.offset - b.offset));
  // The file's header stays where it is, and with it the segment that holds it.
  const moves: Move[] = [{ from: 0n, by: 0n }];
  let by = 0n;
  for (const { offset, vaddr } of segments) {
    by += (((vaddr - offset - by) % HUGE_PAGE) + HUGE_PAGE) % HUGE_PAGE;
    moves.push({ from: offset, by });
  }
  /** Where a byte of the file comes to lie. */
  const moved = (offset: bigint): bigint => offset + moves.findLast((move) => move.from <= offset)!.by;

  const out = new Uint8Array(file.length + Number(by));
  const ends = [...moves.slice(1).map((move) => move.from), BigInt(file.length)];
  moves.forEach((move, i) => {
    out.set(file.subarray(Number(move.from), Number(ends[i])), Number(move.from + move.by));
  });
  const to = new DataView(out.buffer);
  const patch = (headers: number[], field: number) => {
    for (const header of headers)
      to.setBigUint64(
        Number(moved(BigInt(header))) + field,
        moved(from.getBigUint64(header + field, true)),
        true,
      );
  };
  patch(programHeaders, PHDR.offset);
  patch(sectionHeaders, SHDR.offset);
  for (const field of [EHDR.phoff, EHDR.shoff])
    to.setBigUint64(field, moved(from.getBigUint64(field, true)), true);
  return out;
}
