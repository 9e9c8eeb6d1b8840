/**
 * What checks of a document have found, and which parts of it they may look at. Plain functions and loops here and in
 * the checks, because in a cold process the first use of a class costs 25 us, of a Set 30, of findIndex 100.
 */
import type { Problem } from "../errors.ts";
import type { LinuxNamespace, LinuxNamespaceType } from "../oci/config.ts";

/** Problems (the document cannot be used) and warnings (it can, but perhaps not as meant). */
export interface Findings {
  problems: Problem[];
  warnings: Problem[];
  /** How many of the problems, the first ones, are about the shape: what they touch is closed to further checks. */
  misshapen: number;
}

export function problem(out: Findings, path: string, message: string): void {
  out.problems.push({ path, message });
}

export function warning(out: Findings, path: string, message: string): void {
  out.warnings.push({ path, message });
}

/** Whether everything at and below a path has the type the schema gives it. */
export function sound(out: Findings, path: string): boolean {
  for (let i = 0; i < out.misshapen; i++) {
    const bad = out.problems[i]!.path;
    if (isWithin(bad, path) || isWithin(path, bad)) return false;
  }
  return true;
}

function isWithin(path: string, outer: string): boolean {
  if (outer === "" || path === outer) return true;
  return path.startsWith(outer) && (path[outer.length] === "." || path[outer.length] === "[");
}

/** `linux.namespaces`, or undefined if that is misshapen, so that nothing can be said about them. */
export type Namespaces = readonly LinuxNamespace[] | undefined;

/** Whether the container lacks a namespace of its own (new or joined) of this type, for certain. */
export function lacks(namespaces: Namespaces, type: LinuxNamespaceType): boolean {
  return namespaces !== undefined && find(namespaces, type) === undefined;
}

/** Whether the container is certain to get a new namespace of this type. */
export function makes(namespaces: Namespaces, type: LinuxNamespaceType): boolean {
  const found = find(namespaces, type);
  return found !== undefined && !found.path;
}

/** Whether the container is certain to join an existing namespace of this type. */
export function joins(namespaces: Namespaces, type: LinuxNamespaceType): boolean {
  return Boolean(find(namespaces, type)?.path);
}

function find(namespaces: Namespaces, type: LinuxNamespaceType): LinuxNamespace | undefined {
  if (namespaces === undefined) return undefined;
  for (let i = 0; i < namespaces.length; i++) {
    if (namespaces[i]!.type === type) return namespaces[i];
  }
  return undefined;
}
