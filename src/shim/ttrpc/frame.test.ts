import { describe, expect, test } from "bun:test";
import { encodeFrame, type Frame, FrameReader, FrameType, MAX_BODY, type Oversized } from "./frame.ts";

const frame = (stream: number, body: number[]): Frame => ({
  stream,
  type: FrameType.request,
  flags: 0,
  body: new Uint8Array(body),
});

function reader(): { read: FrameReader; oversized: Oversized[] } {
  const oversized: Oversized[] = [];
  return { read: new FrameReader((header) => oversized.push(header)), oversized };
}

/** The frames that some bytes complete. */
function complete(read: FrameReader, bytes: Uint8Array): Frame[] {
  const found: Frame[] = [];
  read.push(bytes, (frame) => found.push(frame));
  return found;
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

test("the header is length, stream, type, flags, big endian", () => {
  const bytes = encodeFrame({ stream: 0x01020305, type: 2, flags: 4, body: new Uint8Array([9, 8, 7]) });
  expect([...bytes]).toEqual([0, 0, 0, 3, 1, 2, 3, 5, 2, 4, 9, 8, 7]);
});

describe("reading", () => {
  const frames = [
    frame(1, [1, 2, 3]),
    frame(3, []),
    frame(
      0xffffffff,
      Array.from({ length: 700 }, (_, i) => i & 255),
    ),
  ];
  const bytes = join(...frames.map(encodeFrame));

  test.each([1, 2, 9, 10, 11, 64, 10000])("frames that arrive in pieces of %i bytes", (size) => {
    const { read } = reader();
    const found: Frame[] = [];
    for (let at = 0; at < bytes.length; at += size)
      found.push(...complete(read, bytes.subarray(at, at + size)));
    expect(found).toEqual(frames);
    expect(read.partial).toBe(false);
  });

  test("half a frame is none, and the reader knows", () => {
    const { read } = reader();
    expect(complete(read, bytes.subarray(0, 12))).toEqual([]);
    expect(read.partial).toBe(true);
  });

  test("a body is a copy", () => {
    const { read } = reader();
    const given = encodeFrame(frame(1, [5]));
    const [found] = complete(read, given);
    given.fill(0);
    complete(read, encodeFrame(frame(3, [6])));
    expect([...found!.body]).toEqual([5]);
  });

  test("the longest body passes, a longer one is told and thrown away", () => {
    const { read, oversized } = reader();
    const largest = { ...frame(5, []), body: new Uint8Array(MAX_BODY).fill(1) };
    expect(complete(read, encodeFrame(largest))[0]!.body.length).toBe(MAX_BODY);
    const tooLong = encodeFrame({ ...frame(7, []), body: new Uint8Array(MAX_BODY + 1) });
    const found = complete(read, join(tooLong, encodeFrame(frame(9, [1]))));
    expect(oversized).toEqual([{ stream: 7, type: 1, length: MAX_BODY + 1 }]);
    expect(found).toEqual([frame(9, [1])]);
  });

  test("an announced length costs no memory before the bytes come", () => {
    const { read } = reader();
    const header = encodeFrame(frame(1, []));
    new DataView(header.buffer).setUint32(0, MAX_BODY);
    expect(complete(read, join(header, new Uint8Array(10)))).toEqual([]);
    const held = (read as unknown as { held: Uint8Array }).held;
    expect(held.length).toBeLessThanOrEqual(4096);
  });

  test("4 GiB of a body are skipped without being kept", () => {
    const { read, oversized } = reader();
    const header = encodeFrame(frame(1, []));
    new DataView(header.buffer).setUint32(0, 0xffffffff);
    expect(complete(read, join(header, new Uint8Array(1000)))).toEqual([]);
    expect(oversized[0]!.length).toBe(0xffffffff);
    expect(read.partial).toBe(true);
  });
});
