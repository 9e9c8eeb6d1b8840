// Debian's podman and buildah with bunc as their runtime, in namespaces of their own: mounts, so that the places on the
// host that they write to whatever they are told are others; the network, for the bridge and the rules of iptables; and
// processes, because podman takes a conmon that has ended and that nobody has reaped for one that runs.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ClientOptions, clientOnTerminal, runClient, type Said, well } from "../rig/client.ts";
import { makeImage } from "../rig/image.ts";
import { removeCgroup } from "../rig/leaks.ts";
import type { Pty } from "../rig/pty.ts";
import type { Rig } from "../rig/rig.ts";
import { makeRootfs } from "../rig/rootfs.ts";
import { runtime } from "../rig/runtime.ts";

export const IMAGE = "docker.io/library/busybox:test";

/**
 * Covers the host's directories; shows only those hierarchies of cgroups that are mounted, because podman takes every
 * directory for one (on v2 there is nothing to do: nothing else is there). Then it reaps.
 */
const HOLDER = `
set -e
for dir in etc var; do
  mkdir -p $1/$dir/upper $1/$dir/work
  mount -t overlay overlay -o lowerdir=/$dir,upperdir=$1/$dir/upper,workdir=$1/$dir/work /$dir
done
for dir in /run /dev/shm; do mount -t tmpfs tmpfs $dir; done
if [ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ]; then
  mkdir $1/cgroup
  mount -t tmpfs tmpfs $1/cgroup
  for dir in /sys/fs/cgroup/*/; do
    mountpoint -q $dir || continue
    mkdir $1/cgroup/$(basename $dir)
    mount --bind $dir $1/cgroup/$(basename $dir)
  done
  mount --move $1/cgroup /sys/fs/cgroup
fi
ip link set lo up
echo ready
while true; do
  sleep 1000 &
  wait $!
done
`;

export class Podman {
  /** The parent cgroup of the containers. */
  readonly parent: string;
  private readonly place: string;

  private constructor(
    readonly rig: Rig,
    private readonly holder: number,
  ) {
    this.parent = `/${rig.unique()}`;
    this.place = rig.directory();
    rig.defer(() => this.stop());
    const at = (name: string) => join(this.place, name);
    mkdirSync(at("home"));
    writeFileSync(
      at("storage.conf"),
      // Longer than 50 characters the first is refused.
      `[storage]\ndriver = "overlay"\nrunroot = "/run/storage"\ngraphroot = "${at("graph")}"\n`,
    );
    writeFileSync(
      at("containers.conf"),
      `[containers]
# Those it would set are more than this machine may allow.
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "bunc"
runtime_supports_json = ["bunc"]
runtime_supports_nocgroup = ["bunc"]
[engine.runtimes]
bunc = ["${runtime}"]
`,
    );
  }

  /** Makes the namespaces and the image with busybox. */
  static async start(rig: Rig): Promise<Podman> {
    const script = ["sh", "-c", HOLDER, "sh", rig.directory()];
    const flags = ["-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];
    const { pid, line } = await rig.background(["unshare", ...flags, ...script]);
    if (line !== "ready") throw new Error("podman's namespaces cannot be made");
    const podman = new Podman(rig, Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")));
    const build = rig.directory();
    makeRootfs(join(build, "rootfs"), rig.scratch.store);
    await podman.ok("load", "-i", makeImage(build, join(build, "rootfs"), IMAGE));
    return podman;
  }

  /** Runs a command of podman to its end. */
  run(...args: string[]): Promise<Said> {
    return this.with({}, "podman", ...args);
  }

  /** Runs any command in podman's namespaces and with its settings. */
  with(options: ClientOptions, ...command: string[]): Promise<Said> {
    return runClient(this.rig, this.inside(command), { ...options, env: { ...this.env, ...options.env } });
  }

  /** Runs a command of podman that has to end well; its output without the last line's end. */
  async ok(...args: string[]): Promise<string> {
    return well(await this.run(...args)).trimEnd();
  }

  /** Starts a command on a terminal. */
  terminal(...command: string[]): Pty {
    return clientOnTerminal(this.rig, this.inside(command), this.env);
  }

  /** What is mounted for containers: their root filesystems, their shared memory, their network namespaces. */
  mounts(): string[] {
    const all = readFileSync(`/proc/${this.holder}/mountinfo`, "utf8").split("\n");
    const points = all.map((line) => line.split(" ")[4] ?? "");
    return points.filter((point) => /\/(merged|shm|netns\/.*)$/.test(point) && point !== "/dev/shm");
  }

  /** State directories of the runtime. */
  states(): string[] {
    try {
      return readdirSync(`/proc/${this.holder}/root/run/bunc`).filter((name) => !name.startsWith("."));
    } catch {
      return [];
    }
  }

  private get env(): Record<string, string> {
    const { place } = this;
    return {
      CONTAINERS_CONF: join(place, "containers.conf"),
      CONTAINERS_STORAGE_CONF: join(place, "storage.conf"),
      HOME: join(place, "home"),
    };
  }

  private inside(command: string[]): string[] {
    return ["nsenter", "-t", String(this.holder), "-n", "-m", "-p", ...command];
  }

  private async stop(): Promise<void> {
    await this.run("pod", "rm", "-f", "-a", "-t", "0");
    await this.run("rm", "-f", "-a", "-t", "0");
    await this.with({}, "buildah", "rm", "-a");
    // Of a pod's cgroup it leaves what is in the hierarchies it does not know.
    removeCgroup(this.parent);
  }
}
