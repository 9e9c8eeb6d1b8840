// User namespaces of an ordinary user: its own id without help, more ids with newuidmap, and what an error says.
import { expect, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { IdMapping } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { Result } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, runtime, testUnless } from "../rig/runtime.ts";
import { GID, ordinaryUser, own, UID } from "./ordinary-user.ts";

const rig = useRig();
const { rootless, asJoe, letIn } = ordinaryUser(rig);
const noHelper = existsSync("/usr/bin/newuidmap") ? undefined : "no newuidmap on this host";

function runAsJoe(container: Container, ...joe: Parameters<typeof asJoe>): Promise<Result> {
  return container.run([], asJoe(...joe));
}

const range = (hostID: number, size = 1000): IdMapping => ({ containerID: 1, hostID, size });
const show = "id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups";

const rows = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).join(" "));

buncDescribe("an ordinary user", () => {
  test("maps its own ids without help, and can set no groups then", async () => {
    const container = rootless([own(UID)], [own(GID)], show);
    letIn(container);
    const result = (await runAsJoe(container, "", "", "/nowhere")).ok();
    expect(rows(result.stdout)).toEqual(["0", `0 ${UID} 1`, `0 ${GID} 1`, "deny"]);
  });

  test("that is root of a user namespace without setgroups can run and exec there", async () => {
    const container = rootless([own(0)], [own(0)], "id -u; exec sleep 60");
    letIn(container);
    const { wrap, root } = asJoe("", "");
    // All in one, as the namespace goes with its processes.
    const { env } = rig;
    const script = `"$0" --root ${root} run --detach --bundle ${container.bundle} ${container.id} </dev/null &&
      "$0" --root ${root} exec ${container.id} cat /proc/self/setgroups && "$0" --root ${root} delete --force ${container.id}`;
    container.write();
    const command = [...wrap, "unshare", "-r", "sh", "-c", script, runtime];
    const { stdout, stderr, exitCode } = Bun.spawnSync(command, { env, stdin: "ignore" });
    expect([stdout.toString(), stderr.toString(), exitCode]).toEqual(["0\ndeny\n", "", 0]);
  });

  test("can bind what it may read", async () => {
    const dir = rig.directory();
    writeFileSync(join(dir, "file"), "bound\n");
    const container = rootless([own(UID)], [own(GID)], "cat /mnt/file");
    container.config.mounts.push({ destination: "/mnt", source: dir, options: ["rbind", "ro"] });
    container.config.root.readonly = false;
    chmodSync(container.rootfs, 0o777);
    letIn(container);
    expect((await runAsJoe(container, "", "")).ok().stdout).toBe("bound\n");
  });

  test("can create, start and delete", async () => {
    const container = rootless([own(UID)], [own(GID)], "echo started; exec sleep 60");
    letIn(container);
    const joe = asJoe("", "");
    const created = (await container.start("create", [], joe)).ok();
    (await rig.call(["start", container.id], joe)).ok();
    await created.until("started");
    (await rig.call(["delete", "--force", container.id], joe)).ok();
    expect(readdirSync(joe.root)).toEqual([]);
  });

  test("without a cgroup, too, the container may use every cpu, whatever its caller is bound to", async () => {
    const container = rootless([own(UID)], [own(GID)], "grep Cpus_allowed_list /proc/self/status");
    letIn(container);
    const { wrap, root } = asJoe("", "");
    const bound = { wrap: ["taskset", "-c", "0", ...wrap], root };
    const free = Bun.spawnSync([
      "sh",
      "-c",
      `taskset -p ${"f".repeat(256)} $$ >/dev/null; grep Cpus_allowed_list /proc/$$/status`,
    ]);
    expect((await container.run([], bound)).ok().stdout).toBe(free.stdout.toString());
  });

  testUnless(noHelper, "maps more by newuidmap and newgidmap, as /etc/subuid allows", async () => {
    const container = rootless([own(UID), range(200000)], [own(GID), range(300000)], show);
    letIn(container);
    const result = (await runAsJoe(container, "joe:200000:1000\n", `${UID}:300000:1000\n`)).ok();
    expect(rows(result.stdout)).toEqual([
      "0",
      `0 ${UID} 1`,
      "1 200000 1000",
      `0 ${GID} 1`,
      "1 300000 1000",
      "allow",
    ]);
  });

  testUnless(noHelper, "is told what newgidmap said and which line is missing", async () => {
    const container = rootless([own(UID), range(200000)], [own(GID), range(300000)], "true");
    letIn(container);
    const result = await runAsJoe(container, "joe:200000:1000\n", "joe:300000:10\n");
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(
      "cannot apply linux.gidMappings: /usr/bin/newgidmap: exit status 1: newgidmap: gid range",
    );
    expect(result.stderr).toContain("/etc/subgid");
    expect(result.stderr).toContain("joe:300000:1000");
  });

  test("is told that the helper is missing, and what goes without it", async () => {
    const container = rootless([own(UID), range(200000)], [own(GID)], "true");
    letIn(container);
    const result = await runAsJoe(container, "", "", "/nowhere");
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("cannot apply linux.uidMappings: newuidmap not found in $PATH");
    expect(result.stderr).toContain("package uidmap");
    expect(result.stderr).toContain(`hostID ${UID}, size 1`);
  });
});

test("root maps as many ranges as the kernel takes, and is told of one page's limit", async () => {
  const many = (hostID: number) =>
    Array.from({ length: 340 }, (_, i) => ({ containerID: 2 * i, hostID: hostID + 2 * i, size: 1 }));
  const container = rig.container((config) => {
    config.process.args = ["sh", "-c", "wc -l </proc/self/uid_map"];
    config.linux.namespaces.push({ type: "user" });
    config.linux.uidMappings = many(1000);
    config.linux.gidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
  });
  expect((await container.output()).trim()).toBe("340");
  container.config.linux.uidMappings = many(4000000000);
  const result = await container.run();
  expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/uid_?map/i)]);
});
