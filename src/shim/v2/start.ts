/** `start`: finds the shim of the container's group or starts one, and says where it is. */
import { BuncError } from "../../errors.ts";
import { abi } from "../../linux/abi.gen.ts";
import { pathError, writeAll, writeAtomic } from "../../linux/file.ts";
import { sys, text } from "../../linux/lib.ts";
import { closeFd } from "../../linux/process.ts";
import type { Any } from "../proto/bootstrap.gen.ts";
import { type Arguments, serverArguments } from "./arguments.ts";
import { answer, readBootstrap } from "./bootstrap.ts";
import { becomeServer, forkServer } from "./fork.ts";
import { groupOf, socketPath } from "./group.ts";
import { readInput } from "./input.ts";
import { listenAt } from "./listen.ts";
import { passedOn, raiseOomScore, spawnServer } from "./spawn.ts";

/**
 * Runs `start` in the bundle's directory.
 * @param name what the shim was called as
 * @throws BuncError; no server is left then
 */
export async function start(name: string, given: Arguments): Promise<void> {
  checkNames(given);
  const bootstrap = readBootstrap(readInput(), given.id, process.env.MAX_SHIM_VERSION ?? "");
  const bundle = workingDirectory();
  const { namespace, id, address } = given;
  const group = groupOf(bundle, id);
  const socket = given.socket || socketPath(bootstrap.socketDir, address, namespace, group);
  const url = `unix://${socket}`;
  const listener = listenAt(socket);
  if (listener !== undefined) {
    const serving = { ...given, action: "", socket, debug: given.debug || bootstrap.debug };
    const env = passedOn(process.env);
    if (bootstrap.ttrpcAddress) env.TTRPC_ADDRESS = bootstrap.ttrpcAddress;
    try {
      const forked = forkServer();
      if (forked === 0) {
        process.env = env;
        becomeServer();
        await (await import("./serve.ts")).serve(name, serving, listener);
        return;
      }
      const pid = forked ?? (await spawnServer(name, serverArguments(serving), env, listener));
      raiseOomScore(pid);
      if (bootstrap.options?.value) await enterShimCgroup(bootstrap.options, pid);
    } catch (error) {
      sys(abi.SYS_unlinkat, abi.AT_FDCWD, socket, 0);
      throw error;
    } finally {
      closeFd(listener);
    }
  }
  // containerd 1.x looks here after it was started again.
  const written = writeAtomic(`${bundle}/address`, url, 0o644);
  if (written < 0) throw pathError("write", `${bundle}/address`, written);
  const said = writeAll(1, answer(bootstrap, url));
  if (said < 0) throw pathError("write", "/dev/stdout", said);
}

/** What is made of the names are paths. */
export function checkNames({ namespace, id }: Arguments): void {
  if (!namespace)
    throw new BuncError("shim namespace cannot be empty", { code: "usage", hint: "give -namespace" });
  if (!id) throw new BuncError("shim id cannot be empty", { code: "usage", hint: "give -id" });
  for (const value of [namespace, id]) {
    if (value.includes("/") || value === "." || value === "..") {
      throw new BuncError(`${JSON.stringify(value)} is no name: it must not be a path`, { code: "usage" });
    }
  }
}

/** The bundle, when -bundle does not say it. */
export function workingDirectory(): string {
  const buffer = new Uint8Array(4096);
  const n = sys(abi.SYS_getcwd, buffer, buffer.length);
  if (n < 0) throw pathError("getcwd", "", n);
  return text(buffer.subarray(0, n - 1));
}

async function enterShimCgroup(options: Any, pid: number): Promise<void> {
  const { readShimOptions } = await import("./options.ts");
  const { shim_cgroup } = await readShimOptions(options);
  if (shim_cgroup) (await import("./shim-cgroup.ts")).enterShimCgroup(shim_cgroup, pid);
}
