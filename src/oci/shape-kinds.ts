/** The kinds of nodes in the table that shape.macro.ts makes and shape.ts reads. */

/** What a node stands for. The bundler puts the numbers in place of the names, across files. */
export enum Kind {
  text,
  flag,
  integer,
  int64,
  uint64,
  word,
  list,
  map,
  object,
}

/** A node: its kind, then what the kind needs; nodes name each other by their index in the table. */
export type Node = (string | number)[];
