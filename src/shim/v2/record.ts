/**
 * What a shim leaves in the bundle for those who come after it: `delete` of its containers, and a new shim over those
 * that still run. runc's shim leaves its options there; they are understood, too.
 */

import { abi } from "../../linux/abi.gen.ts";
import { pathError, readText, writeAtomic } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { parseJson } from "../../oci/json.ts";

/** Where the runtime keeps its state under containerd, one directory per namespace. */
export const DEFAULT_ROOT = "/run/containerd/runc";

const FILE = "bunc-shim.json";
const MAX = 1 << 20;

/** The standard streams of a process, as containerd gave them. */
export interface StreamNames {
  stdin: string;
  stdout: string;
  stderr: string;
  terminal: boolean;
}

export interface Record extends StreamNames {
  /** Of the runtime's state, with the namespace. */
  root: string;
  /** Who shall own the fifos, those of exec too; 0: as they are. */
  uid: number;
  gid: number;
}

/** @throws BuncError when the bundle takes no file */
export function writeRecord(bundle: string, record: Record): void {
  const path = `${bundle}/${FILE}`;
  const result = writeAtomic(path, JSON.stringify(record), 0o600);
  if (result < 0) throw pathError("write", path, result);
}

/** Whether a shim of bunc has been at work in a bundle. */
export function hasRecord(bundle: string): boolean {
  return sys(abi.SYS_faccessat2, abi.AT_FDCWD, `${bundle}/${FILE}`, 0, 0) === 0;
}

/** What is known of the container in a bundle; what is not there, or broken, is the default. */
export function readRecord(bundle: string, namespace: string): Record {
  const nothing = { stdin: "", stdout: "", stderr: "", terminal: false, uid: 0, gid: 0 };
  const own = readObject(`${bundle}/${FILE}`);
  if (typeof own?.root === "string") {
    const text = (value: unknown) => (typeof value === "string" ? value : "");
    const id = (value: unknown) => (typeof value === "number" ? value : 0);
    return {
      root: own.root,
      stdin: text(own.stdin),
      stdout: text(own.stdout),
      stderr: text(own.stderr),
      terminal: own.terminal === true,
      uid: id(own.uid),
      gid: id(own.gid),
    };
  }
  const root = readObject(`${bundle}/options.json`)?.root;
  return { ...nothing, root: rootOf(typeof root === "string" ? root : "", namespace) };
}

/** Options.root, or the default, with the namespace. */
export function rootOf(root: string, namespace: string): string {
  return `${root || DEFAULT_ROOT}/${namespace}`;
}

function readObject(path: string): { [key: string]: unknown } | undefined {
  const text = readText(path, MAX);
  if (typeof text !== "string") return undefined;
  try {
    const value: unknown = parseJson(text);
    return typeof value === "object" && value !== null ? (value as { [key: string]: unknown }) : undefined;
  } catch {
    return undefined;
  }
}
