// The words callers match, exactly; every failed command leaves nothing.
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { buncTest, host, isBunc } from "../rig/runtime.ts";

const rig = useRig();

/** Runs a command that must fail with 1, say `words`, and leave no state, cgroup or process. */
async function fails(
  container: Container,
  words: string | RegExp,
  flags: string[] = [],
  command: "run" | "create" = "run",
) {
  const result = await container.start(command, flags);
  // A logrus line on standard error has its quotes escaped.
  expect([result.code, result.stderr.replaceAll('\\"', '"')]).toEqual([1, expect.stringMatching(words)]);
  expect(result.stderr).toContain(`runc ${command} failed: `);
  expect(rig.states()).toEqual([]);
  expect(container.cgroupDirectories()).toEqual([]);
  expect(rig.leaks()).toEqual([]);
  return result;
}

/** A string that is matched as it stands. */
const literally = (text: string): RegExp => new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

describe("commands", () => {
  test("on a container that does not exist", async () => {
    for (const command of ["state", "start", "kill", "delete"]) {
      const result = await rig.call([command, "no-such-container"]);
      expect([command, result.code, result.stdout]).toEqual([command, 1, ""]);
      expect(result.stderr).toContain("container does not exist");
    }
    (await rig.call(["delete", "--force", "no-such-container"])).ok();
    mkdirSync(join(rig.scratch.root, "stale"));
    (await rig.call(["delete", "--force", "stale"])).ok();
    expect(rig.states()).toEqual([]);
  });

  test("with the wrong number of arguments: usage on standard output, one line on standard error", async () => {
    for (const [args, words] of [
      [["state"], '"state" requires exactly 1 argument(s)'],
      [["start", "a", "b"], '"start" requires exactly 1 argument(s)'],
      [["create"], '"create" requires exactly 1 argument(s)'],
      [["run"], '"run" requires exactly 1 argument(s)'],
      [["delete"], '"delete" requires exactly 1 argument(s)'],
      [["list", "a"], '"list" requires exactly 0 argument(s)'],
      [["kill"], '"kill" requires a minimum of 1 argument(s)'],
      [["kill", "a", "TERM", "b"], '"kill" requires a maximum of 2 argument(s)'],
    ] as const) {
      const result = await rig.call([...args]);
      expect([args, result.code]).toEqual([args, 1]);
      expect(result.stdout).toStartWith("Incorrect Usage.\n\n");
      expect(result.stderr.replaceAll('\\"', '"')).toContain(words);
      expect(result.stderr.trim().split("\n").length).toBe(1);
    }
    expect((await rig.call(["no-such-command"])).code).toBe(3);
    const flag = await rig.call(["state", "--no-such-flag", "a"]);
    expect(flag.code).not.toBe(0);
    expect(flag.stdout + flag.stderr).toContain("no-such-flag");
  });

  test("with a container id that is not one", async () => {
    const container = rig.container();
    for (const id of ["a/b", "..", ".", "a b", "ü", "a\tb", "*"]) {
      const result = await rig.call(["create", "--bundle", container.bundle, id]);
      expect([id, result.code, result.stderr]).toEqual([
        id,
        1,
        expect.stringContaining("invalid container ID format"),
      ]);
    }
    const empty = await rig.call(["create", "--bundle", container.bundle, ""]);
    expect(empty.stderr).toContain("container id cannot be empty");
    expect(rig.states()).toEqual([]);
    container.config.process.args = ["true"];
    const odd = rig.unique().replaceAll("-", "_+.-");
    container.write();
    (await rig.call(["run", "--bundle", container.bundle, odd])).ok();
  });

  buncTest("--root may not be /", async () => {
    const result = await rig.call(["list"], { root: "/" });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("Option --root argument should not be set to /");
  });

  test("start and delete in the wrong state, and an id that is taken", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await container.create();
    const taken = await container.start("create");
    expect(taken.code).toBe(1);
    expect(taken.stderr).toContain("container with given ID already exists");
    (await container.call("start")).ok();
    const again = await container.call("start");
    expect([again.code, again.stderr]).toEqual([
      1,
      expect.stringContaining("cannot start an already running container"),
    ]);
    const running = await container.call("delete");
    expect(running.code).toBe(1);
    expect(running.stderr).toContain(`cannot delete container ${container.id} that is not stopped: running`);
    expect((await container.state()).status).toBe("running");
  });
});

describe("bundles", () => {
  test("without a directory, without config.json, with a config that is not JSON", async () => {
    const container = rig.container();
    const absent = await rig.call(["run", "--bundle", "/no/such/bundle", container.id]);
    expect(absent.code).toBe(1);
    expect(absent.stderr).toContain("/no/such/bundle");
    expect(absent.stderr).toContain("no such file or directory");
    rmSync(container.path("config.json"));
    const without = await rig.call(["run", "--bundle", container.bundle, container.id]);
    expect(without.code).toBe(1);
    expect(without.stderr).toContain("JSON specification file config.json not found");
    // runc 1.1 crashes on null.
    const more = isBunc ? ["null", "{}", "[".repeat(100_000)] : [];
    for (const text of ["", "{", "[]", '"x"', '{"ociVersion":"1.0.2"', "{\u0000}", ...more]) {
      writeFileSync(container.path("config.json"), text);
      const result = await rig.call(["run", "--bundle", container.bundle, container.id]);
      expect([text, result.code]).toEqual([text, 1]);
      expect(result.stderr.trim().split("\n").length).toBe(1);
    }
    expect(rig.states()).toEqual([]);
  });

  const cases: [name: string, words: string, edit: (config: Config) => void][] = [
    ["no process", "process property must not be empty", (c) => Object.assign(c, { process: undefined })],
    ["a relative cwd", "Cwd must be an absolute path", (c) => Object.assign(c.process, { cwd: "tmp" })],
    ["no cwd", "Cwd property must not be empty", (c) => Object.assign(c.process, { cwd: "" })],
    ["no args", "args must not be empty", (c) => Object.assign(c.process, { args: [] })],
    [
      "a hostname in the host's UTS namespace",
      "unable to set hostname without a private UTS namespace",
      (c) => c.linux.namespaces.splice(3, 1),
    ],
    ["two namespaces of a type", "duplicated ns", (c) => c.linux.namespaces.push({ type: "ipc" })],
    [
      "a sysctl of no namespace",
      'sysctl "vm.swappiness" is not in a separate kernel namespace',
      (c) => Object.assign(c.linux, { sysctl: { "vm.swappiness": "1" } }),
    ],
    [
      "a net sysctl in the host's network namespace",
      "not allowed in host network namespace",
      (c) => {
        c.linux.namespaces = c.linux.namespaces.filter(({ type }) => type !== "network");
        c.linux.sysctl = { "net.ipv4.ip_forward": "1" };
      },
    ],
    [
      "a rootfs that is not there",
      "no such file or directory",
      (c) => Object.assign(c.root, { path: "absent" }),
    ],
    [
      "an unknown rlimit",
      "RLIMIT_NOSUCH",
      (c) => Object.assign(c.process, { rlimits: [{ type: "RLIMIT_NOSUCH", hard: 1, soft: 1 }] }),
    ],
    [
      "an unknown rootfsPropagation",
      isBunc ? "linux.rootfsPropagation" : "rootfsPropagation=sideways is not supported",
      (c) => Object.assign(c.linux, { rootfsPropagation: "sideways" }),
    ],
  ];
  const newer: typeof cases = [
    [
      "uid mappings without a user namespace",
      "user namespace mappings specified, but user namespace isn't enabled in the config",
      (c) => Object.assign(c.linux, { uidMappings: [{ containerID: 0, hostID: 0, size: 1 }] }),
    ],
    [
      "a user namespace without mappings",
      "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
      (c) => c.linux.namespaces.push({ type: "user" }),
    ],
    [
      "a domainname in the host's UTS namespace",
      "unable to set domainname without a private UTS namespace",
      (c) => {
        c.linux.namespaces.splice(3, 1);
        Object.assign(c, { hostname: undefined, domainname: "example.org" });
      },
    ],
    [
      "time offsets without a time namespace",
      "time namespace offsets specified, but time namespace isn't enabled in the config",
      (c) => Object.assign(c.linux, { timeOffsets: { monotonic: { secs: 1 } } }),
    ],
    [
      "a kernel.hostname sysctl",
      'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
      (c) => Object.assign(c.linux, { sysctl: { "kernel.hostname": "x" } }),
    ],
    ["no root", "root must be specified", (c) => Object.assign(c, { root: undefined })],
  ];
  test.each(isBunc ? [...cases, ...newer] : cases)("with %s", async (_, words, edit) => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      edit(config);
    });
    const error = await fails(container, literally(words));
    if (isBunc) expect(error.stderr).toMatch(/\b(process|linux|root|hostname|domainname)\b/); // the place in config.json
  });

  test("a terminal without, and a console socket with no use for it", async () => {
    const container = rig.container((config) => {
      config.process.terminal = true;
      config.process.args = ["true"];
    });
    const words = "cannot allocate tty if runc will detach without setting console socket";
    await fails(container, literally(words), ["--detach"]);
    await fails(container, literally(words), [], "create");
    const unused = literally("cannot use console socket if runc will not detach or allocate tty");
    await fails(container, unused, ["--console-socket", "/tmp/x"]);
    container.config.process.terminal = false;
    await fails(container, unused, ["--console-socket", "/tmp/x"], "create");
    container.config.process.terminal = true;
    await fails(container, /no such file or directory/, ["--console-socket", "/no/socket"], "create");
  });

  test("in a cgroup that has processes", async () => {
    const first = rig.container((config) => {
      config.process.args = ["sleep", "60"];
    });
    await first.create();
    const second = rig.container((config) => {
      config.linux.cgroupsPath = first.config.linux.cgroupsPath;
    });
    const result = await second.start("create");
    // runc 1.1 warns, later ones refuse.
    if (isBunc) expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/cgroup is not empty: 1 process\(es\) found/);
    expect((await first.state()).status).toBe("created");
    await second.remove("--force");
  });
});

describe("programs that cannot be executed", () => {
  test("are reported by create and by run in Go's words", async () => {
    const container = rig.container((config, { rootfs }) => {
      writeFileSync(join(rootfs, "etc/not-executable"), "#!/bin/sh\n");
      mkdirSync(join(rootfs, "bin/a-directory"));
      config.process.user = { uid: 1000, gid: 1000 };
    });
    for (const [program, words] of [
      ["no-such-program", 'exec: "no-such-program": executable file not found in $PATH'],
      ["a-directory", 'exec: "a-directory": executable file not found in $PATH'],
      ["/no/such/program", 'exec: "/no/such/program": stat /no/such/program: no such file or directory'],
      ["./absent", 'exec: "./absent": stat ./absent: no such file or directory'],
      ["/etc/not-executable", 'exec: "/etc/not-executable": permission denied'],
      ["/bin/a-directory", isBunc ? 'exec: "/bin/a-directory": is a directory' : "permission denied"],
      ["/etc/passwd/x", 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'],
    ] as const) {
      container.config.process.args = [program];
      for (const command of ["create", "run"] as const) {
        const result = await container.start(command);
        expect([program, command, result.code]).toEqual([program, command, 1]);
        expect(result.stderr.replaceAll('\\"', '"')).toContain(words);
        expect(rig.states()).toEqual([]);
      }
    }
  });

  test("with an empty PATH, and with one that names the program's directory", async () => {
    const container = rig.container((config, { rootfs }) => {
      config.process.args = ["hello"];
      writeFileSync(join(rootfs, "opt/hello"), "#!/bin/sh\necho hello\n", { mode: 0o755 });
      config.process.env = ["PATH=/usr/bin:/opt"];
    });
    expect((await container.run()).ok().stdout).toBe("hello\n");
    container.config.process.env = [];
    await fails(container, /executable file not found in \$PATH/);
    container.config.process.env = ["PATH="];
    await fails(container, /executable file not found in \$PATH/);
  });

  buncTest("a file the kernel refuses is reported by start, and by run", async () => {
    const container = rig.container((config, { rootfs }) => {
      writeFileSync(join(rootfs, "script"), "#!/no/interpreter\n", { mode: 0o755 });
      writeFileSync(join(rootfs, "garbage"), "\u007fELF nonsense", { mode: 0o755 });
      chmodSync(join(rootfs, "script"), 0o755);
      config.process.args = ["/script"];
    });
    for (const [program, words] of [
      ["/script", "exec /script: no such file or directory"],
      ["/garbage", "exec /garbage: exec format error"],
    ] as const) {
      container.config.process.args = [program];
      // `run` ends as if the program had said it; a log has the particulars.
      const log = container.path("log");
      rmSync(log, { force: true });
      for (const global of [[], ["--log", log]]) {
        const { code, stdout, stderr } = await container.run([], { global });
        expect([code, stdout, stderr]).toEqual([255, "", `${words}\n`]);
        expect(rig.states()).toEqual([]);
      }
      expect(readFileSync(log, "utf8")).toMatch(/level=error msg="exec \/.*at process\.args; execve: E/);
      await container.create();
      const result = await container.call("start");
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(words)]);
      expect(await container.waitFor("stopped")).toMatchObject({ pid: 0 });
      (await container.call("delete")).ok();
    }
  });
});

describe.skipIf(!host.cgroups.has("memory"))("a memory limit that is too low to start", () => {
  buncTest("is named as the cause", async () => {
    const container = rig.container((config) => {
      config.process.args = ["true"];
      config.linux.resources!.memory = { limit: 4096 };
    });
    await fails(container, /OOM|memory limit/i);
  });
});
