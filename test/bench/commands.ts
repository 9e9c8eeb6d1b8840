// Runs commands for the benchmark, and ends them when the benchmark is told to stop.
import { closeSync, fstatSync, openSync, readSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";

/** What a command did. */
export interface Output {
  /** Exit status; -1 when a signal or the time limit ended it. */
  code: number;
  /** How it ended, in words. */
  ended: string;
  stdout: string;
  stderr: string;
}

/** How a command is run. */
export interface CallOptions {
  /** Text for standard input, which is /dev/null without it. */
  stdin?: string;
  /** Seconds until it is killed; 60 without it. */
  timeout?: number;
  /** What ends it; SIGKILL without it. */
  endSignal?: NodeJS.Signals;
}

/** Thrown by {@link call} once {@link stopCommands} was called. */
export class Stopped extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
  }
}

/** What every command gets, so that the caller's settings (a proxy, a debug variable) reach no runtime. */
const environment: Record<string, string> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LC_ALL: "C",
};

const running = new Map<Subprocess, NodeJS.Signals>();
let stopped: NodeJS.Signals | undefined;
let directory: string | undefined;
let counter = 0;

/** Sets where the output of commands is kept while they run, and their TMPDIR and XDG_RUNTIME_DIR. */
export function setDirectory(dir: string): void {
  directory = dir;
  environment.TMPDIR = dir;
  environment.XDG_RUNTIME_DIR = dir;
}

/** Ends every running command; from now on {@link call} throws {@link Stopped}. Safe in a signal handler. */
export function stopCommands(signal: NodeJS.Signals): void {
  stopped ??= signal;
  for (const [child, endSignal] of running) child.kill(endSignal);
}

/** A nameless file for output, open for appending and reading. */
function outputFile(): number {
  if (directory === undefined) throw new Error("setDirectory() comes first");
  const path = join(directory, `${++counter}.output`);
  const fd = openSync(path, "a+");
  unlinkSync(path);
  return fd;
}

function contents(fd: number): string {
  const buffer = Buffer.alloc(fstatSync(fd).size);
  return buffer.toString("utf8", 0, readSync(fd, buffer, 0, buffer.length, 0));
}

/**
 * Runs a command to its end. Its output goes to files: a container that it leaves running holds them open, and a
 * pipe would never end.
 */
export async function call(command: string[], options: CallOptions = {}): Promise<Output> {
  if (stopped !== undefined) throw new Stopped(stopped);
  const [out, err] = [outputFile(), outputFile()];
  const { timeout: seconds = 60, endSignal = "SIGKILL" } = options;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const child = Bun.spawn(command, {
      stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
      stdout: out,
      stderr: err,
      env: environment,
      cwd: "/",
    });
    running.set(child, endSignal);
    let late = false;
    timer = setTimeout(() => {
      late = true;
      child.kill(endSignal);
    }, seconds * 1000);
    await child.exited;
    running.delete(child);
    if (stopped !== undefined) throw new Stopped(stopped);
    const signal = late ? `killed after ${seconds} s` : `killed by ${child.signalCode}`;
    const ended = child.exitCode === null ? signal : `exit status ${child.exitCode}`;
    return { code: child.exitCode ?? -1, ended, stdout: contents(out), stderr: contents(err) };
  } finally {
    clearTimeout(timer);
    for (const fd of [out, err]) closeSync(fd);
  }
}

/** Like {@link call} for a command that must succeed; returns its standard output. */
export async function checked(command: string[], options: CallOptions = {}): Promise<string> {
  const result = await call(command, options);
  if (result.code === 0) return result.stdout;
  throw new Error(`${result.ended}: ${command.join(" ")}\n${result.stderr}${result.stdout}`.trim());
}
