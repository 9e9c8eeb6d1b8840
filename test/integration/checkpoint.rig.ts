// What the tests with the real criu share: whether it works here, and containers that count.
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { CallOptions, Result, Rig } from "../rig/rig.ts";
import { isBunc } from "../rig/runtime.ts";

/** Why nothing of this can be tested here. */
const missing = ((): string | undefined => {
  const criu = Bun.which("criu", { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" });
  if (criu === null) return "no criu: make vm-test has one";
  // It leaves a log where it is called.
  const check = Bun.spawnSync([criu, "check"], { stdout: "ignore", stderr: "ignore", cwd: tmpdir() });
  return check.exitCode === 0 ? undefined : "criu check says that this kernel is not one for criu";
})();

/** The machine is an emulated one: what takes a second elsewhere may take twenty there. */
const SECONDS = 300;
const PATIENCE = 90;

/** A test that needs the real criu. */
export function realTest(name: string, body: () => Promise<void>): void {
  const reason = missing ?? (isBunc ? undefined : "only bunc");
  if (reason === undefined) test(name, body, SECONDS * 1000);
  else test.skip(`${name} (skipped: ${reason})`, body);
}

/** Images and log of one container. */
export interface Places {
  images: string;
  work: string;
}

export function places(rig: Rig): Places {
  const dir = rig.directory();
  return { images: join(dir, "images"), work: join(dir, "work") };
}

export const paths = ({ images, work }: Places): string[] => ["--image-path", images, "--work-path", work];

/** Counts in /count, five times a second, in a process that has no file of the host open. */
export const COUNT =
  "exec </dev/null >/dev/null 2>&1; i=0; while :; do i=$((i + 1)); echo $i >/count; sleep 0.2; done";

export function counting(
  rig: Rig,
  edit: (config: Config, container: Container) => void = () => {},
): Container {
  return rig.container((config, container) => {
    config.root.readonly = false;
    config.process.args = ["sh", "-c", COUNT];
    edit(config, container);
  });
}

export const count = (container: Container): number =>
  Number(readFileSync(join(container.rootfs, "count"), "utf8").trim() || 0);

export async function until(what: string, done: () => boolean): Promise<void> {
  for (const deadline = Date.now() + PATIENCE * 1000; !done(); ) {
    if (Date.now() > deadline) throw new Error(`not ${what} within ${PATIENCE} s`);
    await Bun.sleep(50);
  }
}

/** Starts it and waits until it has begun to count. */
export async function started(container: Container, flags: string[] = []): Promise<void> {
  await container.detach(flags);
  await until("counting", () => existsSync(join(container.rootfs, "count")) && count(container) > 1);
}

/** The container goes on from where it was, and can be used as any other. */
export async function expectGoesOn(container: Container, from: number): Promise<void> {
  expect((await container.state()).status).toBe("running");
  await until("going on", () => count(container) > from);
  const next = count(container);
  expect(next).toBeLessThan(from + 1000);
  await until("counting", () => count(container) > next);
  expect((await container.call("exec", "cat", "/proc/1/comm")).ok().stdout).toBe("sh\n");
}

export const call = (rig: Rig, args: string[], options: CallOptions = {}): Promise<Result> =>
  rig.call(args, { timeout: PATIENCE, ...options });

export const checkpoint = (container: Container, where: Places, ...flags: string[]): Promise<Result> =>
  call(container.rig, ["checkpoint", ...paths(where), ...flags, container.id]);

export const restoreArgs = (container: Container, where: Places): string[] => [
  ...paths(where),
  "--bundle",
  container.bundle,
  container.id,
];

export const restore = (container: Container, where: Places, ...flags: string[]): Promise<Result> =>
  call(container.rig, ["restore", "-d", ...flags, ...restoreArgs(container, where)]);
