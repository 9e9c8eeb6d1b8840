/** Events of tasks, on their way to containerd: in order, and again when it was away. */
import type { PbfWriter } from "pbf";
import type { Loop } from "../loop.ts";
import { encode } from "../proto/codec.ts";
import {
  type TaskCheckpointed,
  type TaskCreate,
  type TaskDelete,
  type TaskExecAdded,
  type TaskExecStarted,
  type TaskExit,
  type TaskId,
  type TaskStart,
  writeForwardRequest,
  writeTaskCheckpointed,
  writeTaskCreate,
  writeTaskDelete,
  writeTaskExecAdded,
  writeTaskExecStarted,
  writeTaskExit,
  writeTaskId,
  writeTaskStart,
} from "../proto/task.gen.ts";
import { Client } from "../ttrpc/client.ts";
import { now } from "./time.ts";

/** Messages by their name, and the topics that containerd knows them under. */
interface Events {
  TaskCreate: TaskCreate;
  TaskStart: TaskStart;
  TaskExit: TaskExit;
  TaskDelete: TaskDelete;
  TaskExecAdded: TaskExecAdded;
  TaskExecStarted: TaskExecStarted;
  TaskOOM: TaskId;
  TaskPaused: TaskId;
  TaskResumed: TaskId;
  TaskCheckpointed: TaskCheckpointed;
}

const TOPICS = {
  TaskCreate: ["/tasks/create", writeTaskCreate],
  TaskStart: ["/tasks/start", writeTaskStart],
  TaskExit: ["/tasks/exit", writeTaskExit],
  TaskDelete: ["/tasks/delete", writeTaskDelete],
  TaskExecAdded: ["/tasks/exec-added", writeTaskExecAdded],
  TaskExecStarted: ["/tasks/exec-started", writeTaskExecStarted],
  TaskOOM: ["/tasks/oom", writeTaskId],
  TaskPaused: ["/tasks/paused", writeTaskId],
  TaskResumed: ["/tasks/resumed", writeTaskId],
  TaskCheckpointed: ["/tasks/checkpointed", writeTaskCheckpointed],
} as const;

const SERVICE = "containerd.services.events.ttrpc.v1.Events";
const TIMEOUT = 5000;
/** How often an event is tried; after each failure it waits one second longer. */
const TRIES = 5;
/** While containerd is away for long; the oldest go first. */
const MAX_QUEUED = 2048;

/** Where events go. */
export interface EventTarget {
  /** containerd's ttrpc socket; "" when it has none. */
  ttrpcAddress: string;
  /** Without one: containerd's executable, and its gRPC socket. */
  publishBinary: string;
  address: string;
  namespace: string;
}

interface Queued {
  topic: string;
  type: string;
  event: Uint8Array;
  request: Uint8Array;
}

export class Publisher {
  private readonly queue: Queued[] = [];
  private readonly client: Client | undefined;
  private sending = false;
  private idleWaiters: (() => void)[] = [];

  /** @param warn is told of events that are given up */
  constructor(
    private readonly loop: Loop,
    private readonly target: EventTarget,
    private readonly warn: (message: string) => void,
  ) {
    if (target.ttrpcAddress) this.client = new Client(loop, target.ttrpcAddress);
  }

  /** Queues an event; what is queued first is forwarded first. */
  publish<T extends keyof Events>(name: T, event: Partial<Events[T]>): void {
    const [topic, write] = TOPICS[name];
    const bytes = encode(write as (message: unknown, pbf: PbfWriter) => void, event);
    const type = `containerd.events.${name}`;
    // A container can have it happen as often as it likes, and would push out what else is to be told.
    if (name === "TaskOOM" && this.isQueued(type, bytes)) return;
    const envelope = {
      timestamp: now(),
      namespace: this.target.namespace,
      topic,
      event: { type_url: type, value: bytes },
    };
    const request = encode(writeForwardRequest, { envelope });
    if (this.queue.length >= MAX_QUEUED)
      this.giveUp(this.queue.splice(this.sending ? 1 : 0, 1)[0]!, "the queue is full");
    this.queue.push({ topic, type, event: bytes, request });
    if (!this.sending) void this.send();
  }

  /** Whether the same event waits already, and is not being sent now. */
  private isQueued(type: string, event: Uint8Array): boolean {
    for (let i = this.sending ? 1 : 0; i < this.queue.length; i++) {
      const queued = this.queue[i]!;
      if (queued.type === type && isEqual(queued.event, event)) return true;
    }
    return false;
  }

  /** Resolves when all events are forwarded, or given up; at the latest when the time is over. */
  flushed(milliseconds: number): Promise<void> {
    if (!this.sending) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.loop.after(milliseconds, resolve);
      this.idleWaiters.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  /** Whether no event is on its way. */
  get idle(): boolean {
    return !this.sending;
  }

  /** Closes the connection; the next event makes a new one. */
  close(): void {
    this.client?.close();
  }

  private async send(): Promise<void> {
    this.sending = true;
    while (this.queue.length > 0) {
      const next = this.queue[0]!;
      await this.forward(next);
      if (this.queue[0] === next) this.queue.shift();
    }
    this.sending = false;
    const waiters = this.idleWaiters;
    this.idleWaiters = [];
    for (const waiter of waiters) waiter();
  }

  private async forward(queued: Queued): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        if (this.client) await this.client.call(SERVICE, "Forward", queued.request, TIMEOUT);
        else await this.publishByBinary(queued);
        return;
      } catch (error) {
        if (attempt >= TRIES) {
          this.giveUp(queued, error instanceof Error ? error.message : String(error));
          return;
        }
        await new Promise<void>((resolve) => this.loop.after(1000 * attempt, resolve));
      }
    }
  }

  private async publishByBinary({ topic, type, event }: Queued): Promise<void> {
    const { publish } = await import("./publish.ts");
    await publish(this.target, topic, type, event);
  }

  private giveUp({ topic }: Queued, why: string): void {
    this.warn(`event ${topic} is lost: ${why}`);
  }
}

function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}
