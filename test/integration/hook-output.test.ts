// run.oci.hooks.stdout and .stderr: files on the host that take what hooks write, wherever those run.
import { beforeEach, describe, expect } from "bun:test";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type Hook, hookKinds } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest as test } from "../rig/runtime.ts";

const rig = useRig();
let dir: string;

beforeEach(() => {
  dir = rig.directory();
});

const shell = (script: string): Hook => ({ path: "/bin/busybox", args: ["sh", "-c", script] });
const read = (name: string): string => readFileSync(join(dir, name), "utf8");

/** A container with a hook of each kind, that writes its name to both streams. */
function talking(files: { stdout?: string; stderr?: string }, args = ["true"]): Container {
  return rig.container((config) => {
    config.process.args = args;
    config.hooks = Object.fromEntries(
      hookKinds.map((kind) => [kind, [shell(`echo ${kind} out; echo ${kind} err >&2`)]]),
    );
    config.annotations = {};
    for (const [stream, file] of Object.entries(files)) config.annotations[`run.oci.hooks.${stream}`] = file;
  });
}

const lines = (stream: string): string => hookKinds.map((kind) => `${kind} ${stream}\n`).join("");

describe("hooks of all kinds", () => {
  test("append to them in create, start and delete; the container's own output goes elsewhere", async () => {
    writeFileSync(join(dir, "out"), "here before\n");
    const files = { stdout: join(dir, "out"), stderr: join(dir, "err") };
    const container = talking(files, ["sh", "-c", "echo program; exec sleep 60"]);
    const made = await container.create();
    expect(read("out")).toBe(`here before\n${lines("out").split("startContainer")[0]}`);
    (await container.call("start")).ok();
    expect(await made.until("program")).toBe("program\n");
    (await container.remove("--force")).ok();
    expect(read("out").slice("here before\n".length).split("\n").sort()).toEqual(
      lines("out").split("\n").sort(),
    );
    expect(read("err").split("\n").sort()).toEqual(lines("err").split("\n").sort());
  });
  test("append to them in run", async () => {
    const container = talking({ stdout: join(dir, "both"), stderr: join(dir, "both") });
    const { stdout, stderr } = (await container.run()).ok();
    expect([stdout, stderr]).toEqual(["", ""]);
    for (const kind of hookKinds) expect(read("both")).toContain(`${kind} out\n${kind} err\n`);
  });
});

test("a relative file is in the bundle, whatever the caller's directory is", async () => {
  const container = talking({ stdout: "hooks.log" }, ["sleep", "60"]);
  await container.create([], { cwd: dir });
  (await rig.call(["start", container.id], { cwd: dir })).ok();
  (await rig.call(["delete", "--force", container.id], { cwd: "/" })).ok();
  const said = readFileSync(container.path("hooks.log"), "utf8");
  expect(said.split("\n").sort()).toEqual(lines("out").split("\n").sort());
  expect(readdirSync(dir)).toEqual([]);
});

test("the error of a hook that fails says where its output is; also that of start", async () => {
  const container = talking({ stderr: join(dir, "err") });
  container.config.hooks = { createContainer: [shell("echo o; echo why >&2; exit 4")] };
  const failed = await container.run();
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain(
    "error running createContainer hook #0: exit status 4, stdout: o, stderr: ",
  );
  expect(failed.stderr).toContain(`its stderr is in ${join(dir, "err")}`);
  expect(read("err")).toBe("why\n");
  container.config.hooks = { startContainer: [shell("echo late >&2; exit 5")] };
  await container.create();
  const start = await container.call("start");
  expect(start.code).toBe(1);
  expect(start.stderr).toContain("error running startContainer hook #0: exit status 5");
  expect(start.stderr).toContain(`its stderr is in ${join(dir, "err")}`);
  expect(read("err")).toBe("why\nlate\n");
});

describe("a file that cannot be opened", () => {
  test("is refused before anything is made, and no hook runs", async () => {
    mkdirSync(join(dir, "directory"));
    symlinkSync("loop", join(dir, "loop"));
    const cases: [string, string][] = [
      [join(dir, "no/such"), "no such file or directory"],
      [join(dir, "directory"), "is a directory"],
      [join(dir, "loop"), "too many levels of symbolic links"],
      ["", "no such file or directory"],
    ];
    for (const [file, words] of cases) {
      for (const stream of ["stdout", "stderr"] as const) {
        const container = talking({ [stream]: file });
        container.config.hooks!.createRuntime = [shell(`touch ${dir}/ran`)];
        const refused = await container.create().catch((error: Error) => error.message);
        expect(refused).toContain(words);
        expect(refused).toContain(`annotations[`);
        expect(refused).toContain(`run.oci.hooks.${stream}`);
        expect([rig.states(), container.cgroupDirectories()]).toEqual([[], []]);
      }
    }
    expect(existsSync(join(dir, "ran"))).toBe(false);
    const nul = talking({ stdout: "/tmp/a\0b" });
    const refused = await nul.run();
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("NUL")]);
  });
  test("matters to bundles with hooks only", async () => {
    const container = talking({ stdout: "/no/such/file" });
    for (const hooks of [{}, { prestart: [] }]) {
      container.config.hooks = hooks;
      (await container.run()).ok();
    }
  });
  test("at delete is a warning, and the hook runs", async () => {
    const container = talking({ stdout: join(dir, "out") }, ["sleep", "60"]);
    container.config.hooks = { poststop: [shell(`touch ${dir}/ran`)] };
    await container.create();
    // The name is a directory's by now.
    unlinkSync(join(dir, "out"));
    mkdirSync(join(dir, "out"));
    const deleted = await container.remove("--force");
    expect(deleted.code).toBe(0);
    expect(deleted.stderr).toContain("is a directory");
    expect(existsSync(join(dir, "ran"))).toBe(true);
    expect(rig.states()).toEqual([]);
  });
});

test("the program does not have the files, nor has a hook any other of their descriptors", async () => {
  const container = rig.container((config) => {
    config.process.args = ["sh", "-c", "ls -l /proc/self/fd"];
    config.hooks = { startContainer: [shell("ls /proc/self/fd")] };
    config.annotations = {
      "run.oci.hooks.stdout": join(dir, "out"),
      "run.oci.hooks.stderr": join(dir, "err"),
    };
  });
  const { stdout } = (await container.run()).ok();
  expect(stdout).not.toContain(dir);
  // The last is that of ls for the directory.
  expect(read("out").trim().split("\n")).toEqual(["0", "1", "2", "3"]);
});

test("explain names the files", async () => {
  const container = talking({ stdout: "out.log", stderr: "/var/log/err" });
  const { stdout } = (await rig.call(["explain", "--bundle", container.bundle])).ok();
  expect(stdout).toContain(`what hooks write to stdout is appended to ${container.path("out.log")}`);
  expect(stdout).toContain("stdout to @hook-stdout, stderr to @hook-stderr");
  expect(stdout).toContain(
    'openat(AT_FDCWD, "/var/log/err", O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0600) -> $hook_stderr',
  );
  expect(existsSync(container.path("out.log"))).toBe(false);
});
