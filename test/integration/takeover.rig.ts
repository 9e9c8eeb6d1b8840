// What the take-over tests share: containers that Debian's runc makes, in a root, cgroups and bundles of their own.
import { afterAll, afterEach, expect } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildState } from "../../src/container/build-state.ts";
import { loadState } from "../../src/container/info.ts";
import type { State } from "../../src/container/state.ts";
import { withProcess } from "../../src/container/state-text.ts";
import { readState } from "../../src/container/store.ts";
import { BuncError } from "../../src/errors.ts";
import { parseJson } from "../../src/oci/json.ts";
import { fitsSpec } from "../../src/oci/shape.ts";
import { type Config, configText, defaultConfig } from "../rig/config.ts";
import { findCgroups, findMounts, findProcesses, removeEverything } from "../rig/leaks.ts";
import { makeRootfs } from "../rig/rootfs.ts";
import { cgroupMounts, runtime, systemdDriver } from "../rig/runtime.ts";
import { makeScratch } from "../rig/scratch.ts";

const runcPath = Bun.which("runc", { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" });

/** Whether there is a runc, and the rights to run it. */
export const present = runcPath !== null && process.getuid?.() === 0;

export const mounts = cgroupMounts();

/** A program that stays. */
export const SLEEP = "exec sleep 60";

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** The output of a command that must succeed. */
export function ok(ran: Ran): string {
  if (ran.code !== 0) throw new Error(`exit ${ran.code}: ${ran.stderr}${ran.stdout}`);
  return ran.stdout;
}

export interface Made {
  id: string;
  bundle: string;
  config: Config;
}

/** The message of the error of bunc's with which a call must fail. */
export async function message(run: Promise<unknown> | (() => Promise<unknown>)): Promise<string> {
  const error = await (typeof run === "function" ? run() : run).then(
    () => undefined,
    (error) => error,
  );
  if (error instanceof BuncError) return error.message;
  throw error ?? new Error("no error");
}

export async function untilExists(path: string): Promise<void> {
  for (let i = 0; !existsSync(path); i++) {
    if (i > 500) throw new Error(`${path} does not appear`);
    await Bun.sleep(10);
  }
}

/** Without what Go's omitempty leaves out. */
export function compact(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(compact);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(
    ([, part]) =>
      ![null, 0, "", false].includes(part as never) && !(Array.isArray(part) && part.length === 0),
  );
  return Object.fromEntries(kept.map(([key, part]) => [key, compact(part)]));
}

/** Every path in a value. */
export function paths(value: unknown, at = ""): string[] {
  if (typeof value !== "object" || value === null) return [at];
  const below = Object.entries(value).flatMap(([key, part]) => paths(part, at ? `${at}.${key}` : key));
  return [at, ...below].filter(Boolean);
}

/** The containers of one test file. */
export class Takeover {
  readonly scratch = makeScratch();
  readonly root = this.scratch.root;
  private counter = 0;

  /** A number that was not used before. */
  readonly fresh = (): number => ++this.counter;

  readonly runc = (...args: string[]): Ran => this.runWith(runcPath!, {}, ...args);

  /** The runtime under test, with the scratch root. */
  readonly bunc = (...args: string[]): Ran => this.runWith(runtime, {}, ...args);

  /** Runs a runtime with the scratch root. A container it makes keeps the files it writes to, not a pipe of ours. */
  private runWith(program: string, env: Record<string, string>, ...args: string[]): Ran {
    const out = join(this.scratch.output, `out${this.fresh()}`);
    const err = join(this.scratch.output, `err${this.fresh()}`);
    const driver = systemdDriver ? ["--systemd-cgroup"] : [];
    const result = Bun.spawnSync([program, ...driver, "--root", this.root, ...args], {
      stdin: "ignore",
      stdout: Bun.file(out),
      stderr: Bun.file(err),
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...env },
    });
    return { code: result.exitCode, stdout: readFileSync(out, "utf8"), stderr: readFileSync(err, "utf8") };
  }

  /** A container that runc has created; its program is a shell script. */
  readonly create = (
    script: string,
    edit: (config: Config, rootfs: string) => void = () => {},
    env: Record<string, string> = {},
  ): Made => {
    const made = this.bundle(script, edit);
    ok(this.runWith(runcPath!, env, "create", "--bundle", made.bundle, made.id));
    return made;
  };

  /** A bundle whose program is a shell script. */
  readonly bundle = (script: string, edit: (config: Config, rootfs: string) => void = () => {}): Made => {
    const id = `${this.scratch.tag}-${this.fresh()}`;
    const bundle = join(this.scratch.bundles, id);
    mkdirSync(bundle);
    makeRootfs(join(bundle, "rootfs"), this.scratch.store);
    const config = defaultConfig(systemdDriver ? `:t:${id}` : `/${id}`);
    config.root = { path: "rootfs" };
    config.process.args = ["sh", "-c", script];
    edit(config, join(bundle, "rootfs"));
    writeFileSync(join(bundle, "config.json"), configText(config));
    return { id, bundle, config };
  };

  readonly status = (id: string): string => loadState(this.root, id).status;

  readonly until = async (id: string, wanted: string): Promise<void> => {
    for (let i = 0; this.status(id) !== wanted; i++) {
      if (i > 500) throw new Error(`${id} is ${this.status(id)}, not ${wanted}`);
      await Bun.sleep(10);
    }
  };

  /** bunc's state of a container that runc made. */
  readonly own = (made: Made): State => {
    const theirs = readState(this.root, made.id);
    const spec = parseJson(configText(made.config));
    if (!fitsSpec(spec)) throw new Error("not a config.json");
    const state = buildState(spec, {
      id: made.id,
      bundle: made.bundle,
      rootfs: join(made.bundle, "rootfs"),
      noPivot: false,
      noNewKeyring: false,
      systemdCgroup: false,
      rootlessEuid: false,
      rootlessCgroups: false,
      created: theirs.created,
      cgroupPaths: theirs.cgroup_paths ?? {},
      externalDescriptors: theirs.external_descriptors ?? [],
    });
    return withProcess(state, theirs.init_process_pid, theirs.init_process_start);
  };
}

/** A scratch place for one test file: emptied after each test, which fails if it left anything, and removed at the end. */
export function useTakeover(): Takeover {
  const takeover = new Takeover();
  const { scratch, root, runc } = takeover;
  afterEach(() => {
    // bunc keeps compiled filters there.
    for (const name of readdirSync(root)) if (name.startsWith(".seccomp-")) rmSync(join(root, name));
    for (const id of readdirSync(root)) runc("delete", "--force", id);
    const left = [...findProcesses(scratch.tag), ...findCgroups(scratch.tag), ...findMounts(scratch.tag)];
    expect(left).toEqual([]);
    expect(readdirSync(root)).toEqual([]);
  });
  afterAll(() => removeEverything(scratch.tag, scratch.dir));
  return takeover;
}
