// A containerd of Debian's with everything of its own: directories, socket, namespace, and bunc's shim in its $PATH.
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type ClientOptions,
  clientOnTerminal,
  eventually,
  runClient,
  type Said,
  well,
} from "../rig/client.ts";
import { makeImage } from "../rig/image.ts";
import { entries, removeCgroup } from "../rig/leaks.ts";
import type { Pty } from "../rig/pty.ts";
import type { Rig } from "../rig/rig.ts";
import { makeRootfs } from "../rig/rootfs.ts";
import { runtime } from "../rig/runtime.ts";

export const IMAGE = "docker.io/library/busybox:test";

/** What a daemon may have beside the usual. */
export interface ContainerdOptions {
  /** Other names that bunc is found by in the daemon's $PATH. */
  links?: string[];
  /** A command that is put before the daemon's: `["nsenter", "-t", "1", "-n"]`. */
  wrap?: string[];
  /** The cri plugin's tables of config.toml, given the daemon's directory; without it there is no cri plugin. */
  cri?: (dir: string) => string;
}

export class Containerd {
  readonly dir: string;
  /** Also the name of the parent cgroup of its containers. */
  readonly namespace: string;
  private daemon: ReturnType<typeof Bun.spawn> | undefined;

  constructor(
    readonly rig: Rig,
    private readonly options: ContainerdOptions = {},
  ) {
    // Paths of sockets are short; those of mounts have the rig's tag in them.
    this.dir = mkdtempSync("/tmp/bcd-");
    this.namespace = rig.unique();
    rig.defer(() => this.stop());
    mkdirSync(join(this.dir, "bin"));
    for (const name of ["containerd-shim-bunc-v2", ...(options.links ?? [])])
      symlinkSync(runtime, join(this.dir, "bin", name));
    const disabled = ["io.containerd.internal.v1.opt"];
    if (options.cri === undefined) disabled.push("io.containerd.grpc.v1.cri");
    for (const name of ["btrfs", "zfs", "devmapper", "aufs"])
      disabled.push(`io.containerd.snapshotter.v1.${name}`);
    writeFileSync(
      join(this.dir, "config.toml"),
      `version = 2
root = "${join(rig.scratch.bundles, "root")}"
state = "${join(rig.scratch.bundles, "state")}"
disabled_plugins = ${JSON.stringify(disabled)}
[grpc]
  address = "${this.socket}"
${options.cri?.(this.dir) ?? ""}`,
    );
  }

  /** Where the shim's runtime keeps its state. */
  get runtimeRoot(): string {
    return `/run/containerd/runc/${this.namespace}`;
  }

  get socket(): string {
    return join(this.dir, "c.sock");
  }

  /** $PATH of the daemon: bunc first. */
  get path(): string {
    return `${join(this.dir, "bin")}:${this.rig.env.PATH}`;
  }

  /** Starts the daemon, or starts it again; resolves when it answers. */
  async start(): Promise<void> {
    const command = ["containerd", "-c", join(this.dir, "config.toml")];
    this.daemon = Bun.spawn([...(this.options.wrap ?? []), ...command], {
      env: { ...this.rig.env, PATH: this.path },
      stdin: "ignore",
      stdout: "ignore",
      stderr: Bun.file(join(this.rig.scratch.output, `containerd-${this.namespace}`)),
    });
    for (let i = 0; i < 200; i++) {
      if ((await this.ctr("version")).code === 0) return;
      await Bun.sleep(50);
    }
    throw new Error("containerd does not answer");
  }

  /** Ends the daemon at once; its shims stay. */
  async kill(): Promise<void> {
    this.daemon?.kill("SIGKILL");
    await this.daemon?.exited;
  }

  private command(args: string[]): string[] {
    return ["ctr", "-a", this.socket, "-n", this.namespace, ...args];
  }

  ctr(...args: string[]): Promise<Said> {
    return this.ctrWith({}, ...args);
  }

  ctrWith(options: ClientOptions, ...args: string[]): Promise<Said> {
    return runClient(this.rig, this.command(args), options);
  }

  /** Starts ctr on a terminal. */
  terminal(...args: string[]): Pty {
    return clientOnTerminal(this.rig, this.command(args));
  }

  /** Flags of every `ctr run`. */
  get runFlags(): string[] {
    return ["--runtime", "io.containerd.bunc.v2", "--fifo-dir", join(this.dir, "fifo")];
  }

  /** `ctr run` with bunc as the runtime. */
  run(flags: string[], id: string, ...command: string[]): Promise<Said> {
    return this.ctr("run", ...this.runFlags, ...flags, IMAGE, id, ...command);
  }

  /** Pids of the shims of this daemon. */
  shims(): number[] {
    const found = Bun.spawnSync(["pgrep", "-f", `containerd-shim-[a-z]+-v2.*-address ${this.socket}( |$)`]);
    return found.stdout.toString().split("\n").filter(Boolean).map(Number);
  }

  /** Waits until no shim of this daemon is left, and none of its bundles in a namespace. */
  async emptied(namespace = this.namespace): Promise<void> {
    await eventually("shims end", () => this.shims().length === 0);
    // containerd removes a bundle under another name, when the shim's end has been told already.
    const bundles = join(this.rig.scratch.bundles, "state/io.containerd.runtime.v2.task", namespace);
    await eventually("bundles go", () => entries(bundles).length === 0);
  }

  /** Makes an image of one layer with busybox, and imports it. */
  async importImage(namespace = this.namespace, name = IMAGE, command = ["sh"]): Promise<void> {
    const build = this.rig.directory();
    const rootfs = makeRootfs(join(build, "rootfs"), this.rig.scratch.store);
    well(await this.ctr("-n", namespace, "images", "import", makeImage(build, rootfs, name, command)));
  }

  private async stop(): Promise<void> {
    if (this.daemon && this.daemon.exitCode === null) {
      const { stdout } = await this.ctr("task", "ls", "-q");
      for (const id of stdout.split("\n").filter(Boolean)) await this.ctr("task", "rm", "-f", id);
    }
    await this.kill();
    for (const pid of this.shims()) process.kill(pid, "SIGKILL");
    removeCgroup(this.namespace);
    // The runtime's root for the namespace; empty, or the test fails.
    for (const dir of [`/run/containerd/runc/${this.namespace}`]) {
      try {
        if (readdirSync(dir).length === 0) rmdirSync(dir);
      } catch {
        // It was never made.
      }
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}
