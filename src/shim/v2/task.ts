/** A task: a container, the processes of exec in it, and what containerd is told of them. */
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
  execs: (ProcessState & { spec: string })[];
}

export class Task {
  /** By exec id; those that were deleted are gone. */
  readonly execs = new Map<string, ShimProcess>();
  state: "created" | "running" = "created";
  paused = false;
  /** An end of init that is not told before those of exec. */
  initEnded: (() => void) | undefined;
  /** Stops to watch for the kernel's OOM killer. */
  stopOom: (() => void) | undefined;
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly id: string,
    readonly bundle: string,
    readonly rootfs: string,
    readonly record: Record,
    readonly init: ShimProcess,
  ) {}

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
