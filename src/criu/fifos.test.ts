// Which standard streams criu has to be told of: fifos with a path, and neither pipes nor files.
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fifoNames } from "./fifos.ts";

const dir = mkdtempSync("/tmp/bunc-fifos-");
afterAll(() => rmSync(dir, { recursive: true }));

test("the streams of a process", async () => {
  const fifo = join(dir, "fifo");
  Bun.spawnSync(["mkfifo", fifo]);
  const script = `exec 1<>${fifo} 2>/dev/null; echo; exec sleep 10`;
  const child = Bun.spawn(["sh", "-c", script], { stdin: "pipe", stdout: "ignore", stderr: "ignore" });
  try {
    const inode = statSync(fifo).ino.toString(16);
    for (let i = 0; i < 200 && fifoNames(child.pid, "")[1] === ""; i++) await Bun.sleep(10);
    const [stdin, stdout, stderr] = fifoNames(child.pid, "");
    expect([stdin, stderr]).toEqual(["", ""]);
    expect(stdout).toMatch(new RegExp(`^file\\[[0-9a-f]+:${inode}\\]$`));
    // On a mount that the process itself sees it is no stream of the host's.
    expect(fifoNames(child.pid)).toEqual(["", "", ""]);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
  }
  expect(fifoNames(4194305)).toEqual(["", "", ""]);
});
