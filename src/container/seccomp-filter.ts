/** The seccomp filter of a bundle: from the cache below --root, or compiled by libseccomp. */
import { BuncError } from "../errors.ts";
import { refuseUnknownCalls } from "../launch/annotations.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { readBytes, writeAtomic } from "../linux/file.ts";
import { memfdPath, sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { LinuxSeccomp, Spec } from "../oci/config.ts";
import { loadSeccomp, type SeccompCacheFiles } from "../seccomp/cache.ts";
import { type CompiledSeccomp, UNKNOWN_NAMES } from "../seccomp/compile.ts";
import { SECCOMP_BUILD_ID, seccompImage } from "../seccomp/embedded.ts";
import { openSeccompLibrary } from "../seccomp/native.ts";
import type { LaunchOptions } from "./types.ts";

/** Only a regular file that is ours and that nobody else may write is believed. */
const files: SeccompCacheFiles = {
  read(path) {
    const flags = abi.O_RDONLY | abi.O_NOFOLLOW | abi.O_CLOEXEC | abi.O_NONBLOCK;
    const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
    if (fd < 0) return undefined;
    try {
      const stat = new DataView(new ArrayBuffer(sizeof_.stat));
      if (sys(abi.SYS_newfstatat, fd, "", new Uint8Array(stat.buffer), abi.AT_EMPTY_PATH) < 0)
        return undefined;
      const mode = stat.getUint32(stat_.st_mode, true);
      if ((mode & abi.S_IFMT) !== abi.S_IFREG || mode & 0o022) return undefined;
      if (stat.getUint32(stat_.st_uid, true) !== sys(abi.SYS_geteuid)) return undefined;
      const bytes = readBytes(`/proc/self/fd/${fd}`, 1 << 20);
      return typeof bytes === "number" ? undefined : bytes;
    } finally {
      closeFd(fd);
    }
  },

  writeAtomic(path, bytes) {
    const result = writeAtomic(path, bytes, 0o600);
    if (result < 0) throw new BuncError(`cannot write ${path}`);
  },
};

/**
 * The compiled filter, undefined for a profile that asks for none.
 *
 * @throws BuncError with the place in linux.seccomp that libseccomp refused.
 */
export function loadFilter(
  profile: LinuxSeccomp,
  { root, log }: Pick<LaunchOptions, "root" | "log">,
  spec: Pick<Spec, "annotations"> = {},
): CompiledSeccomp | undefined {
  const compiled = loadSeccomp(profile, {
    root,
    files,
    buildId: SECCOMP_BUILD_ID,
    library: () => openSeccompLibrary(memfdPath("libbunc-seccomp", seccompImage())),
  });
  const warnings = compiled?.warnings ?? [];
  for (const warning of warnings) log.debug(warning);
  if (spec.annotations && warnings.length > 0) {
    refuseUnknownCalls(
      spec,
      warnings.find((warning) => warning.startsWith(UNKNOWN_NAMES)),
    );
  }
  if (compiled && log.debugging) log.debug(`seccomp filter flags: ${compiled.flags}`);
  return compiled;
}
