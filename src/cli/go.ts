/**
 * The few habits of Go's standard library that runc's callers see: how strconv reads booleans and integers and
 * quotes strings, and how filepath makes a path absolute. Nothing here runs on the path of a valid call
 * except `absolutePath`.
 */

/** strconv.ParseBool; undefined for anything it does not know. */
export function parseBool(text: string): boolean | undefined {
  switch (text) {
    case "1":
    case "t":
    case "T":
    case "true":
    case "TRUE":
    case "True":
      return true;
    case "0":
    case "f":
    case "F":
    case "false":
    case "FALSE":
    case "False":
      return false;
    default:
      return undefined;
  }
}

/**
 * strconv.ParseInt(text, 0, 64): decimal, 0x, 0b, 0o or a leading 0 for octal, a sign, and underscores between
 * digits. Beyond 2^53 the result is rounded to a double; what does not fit 64 bits is
 * "value out of range". Both errors are in the words of Go's flag package.
 */
export function parseInteger(text: string): number | "parse error" | "value out of range" {
  // All callers but a person at a keyboard write plain decimal.
  const plain = Number(text);
  if (String(plain) === text && Number.isSafeInteger(plain)) return plain;
  const form =
    /^[+-]?(?:[1-9](?:_?[0-9])*|0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*)$/;
  if (!form.test(text)) return "parse error";
  const negative = text[0] === "-";
  const digits = text.replace(/[+_-]/g, "").toLowerCase();
  const prefix = /^0[xbo]/.exec(digits)?.[0] ?? (digits[0] === "0" ? "0o" : "");
  const significant = digits.slice(digits.startsWith(prefix) ? prefix.length : 0).replace(/^0+/, "") || "0";
  // 64 bits have at most 64 digits; without this a long argument would take long to convert.
  if (significant.length > 64) return "value out of range";
  const size = BigInt(prefix + significant);
  if (size >= 1n << 63n && !(negative && size === 1n << 63n)) return "value out of range";
  return negative ? 0 - Number(size) : Number(size);
}

/**
 * time.ParseDuration: "300ms", "1.5h", "-2m30s", "0"; a number needs its unit.
 * @returns milliseconds; undefined for what is no duration, or longer than 2^63 nanoseconds
 */
export function parseDuration(text: string): number | undefined {
  const negative = text[0] === "-";
  let rest = negative || text[0] === "+" ? text.slice(1) : text;
  if (rest === "0") return 0;
  if (rest === "") return undefined;
  let sum = 0;
  while (rest !== "") {
    let end = 0;
    while (isDigitOrPoint(rest, end)) end++;
    const number = rest.slice(0, end);
    const start = end;
    while (end < rest.length && !isDigitOrPoint(rest, end)) end++;
    const unit = nanoseconds(rest.slice(start, end));
    if (number === "" || number === "." || unit === undefined || Number.isNaN(Number(number)))
      return undefined;
    sum += Number(number) * unit;
    rest = rest.slice(end);
  }
  if (sum >= 2 ** 63) return undefined;
  return (negative ? 0 - sum : sum) / 1e6;
}

function nanoseconds(unit: string): number | undefined {
  switch (unit) {
    case "ns":
      return 1;
    case "us":
    case "\u00b5s":
    case "\u03bcs":
      return 1e3;
    case "ms":
      return 1e6;
    case "s":
      return 1e9;
    case "m":
      return 60e9;
    case "h":
      return 3600e9;
    default:
      return undefined;
  }
}

function isDigitOrPoint(text: string, at: number): boolean {
  const c = text.charCodeAt(at);
  return c === 0x2e || (c >= 0x30 && c <= 0x39);
}

/** strconv.Quote, as fmt's %q prints it: printable characters stay, everything else is escaped. */
export function quote(text: string): string {
  let out = '"';
  for (const char of text) {
    const code = char.codePointAt(0) as number;
    if (char === '"' || char === "\\") out += `\\${char}`;
    else if (code >= 0x20 && code < 0x7f) out += char;
    else if (code === 0x0a) out += "\\n";
    else if (code === 0x0d) out += "\\r";
    else if (code === 0x09) out += "\\t";
    else if (code === 0x07) out += "\\a";
    else if (code === 0x08) out += "\\b";
    else if (code === 0x0b) out += "\\v";
    else if (code === 0x0c) out += "\\f";
    else if (code < 0x80) out += `\\x${hex(code, 2)}`;
    else if (code >= 0xd800 && code <= 0xdfff) out += "\\ufffd";
    else if (/[\p{L}\p{M}\p{N}\p{P}\p{S}]/u.test(char)) out += char;
    else out += code > 0xffff ? `\\U${hex(code, 8)}` : `\\u${hex(code, 4)}`;
  }
  return `${out}"`;
}

/**
 * encoding/json's text of a value: JSON.stringify, with the characters escaped that Go escapes so that the text
 * may stand in HTML or a script.
 */
export function goJson(value: unknown, indent?: string): string {
  return (JSON.stringify(value, null, indent) ?? "null").replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${hex(char.charCodeAt(0), 4)}`,
  );
}

/**
 * filepath.Abs: the path below the current directory unless it is absolute, without ".", "..", doubled and
 * trailing slashes. Purely lexical. Throws what process.cwd() throws when the current directory is gone.
 */
export function absolutePath(path: string): string {
  const full = path[0] === "/" ? path : `${process.cwd()}/${path}`;
  // The common case, a path a program made, is clean already.
  if (!full.includes("//") && !full.includes("/.") && (full.length === 1 || !full.endsWith("/"))) return full;
  const parts: string[] = [];
  for (const part of full.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** The last part of a path, as a program's name. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function hex(code: number, width: number): string {
  return code.toString(16).padStart(width, "0");
}
