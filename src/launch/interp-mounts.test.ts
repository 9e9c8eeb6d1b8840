/**
 * Runs test/unit-c/*-inside.ts (the composites of c/mount.c and c/cover.c on real mounts) as root of namespaces of its
 * own. Needs a build and a kernel that lets this user make user namespaces; no root.
 */
import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { inTemporary } from "./testing-run.ts";

const REPOSITORY = join(import.meta.dir, "../..");
const UNSHARE = [
  "unshare",
  "--user",
  "--map-root-user",
  "--mount",
  "--pid",
  "--fork",
  "--kill-child",
  "--mount-proc",
];

const probe = Bun.spawnSync([...UNSHARE, "true"]);
const refused = probe.exitCode !== 0;

test.skipIf(refused)(
  "mounts, devices and covered paths",
  async () => {
    await inTemporary((dir) => {
      const files = ["mounts", "covers"].map((name) => `./test/unit-c/${name}-inside.ts`);
      const child = Bun.spawnSync([...UNSHARE, process.execPath, "test", ...files], {
        cwd: REPOSITORY,
        timeout: 60_000,
        stderr: "pipe",
        env: { ...process.env, NO_COLOR: "1", TMPDIR: dir },
      });
      const report = child.stderr.toString();
      // The report of the tests inside is shown only when one of them failed.
      if (child.exitCode !== 0) throw new Error(`exit ${child.exitCode}\n${child.stdout}${report}`);
      expect(report).toMatch(/\n 0 fail\n/);
      expect(Number(/\n (\d+) pass\n/.exec(report)?.[1])).toBeGreaterThan(30);
      expect(readdirSync(dir)).toEqual([]);
    });
  },
  90_000,
);
