// Run by cgroup-v2.test.ts in a mount namespace of its own: makes and removes cgroups there, prints what it saw.
// Usage: cgroup-view.ts TAG cycle|fail
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { type Cgroup, planCgroup } from "../../src/cgroup/cgroup.ts";
import { readLayout } from "../../src/cgroup/layout.ts";
import { destroy } from "../../src/cgroup/live.ts";
import { Init } from "../../src/container/init-channel.ts";
import { renderError } from "../../src/errors.ts";
import { Part, Slots } from "../../src/launch/program.ts";
import { abi } from "../../src/linux/abi.gen.ts";
import { closeFd } from "../../src/linux/process.ts";
import { HostState } from "../../src/linux/run-part.ts";

/**
 * Starts bunc-init as a launch does: cloned into cgroup2, entering the rest by itself; in a user namespace of its own by
 * descriptors that it inherits. The caller kills it.
 */
export function startInit(group: Cgroup, fd: number, userNamespace = false): Init {
  const into = fd >= 0 ? { cgroup: fd } : {};
  const fds = userNamespace ? group.taskFiles().map((file) => openSync(file, "w")) : [];
  const flags = userNamespace ? abi.CLONE_NEWUSER : 0;
  const init = Init.spawn({ flags, firstFd: 3, fds, preserve: 0, ...into });
  for (const opened of fds) closeSync(opened);
  try {
    const part = new Part();
    group.compileEnter(part, userNamespace ? fds.map((_, i) => 4 + i) : undefined);
    part.op(abi.BUNC_OP_PART, [7, 0]);
    init.send(part);
    if (init.next()?.event !== 7) throw new Error("init did not get there");
  } catch (error) {
    init.kill();
    throw error;
  }
  return init;
}

async function main(tag: string, script: string): Promise<void> {
  const layout = readLayout();
  const spec = { ociVersion: "1.3.0", linux: { cgroupsPath: `/${tag}/v` } };
  const group = planCgroup({ spec, id: "unused", layout, slots: new Slots() });
  const state = new HostState();
  const fd = group.create(state);
  let where = "";
  try {
    if (script === "cycle") {
      const init = startInit(group, fd);
      where = readFileSync(`/proc/${init.pid}/cgroup`, "utf8");
      init.kill();
      group.limit(state);
    }
  } finally {
    closeFd(fd);
    await destroy(group.paths);
    await group.undo();
  }
  const left = Object.values(group.paths).filter((path) => existsSync(path));
  console.log(JSON.stringify({ mode: layout.mode, paths: group.paths, where, left }));
}

if (import.meta.main) {
  try {
    await main(process.argv[2]!, process.argv[3]!);
  } catch (error) {
    console.log(renderError(error));
  }
}
