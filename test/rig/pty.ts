// Runs a command on a pseudo-terminal of its own, in a session of its own: what an interactive user has.
import type { Subprocess } from "bun";
import { patience } from "./patience.ts";

const ICANON = 0o2;
const ECHO = 0o10;

/** A command on a terminal. `Bun.spawn` makes the child a session leader with the terminal as its controlling one. */
export class Pty {
  /** All that appeared on the terminal so far. */
  text = "";
  private readonly process: Subprocess;
  private readonly decoder = new TextDecoder();
  private wake: (() => void) | undefined;

  constructor(
    command: string[],
    options: { env: Record<string, string>; cwd: string; rows: number; cols: number },
  ) {
    this.process = Bun.spawn(command, {
      env: options.env,
      cwd: options.cwd,
      terminal: {
        rows: options.rows,
        cols: options.cols,
        data: (_, data) => {
          this.text += this.decoder.decode(data, { stream: true });
          this.wake?.();
        },
      },
    });
  }

  /** Types on the terminal. */
  type(text: string): void {
    this.process.terminal!.write(text);
  }

  /** Changes the window size; the foreground process gets SIGWINCH. */
  resize(cols: number, rows: number): void {
    this.process.terminal!.resize(cols, rows);
  }

  /** True while the terminal is in raw mode: neither line editing nor echo. */
  get raw(): boolean {
    return (this.process.terminal!.localFlags & (ICANON | ECHO)) === 0;
  }

  /** Local flags of the terminal (c_lflag of termios(3)). */
  get localFlags(): number {
    return this.process.terminal!.localFlags;
  }

  /** Pid of the command. */
  get pid(): number {
    return this.process.pid;
  }

  /** Waits until `text` has appeared after the part already waited for; returns everything up to its end. */
  async until(text: string, seconds = 40): Promise<string> {
    const deadline = Date.now() + seconds * 1000;
    while (!this.text.includes(text)) {
      if (Date.now() > deadline)
        throw new Error(`no ${JSON.stringify(text)}; got ${JSON.stringify(this.text)}`);
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, 50);
      });
    }
    const end = this.text.indexOf(text) + text.length;
    const seen = this.text.slice(0, end);
    this.text = this.text.slice(end);
    return seen;
  }

  /** Exit code of the command, after all its output has arrived. */
  async exited(seconds = 20): Promise<number> {
    const late = Bun.sleep(seconds * 1000 * patience).then(() => undefined);
    const code = await Promise.race([this.process.exited, late]);
    if (code === undefined)
      throw new Error(`still running after ${seconds * patience} s; on the terminal: ${this.text}`);
    await Bun.sleep(20);
    return code;
  }

  /** Ends the command if need be and frees the terminal. */
  async close(): Promise<void> {
    if (this.process.exitCode === null) this.process.kill("SIGKILL");
    await this.process.exited;
    this.process.terminal!.close();
  }
}
