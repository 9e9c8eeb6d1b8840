// Runs clients of a runtime (ctr, docker, podman, ...) to their end, or on a terminal.
import { Pty } from "./pty.ts";
import type { Rig } from "./rig.ts";

/** What a client said and how it ended. */
export interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

/** How a client is run. */
export interface ClientOptions {
  /** Text for standard input, which is /dev/null without it. */
  stdin?: string;
  /** Variables on top of the rig's own. */
  env?: Record<string, string>;
  /** Seconds until it is killed; 60 without it. */
  timeout?: number;
  cwd?: string;
}

/** Runs a client to its end. It is killed, and its exit code 137, when that takes too long. */
export async function runClient(rig: Rig, command: string[], options: ClientOptions = {}): Promise<Said> {
  const client = Bun.spawn(command, {
    env: { ...rig.env, ...options.env },
    cwd: options.cwd ?? rig.scratch.dir,
    stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const timer = setTimeout(() => client.kill("SIGKILL"), (options.timeout ?? 60) * 1000);
  const [stdout, stderr, code] = await Promise.all([
    client.stdout.text(),
    client.stderr.text(),
    client.exited,
  ]);
  clearTimeout(timer);
  return { code, stdout, stderr };
}

/** Throws with all that was said unless the client ended well; returns its standard output. */
export function well({ code, stdout, stderr }: Said): string {
  if (code === 0) return stdout;
  throw new Error(`the client ended with ${code}: ${stderr}${stdout}`);
}

/** Starts a client on a terminal of its own, 100 columns of 30 rows. It is killed after the test. */
export function clientOnTerminal(rig: Rig, command: string[], env: Record<string, string> = {}): Pty {
  const options = { env: { ...rig.env, TERM: "xterm", ...env }, cwd: rig.scratch.dir, rows: 30, cols: 100 };
  const pty = new Pty(command, options);
  rig.defer(() => pty.close());
  return pty;
}

/** Waits until `found` gives something other than false or undefined. */
export async function eventually<T>(
  what: string,
  found: () => Promise<T | false | undefined> | T | false | undefined,
  seconds = 20,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await found();
    if (value !== false && value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await Bun.sleep(50);
  }
}

/** Changes the size of a terminal with a shell behind it until the shell sees it: a client may not be listening yet. */
export async function resizeSeen(pty: Pty): Promise<void> {
  for (let rows = 27; rows < 47; rows++) {
    pty.resize(91, rows);
    await Bun.sleep(100);
    pty.type("stty size\n");
    try {
      await pty.until(`${rows} 91`, 1);
      return;
    } catch {
      // Once more, with another size.
    }
  }
  throw new Error(`no change of the terminal's size is seen: ${JSON.stringify(pty.text)}`);
}
