/**
 * Whether a parsed config.json has the shape its schemas ask for, at the least cost for a process that runs once: a
 * small interpreter of the table shape.macro.ts made of the schemas at build time. It accepts exactly what the schemas
 * accept (shape.test.ts), but for fields in another case, which foldCase has to rename first; to learn what is wrong with a value, the schemas themselves are asked (issues.ts).
 */
import type { LinuxResources, Process, Spec } from "./config.ts";
import { joinPath } from "./path.ts";
import { shapeTable } from "./shape.macro.ts" with { type: "macro" };
import { Kind, type Node } from "./shape-kinds.ts";

let made: Node[] | undefined;

function table(): Node[] {
  made ??= shapeTable();
  return made;
}

/**
 * Whether `value` has the shape of config.json. Fields that are null are set to undefined in place, so the value must
 * be the caller's own. An integer that JSON.parse could not hold exactly does not fit; parse the text exactly then.
 */
export function fitsSpec(value: unknown): value is Spec {
  const nodes = table();
  return fits(nodes, nodes[nodes.length - 1]![0] as number, value);
}

/** As fitsSpec, for the `process` object alone (`exec --process FILE`). */
export function fitsProcess(value: unknown): value is Process {
  const nodes = table();
  return fits(nodes, nodes[nodes.length - 1]![1] as number, value);
}

/** As fitsSpec, for the `linux.resources` object alone (`update --resources FILE`). */
export function fitsResources(value: unknown): value is LinuxResources {
  const nodes = table();
  return fits(nodes, nodes[nodes.length - 1]![2] as number, value);
}

function fits(nodes: Node[], place: number, value: unknown): boolean {
  if (place === Kind.text) return typeof value === "string";
  if (place === Kind.flag) return typeof value === "boolean";
  const node = nodes[place]!;
  switch (node[0]) {
    case Kind.object:
      return isObject(value) && fieldsFit(nodes, node, value);
    case Kind.list:
      if (!Array.isArray(value)) return false;
      return itemsFit(nodes, node[1] as number, value);
    case Kind.map:
      if (!isObject(value)) return false;
      for (const key in value) {
        if (!fits(nodes, node[1] as number, value[key])) return false;
      }
      return true;
    case Kind.word:
      return typeof value === "string" && node.indexOf(value) > 0;
    case Kind.integer:
      return isSafeInteger(value) && value >= (node[1] as number) && value <= (node[2] as number);
    case Kind.int64:
      return typeof value === "bigint" ? BigInt.asIntN(64, value) === value : isSafeInteger(value);
    default:
      return typeof value === "bigint"
        ? BigInt.asUintN(64, value) === value
        : isSafeInteger(value) && value >= 0;
  }
}

/** Number.isSafeInteger without its first use, which costs 10 us. */
function isSafeInteger(value: unknown): value is number {
  return (
    typeof value === "number" && value % 1 === 0 && value <= 9007199254740991 && value >= -9007199254740991
  );
}

function itemsFit(nodes: Node[], place: number, items: unknown[]): boolean {
  for (let i = 0; i < items.length; i++) {
    if (place === Kind.text ? typeof items[i] !== "string" : !fits(nodes, place, items[i])) return false;
  }
  return true;
}

function fieldsFit(nodes: Node[], node: Node, value: Record<string, unknown>): boolean {
  const names = Object.keys(value);
  let required = node[1] as number;
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!;
    const at = node.indexOf(name);
    if (at < 0) {
      if (sameLetters(node, name) !== undefined) return false;
      continue;
    }
    const code = node[at + 1] as number;
    const field = value[name];
    if (!(code & 1)) required--;
    else if (field === undefined) continue;
    else if (field === null) {
      value[name] = undefined;
      continue;
    }
    if (code >> 1 === Kind.text) {
      if (typeof field !== "string") return false;
    } else if (!fits(nodes, code >> 1, field)) return false;
  }
  return required === 0;
}

/** The field of an object that has the same letters in another case. */
function sameLetters(node: Node, name: string): string | undefined {
  const lower = name.toLowerCase();
  for (let i = 2; i < node.length; i += 2) {
    if ((node[i] as string).toLowerCase() === lower) return node[i] as string;
  }
  return undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The documents that have a table of their own, in the order of their places in its last node. */
const ROOTS = { config: 0, process: 1, resources: 2 };

/** Calls `visit` for every object of a document that the schema knows, wholes before their parts. */
function eachObject(
  kind: keyof typeof ROOTS,
  document: unknown,
  visit: (node: Node, value: Record<string, unknown>, path: string) => void,
): void {
  const nodes = table();
  function look(place: number, part: unknown, path: string): void {
    const node = nodes[place]!;
    if (node[0] === Kind.list && Array.isArray(part)) {
      for (let i = 0; i < part.length; i++) look(node[1] as number, part[i], joinPath(path, i));
    } else if (node[0] === Kind.map && isObject(part)) {
      for (const key in part) look(node[1] as number, part[key], joinPath(path, key));
    } else if (node[0] === Kind.object && isObject(part)) {
      visit(node, part, path);
      for (const key in part) {
        const at = node.indexOf(key);
        if (at > 1) look((node[at + 1] as number) >> 1, part[key], joinPath(path, key));
      }
    }
  }
  look(nodes[nodes.length - 1]![ROOTS[kind]] as number, document, "");
}

/**
 * Gives fields written in another case ("CPU", "pagesize") the names the schema has, in place: Go's decoder takes them,
 * so configs with them exist. If a field is there in both ways, the other one comes on top of it, merged if both are
 * objects, as it does in Go when it is the later one.
 */
export function foldCase(kind: keyof typeof ROOTS, document: unknown): void {
  eachObject(kind, document, (node, value) => {
    for (const name of Object.keys(value)) {
      if (node.indexOf(name) >= 0) continue;
      const known = sameLetters(node, name);
      if (known === undefined) continue;
      const [old, other] = [value[known], value[name]];
      if (isObject(old) && isObject(other)) Object.assign(old, other);
      else if (other !== null || old === undefined) value[known] = other;
      delete value[name];
    }
  });
}

/**
 * The paths of all fields of a config.json that the schema does not know, and the name of the field one is taken for
 * when it differs from it only in case. The specification lets a runtime ignore the others; `validate` may list them.
 */
export function unknownFields(config: unknown): { path: string; known?: string }[] {
  const found: { path: string; known?: string }[] = [];
  eachObject("config", config, (node, value, path) => {
    for (const name of Object.keys(value)) {
      if (node.indexOf(name) >= 0) continue;
      const known = sameLetters(node, name);
      found.push({ path: joinPath(path, name), ...(known === undefined ? {} : { known }) });
    }
  });
  return found;
}
