// The one directory of a test file's containers: everything the rig makes lies below it, its name tells whose it is,
// and what an interrupted run left is removed by the next.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeEverything } from "./leaks.ts";

const prefix = "bunc-test-";

/** Start time of a process in clock ticks since boot (field 22 of proc_pid_stat(5)); undefined when it is gone. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

/** A fresh directory with the places a rig needs; `tag` marks everything that belongs to it. */
export interface Scratch {
  /** `bunc-test-<pid>-<start time>-<random>`: part of every cgroup name, container id and environment of the rig. */
  tag: string;
  dir: string;
  /** The runtime's --root. */
  root: string;
  /** Bundles, one per container. */
  bundles: string;
  /** TMPDIR of the runtime: must be empty after each test. */
  tmp: string;
  /** XDG_RUNTIME_DIR of the runtime: likewise. */
  run: string;
  /** Output of the commands that were run. */
  output: string;
  /** Copies of host programs that root filesystems link to. */
  store: string;
}

/** Makes the directory of one rig; at the first of this process also removes what dead processes left. */
export function makeScratch(): Scratch {
  sweep();
  const dir = mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-${startTime(process.pid)}-`));
  chmodSync(dir, 0o755); // a container's mapped root must be able to walk down to its rootfs
  const below = (name: string): string => {
    mkdirSync(join(dir, name));
    return join(dir, name);
  };
  const places = { root: below("root"), bundles: below("bundles"), tmp: below("tmp"), run: below("run") };
  return {
    tag: dir.slice(dir.lastIndexOf("/") + 1),
    dir,
    output: below("output"),
    store: below("store"),
    ...places,
  };
}

let swept = false;

function sweep(): void {
  if (swept) return;
  swept = true;
  for (const name of readdirSync(tmpdir())) {
    const found = /^bunc-test-(\d+)-(\d+)-\w{6}$/.exec(name);
    if (found === null || startTime(Number(found[1])) === found[2]) continue;
    const dir = join(tmpdir(), name);
    if (existsSync(dir)) removeEverything(name, dir);
  }
}
