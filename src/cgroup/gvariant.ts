/**
 * GVariant's text format (docs.gtk.org/glib/gvariant-text-format.html), as far as D-Bus has its types: what annotations
 * org.systemd.property.* hold. Numbers without a type are int32 or double unless what they stand in says otherwise.
 */
import { type BusValue, splitTypes } from "./systemd-bus.ts";

const KEYWORDS: Readonly<Record<string, string>> = {
  boolean: "b",
  byte: "y",
  int16: "n",
  uint16: "q",
  int32: "i",
  uint32: "u",
  handle: "h",
  int64: "x",
  uint64: "t",
  double: "d",
  string: "s",
  objectpath: "o",
  signature: "g",
};

/** Least and greatest value of each integer type. */
const RANGES: Readonly<Record<string, readonly [bigint, bigint]>> = {
  y: [0n, 255n],
  n: [-32768n, 32767n],
  q: [0n, 65535n],
  i: [-2147483648n, 2147483647n],
  u: [0n, 4294967295n],
  h: [-2147483648n, 2147483647n],
  x: [-(2n ** 63n), 2n ** 63n - 1n],
  t: [0n, 2n ** 64n - 1n],
};

const DEPTH = 16;

/**
 * Parses one value.
 *
 * @throws Error that says what is wrong, and where
 */
export function parseGvariant(text: string): BusValue {
  const parser = new Parser(text);
  const node = parser.value(0);
  parser.end();
  const type = typeOf(node);
  return { type, value: resolve(node, type) };
}

/** A value whose type may depend on its neighbours. */
type Node =
  | { kind: "number"; text: string; at: number }
  | { kind: "text" | "bytes"; text: string; at: number }
  | { kind: "boolean"; value: boolean; at: number }
  | { kind: "array" | "tuple"; items: Node[]; at: number }
  | { kind: "dictionary"; items: [Node, Node][]; at: number }
  | { kind: "variant"; item: Node; at: number }
  | { kind: "typed"; type: string; item: Node; at: number };

function fail(message: string, at: number): never {
  throw new Error(`${message} at character ${at + 1}`);
}

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  end(): void {
    this.space();
    if (this.at < this.text.length) fail("unexpected text", this.at);
  }

  private space(): void {
    while (this.at < this.text.length && " \t\n\r\f".includes(this.text[this.at]!)) this.at++;
  }

  private take(token: string): boolean {
    this.space();
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  private word(pattern: RegExp): string {
    this.space();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? "";
    this.at += found.length;
    return found;
  }

  value(depth: number): Node {
    if (depth > DEPTH) fail("nested too deeply", this.at);
    this.space();
    const { at } = this;
    const letter = this.text[at];
    if (letter === undefined) fail("a value is missing", at);
    if (this.take("[")) return { kind: "array", items: this.list("]", depth), at };
    if (this.take("(")) return { kind: "tuple", items: this.list(")", depth), at };
    if (this.take("{")) return { kind: "dictionary", items: this.pairs(depth), at };
    if (this.take("<")) {
      const item = this.value(depth + 1);
      if (!this.take(">")) fail('">" is missing', this.at);
      return { kind: "variant", item, at };
    }
    if (this.take("@")) {
      const type = this.word(/[a-z(){}]+/y);
      if (!isType(type)) fail(`no type ${JSON.stringify(type)}`, at);
      return { kind: "typed", type, item: this.value(depth + 1), at };
    }
    if (letter === "'" || letter === '"') return { kind: "text", text: this.string(), at };
    if (letter === "b" && `'"`.includes(this.text[at + 1] || " ")) {
      this.at++;
      return { kind: "bytes", text: this.string(), at };
    }
    const word = this.word(/[-+.0-9A-Za-z_]+/y);
    if (word === "true" || word === "false") return { kind: "boolean", value: word === "true", at };
    const type = KEYWORDS[word];
    if (type !== undefined) return { kind: "typed", type, item: this.value(depth + 1), at };
    if (/^[-+]?(inf|infinity|nan)$/.test(word) || /^[-+]?\.?\d/.test(word))
      return { kind: "number", text: word, at };
    fail(`${JSON.stringify(word || letter)} is no value`, at);
  }

  private list(close: string, depth: number): Node[] {
    const items: Node[] = [];
    while (!this.take(close)) {
      if (items.length > 0 && !this.take(",")) fail(`"," or "${close}" is missing`, this.at);
      if (close === ")" && items.length > 0 && this.take(close)) break;
      items.push(this.value(depth + 1));
    }
    return items;
  }

  private pairs(depth: number): [Node, Node][] {
    const items: [Node, Node][] = [];
    while (!this.take("}")) {
      if (items.length > 0 && !this.take(",")) fail('"," or "}" is missing', this.at);
      const key = this.value(depth + 1);
      if (!this.take(":")) fail('":" is missing', this.at);
      items.push([key, this.value(depth + 1)]);
    }
    return items;
  }

  private string(): string {
    const quote = this.text[this.at++]!;
    let out = "";
    for (;;) {
      const letter = this.text[this.at++];
      if (letter === undefined) fail("a quotation mark is missing", this.text.length);
      if (letter === quote) return out;
      out += letter === "\\" ? this.escape() : letter;
    }
  }

  private escape(): string {
    const letter = this.text[this.at++];
    const plain: Record<string, string> = {
      a: "\x07",
      b: "\b",
      f: "\f",
      n: "\n",
      r: "\r",
      t: "\t",
      v: "\v",
      "\n": "",
    };
    if (letter === undefined) fail("a quotation mark is missing", this.text.length);
    if (letter !== "u" && letter !== "U") return plain[letter] ?? letter;
    const size = letter === "u" ? 4 : 8;
    const digits = this.text.slice(this.at, this.at + size);
    const point = /^[0-9A-Fa-f]+$/.test(digits) && digits.length === size ? Number.parseInt(digits, 16) : -1;
    if (point < 1 || point > 0x10ffff) fail("no such character", this.at);
    this.at += size;
    return String.fromCodePoint(point);
  }
}

/** One complete type of D-Bus. */
function isType(type: string): boolean {
  if (splitTypes(type).length !== 1) return false;
  if (type.startsWith("a{")) {
    const [key, value, more] = splitTypes(type.slice(2, -1));
    return type.endsWith("}") && isBasic(key) && value !== undefined && more === undefined && isType(value);
  }
  if (type.startsWith("a")) return isType(type.slice(1));
  if (type.startsWith("("))
    return type.endsWith(")") && type.length > 2 && splitTypes(type.slice(1, -1)).every(isType);
  return type === "v" || isBasic(type);
}

function isBasic(type: string | undefined): boolean {
  return type !== undefined && Object.values(KEYWORDS).includes(type);
}

/** The type of a value by itself. */
function typeOf(node: Node): string {
  switch (node.kind) {
    case "typed":
      return node.type;
    case "number":
      return isFloat(node.text) ? "d" : "i";
    case "text":
      return "s";
    case "bytes":
      return "ay";
    case "boolean":
      return "b";
    case "variant":
      return "v";
    case "tuple":
      if (node.items.length === 0) fail("D-Bus has no empty tuple", node.at);
      return `(${node.items.map(typeOf).join("")})`;
    case "array":
      return `a${common(node.items, node.at)}`;
    case "dictionary": {
      const key = common(
        node.items.map(([first]) => first),
        node.at,
      );
      return `a{${key}${common(
        node.items.map(([, second]) => second),
        node.at,
      )}}`;
    }
  }
}

/** The type of all of them: of those that say it, if any does. */
function common(items: readonly Node[], at: number): string {
  if (items.length === 0) fail("an empty list needs a type, such as @as []", at);
  const sure = items.find((item) => isSure(item));
  if (sure) return typeOf(sure);
  return items.some((item) => typeOf(item) === "d") ? "d" : typeOf(items[0]!);
}

/** Whether a value has a type whatever it stands in. */
function isSure(node: Node): boolean {
  if (node.kind === "array" || node.kind === "tuple")
    return node.items.length > 0 && node.items.every(isSure);
  if (node.kind === "dictionary") return node.items.length > 0 && node.items.flat().every(isSure);
  return node.kind !== "number" && node.kind !== "text";
}

function isFloat(text: string): boolean {
  return /^[-+]?(inf|infinity|nan)$/.test(text) || (!/^[-+]?0[xX]/.test(text) && /[.eE]/.test(text));
}

/** The value of a node as a type; fails where they do not fit. */
function resolve(node: Node, type: string): unknown {
  const wrong = (): never => fail(`a value of another type than ${type}`, node.at);
  switch (node.kind) {
    case "typed":
      return node.type === type ? resolve(node.item, type) : wrong();
    case "boolean":
      return type === "b" ? (node.value ? 1 : 0) : wrong();
    case "text":
      return type === "s" || type === "o" || type === "g" ? node.text : wrong();
    case "bytes":
      return type === "ay" ? [...new TextEncoder().encode(node.text), 0] : wrong();
    case "number":
      return number(node, type);
    case "variant": {
      const inner = typeOf(node.item);
      return type === "v" ? { type: inner, value: resolve(node.item, inner) } : wrong();
    }
    case "array":
      if (!type.startsWith("a") || type.startsWith("a{")) return wrong();
      return node.items.map((item) => resolve(item, type.slice(1)));
    case "tuple": {
      const types = type.startsWith("(") ? splitTypes(type.slice(1, -1)) : [];
      if (types.length !== node.items.length) return wrong();
      return node.items.map((item, i) => resolve(item, types[i]!));
    }
    case "dictionary": {
      if (!type.startsWith("a{")) return wrong();
      const [key, value] = splitTypes(type.slice(2, -1));
      return node.items.map(([first, second]) => [resolve(first, key!), resolve(second, value!)]);
    }
  }
}

function number({ text, at }: { text: string; at: number }, type: string): number | bigint {
  if (type === "d") {
    const found = Number(text.replace(/inf(inity)?/, "Infinity").replace(/^\+/, ""));
    if (Number.isNaN(found) && !/nan$/.test(text)) fail(`${text} is no number`, at);
    return found;
  }
  const range = RANGES[type];
  const [, sign, digits] = /^([-+]?)(0[xX][0-9A-Fa-f]+|\d+)$/.exec(text) ?? [];
  if (!range || digits === undefined) fail(`${text} is no value of type ${type}`, at);
  // A leading 0 means octal, as in C.
  if (/^0\d/.test(digits) && !/^[0-7]+$/.test(digits)) fail(`${text} is no number`, at);
  const size = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  const value = sign === "-" ? -size : size;
  if (value < range[0] || value > range[1]) fail(`${text} is out of range for type ${type}`, at);
  return value;
}
