// A criu that does what a test tells it: it speaks the RPC of `criu swrk FD`, notes every request, and then takes the
// steps of a script. `fakeCriu` makes a directory for $PATH in which it is `criu`.
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { PbfReader, PbfWriter } from "pbf";
import {
  type Features,
  type Request,
  type Response,
  readRequest,
  Type,
  writeResponse,
} from "../../src/criu/rpc.gen.ts";
import { abi } from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";

/** One thing that it does after a request to dump or restore. */
export type Step =
  /** Asks for something and waits for the answer; with a refusal it gives up, as criu does. */
  | { notify: string; pid?: number | "restored"; fd?: "pty" | "null" }
  | { answer: Partial<Response> }
  /** Bytes instead of a message, in hexadecimal, so many times over. */
  | { raw: string; times?: number }
  /** Writes to a file of the work directory, else of the images. */
  | { file: string; text: string }
  /** Kills what was to be dumped, as criu does after a dump. */
  | { kill: "target" | "self" }
  /** Starts what a restore would have restored: a child of the subreaper above. */
  | { start: true }
  /** Does nothing for so many seconds. */
  | { wait: number }
  | { exit: number };

export interface Script {
  version?: [major: number, minor: number, sublevel?: number];
  gitid?: string;
  features?: Partial<Features>;
  /** Instead of an answer to a request for its version. */
  versionSteps?: Step[];
  steps?: Step[];
}

/** What it notes of each request. */
export interface Noted {
  request: Request;
  /** What its descriptors are, by number. */
  fds: Record<string, string>;
  cgroup: string;
  pid: number;
  args: string[];
  env: Record<string, string | undefined>;
}

/** A directory to put first in $PATH, and what was asked of the criu in it. */
export interface FakeCriu {
  path: string;
  env: Record<string, string>;
  noted(): Noted[];
}

/** Makes a fake in an existing directory. */
export function fakeCriu(dir: string, script: Script): FakeCriu {
  const path = join(dir, "criu-bin");
  const file = join(dir, "criu-script.json");
  const record = join(dir, "criu-requests");
  mkdirSync(path);
  writeFileSync(file, JSON.stringify(script));
  writeFileSync(
    join(path, "criu"),
    `#!/bin/sh\nexec '${process.execPath}' '${import.meta.path}' '${file}' '${record}' "$@"\n`,
  );
  chmodSync(join(path, "criu"), 0o755);
  return {
    path,
    env: { PATH: `${path}:/usr/sbin:/usr/bin:/sbin:/bin` },
    noted: () =>
      existsSync(record)
        ? readFileSync(record, "utf8")
            .split("\n")
            .filter(Boolean)
            .map((line) => JSON.parse(line) as Noted)
        : [],
  };
}

/** A signal, as those JavaScriptCore sends itself, ends Bun.sleepSync too soon. */
function sleep(seconds: number): void {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) Bun.sleepSync(end - Date.now());
}

class Fake {
  private restored = 0;

  constructor(
    private readonly script: Script,
    private readonly record: string,
    private readonly sock: number,
  ) {}

  serve(): void {
    for (let request = this.read(); request; request = this.read()) this.answer(request);
  }

  private read(): Request | undefined {
    const buffer = new Uint8Array(1 << 20);
    const n = sys(abi.SYS_read, this.sock, buffer, buffer.length);
    if (n <= 0) return undefined;
    const request = readRequest(new PbfReader(buffer.subarray(0, n)));
    const fds: Noted["fds"] = {};
    for (let fd = 0; fd < 12; fd++) {
      try {
        fds[fd] = readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        // not open
      }
    }
    const cgroup = readFileSync("/proc/self/cgroup", "utf8");
    const noted: Noted = {
      request,
      fds,
      cgroup,
      pid: process.pid,
      args: process.argv.slice(4),
      env: process.env,
    };
    appendFileSync(this.record, `${JSON.stringify(noted)}\n`);
    return request;
  }

  private answer(request: Request): void {
    const { version = [4, 1, 1], gitid = "", features, versionSteps, steps = [] } = this.script;
    if (request.type === Type.VERSION && versionSteps) {
      for (const step of versionSteps) this.take(step, request);
    } else if (request.type === Type.VERSION) {
      const [major_number, minor_number, sublevel = 0] = version;
      this.send({
        type: Type.VERSION,
        success: true,
        version: { major_number, minor_number, sublevel, gitid },
      });
    } else if (request.type === Type.FEATURE_CHECK) {
      this.send({
        type: Type.FEATURE_CHECK,
        success: true,
        features: { mem_track: true, lazy_pages: true, ...features },
      });
    } else {
      for (const step of steps) this.take(step, request);
    }
  }

  private take(step: Step, request: Request): void {
    if ("notify" in step) this.notify(step, request);
    else if ("answer" in step) this.send({ type: request.type, success: true, ...step.answer });
    else if ("raw" in step) this.write(Buffer.from(step.raw.repeat(step.times ?? 1), "hex"));
    else if ("file" in step) this.writeFile(step, request);
    else if ("kill" in step) process.kill(step.kill === "self" ? process.pid : request.opts!.pid, "SIGKILL");
    else if ("start" in step) this.start();
    else if ("wait" in step) sleep(step.wait);
    else process.exit(step.exit);
  }

  private notify({ notify, pid = 0, fd }: Extract<Step, { notify: string }>, { type }: Request): void {
    const what = { script: notify, pid: pid === "restored" ? this.restored : pid };
    const opened = fd
      ? sys(abi.SYS_openat, abi.AT_FDCWD, fd === "pty" ? "/dev/ptmx" : "/dev/null", abi.O_RDWR, 0)
      : -1;
    this.send({ type: Type.NOTIFY, success: true, notify: what }, opened);
    if (this.read()?.notify_success) return;
    if (this.restored) process.kill(this.restored, "SIGKILL");
    this.send({ type, success: false, cr_errno: 52 });
    process.exit(1);
  }

  private writeFile({ file, text }: { file: string; text: string }, { opts }: Request): void {
    const { work_dir_fd, images_dir_fd } = opts!;
    const dir = work_dir_fd >= 0 ? work_dir_fd : images_dir_fd;
    writeFileSync(`/proc/${process.ppid}/fd/${dir}/${file}`, text);
  }

  private start(): void {
    const shell = Bun.spawnSync(["sh", "-c", "sleep 60 </dev/null >/dev/null 2>&1 & echo $!"], {
      stdout: "pipe",
    });
    this.restored = Number(shell.stdout.toString());
  }

  private send(response: Partial<Response>, fd = -1): void {
    const pbf = new PbfWriter();
    writeResponse(response, pbf);
    this.write(pbf.finish(), fd);
  }

  private write(bytes: Uint8Array, fd = -1): void {
    sys(abi.BUNC_CALL_SEND_FD, this.sock, fd, bytes, bytes.length);
  }
}

if (import.meta.main) {
  const [script, record, , sock] = process.argv.slice(2);
  new Fake(JSON.parse(readFileSync(script!, "utf8")), record!, Number(sock)).serve();
}
