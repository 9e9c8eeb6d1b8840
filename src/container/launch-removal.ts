/** Taking a container away that this process has launched: after its end, or because it could not be brought up. */
import { destroy } from "../cgroup/live.ts";
import { renderError } from "../errors.ts";
import { Part } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { preparePart } from "../linux/run-part.ts";
import { tracer } from "../linux/trace.ts";
import type { LaunchCgroup } from "./launch-cgroup.ts";
import type { Launcher } from "./launcher.ts";
import { removeStateDir } from "./remove.ts";

/** The removal of one launched container. */
export class LaunchRemoval {
  constructor(
    private readonly launcher: Pick<Launcher, "spec" | "options" | "dir" | "extras" | "hookState">,
    private readonly cgroup: LaunchCgroup,
  ) {}

  /**
   * Compiles, while the container runs, what usually is all of its removal: empty cgroups, one file, one directory. The
   * answer executes it and says whether that was all; if not, `remove` does the rest.
   */
  prepare(): () => boolean {
    tracer?.step("prepare the removal");
    const { spec, extras, dir } = this.launcher;
    if (spec.hooks?.poststop?.length || extras.notifySocket || extras.systemd || extras.rdt)
      return () => false;
    const part = new Part().at("state");
    part.op(abi.SYS_flock, [dir.fd, abi.LOCK_EX | abi.LOCK_NB]);
    const seen: string[] = [];
    const { paths } = this.cgroup;
    for (const name in paths) {
      const path = paths[name]!;
      if (seen.includes(path)) continue;
      seen.push(path);
      part.op(abi.SYS_unlinkat, [abi.AT_FDCWD, path, abi.AT_REMOVEDIR], { tolerate: [[abi.ENOENT, 0]] });
    }
    part.op(abi.SYS_unlinkat, [dir.fd, "state.json", 0]);
    part.op(abi.SYS_unlinkat, [abi.AT_FDCWD, dir.path, abi.AT_REMOVEDIR]);
    const run = preparePart(part);
    return () => run() === 0;
  }

  /** After the container's end: its cgroups, poststop hooks, the state directory. Failures are only warned about. */
  async remove(): Promise<void> {
    tracer?.step("remove the container");
    const { dir } = this.launcher;
    await dir.lock();
    // Somebody else has deleted it meanwhile.
    if (!dir.isCurrent()) return;
    try {
      await this.cgroup.stop();
      await destroy(this.cgroup.paths);
    } catch (error) {
      this.warn(error);
    }
    await this.finish();
  }

  /** What comes last, when neither processes nor cgroups are left: poststop hooks, the state directory. */
  async finish(): Promise<void> {
    await this.runPoststop();
    const { dir } = this.launcher;
    try {
      removeStateDir(dir);
    } catch (error) {
      this.warn(error);
    }
    dir.close();
  }

  private async runPoststop(): Promise<void> {
    const { spec, extras } = this.launcher;
    const poststop = spec.hooks?.poststop;
    if (!poststop?.length) return;
    const { runHooks } = await import("./hooks.ts");
    await runHooks("poststop", poststop, this.launcher.hookState("stopped"), {
      failed: (error) => this.warn(error),
      files: extras.hookFiles,
    });
  }

  private warn(error: unknown): void {
    this.launcher.options.log.warn(renderError(error));
  }
}
