/**
 * What `--version` prints. The constants are put in by scripts/bundle.ts; in `bun test` they do not exist.
 *
 * go-runc (containerd) reads the first line only if it starts with "runc version ", whatever the program is
 * called, and moby takes what follows the last "version" of any line: so the first line has this form and no
 * other line contains that word. "+bunc" is build metadata in semantic versioning, as in Debian's "1.1.5+ds1".
 */
import { OCI_VERSION } from "../oci/spec-default.ts";

declare const BUNC_VERSION: string;
declare const BUNC_COMMIT: string;
declare const LIBSECCOMP_VERSION: string;

/** The version of bunc, or "0.0.0" where the build has not put one in. */
export function buncVersion(): string {
  return typeof BUNC_VERSION === "undefined" ? "0.0.0" : BUNC_VERSION;
}

/** The lines of `--version`; commit and libseccomp only where the build knew them. */
export function versionText(): string {
  const commit = typeof BUNC_COMMIT === "undefined" ? "" : BUNC_COMMIT;
  const libseccomp = typeof LIBSECCOMP_VERSION === "undefined" ? "" : LIBSECCOMP_VERSION;
  return formatVersion(buncVersion(), commit, Bun.version, libseccomp);
}

/** The form of the lines, separated from the constants so that it can be tested. */
export function formatVersion(version: string, commit: string, bun: string, libseccomp: string): string {
  let text = `runc version ${version}${version.includes("+") ? "." : "+"}bunc\n`;
  if (commit) text += `commit: ${commit}\n`;
  text += `spec: ${OCI_VERSION}\nbun: ${bun}\n`;
  if (libseccomp) text += `libseccomp: ${libseccomp}\n`;
  return text;
}
