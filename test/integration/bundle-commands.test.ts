// Commands about bundles that start nothing: spec, and bunc's own explain and validate.
import { describe, expect, test } from "bun:test";
import { chmodSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { configText } from "../rig/config.ts";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, isBunc } from "../rig/runtime.ts";

const rig = useRig();

describe("spec", () => {
  test("writes config.json with tabs into the bundle or the current directory, and never over one", async () => {
    const dir = rig.directory();
    const result = (await rig.call(["spec"], { cwd: dir, root: null })).ok();
    expect(result.stdout + result.stderr).toBe("");
    const text = readFileSync(join(dir, "config.json"), "utf8");
    expect(text).toStartWith('{\n\t"ociVersion": "');
    expect(statSync(join(dir, "config.json")).mode & 0o777).toBe(
      isBunc ? 0o644 : statSync(join(dir, "config.json")).mode & 0o777,
    );
    const again = await rig.call(["spec"], { cwd: dir, root: null });
    expect([again.code, again.stderr]).toEqual([
      1,
      expect.stringContaining("File config.json exists. Remove it first"),
    ]);
    expect(readFileSync(join(dir, "config.json"), "utf8")).toBe(text);
    const other = rig.directory();
    (await rig.call(["spec", "--bundle", other], { root: null })).ok();
    expect(readFileSync(join(other, "config.json"), "utf8")).toBe(text);
    const absent = await rig.call(["spec", "--bundle", "/no/such/dir"], { root: null });
    expect([absent.code, absent.stderr]).toEqual([1, expect.stringContaining("no such file or directory")]);
  });

  test("what it writes runs as it stands, on a terminal", async () => {
    const container = rig.container();
    rmSync(container.path("config.json"));
    (await rig.call(["spec", "--bundle", container.bundle], { root: null })).ok();
    const config = JSON.parse(readFileSync(container.path("config.json"), "utf8"));
    expect(config).toMatchObject({
      process: { terminal: true, args: ["sh"], cwd: "/", noNewPrivileges: true },
      root: { path: "rootfs", readonly: true },
    });
    // The one thing the tests need: a cgroup of their own, not one below the caller's.
    config.linux.cgroupsPath = container.config.linux.cgroupsPath;
    writeFileSync(container.path("config.json"), JSON.stringify(config));
    const pty = rig.pty(["run", "--bundle", container.bundle, container.id]);
    await pty.until("#");
    pty.type("echo $((6*7)); id -u; exit 3\n");
    await pty.until("42\r\n0\r\n");
    expect(await pty.exited()).toBe(3);
  });

  test("--rootless maps the caller and asks for nothing it may not have", async () => {
    const dir = rig.directory();
    (await rig.call(["spec", "--rootless"], { cwd: dir, root: null })).ok();
    const config = JSON.parse(readFileSync(join(dir, "config.json"), "utf8"));
    const types = config.linux.namespaces.map(({ type }: { type: string }) => type);
    expect(types).toContain("user");
    expect(types).not.toContain("network");
    expect(config.linux.uidMappings).toEqual([{ containerID: 0, hostID: 0, size: 1 }]);
    expect(config.linux.gidMappings).toEqual([{ containerID: 0, hostID: 0, size: 1 }]);
    expect(config.linux.resources).toBeUndefined();
  });
});

/** Problems of a config that all must be reported at once: [what is broken, the path in the message]. */
const broken: [
  edit: (config: Record<string, never> & ReturnType<typeof JSON.parse>) => void,
  path: string,
][] = [
  [(c) => (c.linux.namespaces[2].type = "nett"), "linux.namespaces[2].type"],
  [(c) => (c.process.user.uid = -1), "process.user.uid"],
  [(c) => (c.process.user.gid = "0"), "process.user.gid"],
  [(c) => (c.mounts[1].destination = 7), "mounts[1].destination"],
  [(c) => (c.process.args = []), "process.args"],
  [(c) => (c.process.cwd = "relative"), "process.cwd"],
  [(c) => (c.root.readonly = "yes"), "root.readonly"],
  [(c) => (c.hooks = { createRuntime: [{ path: "relative" }] }), "hooks.createRuntime[0].path"],
];

buncDescribe("validate", () => {
  test("a good bundle: exit 0, nothing is made", async () => {
    const container = rig.container();
    const result = (await rig.call(["validate", "--bundle", container.bundle], { root: null })).ok();
    expect(result.stderr).toBe("");
    expect((await rig.call(["validate"], { root: null, cwd: container.bundle })).code).toBe(0);
    expect(entries(container.bundle)).toEqual(["config.json", "rootfs"]);
  });

  test("a bad one: exit 1 and every problem with its path", async () => {
    const container = rig.container();
    const config = JSON.parse(configText(container.config));
    for (const [edit] of broken) edit(config);
    writeFileSync(container.path("config.json"), JSON.stringify(config));
    const result = await rig.call(["validate", "--bundle", container.bundle], { root: null });
    expect(result.code).toBe(1);
    for (const [, path] of broken) expect(result.stdout + result.stderr).toContain(path);
    const run = await rig.call(["run", "--bundle", container.bundle, container.id]);
    expect(run.code).toBe(1);
    for (const [, path] of broken) expect(run.stderr).toContain(path);
    expect(run.stderr.trim().split("\n").length).toBe(1);
    expect(rig.states()).toEqual([]);
  });

  test("Go's habits are legal: null for what is optional, unknown fields, integers up to 2^64-1", async () => {
    const container = rig.container((config) => {
      Object.assign(config, {
        annotations: null,
        hooks: null,
        unknownField: { a: [1] },
        windows: { anything: true },
      });
      Object.assign(config.process, {
        rlimits: null,
        oomScoreAdj: null,
        scheduler: null,
        consoleSize: null,
        selinuxLabel: "",
      });
      Object.assign(config.linux, {
        devices: null,
        seccomp: null,
        sysctl: null,
        uidMappings: null,
        timeOffsets: null,
      });
      config.mounts[0]!.options = null as unknown as string[];
      config.process.args = ["echo", "ran"];
    });
    expect((await container.run()).ok().stdout).toBe("ran\n");
    container.config.process.rlimits = [{ type: "RLIMIT_CORE", soft: 0, hard: 18446744073709551615n }];
    (await container.run()).ok();
    (await rig.call(["validate", "--bundle", container.bundle], { root: null })).ok();
  });
});

buncDescribe("explain", () => {
  test("prints every call, grouped, with the place in the config, and runs none", async () => {
    const container = rig.container((config) => {
      config.mounts.push({ destination: "/mnt", type: "tmpfs", source: "tmpfs", options: ["size=64k"] });
      config.hostname = "explained";
    });
    const result = (await rig.call(["explain", "--bundle", container.bundle], { root: null })).ok();
    for (const words of ["mounts[7]", "hostname", "explained", "/mnt", "size=64k", "process.args"]) {
      expect(result.stdout).toContain(words);
    }
    expect(result.stdout).toMatch(/pivot_root|move_mount/);
    expect(entries(container.bundle)).toEqual(["config.json", "rootfs"]);
    expect(container.cgroupDirectories()).toEqual([]);
    const same = (await rig.call(["explain"], { root: null, cwd: container.bundle })).ok();
    expect(same.stdout).toBe(result.stdout);
  });

  test("--json is the same as data; no root is needed", async () => {
    const container = rig.container();
    chmodSync(container.path("config.json"), 0o644);
    const options = {
      root: null,
      wrap: ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
      env: { XDG_RUNTIME_DIR: "" },
    };
    const plain = (await rig.call(["explain", "--bundle", container.bundle], options)).ok();
    expect(plain.stdout).toContain("mounts[0]");
    const json = (await rig.call(["explain", "--json", "--bundle", container.bundle], options)).ok();
    const parsed: unknown = JSON.parse(json.stdout);
    expect(typeof parsed).toBe("object");
    expect(json.stdout).toContain("mounts[0]");
  });

  test("of a broken bundle is the list of its problems", async () => {
    const container = rig.container((config) => {
      config.process.cwd = "relative";
    });
    const result = await rig.call(["explain", "--bundle", container.bundle], { root: null });
    expect(result.code).toBe(1);
    expect(result.stdout + result.stderr).toContain("process.cwd");
  });

  test("exec shows what exec would do, with the option or file that each call comes from", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.detach();
    const explain = async (...args: string[]) => (await rig.call(["explain", "exec", ...args])).ok().stdout;
    const text = await explain("--user", "5:6", "--cwd", "/bin", container.id, "sh", "-c", "echo x");
    expect(text).toMatch(/--user +setresuid\(5, 5, 5\)/);
    expect(text).toMatch(/--cwd +chdir\("\/bin"\)/);
    expect(text).toMatch(/command +execve\(.*\["sh", "-c", "echo x"\]/);
    expect(text).toMatch(/process\.capabilities +capset/);
    expect(text).toContain("parent: namespaces");
    const file = container.path("process.json");
    writeFileSync(file, JSON.stringify({ ...container.config.process, args: ["id"] }));
    expect(await explain("--process", file, container.id)).toContain(`${file}: args  execve(`);
    // Nothing was started, and what is shown is what is executed.
    expect((await rig.call(["ps", "-f", "json", container.id])).ok().stdout.split(",")).toHaveLength(1);
    const json = (await rig.call(["explain", "--json", "exec", container.id, "true"])).ok().stdout;
    const parts: { side: string; ops: { index: number; call: string; origin?: string }[] }[] =
      JSON.parse(json);
    const told = parts.filter(({ side }) => side === "init").flatMap(({ ops }) => ops);
    expect(told.at(-1)).toMatchObject({ call: "execve", origin: "command" });
    const trace = container.path("trace.json");
    (await rig.call(["exec", "--trace", trace, container.id, "true"])).ok();
    const { traceEvents } = JSON.parse(readFileSync(trace, "utf8"));
    const { pid } = traceEvents.findLast(({ name }: { name: string }) => name === "process_name");
    const done = traceEvents.filter(
      (event: { pid: number; cat: string }) => event.pid === pid && event.cat === "op",
    );
    expect(done.map(({ name }: { name: string }) => name)).toEqual(told.map(({ call }) => call));
    (await container.remove("--force")).ok();
    const gone = await rig.call(["explain", "exec", container.id, "true"]);
    expect([gone.code, gone.stderr]).toEqual([1, expect.stringContaining("container does not exist")]);
  });
});
