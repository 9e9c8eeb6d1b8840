// bunc under Debian's dockerd (20.10) and its client: as a runtime that containerd's own shim calls, and as the shim.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, resizeSeen } from "../rig/client.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, runtime } from "../rig/runtime.ts";
import { Docker, IMAGE } from "./docker.rig.ts";

const rig = useRig();

/** How dockerd is given bunc. */
const WAYS = [
  { way: "as a runtime of daemon.json", links: [], flags: ["--default-runtime", "bunc"] },
  { way: "as the shim", links: ["containerd-shim-runc-v2"], flags: [] },
];

for (const { way, links, flags } of WAYS) {
  const start = () => Docker.start(rig, { links }, flags);

  /** Who serves a container: containerd's shim, which calls bunc, or bunc's. */
  async function expectServed(docker: Docker, id: string): Promise<void> {
    const [shim, ...others] = docker.containerd.shims();
    expect(others).toEqual([]);
    const exe = readlinkSync(`/proc/${shim}/exe`);
    const called = await docker.ok("inspect", "-f", "{{.HostConfig.Runtime}}", id);
    if (links.length === 0) expect([called, exe]).toEqual(["bunc", "/usr/bin/containerd-shim-runc-v2"]);
    // Asleep it is bunc-init, from a memfd.
    else expect(exe === runtime || exe.startsWith("/memfd:")).toBe(true);
  }

  buncDescribe(`docker with bunc ${way}`, () => {
    test("runs: streams, exit codes, terminal, users, mounts, what cannot be run", async () => {
      const docker = await start();
      const run = (...args: string[]) => docker.run("run", "--rm", ...args);
      expect(await run(IMAGE, "sh", "-c", "echo out; echo err >&2; exit 9")).toEqual({
        code: 9,
        stdout: "out\n",
        stderr: "err\n",
      });
      const cat = await docker.with({ stdin: "typed\n" }, "run", "--rm", "-i", IMAGE, "cat");
      expect(cat).toEqual({ code: 0, stdout: "typed\n", stderr: "" });
      const missing = await run(IMAGE, "/nowhere");
      expect(missing.code).toBe(127);
      expect(missing.stderr).toContain('exec: "/nowhere": stat /nowhere: no such file or directory');
      const forbidden = await run(IMAGE, "/etc/passwd");
      expect(forbidden.code).toBe(126);
      expect(forbidden.stderr).toContain("permission denied");

      const dir = rig.directory();
      writeFileSync(join(dir, "file"), "of the host\n");
      const strict = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--user", "1000:5", "--init"];
      const script =
        "cat /v/file; id -u; id -g; echo x > /tmp/x && cat /tmp/x; (echo > /x) 2>&1; hostname; exit 3";
      const said = await run(
        ...strict,
        "-v",
        `${dir}:/v:ro`,
        "--hostname",
        "name",
        IMAGE,
        "sh",
        "-c",
        script,
      );
      expect(said.stdout).toBe("of the host\n1000\n5\nx\nsh: can't create /x: Read-only file system\nname\n");
      expect(said.code).toBe(3);

      const pty = docker.terminal("run", "--rm", "-it", IMAGE, "sh");
      await pty.until("/ # ");
      await resizeSeen(pty);
      pty.type("tty; exit 4\n");
      await pty.until("/dev/pts/0");
      expect(await pty.exited()).toBe(4);
    });

    test("exec, pause, stats, top, update, logs, stop, start, kill", async () => {
      const docker = await start();
      const script = "trap 'echo ending; exit 17' TERM; echo begun; while true; do sleep 0.05; done";
      const id = await docker.ok("run", "-d", "--name", "one", "-m", "64m", IMAGE, "sh", "-c", script);
      await expectServed(docker, id);
      expect(await docker.run("exec", "one", "sh", "-c", "hostname; exit 3")).toMatchObject({
        code: 3,
        stdout: `${id.slice(0, 12)}\n`,
      });
      const missing = await docker.run("exec", "one", "/nowhere");
      expect([126, 127]).toContain(missing.code);
      expect(missing.stdout + missing.stderr).toContain("no such file or directory");
      const pty = docker.terminal("exec", "-it", "-e", "X=y", "one", "sh");
      await pty.until("/ # ");
      pty.type("echo $X; exit 6\n");
      await pty.until("\r\ny\r\n");
      expect(await pty.exited()).toBe(6);

      await docker.ok("pause", "one");
      expect(await docker.ok("ps", "--format", "{{.Status}}")).toContain("(Paused)");
      expect((await docker.run("exec", "one", "true")).stderr).toContain("is paused");
      await docker.ok("unpause", "one");

      const stats = (
        await docker.ok("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "one")
      ).split(" ");
      expect(Number(stats[0])).toBeGreaterThan(0);
      expect(stats.slice(2)).toEqual(["/", "64MiB"]);
      expect(stats[1]).toMatch(/^[\d.]+[KM]iB$/);
      expect(await docker.ok("top", "one")).toContain("trap");
      await docker.ok("update", "--pids-limit", "50", "--memory", "32m", "--memory-swap", "32m", "one");
      const limit = "cd /sys/fs/cgroup; cat pids.max || cat pids/pids.max";
      expect(await docker.ok("exec", "one", "sh", "-c", limit)).toBe("50");

      const attached = docker.run("attach", "--no-stdin", "one");
      await Bun.sleep(500);
      await docker.ok("stop", "-t", "10", "one");
      expect(await attached).toMatchObject({ code: 17, stdout: "ending\n" });
      const state = () => docker.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one");
      expect(await state()).toBe("exited 17");
      expect(await docker.ok("logs", "one")).toBe("begun\nending");
      await docker.ok("start", "one");
      expect(await state()).toBe("running 0");
      await docker.ok("restart", "-t", "10", "one");
      expect(await docker.ok("logs", "one")).toBe("begun\nending\nbegun\nending\nbegun");
      await docker.ok("kill", "-s", "KILL", "one");
      expect(await docker.ok("wait", "one")).toBe("137");
      await docker.ok("rm", "one");
      await docker.expectNothing();
    });

    test("published ports, shared networks, restart policies, out of memory, health, a daemon that comes back", async () => {
      const docker = await Docker.start(rig, { links }, [...flags, "--live-restore"]);
      const page = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
      await docker.ok(
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "--hostname",
        "web",
        IMAGE,
        "sh",
        "-c",
        page,
      );
      const get = async (url: string) => (await docker.inNetwork("busybox", "wget", "-qO-", url)).stdout;
      await eventually(
        "the page comes",
        async () => (await get("http://127.0.0.1:8080/index.html")) === "web\n",
      );
      const joined = ["run", "--rm", "--network", "container:web", "--pid", "container:web", IMAGE];
      expect(await docker.ok(...joined, "sh", "-c", "wget -qO- http://127.0.0.1/index.html; ps")).toMatch(
        /^web\n[\s\S]*1 root\s+httpd -f/,
      );

      const again = ["run", "-d", "--name", "again", "--restart", "on-failure:2", IMAGE];
      await docker.ok(...again, "sh", "-c", "echo again; exit 1");
      const count = () => docker.ok("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again");
      await eventually("it is started three times", async () => (await count()) === "2 exited");
      expect(await docker.ok("logs", "again")).toBe("again\nagain\nagain");

      await docker.ok("run", "-d", "--name", "always", "--restart", "always", IMAGE, "sleep", "1000");
      const pid = async () => Number(await docker.ok("inspect", "-f", "{{.State.Pid}}", "always"));
      const first = await pid();
      process.kill(first, "SIGKILL");
      await eventually("it is started again", async () => ![0, first].includes(await pid()));

      const eats = ["run", "--name", "eats", "-m", "16m", "--memory-swap", "16m", IMAGE];
      expect((await docker.run(...eats, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M")).code).toBe(137);
      const end = "{{.State.OOMKilled}} {{.State.ExitCode}}";
      expect(await docker.ok("inspect", "-f", end, "eats")).toBe("true 137");

      const health = ["--health-cmd", "test -e /tmp/well", "--health-interval", "300ms"];
      await docker.ok(
        "run",
        "-d",
        "--name",
        "ill",
        ...health,
        IMAGE,
        "sh",
        "-c",
        "touch /tmp/well; sleep 1000",
      );
      const healthy = async () =>
        (await docker.ok("inspect", "-f", "{{.State.Health.Status}}", "ill")) === "healthy";
      await eventually("it is healthy", healthy);

      const before = await pid();
      await docker.endDaemon();
      await docker.startDaemon([...flags, "--live-restore"]);
      expect(await pid()).toBe(before);
      expect(await docker.run("exec", "always", "sh", "-c", "echo here; exit 5")).toMatchObject({
        code: 5,
        stdout: "here\n",
      });
      await docker.ok("rm", "-f", "web", "again", "always", "eats", "ill");
      await docker.expectNothing();
    });
  });
}

/** Whether a process of bunc's has such a command line. */
function runs(command: RegExp): boolean {
  return readdirSync("/proc").some((pid) => {
    try {
      const exe = readlinkSync(`/proc/${pid}/exe`);
      return exe === runtime && command.test(readFileSync(`/proc/${pid}/cmdline`, "latin1"));
    } catch {
      return false;
    }
  });
}

buncDescribe("docker build", () => {
  test("with bunc as the default runtime, and as BuildKit's runc", async () => {
    const docker = await Docker.start(rig, { links: ["runc"] }, ["--default-runtime", "bunc"]);
    const dir = rig.directory();
    writeFileSync(join(dir, "word"), "word\n");
    const build = (kit: string, script: string, ...flags: string[]) => {
      writeFileSync(join(dir, "Dockerfile"), `FROM ${IMAGE}\nCOPY word /word\nENV A=b\nRUN ${script}\n`);
      const options = { env: { DOCKER_BUILDKIT: kit } };
      return docker.with(options, "build", "--no-cache", "--network", "none", ...flags, dir);
    };
    for (const kit of ["0", "1"]) {
      const script = "cat /word > /made && echo $A >> /made && id -u >> /made; sleep 0.5";
      const building = build(kit, script, "-t", `made:${kit}`);
      if (kit === "1") await eventually("BuildKit calls bunc", () => runs(/^runc\0.*\0run\0/));
      expect(await building).toMatchObject({ code: 0 });
      expect(await docker.ok("run", "--rm", `made:${kit}`, "cat", "/made")).toBe("word\nb\n0");
      const refused = await build(kit, "echo sad; exit 3");
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(/returned a non-zero code: 3|failed running .*: exit code: 3/);
    }
    await docker.expectNothing();
  });
});
