/**
 * Learning that the kernel's OOM killer went to work in a container's cgroups. On v1 the kernel counts in an eventfd
 * (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"), on v2 memory.events is watched by inotify(7).
 */
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { pathError, writeExisting } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { type CgroupPaths, isV1 } from "./names.ts";
import { readKeyed } from "./stats-read.ts";
import { exists } from "./tree.ts";

/** A watch on the memory of a container. */
export interface OomWatch {
  /** Can be read (POLLIN) when take() may have news; CLOEXEC and non-blocking. */
  readonly fd: number;
  /** How often memory ran out since the last call: on v2 processes that were killed. Never blocks. */
  take(): number;
  /** Whether there is nothing left to watch: v1: the cgroup is gone; v2: no process is in it. */
  ended(): boolean;
  close(): void;
  /** What another process that has the descriptor needs to go on (resumeOom). */
  state(): OomState;
}

/** A watch between two processes. */
export interface OomState {
  version: 1 | 2;
  fd: number;
  /** The directory of the cgroup. */
  dir: string;
  kills: number;
  /** v2: the inotify watch of memory.events. */
  wd: number;
}

/** Goes on with a watch that another process has begun. */
export function resumeOom({ version, fd, dir, kills, wd }: OomState): OomWatch {
  return version === 1 ? new EventWatch(dir, fd) : new FileWatch(dir, fd, kills, wd);
}

/**
 * Watches a container's memory from now on.
 * @throws BuncError "memory controller missing", or naming what cannot be watched
 */
export function watchOom(paths: CgroupPaths): OomWatch {
  return isV1(paths) ? new EventWatch(paths.memory) : new FileWatch(paths[""]);
}

function missing(): BuncError {
  return new BuncError("memory controller missing", {
    code: "host",
    phase: "cgroup",
    hint: "the container is in no cgroup of it, so nobody tells when its memory runs out",
  });
}

/** v1: the eventfd is told of an OOM, and of the end of the cgroup. */
class EventWatch implements OomWatch {
  readonly fd: number;
  private readonly control: string;

  constructor(
    private readonly dir: string | undefined,
    fd?: number,
  ) {
    if (!dir) throw missing();
    this.control = `${dir}/cgroup.event_control`;
    if (fd !== undefined) {
      this.fd = fd;
      return;
    }
    const file = `${dir}/memory.oom_control`;
    const events = sys(abi.SYS_openat, abi.AT_FDCWD, file, abi.O_RDONLY | abi.O_CLOEXEC, 0);
    if (events < 0) throw pathError("open", file, events);
    this.fd = sys(abi.SYS_eventfd2, 0, abi.EFD_CLOEXEC | abi.EFD_NONBLOCK);
    const result = this.fd < 0 ? this.fd : writeExisting(this.control, `${this.fd} ${events}`);
    // The kernel has its own hold on the cgroup from here on.
    closeFd(events);
    if (result < 0) {
      closeFd(this.fd);
      throw pathError("open", this.control, result);
    }
  }

  take(): number {
    const counter = new DataView(new ArrayBuffer(8));
    if (sys(abi.SYS_read, this.fd, new Uint8Array(counter.buffer), 8) < 0) return 0;
    // The end of the cgroup counts once, too.
    return Math.max(counter.getUint32(0, true) - (this.ended() ? 1 : 0), 0);
  }

  ended(): boolean {
    return !exists(this.control);
  }

  close(): void {
    closeFd(this.fd);
  }

  state(): OomState {
    return { version: 1, fd: this.fd, dir: this.dir!, kills: 0, wd: -1 };
  }
}

/** v2: memory.events changes with each OOM, cgroup.events when the last process has ended. */
class FileWatch implements OomWatch {
  readonly fd: number;
  private kills: number;

  constructor(
    private readonly dir: string | undefined,
    fd?: number,
    kills = 0,
    private wd = -1,
  ) {
    if (!dir) throw missing();
    if (fd !== undefined) {
      this.fd = fd;
      this.kills = kills;
      return;
    }
    this.fd = sys(abi.SYS_inotify_init1, abi.IN_CLOEXEC | abi.IN_NONBLOCK);
    if (this.fd < 0) throw inotifyError("unable to init inotify", this.fd);
    for (const file of ["memory.events", "cgroup.events"]) {
      const result = sys(abi.SYS_inotify_add_watch, this.fd, `${dir}/${file}`, abi.IN_MODIFY);
      if (result >= 0) {
        if (this.wd < 0) this.wd = result;
        continue;
      }
      closeFd(this.fd);
      throw inotifyError("unable to add inotify watch", result, `${dir}/${file}`);
    }
    this.kills = this.value("memory.events", "oom_kill") ?? 0;
  }

  take(): number {
    const changed = this.memoryChanged();
    const kills = this.value("memory.events", "oom_kill");
    // systemd removes the cgroup as soon as its last process is gone. What changed then was most likely this, as for runc;
    // but the kernel may tell of one change twice, some milliseconds apart.
    if (kills === undefined) return changed && this.kills === 0 ? 1 : 0;
    const more = kills - this.kills;
    this.kills = kills;
    return Math.max(more, 0);
  }

  /** Reads what the kernel has told; whether memory.events is in it. */
  private memoryChanged(): boolean {
    const buffer = new Uint8Array(4096);
    const view = new DataView(buffer.buffer);
    let changed = false;
    for (;;) {
      const size = sys(abi.SYS_read, this.fd, buffer, buffer.length);
      // struct inotify_event: wd, mask, cookie, len, name[len].
      for (let at = 0; at + 16 <= size; at += 16 + view.getUint32(at + 12, true))
        if (view.getInt32(at, true) === this.wd && view.getUint32(at + 4, true) & abi.IN_MODIFY)
          changed = true;
      if (size !== buffer.length) return changed;
    }
  }

  ended(): boolean {
    return (this.value("cgroup.events", "populated") ?? 0) === 0;
  }

  close(): void {
    closeFd(this.fd);
  }

  state(): OomState {
    return { version: 2, fd: this.fd, dir: this.dir!, kills: this.kills, wd: this.wd };
  }

  private value(file: string, key: string): number | undefined {
    const value = readKeyed(this.dir, file)?.[key];
    return value === undefined ? undefined : Number(value);
  }
}

function inotifyError(words: string, result: number, path?: string): BuncError {
  const hint =
    result === -abi.ENOENT
      ? `there is no ${path}: the memory controller is not enabled for the container`
      : "see the sysctls fs.inotify.max_user_instances and max_user_watches";
  return new BuncError(`${words}: ${errnoText(-result)}`, {
    code: "host",
    phase: "cgroup",
    errno: errnoName(-result),
    hint,
  });
}
