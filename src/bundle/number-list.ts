/** Lists of numbers as the kernel writes and reads them for CPUs and memory nodes: "0-3,7". */

/** The highest number a list may hold; runc's limit, far above what kernels support. */
const HIGHEST = 65536;

/**
 * How many numbers a list has, one that is in it twice counted twice; undefined if it is no such list. Blanks around
 * entries and empty entries are skipped, as in runc.
 */
export function countNumbers(list: string): number | undefined {
  let count = 0;
  for (const part of list.split(",")) {
    const entry = part.trim();
    if (entry === "") continue;
    const match = /^([0-9]+)(?:-([0-9]+))?$/.exec(entry);
    if (!match) return undefined;
    const first = Number(match[1]);
    const last = match[2] === undefined ? first : Number(match[2]);
    if (first > last || last > HIGHEST) return undefined;
    count += last - first + 1;
  }
  return count;
}
