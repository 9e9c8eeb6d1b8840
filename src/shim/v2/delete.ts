/** `delete`: takes back what is left of a container whose shim is gone. Run also when all went well; so it ends soon. */

import { exists } from "../../container/store.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, readText, writeAll } from "../../linux/file.ts";
import { sys } from "../../linux/lib.ts";
import { encode } from "../proto/codec.ts";
import { writeDeleteResponse } from "../proto/task.gen.ts";
import type { Arguments } from "./arguments.ts";
import { isServed } from "./listen.ts";
import { readRecord } from "./record.ts";
import { releaseLayers, unmountRootfs } from "./rootfs.ts";
import { checkNames, workingDirectory } from "./start.ts";
import { now } from "./time.ts";

/** 128 + SIGKILL: what has become of it is not known, and what is left is killed. */
const KILLED = 137;

/** A shim that was killed leaves its socket; one that serves the rest of its group keeps it. */
function removeSocket(bundle: string): void {
  const address = readText(`${bundle}/address`, 256);
  if (typeof address !== "string" || !address.startsWith("unix:///")) return;
  const path = address.slice("unix://".length).trim();
  if (!isServed(path)) sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, 0);
}

/**
 * Deletes; a container that is gone already is fine.
 * @throws BuncError when something stays
 */
export async function deleteLeft(given: Arguments): Promise<void> {
  checkNames(given);
  const bundle = given.bundle || workingDirectory();
  const { root } = readRecord(bundle, given.namespace);
  const pid = Number(readText(`${bundle}/init.pid`, 32));
  if (exists(`${root}/${given.id}`)) {
    const { deleteContainer } = await import("../../container/delete.ts");
    await deleteContainer(root, given.id, true, { warn: () => {} });
  }
  unmountRootfs(`${bundle}/rootfs`);
  releaseLayers(`${bundle}/rootfs`);
  removeSocket(bundle);
  const response = { pid: pid > 0 ? pid : 0, exit_status: KILLED, exited_at: now() };
  const said = writeAll(1, encode(writeDeleteResponse, response));
  if (said < 0) throw pathError("write", "/dev/stdout", said);
}
