/** process.json, and the checkpoint it may name: what the daemon of containerd 0.2 leaves for a shim. */
import { BuncError } from "../../errors.ts";
import { pathError, readText } from "../../linux/file.ts";
import { parseJson } from "../../oci/json.ts";

const LONGEST = 16 << 20;

/** What the shim needs of process.json; the rest is the OCI process. */
export interface ProcessFile {
  /** The whole text: a process of exec is read from it. */
  text: string;
  exec: boolean;
  terminal: boolean;
  stdin: string;
  stdout: string;
  stderr: string;
  runtimeArgs: string[];
  noPivotRoot: boolean;
  checkpoint: string;
  /** Who shall own the streams. */
  rootUid: number;
  rootGid: number;
}

/** The config.json of a checkpoint that the daemon has made. */
export interface CheckpointFile {
  tcp: boolean;
  unixSockets: boolean;
  shell: boolean;
  emptyNs: string[];
}

/** @throws BuncError naming the file and what is wrong with it */
export function readProcessFile(path: string): ProcessFile {
  const { text, fields } = readObject(path);
  const get = <T>(name: string, isRight: (value: unknown) => value is T, absent: T, what: string): T => {
    const value = fields[name];
    if (value === undefined || value === null) return absent;
    if (isRight(value)) return value;
    throw new BuncError(`${path}: ${name} must be ${what}`, { code: "config", path: name });
  };
  const bool = (name: string) => get(name, isBool, false, "true or false");
  const string = (name: string) => get(name, isString, "", "a string");
  const id = (name: string) => get(name, isId, 0, "an id");
  return {
    text,
    exec: bool("exec"),
    terminal: bool("terminal"),
    stdin: string("containerdStdin"),
    stdout: string("containerdStdout"),
    stderr: string("containerdStderr"),
    runtimeArgs: get("runtimeArgs", isStrings, [], "a list of strings"),
    noPivotRoot: bool("noPivotRoot"),
    checkpoint: string("checkpoint"),
    rootUid: id("rootUID"),
    rootGid: id("rootGID"),
  };
}

/** @throws BuncError naming the file */
export function readCheckpoint(directory: string): CheckpointFile {
  const { fields } = readObject(`${directory}/config.json`);
  const { tcp, unixSockets, shell, emptyNS } = fields;
  return {
    tcp: tcp === true,
    unixSockets: unixSockets === true,
    shell: shell === true,
    emptyNs: isStrings(emptyNS) ? emptyNS : [],
  };
}

function readObject(path: string): { text: string; fields: Record<string, unknown> } {
  const text = readText(path, LONGEST);
  if (typeof text === "number") throw pathError("open", path, text);
  let fields: unknown;
  try {
    fields = parseJson(text);
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    throw new BuncError(`${path}: ${error.message}`, error.fields);
  }
  if (typeof fields === "object" && fields !== null && !Array.isArray(fields)) {
    return { text, fields: fields as Record<string, unknown> };
  }
  throw new BuncError(`${path} must be a JSON object`, { code: "config" });
}

function isBool(value: unknown): value is boolean {
  return typeof value === "boolean";
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isString);
}
