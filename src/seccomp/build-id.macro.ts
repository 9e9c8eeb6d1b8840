/**
 * Runs while bunc is built (a Bun macro): identifies everything that decides how a profile becomes a program, so that
 * no filter cached by another build is ever taken for one of this build.
 */
import { readFileSync } from "node:fs";

const INPUTS = [
  "../../build/libbunc-seccomp.so",
  "native.ts",
  "profile.ts",
  "enosys.ts",
  "compile.ts",
  "cache.ts",
];

/** SHA-256 over libbunc-seccomp.so (and with it libseccomp and the architecture) and the sources of the compiler. */
export function seccompBuildId(): string {
  const hash = new Bun.CryptoHasher("sha256");
  for (const input of INPUTS) {
    const bytes = readFileSync(`${import.meta.dir}/${input}`);
    hash.update(`${input} ${bytes.length}\n`);
    hash.update(bytes);
  }
  return hash.digest("hex");
}
