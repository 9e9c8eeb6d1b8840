/** A task: a container, the processes of exec in it, and what containerd is told of them. */
import type { OomState, OomWatch } from "../../cgroup/oom.ts";
import { abi } from "../../linux/abi.gen.ts";
import type { Loop, Watch } from "../loop.ts";
import type { ShimOptions } from "./options.ts";
import type { ProcessState, ShimProcess } from "./process.ts";
import type { Record } from "./record.ts";

/** A task, as another process of the shim can take it over. */
export interface TaskState {
  id: string;
  bundle: string;
  record: Record;
  state: "created" | "running";
  paused: boolean;
  init: ProcessState;
  oom: OomState | undefined;
  execs: (ProcessState & { spec: string })[];
}

/** What a task that is created from a checkpoint is restored with at its start. */
export interface RestoreFrom extends ShimOptions {
  /** Directory of the images. */
  checkpoint: string;
}

export class Task {
  /** By exec id; those that were deleted are gone. */
  readonly execs = new Map<string, ShimProcess>();
  state: "created" | "running" = "created";
  paused = false;
  restore: RestoreFrom | undefined;
  /** An end of init that is not told before those of exec. */
  initEnded: (() => void) | undefined;
  /** The watch for the kernel's OOM killer, while init runs. */
  oom: OomWatch | undefined;
  private oomWatched: Watch | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly id: string,
    readonly bundle: string,
    readonly rootfs: string,
    readonly record: Record,
    readonly init: ShimProcess,
  ) {}

  /** Watches for the OOM killer; `told` is called for each time it has been at work. */
  watchOom(loop: Loop, oom: OomWatch, told: () => void): void {
    this.oom = oom;
    this.oomWatched = loop.watch(oom.fd, abi.POLLIN, () => {
      if (oom.take() > 0) told();
      else if (oom.ended()) this.stopOom();
    });
  }

  stopOom(): void {
    this.oomWatched?.cancel();
    this.oom?.close();
    this.oomWatched = this.oom = undefined;
  }

  /** Does one thing after the other. */
  inOrder<T>(action: () => Promise<T>): Promise<T> {
    const next = this.last.then(action, action);
    this.last = next.catch(() => {});
    return next;
  }

  /** Whether a process of exec still runs. */
  get busy(): boolean {
    for (const process of this.execs.values()) if (process.running) return true;
    return false;
  }
}
