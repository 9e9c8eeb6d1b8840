// Builds and drives build/test-helper (helper.c, report.c): the receivers of descriptors and datagrams on the host,
// and the program that reports what a container looks like from inside.
import { mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { modified, repository } from "./repository.ts";
import { output } from "./rootfs.ts";

const binary = join(repository, "build/test-helper");

/** Path of the helper; compiles it when it is missing or older than its source. Needs a C compiler and libc.a. */
export function helperBinary(): string {
  const dir = import.meta.dir;
  const sources = ["helper.c", "report.c"].map((name) => join(dir, name));
  const newest = Math.max(...sources.map(modified), modified(join(dir, "helper.h")));
  if (modified(binary) < newest) {
    mkdirSync(join(repository, "build"), { recursive: true });
    const fresh = `${binary}.${process.pid}`;
    output(["cc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", fresh, ...sources]);
    renameSync(fresh, binary);
  }
  return binary;
}

/** A descriptor as the helper saw it: what it refers to, the pid of a pidfd, the settings of a terminal. */
export interface ReceivedFd {
  target: string;
  pid?: number;
  tty: Tty | null;
}

/** termios and window size of a terminal. */
export interface Tty {
  iflag: number;
  oflag: number;
  cflag: number;
  lflag: number;
  rows: number;
  cols: number;
  onlcr: boolean;
}

/** One message that arrived at a helper's socket. */
export interface Message {
  text: string;
  fds: ReceivedFd[];
}

/** A process whose standard output is read line by line; made by the rig, ended by it at the latest after the test. */
export class Listener {
  private readonly process: Subprocess<"pipe", "pipe", "inherit">;
  private readonly reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> };
  private buffer = "";
  private readonly decoder = new TextDecoder();

  constructor(
    command: string[],
    readonly path: string,
    env: Record<string, string>,
  ) {
    this.process = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit", env });
    this.reader = this.process.stdout.getReader();
  }

  /** Reads until `enough` of what has arrived; returns and keeps the text so far. Throws when the helper ends first. */
  private async fill(enough: (text: string) => boolean, what: string): Promise<void> {
    const deadline = Date.now() + 40_000;
    while (!enough(this.buffer)) {
      const wait = deadline - Date.now();
      const late = Bun.sleep(Math.max(wait, 0)).then(() => undefined);
      const chunk = await Promise.race([this.reader.read(), late]);
      if (chunk === undefined) throw new Error(`no ${what} within 40 s; got ${JSON.stringify(this.buffer)}`);
      if (chunk.done)
        throw new Error(`the listener ended before ${what}; got ${JSON.stringify(this.buffer)}`);
      this.buffer += this.decoder.decode(chunk.value, { stream: true });
    }
  }

  /** The next line of JSON. */
  async line<T>(): Promise<T> {
    await this.fill((text) => text.includes("\n"), "a line");
    const end = this.buffer.indexOf("\n");
    const line = this.buffer.slice(0, end);
    this.buffer = this.buffer.slice(end + 1);
    return JSON.parse(line) as T;
  }

  /** The next message with descriptors or a datagram. */
  message(): Promise<Message> {
    return this.line<Message>();
  }

  /** Waits until the raw output (of a relayed terminal) contains `text`, and returns all up to and including it. */
  async until(text: string): Promise<string> {
    await this.fill((seen) => seen.includes(text), JSON.stringify(text));
    const end = this.buffer.indexOf(text) + text.length;
    const seen = this.buffer.slice(0, end);
    this.buffer = this.buffer.slice(end);
    return seen;
  }

  /** Writes to the helper's standard input (for recvtty: types on the terminal). */
  async write(text: string): Promise<void> {
    this.process.stdin.write(text);
    await this.process.stdin.flush();
  }

  /** Exit code of the helper once it ends by itself. */
  get exited(): Promise<number> {
    return this.process.exited;
  }

  /** Ends the helper. */
  async close(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

/** What `test-helper report` prints. */
export interface Report {
  pid: number;
  ppid: number;
  sid: number;
  pgid: number;
  args: string[];
  env: string[];
  uid: [number, number, number];
  gid: [number, number, number];
  groups: number[];
  umask: number;
  status: Record<string, string>;
  rlimits: Record<string, [string, string]>;
  fds: { fd: number; flags: number; target: string }[];
  sched: {
    policy: number;
    flags: number;
    nice: number;
    priority: number;
    runtime: number;
    deadline: number;
    period: number;
  };
  ioprio: number;
  mempolicy: { mode: number; nodes: string };
  personality: number;
  prctl: Record<
    "dumpable" | "keepcaps" | "securebits" | "nnp" | "pdeathsig" | "subreaper" | "timerslack",
    number
  >;
  monotonic: number;
  boottime: number;
  keyring: string;
  loopback: boolean;
  uts: [nodename: string, domainname: string, machine: string];
  cwd: string;
  ctty: boolean;
  foreground: number;
  tty: Tty | null;
}

/** One line of `test-helper sys`. */
export interface SystemCall {
  call: string;
  result: number;
  error: string;
}
