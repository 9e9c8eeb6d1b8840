// One container of a test: its bundle, and the runtime's commands on it.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, configText } from "./config.ts";
import type { Report, SystemCall } from "./helper.ts";
import type { CallOptions, Result, Rig } from "./rig.ts";
import { host } from "./runtime.ts";

/** What `state` prints. */
export interface State {
  ociVersion: string;
  id: string;
  pid: number;
  status: string;
  bundle: string;
  rootfs: string;
  created: string;
  annotations?: Record<string, string>;
  owner: string;
}

/** Where linux.cgroupsPath is, when systemd makes the cgroups of what it names: "slice:prefix:name". */
export function groupPath(path: string): string {
  const [slice, prefix, name] = path.split(":");
  return name === undefined ? path : join(slice || "system.slice", `${prefix}-${name}.scope`);
}

/** A bundle on disk and the id its container gets. Made by {@link Rig.container}. */
export class Container {
  /** Absolute path of the root filesystem on the host. */
  readonly rootfs: string;

  constructor(
    readonly rig: Rig,
    readonly id: string,
    readonly bundle: string,
    readonly config: Config,
  ) {
    this.rootfs = join(bundle, "rootfs");
  }

  /** Writes config.json; called by every command that starts something, so edits of `config` take effect. */
  write(): void {
    writeFileSync(join(this.bundle, "config.json"), configText(this.config));
  }

  /** Makes a file or, for a path that ends in "/", a directory in the root filesystem; returns its host path. */
  file(path: string, text = "", mode?: number): string {
    const full = join(this.rootfs, path);
    if (path.endsWith("/")) mkdirSync(full, { recursive: true, mode: mode ?? 0o755 });
    else writeFileSync(full, text, { mode: mode ?? 0o644 });
    return full;
  }

  /** A path in the bundle directory. */
  path(name: string): string {
    return join(this.bundle, name);
  }

  /** `COMMAND [FLAGS] --bundle B ID`. */
  start(command: "run" | "create", flags: string[] = [], options: CallOptions = {}): Promise<Result> {
    this.write();
    return this.rig.call([command, ...flags, "--bundle", this.bundle, this.id], options);
  }

  /** Runs the container in the foreground. */
  run(flags: string[] = [], options: CallOptions = {}): Promise<Result> {
    return this.start("run", flags, options);
  }

  /** Runs it in the foreground and returns what it printed; throws unless it exits with 0. */
  async output(...args: string[]): Promise<string> {
    if (args.length > 0) this.config.process.args = args;
    return (await this.run()).ok().stdout;
  }

  /** Runs a shell script as the container's program; throws unless it exits with 0. Lines that fail do not stop it. */
  shell(script: string): Promise<string> {
    return this.output("sh", "-c", script);
  }

  /** Runs it with `test-helper report` as its program. */
  async report(flags: string[] = [], options: CallOptions = {}): Promise<Report> {
    this.config.process.args = ["test-helper", "report"];
    return JSON.parse((await this.run(flags, options)).ok().stdout) as Report;
  }

  /** Runs it with `test-helper sys`: the result of each system call. */
  async systemCalls(...calls: string[]): Promise<SystemCall[]> {
    const text = await this.output("test-helper", "sys", ...calls);
    return text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as SystemCall);
  }

  /** `create`; throws when it fails. What the container prints later is in the result's files: see {@link Result}. */
  async create(flags: string[] = [], options: CallOptions = {}): Promise<Result> {
    return (await this.start("create", flags, options)).ok();
  }

  /** `run --detach`; throws when it fails. */
  async detach(flags: string[] = [], options: CallOptions = {}): Promise<Result> {
    return (await this.start("run", ["--detach", ...flags], options)).ok();
  }

  /** Another command on the container: `call("kill", "KILL")` is `kill ID KILL`. */
  call(command: string, ...rest: string[]): Promise<Result> {
    return this.rig.call([command, this.id, ...rest]);
  }

  /** `delete [FLAGS] ID`. */
  remove(...flags: string[]): Promise<Result> {
    return this.rig.call(["delete", ...flags, this.id]);
  }

  /** `state`, parsed; throws when it fails. */
  async state(): Promise<State> {
    return JSON.parse((await this.call("state")).ok().stdout) as State;
  }

  /** Polls `state` until the status is `status`; a container that is not there yet is waited for too. */
  async waitFor(status: string, seconds = 40): Promise<State> {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const result = await this.call("state");
      const state = result.code === 0 ? (JSON.parse(result.stdout) as State) : undefined;
      if (state?.status === status) return state;
      if (Date.now() > deadline) {
        throw new Error(`not ${status} after ${seconds} s: ${state?.status ?? result.stderr.trim()}`);
      }
      await Bun.sleep(20);
    }
  }

  /** Directory of the container's cgroup in the hierarchy of a controller; undefined without that hierarchy. */
  cgroup(controller: string): string | undefined {
    const mount = host.cgroups.get(controller) ?? (host.cgroupV1 ? undefined : host.cgroups.get("unified"));
    return mount === undefined ? undefined : join(mount, groupPath(this.config.linux.cgroupsPath));
  }

  /** Where the container's cgroup is below the root of every hierarchy, as /proc/PID/cgroup shows it. */
  get cgroupPath(): string {
    return join("/", groupPath(this.config.linux.cgroupsPath));
  }

  /** Content of a file of the container's cgroup, without the last newline. */
  cgroupFile(controller: string, file: string): string {
    return readFileSync(join(this.cgroup(controller)!, file), "utf8").trim();
  }

  /** Cgroup directories of the container that exist. */
  cgroupDirectories(): string[] {
    return [...host.cgroups.keys()].map((name) => this.cgroup(name)!).filter((dir) => existsSync(dir));
  }
}
