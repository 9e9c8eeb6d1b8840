// What the tests of hostile root filesystems share: something on the host that must stay as it is, and means to put
// links in the way.
import { expect } from "bun:test";
import {
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Container } from "../rig/container.ts";
import { entries } from "../rig/leaks.ts";
import type { CallOptions, Result, Rig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";

/** A directory of the host outside of every rootfs. */
export interface Victim {
  dir: string;
  /** The one file in it. */
  file: string;
  /** What the file says; nothing else on the host says it. */
  secret: string;
  /** That nothing was made, changed, mounted or given to somebody there. */
  expectUntouched(): void;
}

let victims = 0;

/** Makes something that attacks aim at. */
export function makeVictim(rig: Rig): Victim {
  const dir = rig.directory();
  const file = join(dir, "victim");
  const secret = `secret-${process.pid}-${++victims}`;
  writeFileSync(file, `${secret}\n`, { mode: 0o600 });
  const facts = (path: string) => {
    const { dev, ino, mode, uid, gid, mtimeMs, ctimeMs, nlink } = lstatSync(path);
    return { path, dev, ino, mode, uid, gid, mtimeMs, ctimeMs, nlink };
  };
  const before = [dir, file].map(facts);
  const expectUntouched = (): void => {
    expect(entries(dir)).toEqual(["victim"]);
    expect([dir, file].map(facts)).toEqual(before);
    expect(readFileSync(file, "utf8")).toBe(`${secret}\n`);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(dir);
  };
  return { dir, file, secret, expectUntouched };
}

/** Gives the directories of a rootfs to root of a user namespace, which the container gets. */
export function mapped(container: Container): Container {
  const { linux } = container.config;
  linux.namespaces.push({ type: "user" });
  linux.uidMappings = linux.gidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
  const own = (dir: string): void => {
    lchownSync(dir, 100000, 100000);
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory()) own(join(dir, entry.name));
    }
  };
  own(container.rootfs);
  return container;
}

/** Puts a symlink into a rootfs, in place of what is there. */
export function putLink(container: Container, path: string, target: string): void {
  const full = join(container.rootfs, path);
  output(["rm", "-rf", full]);
  mkdirSync(dirname(full), { recursive: true });
  symlinkSync(target, full);
}

/** Ways to write a host path in a link that leads out of the rootfs, if it leads anywhere but into the rootfs. */
export function escapes(path: string): Record<string, string> {
  return {
    absolute: path,
    "with many ..": `../../../../../../../../../../../../../../../..${path}`,
    "through proc": `/proc/self/root${path}`,
    "through init": `/proc/1/root${path}`,
    "through the working directory": `/proc/self/cwd/../../../../../../../../../../../../..${path}`,
  };
}

/** Runs a container that may fail, but must neither hang nor leave anything. */
export async function survive(container: Container, options: CallOptions = {}): Promise<Result> {
  const result = await container.run([], { timeout: 10, ...options });
  expect(container.rig.states()).toEqual([]);
  expect(container.cgroupDirectories()).toEqual([]);
  return result;
}

/** The same on a terminal; its exit code and all that was shown. */
export async function surviveOnTerminal(container: Container): Promise<{ code: number; text: string }> {
  container.config.process.terminal = true;
  container.write();
  const pty = container.rig.pty(["run", "--bundle", container.bundle, container.id]);
  const code = await pty.exited(10);
  expect(container.rig.states()).toEqual([]);
  return { code, text: pty.text };
}

/** Takes away the mounts on and below a path. */
export function withoutMounts(container: Container, path: string): void {
  const { config } = container;
  config.mounts = config.mounts.filter(({ destination }) => !`${destination}/`.startsWith(`${path}/`));
}
