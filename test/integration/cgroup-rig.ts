// What the tests of src/cgroup share: plans on this host's hierarchies under a name of their own, programs inside of
// cgroups, and the removal of everything after each test.
import { afterAll, afterEach, expect } from "bun:test";
import { closeSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cgroup, planCgroup } from "../../src/cgroup/cgroup.ts";
import type { CgroupfsGroup } from "../../src/cgroup/cgroupfs.ts";
import { type Layout, parseLayout, readLayout } from "../../src/cgroup/layout.ts";
import { destroy } from "../../src/cgroup/live.ts";
import type { CgroupPaths } from "../../src/cgroup/names.ts";
import { renderError } from "../../src/errors.ts";
import { Slots } from "../../src/launch/program.ts";
import { HostState } from "../../src/linux/run-part.ts";
import type { LinuxResources, Spec } from "../../src/oci/config.ts";

export const host = readLayout();
export const root = process.getuid?.() === 0;
/** The controllers are in v1. */
export const v1 = root && (host.mode === "v1" || host.mode === "hybrid");
/** Part of the name of every cgroup of these tests. */
export const tag = `bunc-cg-${process.pid}`;

/** A cgroup2 hierarchy alone, as a v2 host has it; on a hybrid host the one beside v1, with few controllers. */
export function v2Layout(): Layout {
  const info = readFileSync("/proc/self/mountinfo", "utf8");
  return parseLayout(
    info
      .split("\n")
      .filter((line) => / - cgroup2 /.test(line))
      .join("\n"),
  );
}
export const v2 = root && v2Layout().mode === "v2";

export interface Wish {
  path?: string;
  resources?: LinuxResources;
  layout?: Layout;
}

export function plan({ path = `/${tag}`, resources = {}, layout = host }: Wish = {}): CgroupfsGroup {
  const spec: Spec = { ociVersion: "1.3.0", linux: { cgroupsPath: path, resources } };
  return planCgroup({ spec, id: "unused", layout, slots: new Slots() }) as Cgroup as CgroupfsGroup;
}

/** Plans and makes; the descriptor for the birth is closed. */
export function make(wish?: Wish): CgroupfsGroup {
  const group = plan(wish);
  close(group.create(new HostState()));
  return group;
}

export function close(fd: number): void {
  if (fd >= 0) closeSync(fd);
}

/** The line that the failure would be shown as. */
export function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return renderError(error);
  }
  throw new Error("no failure");
}

/** A file of a cgroup. */
export const read = (dir: string | undefined, file: string) => readFileSync(join(dir!, file), "utf8").trim();

const children: Bun.Subprocess[] = [];

/** A program that has entered cgroups. */
export class Inside {
  out = "";
  private readonly reader;

  constructor(readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">) {
    this.reader = child.stdout.getReader();
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Reads on until the line is there. */
  async until(line: string): Promise<void> {
    while (!this.out.includes(`${line}\n`)) {
      const { value, done } = await this.reader.read();
      if (done) throw new Error(`ended without ${line}: ${await this.child.stderr.text()}`);
      this.out += new TextDecoder().decode(value);
    }
    this.out = this.out.slice(this.out.indexOf(`${line}\n`) + line.length + 1);
  }

  /** What it printed after the last line waited for, to its end. */
  async rest(): Promise<string> {
    for (;;) {
      const { value, done } = await this.reader.read();
      if (done) break;
      this.out += new TextDecoder().decode(value);
    }
    await this.child.exited;
    return this.out;
  }

  /** Kills it; resolves when it is gone. */
  async end(): Promise<void> {
    this.child.kill(9);
    await this.child.exited;
  }
}

/** Starts a program that enters cgroups first, by one file after the other. */
export async function inside(files: readonly string[], program: string): Promise<Inside> {
  const enter = files.map((file) => `echo 0 > '${file}'`).join(" && ");
  const child = Bun.spawn(["sh", "-c", `${enter} && echo ready && ${program}`], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  const started = new Inside(child);
  await started.until("ready");
  return started;
}

/** The files by which a process enters all cgroups of a container. */
export const joined = (group: CgroupfsGroup) => [
  ...group.taskFiles(),
  ...(group.paths[""] === undefined ? [] : [join(group.paths[""], "cgroup.procs")]),
];

/** Those of the directories that exist. */
export const there = (paths: CgroupPaths) => Object.values(paths).filter((path) => existsSync(path));

/** Everything of these tests, in all hierarchies. */
export function leftovers(): string[] {
  const found: string[] = [];
  for (const { mountPoint } of [...host.v1, ...(host.v2 ? [host.v2] : [])]) {
    for (const name of readdirSync(mountPoint)) if (name.startsWith(tag)) found.push(join(mountPoint, name));
  }
  return found;
}

/** To be called once in a test file: each test leaves nothing, and the way to cgroups of v2 is left as it was. */
export function cleanUp(): void {
  const control = join(v2Layout().v2?.mountPoint ?? "", "cgroup.subtree_control");
  const enabled = v2 ? readFileSync(control, "utf8").trim().split(" ") : [];
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill(9);
    for (const path of leftovers()) {
      for (const [file, thawed] of [
        ["freezer.state", "THAWED"],
        ["cgroup.freeze", "0"],
      ] as const) {
        if (existsSync(join(path, file))) writeFileSync(join(path, file), thawed);
      }
      await destroy({ devices: path });
    }
    expect(leftovers()).toEqual([]);
  });
  afterAll(() => {
    // Where systemd runs, what is enabled is its business, and others use it.
    if (!v2 || existsSync("/run/systemd/system")) return;
    for (const name of readFileSync(control, "utf8").trim().split(" ")) {
      if (name && !enabled.includes(name)) writeFileSync(control, `-${name}`);
    }
  });
}
