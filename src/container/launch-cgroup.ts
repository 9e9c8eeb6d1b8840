/** The cgroup of a container that is being launched: made around the spawn of init, removed when the launch fails. */
import type { Layout } from "../cgroup/layout.ts";
import type { Spec } from "../oci/config.ts";
import type { LaunchOptions } from "./types.ts";

export class LaunchCgroup {
  readonly layout: Layout | undefined = undefined;
  readonly paths: Record<string, string> = {};
  readonly rootless = false;
  fd: number | undefined = undefined;
  constructor(_spec: Spec, _options: LaunchOptions, _euid: number) {}
  beforeSpawn(_save: () => void): void {}
  afterSpawn(save: () => void): void {
    save();
  }
  place(_pid: number): void {}
  destroy(): void {}
  oomKilled(): boolean {
    return false;
  }
}
