/**
 * Runs when bunc is built, not when it starts (a Bun macro): flattens the valibot schemas of config.json into the table
 * that shape.ts interprets, because building and running the schemas themselves costs a cold process 1.5 ms.
 *
 * A node of the table is one of
 *   [Kind.text]  [Kind.flag]  [Kind.integer, min, max]  [Kind.int64]  [Kind.uint64]  [Kind.word, ...words]
 *   [Kind.list, item]  [Kind.map, item]  [Kind.object, how many are required, name, item * 2 + (optional ? 1 : 0), name, ...]
 * and the last one holds the indexes of config.json, its process, and its linux.resources.
 */
import { LinuxResourcesSchema, ProcessSchema, SpecSchema } from "./config.ts";
import type { IntegerRange } from "./schema.ts";
import { Kind, type Node } from "./shape-kinds.ts";

/** A valibot schema as far as the flattening looks into it. */
interface Schema {
  type: string;
  entries?: Record<string, Schema>;
  item?: Schema;
  value?: Schema;
  wrapped?: Schema;
  options?: readonly string[];
  pipe?: readonly { type: string; metadata?: IntegerRange }[];
}

/** The table of the schemas of config.json; equal nodes are kept once. */
export function shapeTable(): Node[] {
  const table: Node[] = [[Kind.text], [Kind.flag]];
  const places = new Map<string, number>();

  function place(schema: Schema): number {
    if (schema.type === "string") return Kind.text;
    if (schema.type === "boolean") return Kind.flag;
    const node = flatten(schema);
    const key = JSON.stringify(node);
    const known = places.get(key);
    if (known !== undefined) return known;
    places.set(key, table.length);
    return table.push(node) - 1;
  }

  function flatten(schema: Schema): Node {
    switch (schema.type) {
      case "custom":
        return integer(schema);
      case "picklist":
        return [Kind.word, ...schema.options!];
      case "array":
        return [Kind.list, place(schema.item!)];
      case "record":
        return [Kind.map, place(schema.value!)];
      case "object":
        return [Kind.object, required(schema.entries!), ...Object.entries(schema.entries!).flatMap(field)];
      default:
        throw new Error(`shape.macro.ts does not know schemas of type ${schema.type}`);
    }
  }

  function field([name, schema]: [string, Schema]): Node {
    return schema.type === "nullish" ? [name, place(schema.wrapped!) * 2 + 1] : [name, place(schema) * 2];
  }

  table.push([
    place(SpecSchema as Schema),
    place(ProcessSchema as Schema),
    place(LinuxResourcesSchema as Schema),
  ]);
  return table;
}

function required(entries: Record<string, Schema>): number {
  return Object.values(entries).filter(({ type }) => type !== "nullish").length;
}

function integer(schema: Schema): Node {
  const range = schema.pipe?.find((part) => part.type === "metadata")?.metadata;
  if (!range) throw new Error("shape.macro.ts: a custom schema without the range of an integer");
  if (typeof range.min === "bigint") return [range.min < 0n ? Kind.int64 : Kind.uint64];
  return [Kind.integer, range.min, Number(range.max)];
}
