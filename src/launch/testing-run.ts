/** What the tests that execute parts share: they call BUNC_CALL_RUN of build/libbunc.so. Needs a build, but no root. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abi } from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { sys } from "../linux/lib.ts";
import { HostState } from "../linux/run-part.ts";
import { encodePart } from "./encode.ts";
import { type Arg, type OpOptions, Part, Slot } from "./program.ts";

/** How a part ended: "" or the errno by name, and what the state says of the failure. */
export interface Outcome {
  errno: string;
  index: number;
  text: Uint8Array;
  step: number;
}

/** Executes a part in this process. */
export function run(part: Part, state: HostState = new HostState()): Outcome {
  const bytes = encodePart(part.ops, { first: state.next });
  state.next += part.ops.length;
  const result = sys(abi.BUNC_CALL_RUN, bytes, bytes.length, state.bytes);
  const failure = state.failure();
  return { errno: result < 0 ? name(-result) : "", ...failure };
}

/** Executes one operation; gives its result, -errno for a failure. */
export function call(code: number, ...args: Arg[]): number {
  const part = new Part();
  const slot = new Slot(0, "result");
  const state = new HostState();
  part.op(code, args, { slot, tolerate: [[abi.BUNC_ERR_ANY, 0]] });
  const { errno } = run(part, state);
  if (errno) throw new Error(`the part failed: ${errno}`);
  return state.get(slot);
}

/** Executes one operation; gives "" or the errno by name. Descriptors that it makes are closed again. */
export function errnoOf(code: number, ...args: Arg[]): string {
  const result = call(code, ...args);
  if (result < 0) return name(-result);
  if (code === abi.BUNC_OP_MKPATH) sys(abi.SYS_close, result);
  return "";
}

function name(errno: number): string {
  return errno === abi.BUNC_EHOOK ? "EHOOK" : errnoName(errno);
}

/** Appends an operation that fails unless a slot holds a value: how a test sees what C has. */
export function expectSlot(part: Part, slot: Slot, value: number | bigint, options: OpOptions = {}): void {
  part.op(abi.BUNC_OP_EXPECT, [slot, -1, value, abi.EDOM], options);
}

/** A directory of its own for a test, removed afterwards. */
export async function inTemporary<T>(body: (dir: string) => T | Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "bunc-unit-"));
  try {
    return await body(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Opens a directory with O_PATH for the time of a call. */
export function withDirectory<T>(path: string, body: (fd: number) => T): T {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_PATH | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
  if (fd < 0) throw new Error(`open ${path}: ${errnoName(-fd)}`);
  try {
    return body(fd);
  } finally {
    sys(abi.SYS_close, fd);
  }
}
