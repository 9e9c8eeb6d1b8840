// What the shim starts in a cgroup shares its memory for a moment. The kernel must not take the shim for a part of the
// container then.
import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../rig/client.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, CAP_SYS_RESOURCE, host, testUnless } from "../rig/runtime.ts";
import { refusal, shimOf } from "./rig.ts";

const rig = useRig();
const score = (pid: number) => readFileSync(`/proc/${pid}/oom_score_adj`, "utf8");

const missing = host.cgroupV1
  ? "memory.oom.group is of cgroup v2"
  : host.capable(CAP_SYS_RESOURCE)
    ? undefined
    : "nothing can be spared without CAP_SYS_RESOURCE";

buncDescribe("a container that is killed as a whole when it runs out of memory", () => {
  testUnless(missing, "does not take the shim along when an exec makes it run out", async () => {
    // The shell holds 3 MB; sleep is a part of it.
    const script =
      "x=$(head -c 3000000 /dev/zero | tr '\\0' a); echo full > /full; while :; do sleep 1000; done";
    for (let round = 0; round < 3; round++) {
      const shim = await shimOf(rig, ["sh", "-c", script], {}, ({ config }) => {
        config.root.readonly = false;
        const limits = { limit: 32 << 20, swap: 32 << 20 };
        const unified = { "memory.oom.group": "1" };
        config.linux.resources = { ...config.linux.resources, memory: limits, unified };
      });
      await shim.create();
      await shim.begin();
      await eventually("the shell is full", () => existsSync(join(shim.container.rootfs, "full")));
      const group = shim.container.cgroup("memory")!;
      expect(readFileSync(join(group, "memory.oom.group"), "utf8")).toBe("1\n");
      writeFileSync(join(group, "memory.max"), readFileSync(join(group, "memory.current")));
      await shim.exec("e", ["true"]);
      const ended = shim.wait();
      await refusal(shim.begin("e"));
      expect((await ended).exit_status).toBe(137);
      await shim.delete();
    }
  });
});

buncDescribe("the OOM score", () => {
  test("of the shim, its container and an exec is what it was", async () => {
    const shim = await shimOf(rig, ["sleep", "100"]);
    const { pid } = await shim.create();
    const before = score(await shim.pid());
    expect(score(pid)).toBe(before);
    await shim.begin();
    await shim.exec("e", ["sleep", "100"]);
    const exec = await shim.begin("e");
    expect([score(await shim.pid()), score(exec.pid)]).toEqual([before, before]);
    await shim.kill(9);
    await shim.wait();
  });
});
