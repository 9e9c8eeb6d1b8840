import { describe, expect, test } from "bun:test";
import { bytesMax, cpuWeight, ioWeight, swapMax } from "./convert.ts";

test("ioWeight: both ends, between them, and the default of bfq", () => {
  expect([10, 1000, 500, 100].map(ioWeight)).toEqual([1, 10000, 4950, 910]);
});

describe("cpuWeight", () => {
  // Both ends and the default, which the curve is made to go through.
  for (const [shares, weight] of [
    [0, 0],
    [1, 1],
    [2, 1],
    [1024, 100],
    [262144, 10000],
    [262145, 10000],
    [2 ** 53, 10000],
  ] as const) {
    test(`${shares}`, () => expect(cpuWeight(shares)).toBe(weight));
  }
  test("2^64-1", () => expect(cpuWeight(18446744073709551615n)).toBe(10000));
  test("never falls, stays within the kernel's limits", () => {
    let last = 1;
    for (let shares = 2; shares <= 262144; shares += 7) {
      const weight = cpuWeight(shares);
      expect(weight >= last && weight >= 1 && weight <= 10000 && Number.isInteger(weight)).toBeTrue();
      last = weight;
    }
  });
});

describe("swapMax", () => {
  for (const [swap, limit, value] of [
    [undefined, undefined, undefined],
    [0, 100, undefined],
    [undefined, 100, undefined],
    [-1, undefined, "max"],
    [-1, 100, "max"],
    [undefined, -1, "max"],
    [0, -1, "max"],
    [300, -1, "300"],
    [300, 100, "200"],
    [100, 100, "0"],
    [2n ** 62n, 2 ** 53 - 1, String(2n ** 62n - 9007199254740991n)],
  ] as const) {
    test(`${swap} with memory ${limit}`, () => expect(swapMax(swap, limit)).toBe(value));
  }
  for (const [swap, limit, words] of [
    [100, undefined, "unable to set swap limit without memory limit"],
    [100, 0, "unable to set swap limit without memory limit"],
    [100, 200, "memory+swap limit should be >= memory limit"],
    [100, -2, "invalid memory value: -2"],
    [-2, 100, "memory+swap limit should be >= memory limit"],
  ] as const) {
    test(`${swap} with memory ${limit}`, () => expect(() => swapMax(swap, limit)).toThrow(words));
  }
});

test("bytesMax", () => {
  expect([bytesMax(-1), bytesMax(-1n), bytesMax(5), bytesMax(2n ** 62n)]).toEqual([
    "max",
    "max",
    "5",
    "4611686018427387904",
  ]);
});
