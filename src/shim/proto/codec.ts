/** Between bytes and the messages that scripts/proto.ts has made. */
import { PbfReader, PbfWriter } from "pbf";

/** Reads one message. @throws RangeError or another Error for bytes that are no message */
export function decode<T>(read: (pbf: PbfReader) => T, bytes: Uint8Array): T {
  const pbf = new PbfReader(bytes);
  const message = read(pbf);
  // pbf goes beyond the end of a cut message without a word.
  if (pbf.pos > bytes.length) throw new RangeError("the message is cut off");
  return message;
}

/** The bytes of a message. */
export function encode<T>(
  write: (message: Partial<T>, pbf: PbfWriter) => void,
  message: Partial<T>,
): Uint8Array {
  const pbf = new PbfWriter();
  write(message, pbf);
  return pbf.finish();
}
