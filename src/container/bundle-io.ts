/** What loading a bundle needs of the host, through libbunc. */
import type { BundleIo } from "../bundle/load.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { readBytes } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";

// A byte order mark is the JSON reader's to complain about.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The host as src/bundle/load.ts sees it. */
export const bundleIo: BundleIo = {
  readText(path, limit) {
    const bytes = readBytes(path, limit + 1);
    if (typeof bytes === "number") return { errno: errnoName(-bytes) };
    return bytes.length > limit ? { errno: "EFBIG" } : { value: decoder.decode(bytes) };
  },

  isDirectory(path) {
    const stat = new DataView(new ArrayBuffer(sizeof_.stat));
    const result = sys(abi.SYS_newfstatat, abi.AT_FDCWD, path, new Uint8Array(stat.buffer), 0);
    if (result < 0) return { errno: errnoName(-result) };
    return { value: (stat.getUint32(stat_.st_mode, true) & abi.S_IFMT) === abi.S_IFDIR };
  },
};
