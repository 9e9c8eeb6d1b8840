/** Numbers as Go's strconv and docker/go-units read them from flags of `update`. */
import { BuncError } from "../errors.ts";
import { quote } from "./go.ts";

/** 2^n bytes for each letter. */
const UNITS: Readonly<Record<string, number>> = { k: 10, m: 20, g: 30, t: 40, p: 50 };

function invalid(flag: string, why: string): BuncError {
  return new BuncError(`invalid value for ${flag}: ${why}`, { code: "usage" });
}

/** A size in bytes: "-1", or a number with a unit of b, k, m, g, t or p, in any case and with "b" or "ib" after it. */
export function parseSize(flag: string, text: string): number | bigint {
  if (text === "-1") return -1;
  const found = /^([0-9]*\.?[0-9]*(?:e[+-]?[0-9]+)?) ?([^0-9. ]*)$/i.exec(text);
  if (!found || !/[0-9]/.test(found[1]!)) throw invalid(flag, `invalid size: '${text}'`);
  const suffix = found[2]!.toLowerCase();
  const form = /^(?:|b|([kmgtp])(?:i?b)?)$/.exec(suffix);
  if (!form) throw invalid(flag, `invalid suffix: '${found[2]}'`);
  const size = Math.trunc(Number(found[1]) * 2 ** (form[1] ? UNITS[form[1]]! : 0));
  if (Number.isSafeInteger(size)) return size;
  // Plain digits are exact, as a number of such size is not.
  const plain = !form[1] && /^[0-9]{1,40}$/.test(found[1]!);
  const exact = plain ? BigInt(found[1]!) : Number.isFinite(size) ? BigInt(size) : 2n ** 63n;
  if (exact >= 2n ** 63n) throw invalid(flag, `invalid size: '${text}'`);
  return exact;
}

/** A decimal integer of 64 bits. */
export function parseDecimal(flag: string, text: string, signed: boolean): number | bigint {
  const call = signed ? "ParseInt" : "ParseUint";
  if (!(signed ? /^[+-]?[0-9]+$/ : /^[0-9]+$/).test(text)) {
    throw invalid(flag, `strconv.${call}: parsing ${quote(text)}: invalid syntax`);
  }
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  const [min, max] = signed ? [-(2n ** 63n), 2n ** 63n - 1n] : [0n, 2n ** 64n - 1n];
  const exact = text.length > 40 ? max + 1n : BigInt(text.replace(/^\+/, ""));
  if (exact < min || exact > max) {
    throw invalid(flag, `strconv.${call}: parsing ${quote(text)}: value out of range`);
  }
  return exact;
}
