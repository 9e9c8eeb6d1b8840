// The generated readers and writers: protobuf's wire format as its encoding guide has it, and input that is no message.
import { describe, expect, test } from "bun:test";
import { PbfReader, PbfWriter } from "pbf";
import { readCreateTaskRequest, readUpdateTaskRequest, writeCreateTaskRequest } from "./task.gen.ts";
import { type Request, readRequest, writeRequest } from "./ttrpc.gen.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

function encoded(request: Partial<Request>): Uint8Array {
  const pbf = new PbfWriter();
  writeRequest(request, pbf);
  return pbf.finish();
}

const REQUEST: Request = {
  service: "S",
  method: "Mé",
  payload: new Uint8Array([0, 255]),
  timeout_nano: 5_000_000_000,
  metadata: [
    { key: "a", value: "b" },
    { key: "c", value: "" },
  ],
};

describe("a message", () => {
  test("is written with its field numbers", () => {
    expect(hex(encoded(REQUEST))).toBe("0a015312034dc3a91a0200ff2080e497d0122a060a01611201622a030a0163");
    expect(hex(encoded({}))).toBe("");
  });

  test("is read as it was written, and unknown fields are passed over", () => {
    const bytes = encoded(REQUEST);
    expect(readRequest(new PbfReader(bytes))).toEqual(REQUEST);
    // Field 100, a varint; field 101, bytes.
    const more = Buffer.concat([bytes, Buffer.from("a0060aaa060161", "hex")]);
    expect(readRequest(new PbfReader(more))).toEqual(REQUEST);
  });

  test("nested messages, lists and maps", () => {
    const pbf = new PbfWriter();
    const mount = { type: "overlay", source: "overlay", target: "", options: ["lowerdir=/a", "rw"] };
    writeCreateTaskRequest(
      {
        id: "x",
        rootfs: [mount],
        terminal: true,
        options: { type_url: "t", value: new Uint8Array([1]) },
      },
      pbf,
    );
    const read = readCreateTaskRequest(new PbfReader(pbf.finish()));
    expect(read.rootfs).toEqual([mount]);
    expect(read.options).toEqual({ type_url: "t", value: new Uint8Array([1]) });
    expect([read.terminal, read.checkpoint]).toEqual([true, ""]);
    const update = Buffer.from("0a01781a060a016b120176", "hex");
    expect(readUpdateTaskRequest(new PbfReader(update)).annotations).toEqual({ k: "v" });
  });
});

describe("hostile bytes", () => {
  /** Reading ends, with a message or an error. */
  function read(bytes: Uint8Array): Request | Error {
    try {
      return readRequest(new PbfReader(bytes));
    } catch (error) {
      return error as Error;
    }
  }

  test("a message that is cut anywhere", () => {
    const bytes = encoded(REQUEST);
    for (let end = 0; end < bytes.length; end++) expect(read(bytes.subarray(0, end))).toBeDefined();
  });

  test("a length beyond the end, the longest varint, groups and reserved types", () => {
    for (const bytes of [
      "0affffffff0f",
      "2affffffffffffffffff7f",
      "20ffffffffffffffffff01",
      "0b0c",
      "07",
      "06",
    ])
      expect(read(Buffer.from(bytes, "hex"))).toBeDefined();
  });

  test("noise", () => {
    let seed = 1;
    for (let round = 0; round < 2000; round++) {
      const bytes = new Uint8Array(round % 64);
      for (let i = 0; i < bytes.length; i++) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        bytes[i] = seed >> 16;
      }
      expect(read(bytes)).toBeDefined();
    }
  });
});
