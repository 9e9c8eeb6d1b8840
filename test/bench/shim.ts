// `make bench-shim`: how fast and how small bunc's shim is under containerd, beside containerd's own with runc and with
// crun. One daemon serves all three, in turn; the report is printed and written to docs/bench-shim.md.
//
// Needs root, and containerd, runc and crun of Debian. Runs in a mount namespace of its own, without the cgroup2 of a
// hybrid host, where crun does not start. Variables: BUNC (./bunc), BENCH_RUNS rounds (30), BENCH_OUT.
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { makeImage } from "../rig/image.ts";
import { repository } from "../rig/repository.ts";
import { makeRootfs, output } from "../rig/rootfs.ts";
import { load, machine } from "./machine.ts";
import { median } from "./report.ts";

const IMAGE = "docker.io/library/busybox:bench";
const INSIDE = "BENCH_SHIM_INSIDE";
/** How long a shim is left alone before it is weighed. */
const IDLE_MILLISECONDS = 4000;

interface Peer {
  name: string;
  /** Flags of `ctr run`. */
  flags: string[];
  /** The name of its shim's executable. */
  shim: string;
}

const PEERS: Peer[] = [
  { name: "bunc", flags: ["--runtime", "io.containerd.bunc.v2"], shim: "containerd-shim-bunc-v2" },
  { name: "containerd-shim-runc-v2 with runc", flags: [], shim: "containerd-shim-runc-v2" },
  {
    name: "containerd-shim-runc-v2 with crun",
    flags: ["--runc-binary", "crun"],
    shim: "containerd-shim-runc-v2",
  },
];

/** What bunc is to reach, as ratios to the other two, in their order. */
const TARGETS: Record<string, (number | undefined)[]> = {
  "`ctr run --rm` of /bin/true": [0.5, 0.8],
  "private dirty memory of an idle shim": [0.6, undefined],
};

const runs = Number(process.env.BENCH_RUNS ?? 30);
const out = resolve(process.env.BENCH_OUT ?? join(repository, "docs/bench-shim.md"));
const bunc = resolve(process.env.BUNC ?? join(repository, "bunc"));

/** Once more in a mount namespace of its own. */
function goInside(): number {
  const hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"';
  const command = ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, "sh", ...process.argv];
  const { exitCode } = Bun.spawnSync(command, {
    env: { ...process.env, [INSIDE]: "1" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return exitCode;
}

class Bench {
  readonly dir = mkdtempSync("/tmp/bench-shim-");
  readonly namespace = `bench-${process.pid}`;
  private daemon: ReturnType<typeof Bun.spawn> | undefined;
  private counter = 0;

  async start(): Promise<void> {
    const { dir } = this;
    mkdirSync(join(dir, "bin"));
    // All are copies, written in large pieces as `make install` does it: so the page cache keeps all alike.
    const copy = (path: string, name: string) =>
      writeFileSync(join(dir, "bin", name), readFileSync(path), { mode: 0o755 });
    copy(bunc, "containerd-shim-bunc-v2");
    for (const name of ["containerd-shim-runc-v2", "runc", "crun"]) copy(Bun.which(name)!, name);
    const lines = [
      "version = 2",
      `root = "${dir}/root"`,
      `state = "${dir}/state"`,
      'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]',
      "[grpc]",
      `address = "${dir}/c.sock"`,
    ];
    writeFileSync(join(dir, "config.toml"), `${lines.join("\n")}\n`);
    this.daemon = Bun.spawn(["containerd", "-c", join(dir, "config.toml")], {
      env: { ...process.env, PATH: `${join(dir, "bin")}:${process.env.PATH}` },
      stdio: ["ignore", "ignore", "ignore"],
    });
    for (let i = 0; i < 200 && this.ctr(["version"]) !== 0; i++) await Bun.sleep(50);
    for (const name of ["store", "image"]) mkdirSync(join(dir, name));
    makeRootfs(join(dir, "rootfs"), join(dir, "store"));
    const image = makeImage(join(dir, "image"), join(dir, "rootfs"), IMAGE);
    this.must(["images", "import", image]);
  }

  /** Milliseconds of one `ctr run --rm`. */
  timeRun({ flags }: Peer): number {
    return this.time(["run", "--rm", ...flags, IMAGE, `r${++this.counter}`, "/bin/true"]);
  }

  /** A running container, what its idle shim weighs in kB, and milliseconds of exec, asleep and awake. */
  async weigh(peer: Peer): Promise<{ memory: number; first: number; second: number }> {
    const id = `w${++this.counter}`;
    this.must(["run", "-d", ...peer.flags, IMAGE, id, "/bin/sleep", "1000"]);
    await Bun.sleep(IDLE_MILLISECONDS);
    const found = output(["pgrep", "-f", `${peer.shim}.*-namespace ${this.namespace}.*-id ${id}( |$)`]);
    const rollup = readFileSync(`/proc/${found.trim().split("\n")[0]}/smaps_rollup`, "utf8");
    const memory = Number(/^Private_Dirty:\s+(\d+)/m.exec(rollup)![1]);
    const exec = (name: string) => this.time(["task", "exec", "--exec-id", name, id, "/bin/true"]);
    const [first, second] = [exec("a"), exec("b")];
    this.must(["task", "rm", "-f", id]);
    this.must(["container", "rm", id]);
    return { memory, first, second };
  }

  async stop(): Promise<void> {
    this.daemon?.kill("SIGTERM");
    await this.daemon?.exited;
    for (const hierarchy of output(["sh", "-c", "ls -d /sys/fs/cgroup/*/ /sys/fs/cgroup/"])
      .trim()
      .split("\n")) {
      try {
        rmdirSync(join(hierarchy, this.namespace));
      } catch {
        // Not in this one.
      }
    }
    rmSync(`/run/containerd/runc/${this.namespace}`, { recursive: true, force: true });
    rmSync(this.dir, { recursive: true, force: true });
  }

  private time(args: string[]): number {
    const begin = Bun.nanoseconds();
    this.must(args);
    return (Bun.nanoseconds() - begin) / 1e6;
  }

  private must(args: string[]): void {
    const code = this.ctr(args);
    if (code !== 0) throw new Error(`ctr ${args.join(" ")} ended with ${code}`);
  }

  private ctr(args: string[]): number {
    const command = ["ctr", "-a", join(this.dir, "c.sock"), "-n", this.namespace, ...args];
    return Bun.spawnSync(command, { stdio: ["ignore", "ignore", "ignore"] }).exitCode;
  }
}

/** Rows of one measurement: medians, ratios of bunc to the others, and whether that is what was promised. */
function rows(what: string, unit: string, values: number[][]): string[] {
  const medians = values.map(median);
  return PEERS.map(({ name }, i) => {
    const ratio = i === 0 ? "" : (medians[0]! / medians[i]!).toFixed(2);
    const target = i === 0 ? undefined : TARGETS[what]?.[i - 1];
    const verdict =
      target === undefined ? "" : `${target}: ${medians[0]! / medians[i]! <= target ? "met" : "missed"}`;
    const shown = `${medians[i]!.toFixed(unit === "kB" ? 0 : 1)} ${unit}`;
    return `| ${i === 0 ? what : ""} | ${name} | ${shown} | ${Math.min(...values[i]!).toFixed(0)} ${unit} | ${ratio} | ${verdict} |`;
  });
}

async function main(): Promise<void> {
  const about = [machine(), load(), `${runs} rounds`].join("; ");
  const bench = new Bench();
  try {
    await bench.start();
    const times: number[][] = PEERS.map(() => []);
    for (let round = 0; round < runs; round++) {
      for (const [i, peer] of PEERS.entries()) times[i]!.push(bench.timeRun(peer));
    }
    const weights = PEERS.map(() => ({
      memory: [] as number[],
      first: [] as number[],
      second: [] as number[],
    }));
    for (let round = 0; round < 3; round++) {
      for (const [i, peer] of PEERS.entries()) {
        const weight = await bench.weigh(peer);
        weights[i]!.memory.push(weight.memory);
        weights[i]!.first.push(weight.first);
        weights[i]!.second.push(weight.second);
      }
    }
    const report = [
      "# The shim beside containerd's own",
      "",
      `${about}. Made by \`make bench-shim\`; medians, and what bunc is of the others.`,
      "",
      "| | shim | median | min | bunc / this | target |",
      "|---|---|--:|--:|--:|---|",
      ...rows("`ctr run --rm` of /bin/true", "ms", times),
      ...rows(
        "`ctr task exec` of /bin/true, after a rest",
        "ms",
        weights.map(({ first }) => first),
      ),
      ...rows(
        "`ctr task exec` of /bin/true, once more",
        "ms",
        weights.map(({ second }) => second),
      ),
      ...rows(
        "private dirty memory of an idle shim",
        "kB",
        weights.map(({ memory }) => memory),
      ),
      "",
      "ctr and containerd themselves take a good part of these times: what they do without any shim is in all of them.",
      "",
    ].join("\n");
    console.log(report);
    writeFileSync(out, report);
  } finally {
    await bench.stop();
  }
}

if (process.env[INSIDE]) await main();
else process.exit(goInside());
