/** Capabilities: names, numbers and the kernel's structures. */
import { expect, test } from "bun:test";
import * as headers from "../linux/abi.gen.ts";
import { capability, capabilityNames, capMask, capSet, capsetArgs } from "./capabilities.ts";

test("every name has the number of the kernel's header", () => {
  const fromHeaders = Object.entries(headers).filter(([name]) => name.startsWith("CAP_"));
  expect(fromHeaders.length).toBe(capabilityNames().length);
  for (const [name, number] of fromHeaders) expect(capability(name)).toBe(number as number);
});

test("a name that is none has no number and no place in a set", () => {
  expect(capability("CAP_NONE")).toBeUndefined();
  expect(capability("")).toBeUndefined();
  expect(capSet(["CAP_KILL", "cap_chown", "CAP_NONE"])).toEqual({ low: 1 << 5, high: 0 });
});

test("sets span both words", () => {
  const set = capSet(["CAP_CHOWN", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_CHECKPOINT_RESTORE"]);
  expect(set).toEqual({ low: 0x80000001, high: 0x101 });
  expect(capMask(set)).toBe(0x101 * 2 ** 32 + 0x80000001);
  const [header, data] = capsetArgs(set, capSet([]), capSet(["CAP_KILL"]));
  expect([...new Uint32Array(header.buffer)]).toEqual([0x20080522, 0]);
  expect([...new Uint32Array(data.buffer)]).toEqual([0x80000001, 0, 32, 0x101, 0, 0]);
});
