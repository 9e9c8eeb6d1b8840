/**
 * Compiled filters on disk, so that only the first container with a profile waits for libseccomp.
 *
 * The cache is SLOTS files `<root>/.seccomp-<slot>`. A profile's key, a SHA-256, names two of them where its filter
 * may lie; storing takes the one that has no valid entry, else the first. So the number of files is bounded without
 * anything to list, count or remove, and the worst that can happen is that profiles which share slots displace each
 * other. Nothing refers to an entry: all files may be deleted at any time.
 *
 * An entry is trusted because of who could have written it, which SeccompCacheFiles.read has to check. The checksum
 * only finds accidents: an entry that is truncated, damaged, of another profile or another build is compiled anew.
 */
import type { LinuxSeccomp } from "../oci/config.ts";
import { type CompiledSeccomp, compileSeccomp } from "./compile.ts";
import { INSTRUCTION_SIZE, type SeccompLibrary } from "./native.ts";
import { checkListenerPath, seccompDisabled } from "./profile.ts";

/** The file access of the cache. */
export interface SeccompCacheFiles {
  /**
   * The content of a file, or undefined unless it is to be trusted: opened with O_NOFOLLOW, a regular file by
   * fstat(2), owned by the effective user, not writable by group or others. Absent or unreadable is undefined too.
   */
  read(path: string): Uint8Array | undefined;
  /** Replaces a file in one step, mode 0600. May fail: it throws, and the cache goes on without. */
  writeAtomic(path: string, bytes: Uint8Array): void;
}

/** What loadSeccomp needs besides the profile. */
export interface SeccompSource {
  /** The directory of states, e.g. /run/bunc. It must not be writable by others. */
  root: string;
  files: SeccompCacheFiles;
  /** SECCOMP_BUILD_ID of embedded.ts. */
  buildId: string;
  /** Opens the library; called only when the filter is not in the cache. */
  library: () => SeccompLibrary;
}

/** A power of two up to 256. */
export const SLOTS = 64;

const MAGIC = 0x6d637362; // "bscm"
const KEY_SIZE = 32;
const CHECKSUM_SIZE = 32;

/** Entry: header, key, filter, warnings (UTF-8, one a line), SHA-256 of all that. Words are little-endian. */
const HEADER = {
  magic: 0,
  size: 4, // of the whole file
  flags: 8,
  listener: 12,
  filterSize: 16,
  warningsSize: 20,
  length: 24,
} as const;

/**
 * The filter of a profile, from the cache if it is there.
 * @returns undefined for a profile that asks for no filter.
 * @throws BuncError as compileSeccomp does.
 */
export function loadSeccomp(profile: LinuxSeccomp, source: SeccompSource): CompiledSeccomp | undefined {
  if (seccompDisabled(profile)) return undefined;
  const key = cacheKey(profile, source.buildId);
  const first = slotPath(source.root, key[0]!);
  const second = slotPath(source.root, key[1]!);

  const inFirst = source.files.read(first);
  let found = decodeEntry(inFirst, key);
  let inSecond: Uint8Array | undefined;
  if (!found) {
    inSecond = source.files.read(second);
    found = decodeEntry(inSecond, key);
  }
  if (found) {
    checkListenerPath(profile, found.listener);
    return found;
  }

  const compiled = compileSeccomp(profile, source.library());
  if (compiled) {
    const path = isOther(inFirst, key) && !isOther(inSecond, key) ? second : first;
    try {
      source.files.writeAtomic(path, encodeEntry(compiled, key));
    } catch {
      // A full or read-only directory makes the next start slower, not this one fail.
    }
  }
  return compiled;
}

/**
 * The key of a profile: a hash over the build and everything in the profile that decides the program. listenerPath
 * and listenerMetadata do not. Equal content in another order of fields has another key, which costs a second entry.
 */
export function cacheKey(profile: LinuxSeccomp, buildId: string): Uint8Array {
  const parts = [
    buildId,
    profile.defaultAction,
    profile.defaultErrnoRet,
    profile.architectures,
    profile.flags,
    profile.syscalls,
  ];
  let json: string;
  try {
    json = JSON.stringify(parts);
  } catch {
    // A bigint. As a raw number it is what config.json had, and cannot be taken for a string of the same digits.
    json = JSON.stringify(parts, (_, value) => (typeof value === "bigint" ? rawJson(String(value)) : value));
  }
  return sha256(json);
}

function rawJson(digits: string): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(digits);
}

/** The file of a slot, chosen by one byte of a key. */
export function slotPath(root: string, byte: number): string {
  const slot = byte & (SLOTS - 1);
  return `${root}/.seccomp-${slot < 16 ? "0" : ""}${slot.toString(16)}`;
}

/** An entry as bytes. */
export function encodeEntry(compiled: CompiledSeccomp, key: Uint8Array): Uint8Array {
  const warnings = new TextEncoder().encode(compiled.warnings.join("\n"));
  const filterAt = HEADER.length + KEY_SIZE;
  const warningsAt = filterAt + compiled.filter.length;
  const checksumAt = warningsAt + warnings.length;
  const bytes = new Uint8Array(checksumAt + CHECKSUM_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(HEADER.magic, MAGIC, true);
  view.setUint32(HEADER.size, bytes.length, true);
  view.setUint32(HEADER.flags, compiled.flags, true);
  view.setUint32(HEADER.listener, compiled.listener ? 1 : 0, true);
  view.setUint32(HEADER.filterSize, compiled.filter.length, true);
  view.setUint32(HEADER.warningsSize, warnings.length, true);
  bytes.set(key, HEADER.length);
  bytes.set(compiled.filter, filterAt);
  bytes.set(warnings, warningsAt);
  bytes.set(sha256(bytes.subarray(0, checksumAt)), checksumAt);
  return bytes;
}

/** The filter in an entry; undefined when it is not a whole entry of this key. */
export function decodeEntry(bytes: Uint8Array | undefined, key: Uint8Array): CompiledSeccomp | undefined {
  if (!isEntry(bytes) || !equal(bytes, HEADER.length, key)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const filterAt = HEADER.length + KEY_SIZE;
  const warningsAt = filterAt + view.getUint32(HEADER.filterSize, true);
  const checksumAt = warningsAt + view.getUint32(HEADER.warningsSize, true);
  if (!equal(bytes, checksumAt, sha256(bytes.subarray(0, checksumAt)))) return undefined;
  const warnings = bytes.subarray(warningsAt, checksumAt);
  return {
    filter: bytes.subarray(filterAt, warningsAt),
    flags: view.getUint32(HEADER.flags, true),
    listener: view.getUint32(HEADER.listener, true) === 1,
    warnings: warnings.length === 0 ? [] : new TextDecoder().decode(warnings).split("\n"),
  };
}

/** True for a file with the form of an entry, of whatever profile: its sizes agree. */
function isEntry(bytes: Uint8Array | undefined): bytes is Uint8Array {
  if (bytes === undefined || bytes.length <= HEADER.length + KEY_SIZE + CHECKSUM_SIZE) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const filterSize = view.getUint32(HEADER.filterSize, true);
  return (
    view.getUint32(HEADER.magic, true) === MAGIC &&
    view.getUint32(HEADER.size, true) === bytes.length &&
    filterSize > 0 &&
    filterSize % INSTRUCTION_SIZE === 0 &&
    HEADER.length + KEY_SIZE + filterSize + view.getUint32(HEADER.warningsSize, true) + CHECKSUM_SIZE ===
      bytes.length
  );
}

/** True for an entry of another profile, which storing should rather not displace. */
function isOther(bytes: Uint8Array | undefined, key: Uint8Array): boolean {
  return isEntry(bytes) && !equal(bytes, HEADER.length, key);
}

function sha256(input: string | Uint8Array): Uint8Array {
  const digest = new Uint8Array(KEY_SIZE);
  Bun.SHA256.hash(input, digest);
  return digest;
}

/** True when `bytes` holds `part` at an offset. */
function equal(bytes: Uint8Array, at: number, part: Uint8Array): boolean {
  for (let i = 0; i < part.length; i++) if (bytes[at + i] !== part[i]) return false;
  return true;
}
