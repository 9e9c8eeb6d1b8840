// Bundles of the benchmark: one config.json for all runtimes, the default spec of bunc, over one busybox rootfs.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import { makeRootfs } from "../rig/rootfs.ts";
import { checked } from "./commands.ts";
import { buncPath, command, type Runtime } from "./runtimes.ts";

/** What the bundles of one benchmark have in common. */
export class Bundles {
  private constructor(
    /** Part of every container id and cgroup. */
    readonly tag: string,
    private readonly dir: string,
    private readonly text: string,
  ) {}

  /** Makes the rootfs and reads the spec, in a directory that exists and is empty. */
  static async make(tag: string, dir: string): Promise<Bundles> {
    makeRootfs(join(dir, "rootfs"), join(dir, "store"));
    await checked([buncPath, "spec", "--bundle", dir]);
    const text = readFileSync(join(dir, "config.json"), "utf8");
    return new Bundles(tag, dir, text);
  }

  /**
   * Makes or changes the bundle of a container.
   *
   * @param name names it among the containers of the runtime
   * @param args the program to run
   * @param memory linux.resources.memory.limit in bytes
   */
  container(runtime: Runtime, name: string, args: string[], memory?: number): Container {
    const id = `${this.tag}-${runtime.key}-${name}`;
    const bundle = join(this.dir, id);
    const config = JSON.parse(this.text) as Config;
    config.ociVersion = "1.0.2"; // crun 1.8 refuses 1.1 and later: "unknown version specified"
    config.process.terminal = false;
    config.process.args = args;
    config.root.path = join(this.dir, "rootfs");
    config.linux.cgroupsPath = `/${id}`;
    if (memory !== undefined)
      config.linux.resources = { ...config.linux.resources, memory: { limit: memory } };
    mkdirSync(bundle, { recursive: true });
    writeFileSync(join(bundle, "config.json"), JSON.stringify(config, undefined, "\t"));
    return new Container(runtime, id, bundle);
  }
}

/** A bundle on disk and the id of its container; makes command lines. */
export class Container {
  /** Where `create` and `run` write the pid of its init when asked to by {@link start}. */
  readonly pidFile: string;

  constructor(
    readonly runtime: Runtime,
    readonly id: string,
    readonly bundle: string,
  ) {
    this.pidFile = join(bundle, "pid");
  }

  /** `run --bundle B ID`. */
  run(): string[] {
    return command(this.runtime, "run", "--bundle", this.bundle, this.id);
  }

  /** `create` or `run --detach`, with --pid-file. */
  start(...verb: ["create"] | ["run", "--detach"]): string[] {
    rmSync(this.pidFile, { force: true });
    return command(this.runtime, ...verb, "--bundle", this.bundle, "--pid-file", this.pidFile, this.id);
  }

  /** A command whose only argument is the container. */
  call(...verb: string[]): string[] {
    return command(this.runtime, ...verb, this.id);
  }
}
