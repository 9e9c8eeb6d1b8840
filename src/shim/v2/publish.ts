/** Events for a containerd without a ttrpc socket: `containerd publish` takes one on stdin. */
import { hookEnvironment } from "../../container/hooks.ts";
import { runPartApart } from "../../container/hooks-apart.ts";
import { hookStruct } from "../../launch/hooks.ts";
import { Part } from "../../launch/program.ts";
import { abi } from "../../linux/abi.gen.ts";
import { encode } from "../proto/codec.ts";
import { writeAny } from "../proto/task.gen.ts";
import type { EventTarget } from "./events.ts";

/** Seconds. */
const TIMEOUT = 5;

/**
 * Forwards one event by containerd's own executable: run as a hook is, with a deadline and its words in the error.
 * @throws BuncError when it cannot be executed, or fails
 */
export async function publish(
  target: EventTarget,
  topic: string,
  type: string,
  event: Uint8Array,
): Promise<void> {
  const path = resolve(target.publishBinary);
  const flags = ["--address", target.address, "publish", "--topic", topic, "--namespace", target.namespace];
  const input = encode(writeAny, { type_url: type, value: event });
  const hook = { path, args: [path, ...flags], timeout: TIMEOUT };
  const part = new Part().at("hooks");
  part.op(abi.BUNC_OP_HOOK, [hookStruct(hook, input, hookEnvironment())], {
    about: `publishing ${topic} by ${path}`,
  });
  await runPartApart(part);
}

/** execve(2) does not look in $PATH. */
function resolve(name: string): string {
  return name.includes("/") ? name : (Bun.which(name) ?? name);
}
