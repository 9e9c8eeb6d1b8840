/**
 * Loads a bundle: a directory with a config.json that names a root filesystem (runtime-spec bundle.md). What it needs
 * of the host comes through a small interface, so that it can be tested with no host at all.
 */
import { BuncError, type Problem } from "../errors.ts";
import type { Root, Spec } from "../oci/config.ts";
import { shown } from "../oci/path.ts";
import { problemsError, type Validated, validateConfig } from "./validate.ts";

/** An answer of the host: what was asked for, or why not, as the name of an errno ("ENOENT"). */
export type Answer<T> = { value: T; errno?: undefined } | { errno: string };

/** What loading a bundle needs of the host. */
export interface BundleIo {
  /**
   * Reads a whole file as UTF-8, invalid bytes replaced, a byte order mark kept. EFBIG if it is longer than `limit`
   * bytes, and EISDIR for a directory, as read(2) says.
   */
  readText(path: string, limit: number): Answer<string>;
  /** Whether a path leads to a directory, symlinks followed (stat(2)). */
  isDirectory(path: string): Answer<boolean>;
}

/** A bundle whose config.json is valid. */
export interface Bundle {
  /** The absolute path of the bundle's directory. */
  dir: string;
  /** Its config.json, with `root` there and `root.path` made absolute. */
  spec: Spec & { root: Root };
  /** What is suspicious in the config.json, or will be ignored. */
  warnings: Problem[];
  /** What tells whether a config.json is this one: it need not be validated again. Not there for unusual ones. */
  digest?: string | undefined;
}

// Defined when the executable is built.
declare const BUNC_COMMIT: string;

/** The longest config.json that is read; a real one with a large seccomp profile has 0.1 MB. */
export const LONGEST_CONFIG = 64 * 1024 * 1024;

const CONFIG = "config.json";

/**
 * Loads and validates a bundle, and checks that its root filesystem is a directory.
 * @param dir the absolute path of the bundle's directory
 * @param file the absolute path of the file to read instead of its config.json
 * @param valid the digest of a config.json that is known to be valid
 * @throws BuncError: the bundle or its config.json cannot be read (code "not-found" or "host"), or all problems the
 * config.json has, in one line (code "config")
 */
export function loadBundle(dir: string, io: BundleIo, file?: string, valid?: string): Bundle {
  const text = readConfig(dir, io, file);
  const digest = digestOf(text);
  const { value, problems, warnings, plain } =
    digest === valid ? parseValid(text) : parseConfig(text, file ?? absolute(dir, CONFIG));
  if (value === undefined) throw problemsError(problems);
  const root = value.root!;
  root.path = absolute(dir, root.path);
  const isDirectory = io.isDirectory(root.path);
  if (isDirectory.errno !== undefined) {
    throw new BuncError(`invalid rootfs: stat ${root.path}: ${describe(isDirectory.errno)}`, {
      code: isDirectory.errno === "ENOENT" ? "not-found" : "host",
      phase: "bundle",
      path: "root.path",
      errno: isDirectory.errno,
    });
  }
  if (!isDirectory.value) {
    throw new BuncError(`invalid rootfs: ${root.path}: not a directory`, {
      code: "config",
      phase: "bundle",
      path: "root.path",
    });
  }
  return { dir, spec: value as Bundle["spec"], warnings, digest: plain ? digest : undefined };
}

/**
 * Not for security: who may write the bundle has no need to deceive it. It names the build, because what one takes for
 * valid another may not.
 */
function digestOf(text: string): string {
  return `${Bun.hash(text)} ${typeof BUNC_COMMIT === "undefined" ? "" : BUNC_COMMIT}`;
}

function parseValid(text: string): Validated<Spec> {
  return { value: JSON.parse(text), problems: [], warnings: [], plain: true };
}

function parseConfig(text: string, path: string): Validated<Spec> {
  try {
    return validateConfig(text);
  } catch (error) {
    // Only the JSON can be at fault here, and its errors do not name the file.
    if (!(error instanceof BuncError)) throw error;
    throw new BuncError(`${path}: ${error.message}`, {
      ...error.fields,
      phase: "bundle",
    });
  }
}

/**
 * The path that a path in config.json means: absolute as it is, otherwise below the bundle and cleaned as Go's
 * filepath.Join cleans it (root.path, the source of a bind mount).
 */
export function absolute(dir: string, path: string): string {
  if (path[0] === "/") return path;
  const joined = dir === "/" ? `/${path}` : `${dir}/${path}`;
  // Most are one plain name.
  if (path.indexOf("/") < 0 && path.indexOf(".") !== 0) return joined;
  const parts: string[] = [];
  for (const part of joined.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function readConfig(dir: string, io: BundleIo, file?: string): string {
  const path = file ?? absolute(dir, CONFIG);
  const text = io.readText(path, LONGEST_CONFIG);
  if (text.errno === undefined) {
    if (text.value.length > 0) return text.value;
    throw new BuncError(`${path} is empty`, { code: "config", phase: "bundle" });
  }
  const { errno } = text;
  if (file === undefined && (errno === "ENOENT" || errno === "ENOTDIR")) throw missing(dir, io);
  if (errno === "EFBIG") {
    throw new BuncError(`${path} is longer than ${LONGEST_CONFIG / 1024 / 1024} MB`, {
      code: "config",
      phase: "bundle",
    });
  }
  throw new BuncError(`read ${path}: ${describe(errno)}`, { code: "host", phase: "bundle", errno });
}

/** The error for a bundle without a config.json: the bundle itself may be what is missing. */
function missing(dir: string, io: BundleIo): BuncError {
  const there = io.isDirectory(dir);
  const fields = { code: "not-found", phase: "bundle" } as const;
  if (there.errno !== undefined) {
    return new BuncError(`bundle ${shown(dir)}: ${describe(there.errno)}`, { ...fields, errno: there.errno });
  }
  if (!there.value) return new BuncError(`bundle ${shown(dir)}: not a directory`, fields);
  const hint = `a bundle is a directory with a ${CONFIG}; "spec" writes one`;
  return new BuncError(`JSON specification file ${CONFIG} not found`, { ...fields, hint });
}

/** The words Go and perror(3) have for the errors that a path can cause; callers match some of them. */
function describe(errno: string): string {
  switch (errno) {
    case "ENOENT":
      return "no such file or directory";
    case "EACCES":
      return "permission denied";
    case "ENOTDIR":
      return "not a directory";
    case "EISDIR":
      return "is a directory";
    case "ELOOP":
      return "too many levels of symbolic links";
    case "ENAMETOOLONG":
      return "file name too long";
    case "EAGAIN":
      return "it is a pipe, which is not waited for";
    case "EIO":
      return "input/output error";
    default:
      return errno;
  }
}
