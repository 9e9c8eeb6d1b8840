// A migration with lazy pages by the real criu: the container runs again before its memory has been fetched.
import { expect } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { useRig } from "../rig/rig.ts";
import {
  call,
  checkpoint,
  count,
  counting,
  expectGoesOn,
  paths,
  places,
  realTest,
  started,
  until,
} from "./checkpoint.rig.ts";

const rig = useRig();

const PORT = "27277";

realTest("--lazy-pages: memory is served to where the container is restored", async () => {
  const container = counting(rig);
  await started(container);
  const where = places(rig);
  const status = join(rig.directory(), "status");
  const fd = openSync(status, "w");
  const served = rig.spawn(
    [
      "checkpoint",
      ...["--lazy-pages", "--page-server", `127.0.0.1:${PORT}`, "--status-fd", "3", ...paths(where)],
      container.id,
    ],
    { fds: [fd], timeout: 120 },
  );
  closeSync(fd);
  const ready = until("ready to serve", () => readFileSync(status, "latin1") === "\0");
  ready.catch(() => {});
  await Promise.race([ready, served.done.then((result) => result.ok())]);
  expect(existsSync(join(where.images, "inventory.img"))).toBe(true);
  // It stands still until it has been fetched, and is deleted then; the copy needs another id and cgroup.
  const copy = counting(rig, (config) => {
    config.root.path = container.rootfs;
  });
  const daemon = Bun.spawn(
    ["criu", "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", PORT, "-D", where.images],
    { stdio: ["ignore", "ignore", "ignore"], env: rig.env, cwd: where.work },
  );
  rig.defer(async () => {
    daemon.kill("SIGKILL");
    await daemon.exited;
  });
  const socket = join(where.images, "lazy-pages.socket");
  await until("there to fetch", () => existsSync(socket));
  const flags = ["--lazy-pages", "--manage-cgroups-mode", "ignore", "--image-path", where.images];
  const restored = await call(rig, ["restore", "-d", ...flags, "--bundle", copy.bundle, copy.id]);
  restored.ok();
  (await served.done).ok();
  expect(await daemon.exited).toBe(0);
  expect(rig.states()).toEqual([copy.id]);
  expect((await copy.state()).status).toBe("running");
  const before = count(container);
  await until("going on", () => count(container) > before + 1);
});

realTest("a page server that is not there fails, and the container goes on", async () => {
  const container = counting(rig);
  await started(container);
  const result = await checkpoint(container, places(rig), "--page-server", "127.0.0.1:1");
  expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("criu failed: type DUMP")]);
  await expectGoesOn(container, 1);
});
