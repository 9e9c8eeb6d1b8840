/** Standard input as a whole. */

import { BuncError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";

/** More than any containerd has to say. */
const MAX = 4 << 20;

/**
 * Everything up to the end of stdin.
 * @throws BuncError when it cannot be read, or does not end
 */
export function readInput(): Uint8Array {
  let all = new Uint8Array(4096);
  let used = 0;
  for (;;) {
    if (used === all.length) {
      if (used >= MAX) throw new BuncError(`stdin has more than ${MAX} bytes`, { code: "usage" });
      const larger = new Uint8Array(used * 2);
      larger.set(all);
      all = larger;
    }
    const rest = all.subarray(used);
    const n = sys(abi.SYS_read, 0, rest, rest.length);
    if (n === -abi.EINTR) continue;
    if (n < 0) throw pathError("read", "/dev/stdin", n);
    if (n === 0) return all.subarray(0, used);
    used += n;
  }
}
