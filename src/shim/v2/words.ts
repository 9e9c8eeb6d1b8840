/** What everything about tasks works with, and containerd's words for what the runtime refuses. */
import type { Log } from "../../container/types.ts";
import { BuncError, renderError } from "../../errors.ts";
import type { Loop } from "../loop.ts";
import { Code, RpcError } from "../ttrpc/status.ts";
import type { Publisher } from "./events.ts";

/** The shim as its tasks see it. */
export interface TaskContext {
  readonly loop: Loop;
  readonly namespace: string;
  readonly publisher: Publisher;
  readonly log: Log;
  /** What the shim was called as, and an O_PATH descriptor of its executable. */
  readonly name: string;
  readonly executable: number;
}

/** Puts containerd's words before those of the runtime. */
export async function inWords<T>(words: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    const code = error.fields.code === "not-found" ? Code.notFound : Code.unknown;
    throw new RpcError(code, words + renderError(error));
  }
}
