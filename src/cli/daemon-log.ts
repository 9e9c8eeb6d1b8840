/**
 * Logs that a daemon keeps, as crun names them: "journald:ID" by the journal's own protocol (systemd's
 * JOURNAL_NATIVE_PROTOCOL), "syslog:ID" by that of syslog(3). Each entry is one datagram.
 */
import type { Log } from "../container/types.ts";
import { abi } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { bytesOf, sys } from "../linux/lib.ts";
import { unixAddress } from "../linux/socket.ts";
import { type Level, leveled } from "./log.ts";

const PRIORITY = { error: 3, warning: 4, debug: 7 } as const;
/** LOG_USER of syslog(3), shifted. */
const FACILITY = 1 << 3;
/** A datagram that is larger would be refused whole; the rest of such a message is no loss. */
const LONGEST = 64 * 1024;

/**
 * Connects to the daemon.
 * @param target "journald:ID" or "syslog:ID"; without an id it is "bunc"
 * @throws BuncError `connect <socket>: ...` where there is no such daemon
 */
export function daemonLog(target: string, level: Level, sockets = SOCKETS): Log {
  const colon = target.indexOf(":");
  const kind = target.slice(0, colon) as keyof typeof SOCKETS;
  const id = target.slice(colon + 1) || "bunc";
  const path = sockets[kind];
  const fd = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0);
  if (fd < 0) throw pathError("socket", path, fd);
  const address = unixAddress(path);
  const result = sys(abi.SYS_connect, fd, address, address.length);
  if (result < 0) throw pathError("connect", path, result);
  return leveled(level, (at, message) => {
    const bytes = kind === "syslog" ? syslogEntry(id, at, message) : journalEntry(id, at, message);
    const sent = sys(abi.SYS_sendto, fd, bytes, bytes.length, abi.MSG_NOSIGNAL, 0, 0);
    if (sent < 0) throw pathError("write", path, sent);
  });
}

const SOCKETS = { journald: "/run/systemd/journal/socket", syslog: "/dev/log" };

/** Fields of the journal; a value may hold anything when its length stands before it. */
export function journalEntry(id: string, level: Level, message: string): Uint8Array {
  const head = bytesOf(`PRIORITY=${PRIORITY[level]}\nSYSLOG_IDENTIFIER=${oneLine(id)}\nMESSAGE\n`);
  const text = bytesOf(message).subarray(0, LONGEST);
  const bytes = new Uint8Array(head.length + 8 + text.length + 1);
  bytes.set(head);
  new DataView(bytes.buffer).setBigUint64(head.length, BigInt(text.length), true);
  bytes.set(text, head.length + 8);
  bytes[bytes.length - 1] = 10;
  return bytes;
}

/** "<priority>Mmm dd hh:mm:ss id: message" in local time, as syslog(3) sends it. */
export function syslogEntry(id: string, level: Level, message: string, time = new Date()): Uint8Array {
  const month = time.toDateString().slice(4, 7);
  const day = String(time.getDate()).padStart(2);
  const clock = time.toTimeString().slice(0, 8);
  const head = `<${FACILITY | PRIORITY[level]}>${month} ${day} ${clock} ${oneLine(id)}: `;
  return bytesOf(head + oneLine(message)).subarray(0, LONGEST);
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, "; ");
}
