// A dockerd of Debian's over a containerd of its own, both in a network namespace of their own: its bridge, its rules of
// iptables and its ports are nobody else's and end with it.
import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
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
import { detach, entries, findMounts } from "../rig/leaks.ts";
import type { Pty } from "../rig/pty.ts";
import type { Rig } from "../rig/rig.ts";
import { makeRootfs } from "../rig/rootfs.ts";
import { runtime } from "../rig/runtime.ts";
import { Containerd, type ContainerdOptions } from "../shim/containerd.rig.ts";

/** The image with busybox that every daemon has. */
export const IMAGE = "busybox:test";

/** Debian's, whatever else is in $PATH. */
const CLIENT = "/usr/bin/docker";
const DAEMON = "/usr/sbin/dockerd";

/** Directories that dockerd makes wherever it is told to have its own; the last is for what BuildKit calls runc. */
const PLACES = ["/run/docker/plugins", "/run/docker", "/run/runc"];

export class Docker {
  readonly containerd: Containerd;
  private readonly nsenter: string[];
  /** Of PLACES, those that were not there. */
  private readonly made: string[] = [];
  /** bunc's caches of seccomp filters that were there before. */
  private filters: string[] | undefined;
  private daemon: ReturnType<typeof Bun.spawn> | undefined;

  private constructor(
    readonly rig: Rig,
    network: number,
    options: ContainerdOptions,
  ) {
    this.nsenter = ["nsenter", "-t", String(network), "-n"];
    this.containerd = new Containerd(rig, { ...options, wrap: this.nsenter });
    rig.defer(() => this.stop());
  }

  /** Starts both daemons, and imports the image. bunc is the runtime of a container for which nothing else is said. */
  static async start(rig: Rig, options: ContainerdOptions = {}, flags: string[] = []): Promise<Docker> {
    const script = "ip link set lo up && echo up && exec sleep 1000";
    const { pid } = await rig.background(["unshare", "-n", "sh", "-c", script]);
    const docker = new Docker(rig, pid, options);
    await docker.containerd.start();
    await docker.startDaemon(flags);
    const build = rig.directory();
    makeRootfs(join(build, "rootfs"), rig.scratch.store);
    well(
      await docker.run("load", "-i", makeImage(build, join(build, "rootfs"), `docker.io/library/${IMAGE}`)),
    );
    return docker;
  }

  /** Runs a command of docker to its end. */
  run(...args: string[]): Promise<Said> {
    return this.with({}, ...args);
  }

  with(options: ClientOptions, ...args: string[]): Promise<Said> {
    return runClient(this.rig, this.command(args), options);
  }

  /** Runs a command of docker that has to end well; its output without the last line's end. */
  async ok(...args: string[]): Promise<string> {
    return well(await this.run(...args)).trimEnd();
  }

  /** Starts docker on a terminal. */
  terminal(...args: string[]): Pty {
    return clientOnTerminal(this.rig, this.command(args));
  }

  /** Runs a host command in the daemon's network namespace. */
  inNetwork(...command: string[]): Promise<Said> {
    return runClient(this.rig, [...this.nsenter, ...command]);
  }

  /** Starts the daemon again, after `endDaemon` or at first. */
  async startDaemon(flags: string[]): Promise<void> {
    const { rig, containerd } = this;
    for (const dir of PLACES) if (!existsSync(dir)) this.made.push(dir);
    this.filters ??= cachedFilters();
    const at = (name: string) => join(rig.scratch.bundles, `docker-${name}`);
    mkdirSync(at("home"), { recursive: true });
    const runtimes = { bunc: { path: runtime } };
    const settings = { runtimes, "deprecated-key-path": at("key.json") };
    writeFileSync(at("daemon.json"), JSON.stringify(settings));
    this.daemon = Bun.spawn(
      [
        ...this.nsenter,
        DAEMON,
        ...["-H", `unix://${containerd.dir}/d.sock`, "--containerd", containerd.socket],
        ...["--data-root", at("data"), "--exec-root", join(containerd.dir, "x"), "--pidfile", at("pid")],
        ...["--containerd-namespace", containerd.namespace, "--cgroup-parent", `/${containerd.namespace}`],
        ...["--config-file", at("daemon.json"), ...flags],
      ],
      {
        env: { ...rig.env, PATH: containerd.path, HOME: at("home") },
        stdin: "ignore",
        stdout: "ignore",
        stderr: Bun.file(this.log),
      },
    );
    try {
      await eventually("dockerd answers", async () => {
        if (this.daemon!.exitCode !== null) throw new Error("dockerd has ended");
        return (await this.run("version")).code === 0;
      });
    } catch (error) {
      throw new Error(`${error}: ${readFileSync(this.log, "utf8").slice(-2000)}`);
    }
  }

  /** Ends the daemon, with its containers unless it has --live-restore. */
  async endDaemon(): Promise<void> {
    this.daemon?.kill("SIGTERM");
    await this.daemon?.exited;
  }

  /** Nothing of any container: no shim, no state of the runtime, no mount. */
  async expectNothing(): Promise<void> {
    const { containerd } = this;
    await containerd.emptied();
    // Where shims have every runtime keep its state; bunc's cache of filters stays.
    const states = entries(join(containerd.dir, "x/runtime-runc", containerd.namespace));
    expect(states.filter((name) => !name.startsWith(".seccomp-"))).toEqual([]);
    expect(findMounts(containerd.dir).filter(({ name }) => !name.endsWith("/netns/default"))).toEqual([]);
  }

  private get log(): string {
    return join(this.rig.scratch.output, `dockerd-${this.containerd.namespace}`);
  }

  private command(args: string[]): string[] {
    const { dir } = this.containerd;
    return [CLIENT, "-H", `unix://${dir}/d.sock`, "--config", join(dir, "client"), ...args];
  }

  private async stop(): Promise<void> {
    if (!this.daemon || this.daemon.exitCode !== null) return;
    const { stdout } = await this.run("ps", "-aq");
    const all = stdout.split("\n").filter(Boolean);
    if (all.length > 0) await this.run("rm", "-f", "-v", ...all);
    await this.endDaemon();
    // One with --live-restore leaves it to the next.
    detach(join(this.rig.scratch.bundles, "docker-data"));
    for (const file of cachedFilters()) if (!this.filters?.includes(file)) rmSync(file);
    for (const dir of this.made) if (existsSync(dir) && entries(dir).length === 0) rmdirSync(dir);
  }
}

function cachedFilters(): string[] {
  const names = entries("/run/runc").filter((name) => name.startsWith(".seccomp-"));
  return names.map((name) => join("/run/runc", name));
}
