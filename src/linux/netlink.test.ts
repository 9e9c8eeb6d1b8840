/** Netlink messages: what is built is read back, what is broken is refused, and the kernel understands it. */
import { describe, expect, test } from "bun:test";
import { BuncError } from "../errors.ts";
import * as abi from "./abi.gen.ts";
import {
  addressHeader,
  decodeAttributes,
  decodeMessages,
  encodeRequest,
  errorText,
  linkHeader,
  NetlinkSocket,
  numberAt,
  setRequestIndex,
} from "./netlink.ts";

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Sets the 32- or 16-bit length of a message or an attribute. */
function withLength(bytes: Uint8Array, at: number, length: number, wide: boolean): Uint8Array {
  const copy = bytes.slice();
  if (wide) view(copy).setUint32(at, length, true);
  else view(copy).setUint16(at, length, true);
  return copy;
}

const request = encodeRequest(abi.RTM_SETLINK, abi.NLM_F_ACK, 7, linkHeader(3, abi.IFF_UP, abi.IFF_UP), [
  [abi.IFLA_IFNAME, "eth0"],
  [abi.IFLA_NET_NS_FD, 9],
  [77, new Uint8Array([1, 2, 3, 4, 5])],
]);

describe("requests", () => {
  test("have header, structure and padded attributes as netlink(7) lays them out", () => {
    // 16 header, 16 ifinfomsg, 4+5 -> 12, 4+4, 4+5 -> 12
    expect(request.length).toBe(16 + 16 + 12 + 8 + 12);
    const [message, ...more] = decodeMessages(request);
    expect(more).toEqual([]);
    expect(message).toMatchObject({
      type: abi.RTM_SETLINK,
      flags: abi.NLM_F_ACK | abi.NLM_F_REQUEST,
      seq: 7,
    });
    expect(numberAt(message!.body, abi.ifinfomsg_.ifi_index)).toBe(3);
    expect(numberAt(message!.body, abi.ifinfomsg_.ifi_flags)).toBe(abi.IFF_UP);
    const attributes = decodeAttributes(message!.body, abi.sizeof_.ifinfomsg);
    expect([...attributes]).toEqual([
      [abi.IFLA_IFNAME, new TextEncoder().encode("eth0\0")],
      [abi.IFLA_NET_NS_FD, new Uint8Array([9, 0, 0, 0])],
      [77, new Uint8Array([1, 2, 3, 4, 5])],
    ]);
  });

  test("get another index in either structure", () => {
    const link = request.slice();
    setRequestIndex(link, 4711);
    expect(numberAt(decodeMessages(link)[0]!.body, abi.ifinfomsg_.ifi_index)).toBe(4711);
    const address = encodeRequest(abi.RTM_NEWADDR, 0, 1, addressHeader(abi.AF_INET, 24, 0, 5));
    setRequestIndex(address, 4711);
    expect(decodeMessages(address)[0]!.body).toEqual(addressHeader(abi.AF_INET, 24, 0, 4711));
  });

  test("with an attribute longer than 16 bits can say are refused, not cut (CVE-2021-43784)", () => {
    const make = (size: number) => () =>
      encodeRequest(abi.RTM_SETLINK, 0, 1, linkHeader(1), [[1, new Uint8Array(size)]]);
    expect(make(0xffff - 4)).not.toThrow();
    expect(make(0xffff - 3)).toThrow(RangeError);
    expect(make(0x10000 + 10)).toThrow(RangeError);
  });
});

describe("what the kernel sends", () => {
  test("several messages, the last one not padded", () => {
    const short = encodeRequest(1, 0, 1, new Uint8Array([1, 2, 3, 4])).subarray(0, 18);
    const both = new Uint8Array([...request, ...withLength(short, 0, 18, true)]);
    expect(decodeMessages(both).map(({ body }) => body.length)).toEqual([request.length - 16, 2]);
    expect(decodeMessages(new Uint8Array(0))).toEqual([]);
  });

  test("broken lengths of messages are errors", () => {
    for (const length of [0, 15, request.length + 1, 0x7fffffff, 0xffffffff]) {
      expect(() => decodeMessages(withLength(request, 0, length, true))).toThrow(BuncError);
    }
    for (let size = 1; size < 16; size++) {
      expect(() => decodeMessages(request.subarray(0, size))).toThrow(BuncError);
    }
  });

  test("broken lengths of attributes are errors", () => {
    const body = request.subarray(16);
    for (const length of [0, 3, body.length - 16 + 1, 0xffff]) {
      expect(() => decodeAttributes(withLength(body, 16, length, false), 16)).toThrow(BuncError);
    }
    expect(decodeAttributes(new Uint8Array(16), 16).size).toBe(0);
    expect(decodeAttributes(new Uint8Array(3), 16).size).toBe(0);
    expect(numberAt(new Uint8Array(3))).toBeUndefined();
    expect(numberAt(new Uint8Array(8), 5)).toBeUndefined();
    expect(numberAt(undefined)).toBeUndefined();
  });

  test("random bytes never lead out of the buffer", () => {
    let seed = 1;
    for (let round = 0; round < 3000; round++) {
      const bytes = request.slice();
      for (let k = 0; k < 3; k++) {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        bytes[(seed >>> 8) % bytes.length] = seed >>> 24;
      }
      try {
        for (const message of decodeMessages(bytes)) {
          errorText({ ...message, flags: abi.NLM_F_ACK_TLVS });
          decodeAttributes(message.body, abi.sizeof_.ifinfomsg);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(BuncError);
      }
    }
  });

  test("the text of an error, after a message that came back whole or not", () => {
    const words = encodeRequest(0, 0, 0, new Uint8Array(0), [
      [abi.NLMSGERR_ATTR_MSG, "no such thing"],
    ]).subarray(16);
    const capped = new Uint8Array([...new Uint8Array(4), ...request.subarray(0, 16), ...words]);
    const whole = new Uint8Array([...new Uint8Array(4), ...request, ...words]);
    const of = (body: Uint8Array, flags: number) => errorText({ type: abi.NLMSG_ERROR, seq: 1, flags, body });
    expect(of(capped, abi.NLM_F_ACK_TLVS | abi.NLM_F_CAPPED)).toBe("no such thing");
    expect(of(whole, abi.NLM_F_ACK_TLVS)).toBe("no such thing");
    expect(of(whole, 0)).toBe("");
    expect(of(whole.subarray(0, 24), abi.NLM_F_ACK_TLVS)).toBe("");
    expect(of(withLength(whole, 4, 0xfffffff0, true), abi.NLM_F_ACK_TLVS)).toBe("");
  });
});

describe("a socket", () => {
  test("asks for one link, for all addresses, and gets refusals as answers", () => {
    const socket = new NetlinkSocket();
    try {
      const link = socket.ask(abi.RTM_GETLINK, 0, linkHeader(0), [[abi.IFLA_IFNAME, "lo"]]);
      if (!("messages" in link)) throw new Error(`errno ${link.errno}`);
      expect(link.messages.map(({ type }) => type)).toEqual([abi.RTM_NEWLINK]);
      expect(numberAt(link.messages[0]!.body, abi.ifinfomsg_.ifi_index)).toBe(1);
      const absent = socket.ask(abi.RTM_GETLINK, 0, linkHeader(0), [[abi.IFLA_IFNAME, "no-such-link"]]);
      expect(absent).toMatchObject({ errno: abi.ENODEV });
      const all = socket.ask(abi.RTM_GETADDR, abi.NLM_F_DUMP, addressHeader(0, 0, 0, 0));
      if (!("messages" in all)) throw new Error(`errno ${all.errno}`);
      expect(all.messages.every(({ type }) => type === abi.RTM_NEWADDR)).toBe(true);
      const wrong = socket.ask(abi.RTM_GETLINK, 0, linkHeader(0), [[abi.IFLA_IFNAME, "x".repeat(200)]]);
      expect(wrong).toHaveProperty("errno");
    } finally {
      socket.close();
    }
  });

  test("for notifications does not wait for one", () => {
    const socket = new NetlinkSocket(abi.RTMGRP_LINK);
    expect(socket.events()).toEqual([]);
    socket.close();
    expect(() => socket.events()).toThrow(BuncError);
  });
});
