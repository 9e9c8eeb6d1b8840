// What the tests with a fake criu share: a container, a fake, and the commands on them.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Container } from "../rig/container.ts";
import { type FakeCriu, fakeCriu, type Noted, type Script, type Step } from "../rig/fake-criu.ts";
import { parseMountInfo } from "../rig/mountinfo.ts";
import type { CallOptions, Result, Rig } from "../rig/rig.ts";

export const mountPoints = () =>
  parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")).map(({ point }) => point);

export const DUMP = 1;
export const RESTORE = 2;
export const PRE_DUMP = 4;

/** What changes the config of a container. */
export type Edit = Parameters<Rig["container"]>[0];

export interface Bench {
  container: Container;
  criu: FakeCriu;
  images: string;
  call(args: string[], options?: CallOptions): Promise<Result>;
  checkpoint(...flags: string[]): Promise<Result>;
  restore(...flags: string[]): Promise<Result>;
  /** What the request of this type was. */
  asked(type: number): Noted;
}

/** A container (not started) with a fake that does this after a dump or restore is asked for. */
export function bench(rig: Rig, script: Script, edit: Edit = () => {}): Bench {
  const container = rig.container((config, made) => {
    config.process.args = ["sleep", "60"];
    edit(config, made);
  });
  const criu = fakeCriu(rig.directory(), script);
  const images = join(rig.directory(), "images");
  const call = (args: string[], options: CallOptions = {}) =>
    rig.call(args, { ...options, env: { ...criu.env, ...options.env } });
  const { id, bundle } = container;
  return {
    container,
    criu,
    images,
    call,
    checkpoint: (...flags) => call(["checkpoint", "--image-path", images, ...flags, id]),
    restore: (...flags) => call(["restore", "--image-path", images, "--bundle", bundle, ...flags, id]),
    asked: (type) => criu.noted().find(({ request }) => request.type === type)!,
  };
}

/** Images as a checkpoint leaves them. */
export function fakeImages(
  { images }: Bench,
  descriptors: unknown = ["/dev/null", "pipe:[77]", "/dev/null"],
): void {
  mkdirSync(images);
  writeFileSync(join(images, "descriptors.json"), JSON.stringify(descriptors));
}

export const DUMPED: Step[] = [{ notify: "post-dump" }, { kill: "target" }, { answer: {} }];
export const RESTORED: Step[] = [
  { start: true },
  { notify: "setup-namespaces", pid: "restored" },
  { notify: "post-restore", pid: "restored" },
  { answer: {} },
];
