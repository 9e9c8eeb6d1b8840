/**
 * A scanner of JSON text (RFC 8259) that builds nothing: it finds where a text stops being JSON, which JSON.parse of
 * JavaScriptCore does not tell, and which keys occur twice in an object. It runs only after an error, or for `validate`.
 */

/** A place in a text, counted from 1 as editors do (the column in UTF-16 units). */
export interface Place {
  line: number;
  column: number;
}

/** What is wrong in a JSON text, and where. */
export interface JsonError extends Place {
  message: string;
}

/** A key that an object has more than once, at its second place. */
export interface DuplicateKey extends Place {
  key: string;
}

/** Finds the first error in a JSON text, or nothing if it is valid JSON. */
export function findJsonError(text: string): JsonError | undefined {
  return scan(text).error;
}

/** Finds the keys that occur more than once in the same object of a valid JSON text. */
export function findDuplicateKeys(text: string): DuplicateKey[] {
  return scan(text).duplicates;
}

/** Thrown inside the scanner to leave it at the first error. */
class Stop {
  constructor(
    readonly at: number,
    readonly message: string,
  ) {}
}

function scan(text: string): { error?: JsonError; duplicates: DuplicateKey[] } {
  const scanner = new Scanner(text);
  try {
    scanner.run();
    return { duplicates: scanner.duplicates };
  } catch (stop) {
    if (!(stop instanceof Stop)) throw stop;
    return { error: { message: stop.message, ...placeOf(text, stop.at) }, duplicates: [] };
  }
}

function placeOf(text: string, at: number): Place {
  let line = 1;
  let start = 0;
  for (let end = text.indexOf("\n"); end >= 0 && end < at; end = text.indexOf("\n", start)) {
    line++;
    start = end + 1;
  }
  return { line, column: at - start + 1 };
}

class Scanner {
  readonly duplicates: DuplicateKey[] = [];
  private at = 0;
  /** One entry for each open object (the keys seen so far) or list (undefined), so that no depth needs a stack. */
  private readonly open: (Set<string> | undefined)[] = [];

  constructor(private readonly text: string) {}

  run(): void {
    if (this.text.startsWith("\ufeff")) this.fail("a byte order mark (save the file as UTF-8 without one)");
    this.skipSpace();
    if (this.at === this.text.length) this.fail("the text is empty");
    do {
      this.value();
      while (this.open.length > 0 && this.endsContainer()) this.open.pop();
    } while (this.open.length > 0);
    this.skipSpace();
    if (this.at < this.text.length) this.fail(`${this.found()} after the end of the value`);
  }

  /** Reads a value up to its end, going into lists and objects until one is empty or its first value is no container. */
  private value(): void {
    for (;;) {
      this.skipSpace();
      const char = this.text[this.at];
      if (char === "{") {
        this.at++;
        this.open.push(new Set());
        this.skipSpace();
        if (this.text[this.at] === "}") return;
        this.key();
      } else if (char === "[") {
        this.at++;
        this.open.push(undefined);
        this.skipSpace();
        if (this.text[this.at] === "]") return;
      } else if (char === '"') {
        this.string();
        return;
      } else {
        this.word();
        return;
      }
    }
  }

  /** After a value in a list or object: whether that ends here; if not, reads up to where its next value begins. */
  private endsContainer(): boolean {
    const keys = this.open.at(-1);
    const end = keys ? "}" : "]";
    this.skipSpace();
    const char = this.text[this.at];
    if (char !== end && char !== ",") this.fail(`${this.found()} where "," or "${end}" should be`);
    this.at++;
    if (char === end) return true;
    this.skipSpace();
    if (this.text[this.at] === end) this.fail(`a comma before "${end}"`);
    if (keys) this.key();
    return false;
  }

  private key(): void {
    const start = this.at;
    if (this.text[start] !== '"') this.fail(`${this.found()} where the name of a field should be`);
    this.string();
    const keys = this.open.at(-1)!;
    const key = JSON.parse(this.text.slice(start, this.at)) as string;
    if (keys.has(key)) this.duplicates.push({ key, ...placeOf(this.text, start) });
    keys.add(key);
    this.skipSpace();
    if (this.text[this.at] !== ":") this.fail(`${this.found()} where ":" should be`);
    this.at++;
  }

  private word(): void {
    const start = this.at;
    const token = /[^\s{}[\],:"]*/y;
    token.lastIndex = start;
    const word = token.exec(this.text)![0];
    if (word === "") this.fail(`${this.found()} where a value should be`);
    this.at += word.length;
    if (word === "true" || word === "false" || word === "null") return;
    if (/^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$/.test(word)) return;
    this.at = start;
    this.fail(`${quoted(word)} is not a value`);
  }

  private string(): void {
    const start = this.at++;
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (Number.isNaN(code)) {
        this.at = start;
        this.fail("a string that does not end");
      } else if (code === 0x22) {
        this.at++;
        return;
      } else if (code < 0x20) {
        this.fail(`${this.found()} inside a string (write it as an escape)`);
      } else if (code === 0x5c) {
        if (!/^\\(["\\/bfnrt]|u[0-9a-fA-F]{4})/.test(this.text.slice(this.at, this.at + 6))) {
          this.fail(`${quoted(this.text.slice(this.at, this.at + 2))} is not an escape`);
        }
        this.at += 2;
      } else {
        this.at++;
      }
    }
  }

  private skipSpace(): void {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.at++;
    }
  }

  /** What stands at the current place, for a message. */
  private found(): string {
    if (this.at >= this.text.length) return "the end of the text";
    const code = this.text.charCodeAt(this.at);
    if (code < 0x20 || code === 0x7f) return `the control character U+${code.toString(16).padStart(4, "0")}`;
    return JSON.stringify(String.fromCodePoint(this.text.codePointAt(this.at)!));
  }

  private fail(message: string): never {
    throw new Stop(this.at, message);
  }
}

function quoted(word: string): string {
  return JSON.stringify(word.length > 40 ? `${word.slice(0, 37)}...` : word);
}
