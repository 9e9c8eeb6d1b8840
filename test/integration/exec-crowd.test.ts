// `exec`: many at once, while the container ends, and when bunc itself is killed.
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";

const rig = useRig();

async function running(): Promise<Container> {
  const container = rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
  await container.detach();
  return container;
}

/** The pids in the container, as its own ps tells them, without those of the asking. */
async function inside(container: Container): Promise<string[]> {
  const { stdout } = (await rig.call(["exec", container.id, "ps", "-o", "args"])).ok();
  return stdout
    .trim()
    .split("\n")
    .slice(1)
    .filter((line) => line.trim() !== "ps -o args");
}

test("fifty at once: each has its own output and exit code, and nothing is left of them", async () => {
  const container = await running();
  const results = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      rig.call(["exec", container.id, "sh", "-c", `echo out ${i}; exit ${i}`], { timeout: 60 }),
    ),
  );
  expect(results.map(({ code, stdout }) => [code, stdout])).toEqual(results.map((_, i) => [i, `out ${i}\n`]));
  expect(await inside(container)).toEqual(["sleep 60"]);
}, 90_000);

test("while the container ends: each ran, was killed, or says that it could not", async () => {
  const container = await running();
  const started = Array.from({ length: 12 }, () => rig.spawn(["exec", container.id, "sh", "-c", "exit 7"]));
  await Bun.sleep(30);
  await container.call("kill", "KILL");
  for (const { done } of started) {
    const { code, stderr } = await done;
    expect([7, 137, 255]).toContain(code);
    if (code === 255) expect(stderr).toMatch(/exec failed: .+/);
    else expect(stderr).toBe("");
  }
  await container.waitFor("stopped");
  (await container.remove()).ok();
}, 60_000);

test("bunc is killed in the foreground: the process goes on, as a child of init, and kill --all ends it", async () => {
  const container = await running();
  const ran = rig.spawn(["exec", container.id, "sh", "-c", "echo there; exec sleep 55"]);
  await ran.now.until("there");
  ran.signal("SIGKILL");
  await ran.done;
  expect(await inside(container)).toContain("sleep 55");
  (await container.call("kill", "KILL")).ok();
  await container.waitFor("stopped");
  (await container.remove()).ok();
}, 60_000);

test("a signal for bunc goes to the process", async () => {
  const container = await running();
  const script = "trap 'exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done";
  const ran = rig.spawn(["exec", container.id, "sh", "-c", script]);
  await ran.now.until("ready");
  ran.signal("SIGUSR1");
  await ran.now.until("usr1");
  ran.signal("SIGTERM");
  expect((await ran.done).code).toBe(9);
}, 60_000);

test("bunc leaves no descriptors, and none of its memory, to the process", async () => {
  const container = await running();
  const file = container.path("exec.pid");
  (await rig.call(["exec", "-d", "--pid-file", file, container.id, "sleep", "50"])).ok();
  const pid = readFileSync(file, "utf8");
  expect(readdirSync(`/proc/${pid}/fd`).sort()).toEqual(["0", "1", "2"]);
  expect(readFileSync(`/proc/${pid}/maps`, "utf8")).not.toContain("bunc");
});

test("a pid file that cannot be written: 255, and the process is gone", async () => {
  const container = await running();
  const result = await rig.call([
    "exec",
    "-d",
    "--pid-file",
    "/nonexistent/pid",
    container.id,
    "sleep",
    "50",
  ]);
  expect([result.code, result.stderr]).toEqual([255, expect.stringContaining("no such file or directory")]);
  expect(await inside(container)).toEqual(["sleep 60"]);
});

test("a bundle that has changed since: what it says now, or what is wrong with it", async () => {
  const container = await running();
  container.config.process.env = ["PATH=/bin", "NEW=yes"];
  container.write();
  const changed = await rig.call(["exec", container.id, "sh", "-c", "echo $NEW"]);
  expect(changed.ok().stdout).toBe("yes\n");
  writeFileSync(container.path("config.json"), "{");
  const broken = await rig.call(["exec", container.id, "true"]);
  expect([broken.code, broken.stderr]).toEqual([255, expect.stringContaining("config.json")]);
  container.write();
  expect(existsSync(container.path("config.json"))).toBe(true);
});
