/**
 * Netlink messages of the route family (netlink(7), rtnetlink(7)): built for launch programs and for requests of this
 * process, and read back from the kernel with every length checked.
 */
import { BuncError } from "../errors.ts";
import { abi, ifaddrmsg_, ifinfomsg_, nlmsghdr_, sizeof_, sockaddr_nl_ } from "./abi.gen.ts";
import { errnoName, errnoText } from "./errno.ts";
import { sys, text } from "./lib.ts";
import { closeFd } from "./process.ts";

const HEADER = sizeof_.nlmsghdr;
/** Length and type, 16 bits each. */
const ATTRIBUTE = 4;
const ALIGN = 4;
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of an attribute's type. */
const TYPE_MASK = 0x3fff;
/** The kernel's answers to dumps are at most this long when the reader's buffer is (netlink_recvmsg); single ones are shorter. */
const BUFFER_SIZE = 65536;
/** How often a dump is repeated that others changed meanwhile. */
const ATTEMPTS = 16;

/** An attribute to send: its type and its value; a number becomes 32 bits, a string ends with NUL. */
export type Attribute = readonly [type: number, value: Uint8Array | string | number];

/** A message of the kernel. */
export interface NetlinkMessage {
  type: number;
  flags: number;
  seq: number;
  /** What follows the header: a structure that depends on the type, then attributes. */
  body: Uint8Array;
}

/** struct ifinfomsg of rtnetlink(7): a link by its index, and flags (IFF_*) with a mask of those that change. */
export function linkHeader(index: number, flags = 0, change = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(sizeof_.ifinfomsg));
  view.setInt32(ifinfomsg_.ifi_index, index, true);
  view.setUint32(ifinfomsg_.ifi_flags, flags, true);
  view.setUint32(ifinfomsg_.ifi_change, change, true);
  return new Uint8Array(view.buffer);
}

/** struct ifaddrmsg of rtnetlink(7). */
export function addressHeader(family: number, prefix: number, scope: number, index: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(sizeof_.ifaddrmsg));
  view.setUint8(0, family);
  view.setUint8(ifaddrmsg_.ifa_prefixlen, prefix);
  view.setUint8(ifaddrmsg_.ifa_scope, scope);
  view.setUint32(ifaddrmsg_.ifa_index, index, true);
  return new Uint8Array(view.buffer);
}

/**
 * One request: netlink header, the type's structure, attributes.
 * @param flags NLM_F_* beside NLM_F_REQUEST
 * @throws RangeError when an attribute is longer than its length field can say
 */
export function encodeRequest(
  type: number,
  flags: number,
  seq: number,
  header: Uint8Array,
  attributes: readonly Attribute[] = [],
): Uint8Array {
  const values = attributes.map(([, value]) => valueBytes(value));
  let size = HEADER + align(header.length);
  for (const value of values) size += align(ATTRIBUTE + value.length);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  view.setUint32(0, size, true);
  view.setUint16(nlmsghdr_.nlmsg_type, type, true);
  view.setUint16(nlmsghdr_.nlmsg_flags, flags | abi.NLM_F_REQUEST, true);
  view.setUint32(nlmsghdr_.nlmsg_seq, seq, true);
  out.set(header, HEADER);
  let at = HEADER + align(header.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    const length = ATTRIBUTE + value.length;
    if (length > 0xffff) throw new RangeError(`a netlink attribute of ${value.length} bytes`);
    view.setUint16(at, length, true);
    view.setUint16(at + 2, attributes[i]![0], true);
    out.set(value, at + ATTRIBUTE);
    at += align(length);
  }
  return out;
}

/** Replaces the interface index in a request that `encodeRequest` made of a link or address header. */
export function setRequestIndex(request: Uint8Array, index: number): void {
  const view = new DataView(request.buffer, request.byteOffset, request.length);
  const type = view.getUint16(nlmsghdr_.nlmsg_type, true);
  const isAddress = type === abi.RTM_NEWADDR || type === abi.RTM_DELADDR;
  const at = isAddress ? ifaddrmsg_.ifa_index : ifinfomsg_.ifi_index;
  view.setUint32(HEADER + at, index, true);
}

/**
 * The messages in one datagram of the kernel.
 * @throws BuncError when a length does not fit
 */
export function decodeMessages(bytes: Uint8Array): NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < HEADER) throw malformed(`${bytes.length - at} bytes after the last message`);
    const size = view.getUint32(at, true);
    if (size < HEADER || size > bytes.length - at) throw malformed(`a message of ${size} bytes`);
    messages.push({
      type: view.getUint16(at + nlmsghdr_.nlmsg_type, true),
      flags: view.getUint16(at + nlmsghdr_.nlmsg_flags, true),
      seq: view.getUint32(at + nlmsghdr_.nlmsg_seq, true),
      body: bytes.subarray(at + HEADER, at + size),
    });
    // The last message need not be padded.
    at += align(size);
  }
  return messages;
}

/**
 * The attributes of a message by type; of several of one type the last.
 * @param from where they begin in the body: after the type's structure
 * @throws BuncError when a length does not fit
 */
export function decodeAttributes(body: Uint8Array, from: number): Map<number, Uint8Array> {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const found = new Map<number, Uint8Array>();
  let at = align(from);
  // Less than an attribute's header at the end is padding.
  while (body.length - at >= ATTRIBUTE) {
    const length = view.getUint16(at, true);
    if (length < ATTRIBUTE || length > body.length - at) throw malformed(`an attribute of ${length} bytes`);
    found.set(view.getUint16(at + 2, true) & TYPE_MASK, body.subarray(at + ATTRIBUTE, at + length));
    at += align(length);
  }
  return found;
}

/** The 32-bit number at an offset of a message's body or of an attribute; undefined when it is too short. */
export function numberAt(bytes: Uint8Array | undefined, offset = 0): number | undefined {
  if (!bytes || bytes.length < offset + 4) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(offset, true);
}

/** What the kernel answered to a request: messages, or the errno of its refusal with what it said about it. */
export type Answer = { messages: NetlinkMessage[] } | { errno: number; text: string };

/** A socket of the route family in this process's network namespace. */
export class NetlinkSocket {
  readonly fd: number;
  private seq = 0;
  private readonly buffer = new Uint8Array(BUFFER_SIZE);

  /**
   * @param groups RTMGRP_* whose notifications `events` gives; a socket with some is for nothing else
   * @throws BuncError with the call that failed
   */
  constructor(groups = 0) {
    const type = abi.SOCK_RAW | abi.SOCK_CLOEXEC | (groups ? abi.SOCK_NONBLOCK : 0);
    this.fd = sys(abi.SYS_socket, abi.AF_NETLINK, type, abi.NETLINK_ROUTE);
    if (this.fd < 0) throw netlinkError("socket", -this.fd);
    // Without it (before Linux 4.12) errors have no text.
    sys(abi.SYS_setsockopt, this.fd, abi.SOL_NETLINK, abi.NETLINK_EXT_ACK, new Uint8Array([1, 0, 0, 0]), 4);
    if (!groups) return;
    const address = new DataView(new ArrayBuffer(sizeof_.sockaddr_nl));
    address.setUint16(0, abi.AF_NETLINK, true);
    address.setUint32(sockaddr_nl_.nl_groups, groups, true);
    const result = sys(abi.SYS_bind, this.fd, new Uint8Array(address.buffer), address.byteLength);
    if (result >= 0) return;
    this.close();
    throw netlinkError("bind", -result);
  }

  /**
   * Sends a request and gives all that the kernel answers. A dump that was disturbed is repeated.
   * @param flags NLM_F_* beside NLM_F_REQUEST; unless it is a dump, NLM_F_ACK is added
   * @throws BuncError when the socket fails; a refusal is an answer
   */
  ask(type: number, flags: number, header: Uint8Array, attributes: readonly Attribute[] = []): Answer {
    const isDump = (flags & abi.NLM_F_DUMP) === abi.NLM_F_DUMP;
    for (let attempt = 1; ; attempt++) {
      const seq = ++this.seq;
      const request = encodeRequest(type, isDump ? flags : flags | abi.NLM_F_ACK, seq, header, attributes);
      const sent = sys(abi.SYS_sendto, this.fd, request, request.length, 0, 0, 0);
      if (sent < 0) throw netlinkError("sendto", -sent);
      const answer = this.collect(seq);
      const disturbed =
        "messages" in answer && answer.messages.some(({ flags }) => flags & abi.NLM_F_DUMP_INTR);
      if (!disturbed || attempt === ATTEMPTS) return answer;
    }
  }

  /** Reads up to the message that ends the answer to request `seq`. */
  private collect(seq: number): Answer {
    const messages: NetlinkMessage[] = [];
    for (;;) {
      const bytes = this.receive();
      if (typeof bytes === "number") throw netlinkError("recvfrom", -bytes);
      for (const message of decodeMessages(bytes)) {
        if (message.seq !== seq) continue;
        if (message.type === abi.NLMSG_ERROR || message.type === abi.NLMSG_DONE) {
          const errno = -((numberAt(message.body) ?? 0) | 0);
          return errno > 0 ? { errno, text: errorText(message) } : { messages };
        }
        messages.push(message);
      }
    }
  }

  /**
   * The notifications that have arrived; never waits.
   * @throws BuncError when some were lost (ENOBUFS) or the socket fails
   */
  events(): NetlinkMessage[] {
    const messages: NetlinkMessage[] = [];
    for (;;) {
      const bytes = this.receive();
      if (bytes === -abi.EAGAIN) return messages;
      if (typeof bytes === "number") throw netlinkError("recvfrom", -bytes);
      for (const message of decodeMessages(bytes)) messages.push(message);
    }
  }

  /** One datagram, copied; or -errno. */
  private receive(): Uint8Array | number {
    for (;;) {
      const n = sys(abi.SYS_recvfrom, this.fd, this.buffer, BUFFER_SIZE, abi.MSG_TRUNC, 0, 0);
      if (n === -abi.EINTR) continue;
      if (n < 0) return n;
      if (n > BUFFER_SIZE) throw malformed(`an answer of ${n} bytes`);
      return this.buffer.slice(0, n);
    }
  }

  close(): void {
    closeFd(this.fd);
  }
}

/** The kernel's words in an error message (NETLINK_EXT_ACK), "" when there are none. */
export function errorText({ flags, body }: NetlinkMessage): string {
  if (!(flags & abi.NLM_F_ACK_TLVS)) return "";
  // Unless it is capped, the refused message comes back whole after the errno.
  const refused = numberAt(body, 4) ?? HEADER;
  const from = sizeof_.nlmsgerr + (flags & abi.NLM_F_CAPPED ? 0 : align(refused) - HEADER);
  if (from < 0 || from > body.length) return "";
  const words = decodeAttributes(body, from).get(abi.NLMSGERR_ATTR_MSG);
  return words?.length ? text(words.subarray(0, words.length - 1)) : "";
}

function netlinkError(call: string, errno: number): BuncError {
  return new BuncError(`netlink: ${call}: ${errnoText(errno)}`, {
    code: "host",
    phase: "network",
    syscall: call,
    errno: errnoName(errno),
  });
}

function malformed(what: string): BuncError {
  return new BuncError(`netlink: the kernel sent ${what}`, { code: "internal", phase: "network" });
}

function valueBytes(value: Uint8Array | string | number): Uint8Array {
  if (typeof value === "string") return new TextEncoder().encode(`${value}\0`);
  if (typeof value !== "number") return value;
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function align(size: number): number {
  return (size + ALIGN - 1) & ~(ALIGN - 1);
}
