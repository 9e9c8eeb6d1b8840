// The device filter is run by a small interpreter of eBPF, over many rule lists and requests, and compared with what
// the filter means.
import { describe, expect, test } from "bun:test";
import { abi } from "../linux/abi.gen.ts";
import type { Spec } from "../oci/config.ts";
import { deviceProgram } from "./device-bpf.ts";
import { ANY, type DeviceException, type DeviceFilter, deviceFilter } from "./devices.ts";

interface Request {
  type: "b" | "c";
  major: number;
  minor: number;
  access: number;
}

const [R, W, M] = [abi.BPF_DEVCG_ACC_READ, abi.BPF_DEVCG_ACC_WRITE, abi.BPF_DEVCG_ACC_MKNOD];

/** Executes the instructions that RFC 9669 defines and the filter uses, as the kernel's verifier would allow them. */
function execute(program: Uint8Array, request: Request): bigint {
  const view = new DataView(program.buffer, program.byteOffset, program.length);
  const context = new DataView(new ArrayBuffer(12));
  const type = request.type === "b" ? abi.BPF_DEVCG_DEV_BLOCK : abi.BPF_DEVCG_DEV_CHAR;
  context.setUint32(0, type | (request.access << 16), true);
  context.setUint32(4, request.major, true);
  context.setUint32(8, request.minor, true);
  const registers: (bigint | undefined)[] = new Array(11).fill(undefined);
  registers[1] = -1n; // the context: only loads may use it
  const low = (register: number) => {
    const value = registers[register];
    if (value === undefined || value === -1n) throw new Error(`R${register} is not a number`);
    return value & 0xffffffffn;
  };
  const count = program.length / 8;
  for (let at = 0; at < count; at++) {
    const code = view.getUint8(at * 8);
    const to = view.getUint8(at * 8 + 1) & 15;
    const from = view.getUint8(at * 8 + 1) >> 4;
    const offset = view.getInt16(at * 8 + 2, true);
    const value = view.getInt32(at * 8 + 4, true);
    const word = BigInt(value >>> 0);
    switch (code) {
      case 0x61:
        if (registers[from] !== -1n || offset % 4 || offset < 0 || offset > 8) throw new Error("bad load");
        registers[to] = BigInt(context.getUint32(offset, true));
        break;
      case 0x54:
        registers[to] = low(to) & word;
        break;
      case 0x74:
        registers[to] = low(to) >> word;
        break;
      case 0xbc:
        registers[to] = low(from);
        break;
      case 0xb7:
        registers[to] = BigInt(value);
        break;
      case 0x56:
      case 0x5e:
        if (offset < 0 || at + 1 + offset >= count) throw new Error("jump out of the program");
        if (low(to) !== (code === 0x56 ? word : low(from))) at += offset;
        break;
      case 0x95:
        if (registers[0] === undefined) throw new Error("exit without an answer");
        return registers[0];
      default:
        throw new Error(`unknown instruction ${code}`);
    }
  }
  throw new Error("ran off the end");
}

/** What a filter means: an exception that covers the device and all of the access turns the default over. */
function meaning({ allow, exceptions }: DeviceFilter, request: Request): boolean {
  const hit = exceptions.some(
    ({ type, major, minor, access }) =>
      type === request.type &&
      (major === ANY || major === request.major) &&
      (minor === ANY || minor === request.minor) &&
      (request.access & ~access) === 0,
  );
  return hit !== allow;
}

const NUMBERS = [0, 1, 3, 5, 10, 136, 200, 255, 2147483647, 2147483648, 4294967295];

function* requests(): Generator<Request> {
  for (const type of ["b", "c"] as const) {
    for (const major of NUMBERS) {
      for (const minor of NUMBERS) {
        for (let access = 1; access <= 7; access++) yield { type, major, minor, access };
      }
    }
  }
}

function check(filter: DeviceFilter): void {
  const program = deviceProgram(filter);
  for (const request of requests()) {
    const answer = execute(program, request) !== 0n;
    if (answer !== meaning(filter, request)) {
      throw new Error(`${JSON.stringify(request)}: ${answer} under ${JSON.stringify(filter)}`);
    }
  }
}

describe("deviceProgram", () => {
  test("no exceptions: the default", () => {
    for (const allow of [true, false]) check({ allow, exceptions: [] });
    expect(deviceProgram({ allow: false, exceptions: [] }).length).toBe(8 * 8);
  });

  test("a container's defaults", () => {
    const filter = deviceFilter({ ociVersion: "1.3.0" } as Spec);
    check(filter);
    const program = deviceProgram(filter);
    const ask = (type: "b" | "c", major: number, minor: number, access: number) =>
      execute(program, { type, major, minor, access }) !== 0n;
    expect(ask("c", 1, 3, R | W)).toBeTrue();
    expect(ask("c", 136, 77, R | W)).toBeTrue();
    expect(ask("b", 8, 0, M)).toBeTrue();
    expect(ask("b", 8, 0, R)).toBeFalse();
    expect(ask("b", 8, 0, R | M)).toBeFalse();
    expect(ask("c", 1, 1, R)).toBeFalse();
  });

  test("every access, wildcard and default, alone", () => {
    for (const allow of [true, false]) {
      for (let access = 1; access <= 7; access++) {
        for (const [major, minor] of [
          [1, 3],
          [ANY, 3],
          [1, ANY],
          [ANY, ANY],
          [2147483648, 4294967295],
          [0, 0],
        ] as const) {
          check({ allow, exceptions: [{ type: "c", major, minor, access }] });
        }
      }
    }
  });

  test("the first match decides, and what does not match falls through to the next", () => {
    check({
      allow: false,
      exceptions: [
        { type: "c", major: 1, minor: 3, access: R },
        { type: "c", major: 1, minor: ANY, access: W },
        { type: "b", major: ANY, minor: 3, access: R | W },
      ],
    });
  });

  test("random filters", () => {
    // A fixed sequence (xorshift32), so that a failure can be found again.
    let seed = 0x2545f491;
    const random = (below: number) => {
      seed ^= seed << 13;
      seed ^= seed >>> 17;
      seed ^= seed << 5;
      return (seed >>> 0) % below;
    };
    for (let round = 0; round < 60; round++) {
      const exceptions: DeviceException[] = [];
      for (let i = random(12); i > 0; i--) {
        exceptions.push({
          type: random(2) ? "b" : "c",
          major: random(3) ? NUMBERS[random(NUMBERS.length)]! : ANY,
          minor: random(3) ? NUMBERS[random(NUMBERS.length)]! : ANY,
          access: 1 + random(7),
        });
      }
      check({ allow: random(2) === 1, exceptions });
    }
  });

  test("a thousand rules", () => {
    const exceptions: DeviceException[] = [];
    for (let i = 0; i < 1000; i++) exceptions.push({ type: "c", major: 500, minor: i, access: R });
    const program = deviceProgram({ allow: false, exceptions });
    expect(execute(program, { type: "c", major: 500, minor: 999, access: R })).toBe(1n);
    expect(execute(program, { type: "c", major: 500, minor: 1000, access: R })).toBe(0n);
  });
});
