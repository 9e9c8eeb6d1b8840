// What the tests of start, kill and delete share: containers whose init is a shell script, with cgroups that are made up,
// so that no root is needed. (test/integration has real ones.)
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BuncError } from "../errors.ts";
import type { CgroupOps } from "./cgroups.ts";
import { type DeleteOptions, deleteContainer } from "./delete.ts";
import { loadState } from "./info.ts";
import { killContainer } from "./kill.ts";
import { startContainer } from "./start.ts";
import type { OwnState } from "./state.ts";
import { stateText } from "./state-text.ts";
import { processStat } from "./status.ts";
import { createStateDir } from "./store.ts";

/** Cgroups that write down what is asked of them. */
export class FakeCgroups implements CgroupOps {
  frozen = false;
  members: number[] = [];
  destroyError: BuncError | undefined;
  readonly calls: string[] = [];

  isFrozen = () => this.frozen;
  thaw = () => {
    this.calls.push("thaw");
    this.frozen = false;
  };
  killAll = () => {
    this.calls.push("killAll");
    for (const pid of this.members) process.kill(pid, "SIGKILL");
    return this.members.length > 0;
  };
  processes = () => this.members;
  destroy = () => {
    this.calls.push("destroy");
    if (this.destroyError) throw this.destroyError;
  };
}

/** One root with its containers; `close` ends and removes everything. */
export class Life {
  readonly scratch = mkdtempSync(join(tmpdir(), "bunc-life-"));
  readonly root = join(this.scratch, "root");
  readonly cgroups = new FakeCgroups();
  readonly children: Bun.Subprocess[] = [];

  async close(): Promise<void> {
    for (const child of this.children) {
      child.kill("SIGKILL");
      await child.exited;
    }
    rmSync(this.scratch, { recursive: true, force: true });
  }

  /** A process that is ended with the rest. */
  spawn(command: string[]): Bun.Subprocess {
    const child = Bun.spawn(command, { stdout: "ignore" });
    this.children.push(child);
    return child;
  }

  /** A created container whose init is a shell script; $1 is the fifo, $2 the state directory. */
  create(id: string, script: string, own: Partial<OwnState> = {}, more: object = {}): Bun.Subprocess {
    const dir = createStateDir(this.root, id);
    dir.makeFifo(process.getuid!(), process.getgid!());
    const init = this.spawn(["sh", "-c", script, "init", dir.fifo, dir.path]);
    const state = {
      bunc: { version: 1, ociVersion: "1.3.0", bundle: "/b", rootfs: "/b/rootfs", ...own },
      id,
      init_process_pid: init.pid,
      init_process_start: processStat(init.pid)!.start,
      created: "2026-11-20T23:53:25Z",
      cgroup_paths: { memory: "/sys/fs/cgroup/memory/none" },
      config: { rootfs: "/b/rootfs" },
      ...more,
    };
    writeFileSync(join(dir.path, "state.json"), stateText(state as never));
    dir.close();
    return init;
  }

  status(id: string): string {
    return loadState(this.root, id, this.cgroups).status;
  }

  start(id: string): Promise<void> {
    return startContainer(this.root, id, this.cgroups);
  }

  async kill(id: string, signo: number): Promise<void> {
    await killContainer(this.root, id, signo, this.cgroups);
  }

  remove(id: string, force = false, options: DeleteOptions = {}): Promise<void> {
    return deleteContainer(this.root, id, force, { cgroups: this.cgroups, ...options });
  }
}
