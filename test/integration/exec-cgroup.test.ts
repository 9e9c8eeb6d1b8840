// `exec --cgroup`, and where a process goes whose container has moved its init to a cgroup below its own.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { readSummary } from "../../src/container/store.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { cgroupMounts } from "../rig/runtime.ts";

const rig = useRig();
const v1 = cgroupMounts().has("devices");

async function running(): Promise<Container> {
  const container = rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
  await container.detach();
  return container;
}

const inCgroup = (container: Container, args: string[], command = ["cat", "/proc/self/cgroup"]) =>
  rig.call(["exec", ...args.flatMap((arg) => ["--cgroup", arg]), container.id, ...command]);

/** The directories of the container's cgroups by controller, "" for cgroup2. */
const directories = ({ id }: Container) => readSummary(rig.scratch.root, id).cgroupPaths;

const directory = (container: Container, controller: string): string => directories(container)[controller]!;

/** A cgroup below the container's that is removed before the container is. */
function below(container: Container, controller: string, name: string): string {
  const path = `${directory(container, controller)}/${name}`;
  mkdirSync(path);
  return path;
}

test("what cannot be is refused, in runc's words", async () => {
  const container = await running();
  const cases: [string[], string | RegExp][] = [
    [[".."], "bad sub cgroup path: .."],
    [["a/../../b"], "bad sub cgroup path"],
    [
      ["nonexistent"],
      v1 ? / adding pid \d+ to cgroups.*no such file or directory/ : /can't open cgroup.*no such file/,
    ],
    [["nosuch:/"], "unknown controller nosuch"],
    [[":/x"], "invalid --cgroup argument: :/x (empty <controller> prefix)"],
    [["a", "b"], "invalid --cgroup argument: a (missing <controller>: prefix)"],
    [["pids:a", "pids:b"], "invalid --cgroup argument(s): controller pids specified multiple times"],
  ];
  for (const [args, words] of cases) {
    const result = await inCgroup(container, args);
    expect([args, result.code]).toEqual([args, 255]);
    expect(result.stderr).toMatch(
      typeof words === "string" ? new RegExp(words.replace(/[().]/g, "\\$&")) : words,
    );
  }
  const { stdout } = (await rig.call(["exec", container.id, "ps", "-o", "comm"])).ok();
  expect(stdout.trim().split("\n")).toEqual(["COMMAND", "sleep", "ps"]);
});

test("/ is the container's own", async () => {
  const container = await running();
  const { pid } = await container.state();
  const { stdout } = (
    await inCgroup(container, ["/"], ["sh", "-c", "cat /proc/self/cgroup /proc/1/cgroup"])
  ).ok();
  const lines = stdout.trim().split("\n");
  expect(lines.slice(0, lines.length / 2)).toEqual(lines.slice(lines.length / 2));
  expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).not.toBe("");
});

describe.skipIf(!v1)("cgroup v1", () => {
  test("a path for one controller, and one for several; the others are the container's", async () => {
    const container = await running();
    below(container, "pids", "mine");
    below(container, "memory", "other");
    const { stdout } = (await inCgroup(container, ["pids:mine", "memory:/other/"])).ok();
    expect(stdout).toMatch(/:pids:\S*\/mine$/m);
    expect(stdout).toMatch(/:memory:\S*\/other$/m);
    expect(stdout).toMatch(new RegExp(`:devices:\\S*/${container.id}$`, "m"));
  });

  test.skipIf(!cgroupMounts().has("unified"))(
    "a caller that does not see the cgroup2 beside it",
    async () => {
      const container = await running();
      const hidden = `umount ${cgroupMounts().get("unified")} && exec "$@"`;
      const wrap = ["unshare", "-m", "sh", "-c", hidden, "sh"];
      const { stdout } = (await rig.call(["exec", container.id, "cat", "/proc/self/cgroup"], { wrap })).ok();
      expect(stdout).toMatch(new RegExp(`:devices:\\S*/${container.id}$`, "m"));
    },
  );

  test("a path without a controller is for all of them", async () => {
    const container = await running();
    const all = new Set(
      Object.entries(directories(container)).flatMap(([name, path]) => (name ? [path] : [])),
    );
    for (const path of all) {
      mkdirSync(`${path}/all`);
      if (!path.includes("cpuset")) continue;
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        if (existsSync(`${path}/${file}`))
          writeFileSync(`${path}/all/${file}`, readFileSync(`${path}/${file}`, "utf8"));
      }
    }
    const { stdout } = (await inCgroup(container, ["all"])).ok();
    expect(stdout.split("\n").filter((line) => line.endsWith("/all")).length).toBe(all.size);
    for (const path of all) rmdirSync(`${path}/all`);
  });
});

describe.skipIf(v1)("cgroup v2", () => {
  test("a path below the container's cgroup", async () => {
    const container = await running();
    below(container, "", "mine");
    expect((await inCgroup(container, ["mine"])).ok().stdout).toMatch(/^0::\S*\/mine$/m);
  });

  test("a container with processes in cgroups below its own: exec joins init's, --cgroup / is refused", async () => {
    const container = await running();
    const { pid } = await container.state();
    const own = directory(container, "");
    const inner = below(container, "", "inner");
    writeFileSync(`${inner}/cgroup.procs`, String(pid));
    const controllers = readFileSync(`${own}/cgroup.controllers`, "utf8").trim().split(" ");
    // Any controller but a threaded one will do.
    const domain = controllers.find((name) => ["memory", "io", "hugetlb", "rdma", "misc"].includes(name));
    if (domain === undefined) throw new Error(`no domain controller here: ${controllers}`);
    writeFileSync(`${own}/cgroup.subtree_control`, `+${domain}`);
    expect((await inCgroup(container, [])).ok().stdout).toMatch(/^0::\S*\/inner$/m);
    const refused = await inCgroup(container, ["/"]);
    expect(refused.code).toBe(255);
    expect(refused.stderr).toMatch(/ adding pid .* to cgroups.*device or resource busy/);
    expect((await inCgroup(container, ["inner"])).ok().stdout).toMatch(/^0::\S*\/inner$/m);
  });
});
