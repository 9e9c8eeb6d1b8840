// Containers that see the runtime's processes of others at work: root there, with whatever rights a user namespace gives it
// over them, cannot look into them at any moment.
import { describe, expect } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { capabilityNames, capabilitySets } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { type Result, type Rig, useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncTest, host } from "../rig/runtime.ts";
import { makeVictim, mapped } from "./hostile-ground.ts";

const rig = useRig();
const everything = capabilityNames.filter((_, number) => host.capable(number));
/** How many containers are watched at their start; where that takes seconds, in an emulated machine, there are fewer. */
const rounds = Number(process.env.BUNC_RACE_ROUNDS ?? 30);

describe("root of a container", () => {
  buncTest("cannot look into those who join its user namespace", async () => {
    const watching = await watch((config, it) => {
      mapped(it);
      config.process.capabilities = capabilitySets(...everything);
    });
    const { pid } = await watching.container.state();
    await start((config, it) => {
      mapped(it);
      delete config.linux.uidMappings;
      delete config.linux.gidMappings;
      joinTo(config, pid, "user", "pid");
    });
    watching.expectNothing();
  });

  buncTest(
    "cannot look into those who join its pid namespace, with a user namespace of their own",
    async () => {
      const watching = await watch((config) => {
        config.process.capabilities = {};
      });
      const { pid } = await watching.container.state();
      await start((config, it) => {
        mapped(it);
        joinTo(config, pid, "pid");
        // Only who owns its pid namespace can mount a proc of it.
        config.mounts = config.mounts.filter(({ type }) => type !== "proc");
      });
      watching.expectNothing();
    },
  );

  buncTest(
    "that shares the host's pid namespace cannot look into what makes user namespaces and id-mapped mounts",
    async () => {
      // A pid namespace that few use stands for the host's.
      const script = "echo in; while :; do sleep 1; done";
      const unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script];
      const outer = await rig.background(unshare);
      const inner = readFileSync(`/proc/${outer.pid}/task/${outer.pid}/children`, "utf8").trim();
      const wrap = ["nsenter", "-t", inner, "-p", "-m"];
      const watching = await watch((config) => {
        config.process.capabilities = {};
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "pid");
        config.mounts = config.mounts.filter(({ type }) => type !== "proc");
        config.mounts.push({ destination: "/proc", type: "bind", source: "/proc", options: ["rbind"] });
      }, wrap);
      const source = rig.directory();
      await start((config, it) => {
        mapped(it);
        mkdirSync(join(it.rootfs, "data"));
        config.mounts.push({ destination: "/data", type: "bind", source, options: ["bind", "idmap"] });
      }, wrap);
      watching.expectNothing();
      (await rig.call(["delete", "--force", watching.container.id], { wrap })).ok();
    },
  );
});

interface Watching {
  container: Container;
  /** That processes of the runtime were seen, and nothing of them was to be had. */
  expectNothing(): void;
}

/** Starts a container that looks at every process that appears. */
async function watch(edit: Parameters<Rig["container"]>[0], wrap: string[] = []): Promise<Watching> {
  const victim = makeVictim(rig);
  output(["chmod", "644", victim.file]); // it is the way there that is closed
  const container = rig.container((config, it) => {
    output(["cp", peekProgram(), join(it.rootfs, "bin/peek")]);
    config.process.args = ["peek", victim.file];
    edit?.(config, it);
  });
  const result: Result = await container.detach([], { wrap });
  await result.until("looking");
  const expectNothing = () => {
    const seen = result.stdout.trim().split("\n");
    expect(seen.filter((line) => line.startsWith("saw")).length).toBeGreaterThan((rounds * 2) / 3);
    expect(seen.filter((line) => !/^(saw|looking)/.test(line))).toEqual([]);
  };
  return { container, expectNothing };
}

/** Starts containers, some to their end and some not at all. */
async function start(edit: Parameters<Rig["container"]>[0], wrap: string[] = []): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const container = rig.container((config, it) => {
      config.process.args = ["true"];
      edit?.(config, it);
    });
    if (round % 2) (await container.run([], { wrap })).ok();
    else {
      await container.create([], { wrap });
      (await rig.call(["delete", "--force", container.id], { wrap })).ok();
    }
  }
}

/** Has a container join namespaces of a process. */
function joinTo(config: Container["config"], pid: number, ...types: string[]): void {
  config.linux.namespaces = config.linux.namespaces.map((namespace) =>
    types.includes(namespace.type)
      ? { type: namespace.type, path: `/proc/${pid}/ns/${namespace.type}` }
      : namespace,
  );
}

let peek = "";

/** Compiles the program that looks. */
function peekProgram(): string {
  if (peek) return peek;
  const path = join(rig.scratch.store, "hostile-peek");
  const source = join(import.meta.dir, "hostile-peek.c");
  output(["cc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, source]);
  peek = path;
  return peek;
}
