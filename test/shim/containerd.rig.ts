// A containerd of Debian's with everything of its own: directories, socket, namespace, and bunc's shim in its $PATH.
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Rig } from "../rig/rig.ts";
import { makeRootfs, output } from "../rig/rootfs.ts";
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
    output(["tar", "-C", join(build, "rootfs"), "-cf", join(build, "layer.tar"), "."]);
    const blobs = join(build, "image/blobs/sha256");
    mkdirSync(blobs, { recursive: true });
    const put = (bytes: Uint8Array | string) => {
      const digest = createHash("sha256").update(bytes).digest("hex");
      writeFileSync(join(blobs, digest), bytes);
      return { digest: `sha256:${digest}`, size: Buffer.byteLength(bytes) };
    };
    const type = (name: string) => `application/vnd.oci.image.${name}`;
    const layer = put(readFileSync(join(build, "layer.tar")));
    const config = put(
      JSON.stringify({
        architecture: process.arch === "arm64" ? "arm64" : "amd64",
        os: "linux",
        config: { Env: ["PATH=/bin"], Cmd: ["sh"] },
        rootfs: { type: "layers", diff_ids: [layer.digest] },
      }),
    );
    const manifest = put(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: type("manifest.v1+json"),
        config: { mediaType: type("config.v1+json"), ...config },
        layers: [{ mediaType: type("layer.v1.tar"), ...layer }],
      }),
    );
    const annotations = { "io.containerd.image.name": IMAGE };
    const index = {
      schemaVersion: 2,
      manifests: [{ mediaType: type("manifest.v1+json"), ...manifest, annotations }],
    };
    writeFileSync(join(build, "image/index.json"), JSON.stringify(index));
    writeFileSync(join(build, "image/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    output(["tar", "-C", join(build, "image"), "-cf", join(build, "image.tar"), "."]);
    const { code, stderr } = await this.ctr("images", "import", join(build, "image.tar"));
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
