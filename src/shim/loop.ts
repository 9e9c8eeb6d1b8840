/**
 * The shim's event loop: epoll(7) over plain descriptors, on the one thread. Bun's own loop is never entered: it has no
 * descriptors of ours (pidfds, fifos, ptys, sockets that were inherited), and its threads and streams cost memory in
 * every shim. Promises go on between events; Bun's timers and I/O do not, so nothing in the shim may use them.
 */
import { drainMicrotasks } from "bun:jsc";
import { abi, epoll_event_, sizeof_ } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";

/** Called with the POLL* bits that are set; POLLERR and POLLHUP come unasked. */
export type Handler = (events: number) => void;

/** What somebody wants to know of a descriptor. `cancel` comes before the descriptor is closed. */
export interface Watch {
  /** Other events from now on; 0: none but errors and hang-ups. */
  want(events: number): void;
  cancel(): void;
}

/** A time that something is to be done at. */
export interface Timer {
  cancel(): void;
}

interface Watcher {
  events: number;
  readonly handler: Handler;
}

/** All that is watched at one descriptor: epoll knows each only once. */
interface Entry {
  readonly fd: number;
  /** Tells events of this descriptor from those of an earlier one with its number. */
  readonly generation: number;
  events: number;
  watchers: readonly Watcher[];
}

interface Alarm {
  readonly time: number;
  readonly action: () => void;
}

const EVENT_SIZE = sizeof_.epoll_event;
const BATCH = 64;
/**
 * After so many events the heap is full of what they left, and code has been compiled for what was done often: a rest
 * is worth more then, and is taken at the first pause of so many milliseconds.
 */
const WORN_EVENTS = 2000;
const WORN_MILLISECONDS = 100;
/** The longest that epoll waits at a time. */
const MAX_WAIT = 0x7fffffff;

export class Loop {
  private readonly epoll: number;
  private readonly entries = new Map<number, Entry>();
  private readonly batch = new Uint8Array(EVENT_SIZE * BATCH);
  private alarms: Alarm[] = [];
  /** Who waits until what has happened is handled. */
  private late: (() => void)[] = [];
  private generation = 0;
  private idle: { milliseconds: number; action: () => void } | undefined;
  /** Whether the action for idleness was called since the last event. */
  private idled = false;
  /** Events since the loop was made. */
  private handled = 0;
  private running = false;

  /** @param failed takes what a handler or a timer throws: the loop goes on */
  constructor(private readonly failed: (error: unknown) => void) {
    this.epoll = sys(abi.SYS_epoll_create1, abi.EPOLL_CLOEXEC);
    if (this.epoll < 0) throw pathError("epoll_create1", "", this.epoll);
  }

  /**
   * Watches a descriptor.
   * @param events POLLIN, POLLOUT, POLLRDHUP
   * @throws BuncError for a descriptor that cannot be watched (a file of a disk)
   */
  watch(fd: number, events: number, handler: Handler): Watch {
    const watcher: Watcher = { events, handler };
    let entry = this.entries.get(fd);
    if (entry) {
      entry.watchers = [...entry.watchers, watcher];
      this.update(entry);
    } else {
      this.generation = (this.generation + 1) >>> 0;
      entry = { fd, generation: this.generation, events, watchers: [watcher] };
      this.control(abi.EPOLL_CTL_ADD, entry);
      this.entries.set(fd, entry);
    }
    const mine = entry;
    return {
      want: (wanted) => {
        watcher.events = wanted;
        if (mine.watchers.includes(watcher)) this.update(mine);
      },
      cancel: () => this.cancel(mine, watcher),
    };
  }

  private cancel(entry: Entry, watcher: Watcher): void {
    if (!entry.watchers.includes(watcher)) return;
    const left: Watcher[] = [];
    for (const other of entry.watchers) if (other !== watcher) left.push(other);
    entry.watchers = left;
    if (entry.watchers.length > 0) {
      this.update(entry);
      return;
    }
    this.entries.delete(entry.fd);
    sys(abi.SYS_epoll_ctl, this.epoll, abi.EPOLL_CTL_DEL, entry.fd, new Uint8Array(EVENT_SIZE));
  }

  private update(entry: Entry): void {
    let events = 0;
    for (const watcher of entry.watchers) events |= watcher.events;
    if (events === entry.events) return;
    entry.events = events;
    this.control(abi.EPOLL_CTL_MOD, entry);
  }

  private control(operation: number, entry: Entry): void {
    const event = new DataView(new ArrayBuffer(EVENT_SIZE));
    event.setUint32(0, entry.events, true);
    event.setInt32(epoll_event_.data, entry.fd, true);
    event.setUint32(epoll_event_.data + 4, entry.generation, true);
    const result = sys(abi.SYS_epoll_ctl, this.epoll, operation, entry.fd, new Uint8Array(event.buffer));
    if (result < 0) throw pathError("epoll_ctl", `/proc/self/fd/${entry.fd}`, result);
  }

  /** Does something once, after so many milliseconds. */
  after(milliseconds: number, action: () => void): Timer {
    const alarm: Alarm = { time: now() + (milliseconds > 0 ? milliseconds : 0), action };
    let at = this.alarms.length;
    while (at > 0 && this.alarms[at - 1]!.time > alarm.time) at--;
    this.alarms.splice(at, 0, alarm);
    return {
      cancel: () => {
        const found = this.alarms.indexOf(alarm);
        if (found >= 0) this.alarms.splice(found, 1);
      },
    };
  }

  /** Waits until one of the descriptors can be read, or the time is over (a `Waiter` of linux/wait.ts). */
  ready(fds: readonly number[], milliseconds: number): Promise<boolean[]> {
    return new Promise((resolve) => {
      const watches: Watch[] = [];
      let timer: Timer | undefined;
      const finish = (found: number) => {
        for (const watch of watches) watch.cancel();
        timer?.cancel();
        const ready: boolean[] = [];
        for (let i = 0; i < fds.length; i++) ready.push(i === found);
        resolve(ready);
      };
      for (let i = 0; i < fds.length; i++) {
        if (fds[i]! >= 0) watches.push(this.watch(fds[i]!, abi.POLLIN, () => finish(i)));
      }
      if (milliseconds !== Number.POSITIVE_INFINITY) timer = this.after(milliseconds, () => finish(-1));
    });
  }

  /** Resolves when all that had happened by now, while this process was busy with something, is handled. */
  caughtUp(): Promise<void> {
    return new Promise((resolve) => {
      this.late.push(resolve);
    });
  }

  /** Calls `action` each time nothing has happened for so long while no timer runs; sooner after much work. */
  onIdle(milliseconds: number, action: () => void): void {
    this.idle = { milliseconds, action };
  }

  /** Whether nothing is to happen at a certain time. */
  get timeless(): boolean {
    return this.alarms.length === 0 && this.late.length === 0;
  }

  /** What is watched, and for which events. */
  watched(): { fd: number; events: number }[] {
    return [...this.entries.values()].map(({ fd, events }) => ({ fd, events }));
  }

  /** Serves until `stop`. */
  run(): void {
    this.running = true;
    while (this.running) {
      drainMicrotasks();
      if (this.running) this.turn();
    }
    closeFd(this.epoll);
  }

  /** Ends `run` after what is being done now. */
  stop(): void {
    this.running = false;
  }

  private turn(): void {
    const next = this.alarms[0];
    const { idle, late } = this;
    this.late = [];
    const patience = idle && !this.idled ? this.patience(idle.milliseconds) : -1;
    const wait = late.length > 0 ? 0 : next ? waitUntil(next.time) : patience;
    const count = sys(abi.SYS_epoll_pwait, this.epoll, this.batch, BATCH, wait, 0, 8);
    // EINTR is the only error there can be.
    if (count === 0 && wait !== 0 && !next && idle) {
      this.idled = true;
      this.guard(idle.action);
    } else this.idled = false;
    if (count > 0) this.handled += count;
    for (let i = 0; i < count; i++) this.dispatch(new DataView(this.batch.buffer, i * EVENT_SIZE));
    for (const resolve of late) this.guard(resolve);
    const time = now();
    while (this.alarms.length > 0 && this.alarms[0]!.time <= time) {
      this.guard(this.alarms.shift()!.action);
    }
  }

  private patience(milliseconds: number): number {
    return this.handled > WORN_EVENTS && milliseconds > WORN_MILLISECONDS ? WORN_MILLISECONDS : milliseconds;
  }

  private dispatch(event: DataView): void {
    const events = event.getUint32(0, true);
    const entry = this.entries.get(event.getInt32(epoll_event_.data, true));
    // An earlier handler of this batch may have closed it, and opened another.
    if (entry?.generation !== event.getUint32(epoll_event_.data + 4, true)) return;
    for (const watcher of entry.watchers) {
      const wanted = events & (watcher.events | abi.POLLERR | abi.POLLHUP);
      if (wanted && entry.watchers.includes(watcher)) this.guard(() => watcher.handler(wanted));
    }
  }

  private guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.failed(error);
    }
    // What a handler has resolved goes on before the next one.
    drainMicrotasks();
  }
}

/** Milliseconds since some time. Not performance.now(), nor Math below: making those objects takes 0.2 ms. */
function now(): number {
  return Bun.nanoseconds() / 1e6;
}

/** Whole milliseconds until then, not too early, for epoll_pwait(2). */
function waitUntil(time: number): number {
  const left = time - now();
  if (left <= 0) return 0;
  if (left >= MAX_WAIT) return MAX_WAIT;
  const whole = left | 0;
  return whole === left ? whole : whole + 1;
}
