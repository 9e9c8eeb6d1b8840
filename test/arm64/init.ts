// Plays the parent of a bunc-init that is started in any way: sends it parts, reads its events.
import { closeSync, readSync, writeSync } from "node:fs";
import { abi, bunc_event_, sizeof_ } from "../../src/linux/abi.gen.ts";
import { socketPair } from "../../src/linux/socket.ts";

/** What init has told. */
export interface Event {
  kind: number;
  index: number;
  event: number;
  value: number;
  text: string;
}

/** The number of init's descriptor. */
const FD = 3;

/** Reads all bytes that are wanted; undefined at the end. */
function receive(fd: number, size: number): Buffer | undefined {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const count = readSync(fd, bytes, at, size - at, null);
    if (count === 0) return undefined;
    at += count;
  }
  return bytes;
}

/** The structure has the same layout on all 64-bit architectures. */
function nextEvent(fd: number): Event | undefined {
  const head = receive(fd, sizeof_.bunc_event);
  if (head === undefined) return undefined;
  const size = head.readUInt32LE(bunc_event_.text_size);
  return {
    kind: head.readUInt32LE(bunc_event_.kind),
    index: head.readUInt32LE(bunc_event_.index),
    event: head.readUInt32LE(bunc_event_.event),
    value: Number(head.readBigInt64LE(bunc_event_.value)),
    text: size === 0 ? "" : (receive(fd, size)?.toString() ?? ""),
  };
}

/**
 * Starts init and sends it the first part, and another for each that it asks for by BUNC_OP_PART, which ends a part.
 *
 * @param command starts init; the number of the socket is added
 */
export async function runProgram(
  command: string[],
  parts: Uint8Array[],
): Promise<{ events: Event[]; code: number; stdout: string }> {
  const [ours, theirs] = socketPair();
  const child = Bun.spawn([...command, String(FD)], {
    stdio: ["ignore", "pipe", "inherit", theirs],
  });
  closeSync(theirs);
  const events: Event[] = [];
  try {
    // They fit into the socket's buffer.
    for (const part of parts) writeSync(ours, part);
    for (let event = nextEvent(ours); event !== undefined; event = nextEvent(ours)) {
      events.push(event);
      if (event.kind === abi.BUNC_EVENT_ERROR) break;
    }
  } catch (error) {
    // An end with bytes unread is ECONNRESET.
    if ((error as NodeJS.ErrnoException).code !== "ECONNRESET") throw error;
  } finally {
    closeSync(ours);
  }
  return { events, code: await child.exited, stdout: await new Response(child.stdout).text() };
}
