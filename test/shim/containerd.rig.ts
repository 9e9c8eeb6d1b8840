// A containerd of Debian's with everything of its own: directories, socket, namespace, and bunc's shim in its $PATH.
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeImage } from "../rig/image.ts";
import type { Rig } from "../rig/rig.ts";
import { makeRootfs } from "../rig/rootfs.ts";
import { cgroupMounts, runtime } from "../rig/runtime.ts";

export const IMAGE = "docker.io/library/busybox:test";

/** What a client said and how it ended. */
export interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

export class Containerd {
  readonly dir: string;
  /** Also the name of the parent cgroup of its containers. */
  readonly namespace: string;
  private daemon: ReturnType<typeof Bun.spawn> | undefined;

  constructor(readonly rig: Rig) {
    // Paths of sockets are short; those of mounts have the rig's tag in them.
    this.dir = mkdtempSync("/tmp/bcd-");
    this.namespace = rig.unique();
    rig.defer(() => this.stop());
    mkdirSync(join(this.dir, "bin"));
    symlinkSync(runtime, join(this.dir, "bin/containerd-shim-bunc-v2"));
    const disabled = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"];
    for (const name of ["btrfs", "zfs", "devmapper", "aufs"])
      disabled.push(`io.containerd.snapshotter.v1.${name}`);
    writeFileSync(
      join(this.dir, "config.toml"),
      `version = 2
root = "${join(rig.scratch.bundles, "root")}"
state = "${join(rig.scratch.bundles, "state")}"
disabled_plugins = ${JSON.stringify(disabled)}
[grpc]
  address = "${this.dir}/c.sock"
`,
    );
  }

  /** Starts the daemon, or starts it again; resolves when it answers. */
  async start(): Promise<void> {
    this.daemon = Bun.spawn(["containerd", "-c", join(this.dir, "config.toml")], {
      env: { ...this.rig.env, PATH: `${join(this.dir, "bin")}:${this.rig.env.PATH}` },
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

  /** Runs ctr; "RUNTIME" among the arguments is bunc's. */
  async ctr(...args: string[]): Promise<Said> {
    const client = Bun.spawn(["ctr", "-a", join(this.dir, "c.sock"), "-n", this.namespace, ...args], {
      env: this.rig.env,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const timer = setTimeout(() => client.kill("SIGKILL"), 40_000);
    const [stdout, stderr, code] = await Promise.all([
      client.stdout.text(),
      client.stderr.text(),
      client.exited,
    ]);
    clearTimeout(timer);
    return { code, stdout, stderr };
  }

  /** `ctr run` with bunc as the runtime. */
  run(flags: string[], id: string, ...command: string[]): Promise<Said> {
    return this.ctr("run", "--runtime", "io.containerd.bunc.v2", ...flags, IMAGE, id, ...command);
  }

  /** Pids of the shims of this daemon. */
  shims(): number[] {
    const found = Bun.spawnSync(["pgrep", "-f", `containerd-shim-bunc-v2.*-namespace ${this.namespace}`]);
    return found.stdout.toString().split("\n").filter(Boolean).map(Number);
  }

  /** Makes an image of one layer with busybox, and imports it. */
  async importImage(): Promise<void> {
    const build = this.rig.directory();
    makeRootfs(join(build, "rootfs"), this.rig.scratch.store);
    const { code, stderr } = await this.ctr(
      "images",
      "import",
      makeImage(build, join(build, "rootfs"), IMAGE),
    );
    if (code !== 0) throw new Error(`ctr images import: ${stderr}`);
  }

  private async stop(): Promise<void> {
    if (this.daemon && this.daemon.exitCode === null) {
      const { stdout } = await this.ctr("task", "ls", "-q");
      for (const id of stdout.split("\n").filter(Boolean)) await this.ctr("task", "rm", "-f", id);
    }
    await this.kill();
    for (const pid of this.shims()) process.kill(pid, "SIGKILL");
    for (const point of new Set(cgroupMounts().values())) {
      try {
        rmdirSync(join(point, this.namespace));
      } catch {
        // Not in this hierarchy, or still in use: the rig tells.
      }
    }
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
