// bunc under Debian's podman (4.3) and buildah (1.28).
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, resizeSeen, well } from "../rig/client.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { IMAGE, Podman } from "./podman.rig.ts";

const rig = useRig();

/** Nothing of any container. */
async function expectNothing(podman: Podman): Promise<void> {
  await eventually("nothing is mounted", () => podman.mounts().length === 0);
  expect(podman.states()).toEqual([]);
}

buncDescribe("podman", () => {
  test("runs: streams, exit codes, terminal, users, mounts, what cannot be run", async () => {
    const podman = await Podman.start(rig);
    const flags = ["--network", "none", "--cgroup-parent", podman.parent];
    const run = (...args: string[]) => podman.run("run", "--rm", ...flags, ...args);
    expect(await run(IMAGE, "sh", "-c", "echo out; echo err >&2; exit 9")).toEqual({
      code: 9,
      stdout: "out\n",
      stderr: "err\n",
    });
    const cat = await podman.with(
      { stdin: "typed\n" },
      "podman",
      "run",
      "--rm",
      "-i",
      ...flags,
      IMAGE,
      "cat",
    );
    expect(cat).toEqual({ code: 0, stdout: "typed\n", stderr: "" });
    const missing = await run(IMAGE, "/nowhere");
    expect(missing.code).toBe(127);
    expect(missing.stderr).toContain("no such file or directory");
    const forbidden = await run(IMAGE, "/etc/passwd");
    expect(forbidden.code).toBe(126);
    expect(forbidden.stderr).toContain("permission denied");

    const dir = rig.directory();
    writeFileSync(join(dir, "file"), "of the host\n");
    const strict = ["--read-only", "--cap-drop", "all", "--user", "1000:5", "--hostname", "name"];
    const script =
      "cat /v/file; id -u; id -g; echo x > /tmp/x && cat /tmp/x; (echo > /x) 2>&1; hostname; exit 3";
    const said = await run(...strict, "-v", `${dir}:/v:ro`, IMAGE, "sh", "-c", script);
    expect(said.stdout).toBe("of the host\n1000\n5\nx\nsh: can't create /x: Read-only file system\nname\n");
    expect(said.code).toBe(3);

    const pty = podman.terminal("podman", "run", "--rm", "-it", ...flags, IMAGE, "sh");
    await pty.until("/ # ");
    await resizeSeen(pty);
    pty.type("tty; exit 4\n");
    await pty.until("/dev/pts/0");
    expect(await pty.exited()).toBe(4);
    await expectNothing(podman);
  });

  test("exec, attach, pause, stats, top, update, logs, stop, start, kill", async () => {
    const podman = await Podman.start(rig);
    const flags = ["--network", "none", "--cgroup-parent", podman.parent];
    const script = "trap 'echo ending; exit 17' TERM; echo begun; while true; do sleep 0.05; done";
    const run = ["run", "-d", "--name", "one", ...flags, "-m", "64m"];
    const id = await podman.ok(...run, IMAGE, "sh", "-c", script);
    expect(podman.states()).toEqual([id]);
    expect(await podman.run("exec", "one", "sh", "-c", "hostname; exit 3")).toMatchObject({
      code: 3,
      stdout: `${id.slice(0, 12)}\n`,
    });
    const missing = await podman.run("exec", "one", "/nowhere");
    expect(missing.code).toBe(127);
    expect(missing.stderr).toContain("no such file or directory");
    const pty = podman.terminal("podman", "exec", "-it", "-e", "X=y", "one", "sh");
    await pty.until("/ # ");
    pty.type("echo $X; exit 6\n");
    await pty.until("\r\ny\r\n");
    expect(await pty.exited()).toBe(6);

    await podman.ok("pause", "one");
    expect(await podman.ok("ps", "-a", "--format", "{{.Status}}")).toMatch(/paused/i);
    await podman.ok("unpause", "one");
    const stats = await podman.ok("stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "one");
    expect(stats).toMatch(/^[1-9]\d* [\d.]+[kM]B \/ 67\.11MB$/);
    expect(await podman.ok("top", "one", "args")).toContain("trap");
    await podman.ok("update", "--cpu-shares", "333", "one");
    const shares = "cd /sys/fs/cgroup; cat cpu/cpu.shares || cat cpu.weight";
    expect(["333", "13"]).toContain(await podman.ok("exec", "one", "sh", "-c", shares));

    const attached = podman.terminal("podman", "attach", "--no-stdin", "one");
    await Bun.sleep(500);
    await podman.ok("stop", "-t", "10", "one");
    await attached.until("ending");
    await attached.exited();
    const state = () => podman.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one");
    expect(await state()).toBe("exited 17");
    expect(await podman.ok("logs", "one")).toBe("begun\nending");
    await podman.ok("start", "one");
    expect(await state()).toBe("running 0");
    await podman.ok("kill", "-s", "KILL", "one");
    expect(await podman.ok("wait", "one")).toBe("137");
    await podman.ok("rm", "one");
    await expectNothing(podman);
  });

  test("published ports, restart policies, out of memory, and a pod with shared namespaces", async () => {
    const podman = await Podman.start(rig);
    const flags = ["--cgroup-parent", podman.parent];
    const page = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    const web = ["run", "-d", "--name", "web", "--hostname", "web", "-p", "8080:80", ...flags];
    await podman.ok(...web, IMAGE, "sh", "-c", page);
    const get = async (...before: string[]) =>
      (await podman.with({}, ...before, "busybox", "wget", "-qO-", "http://127.0.0.1:8080/index.html"))
        .stdout;
    await eventually("the page comes", async () => (await get()) === "web\n");

    const alone = ["--network", "none", ...flags];
    const again = ["run", "-d", "--name", "again", "--restart", "on-failure:2", ...alone, IMAGE];
    await podman.ok(...again, "sh", "-c", "echo again; exit 1");
    const logs = () => podman.ok("logs", "again");
    await eventually("it is started three times", async () => (await logs()) === "again\nagain\nagain");

    const eats = ["run", "--name", "eats", ...alone, "-m", "16m", "--memory-swap", "16m", IMAGE];
    expect((await podman.run(...eats, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M")).code).toBe(137);

    const infra = [
      "--infra-image",
      IMAGE,
      "--infra-command",
      "/bin/sleep 1000",
      "--share",
      "net,ipc,uts,pid",
    ];
    await podman.ok("pod", "create", "--name", "pod", "--hostname", "shared", ...infra, ...flags);
    const serve = "echo inside > /tmp/index.html; exec httpd -f -p 8081 -h /tmp";
    await podman.ok("run", "-d", "--name", "first", "--pod", "pod", IMAGE, "sh", "-c", serve);
    const second = ["run", "--rm", "--pod", "pod", IMAGE, "sh", "-c"];
    const look = "hostname; wget -qO- http://127.0.0.1:8081/index.html; ps";
    expect(await podman.ok(...second, look)).toMatch(/^shared\ninside\n[\s\S]*sleep 1000[\s\S]*httpd -f/);
    const spaces = "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done";
    expect(await podman.ok("exec", "first", "sh", "-c", spaces)).toBe(await podman.ok(...second, spaces));
    await podman.ok("pod", "pause", "pod");
    await podman.ok("pod", "unpause", "pod");
    await podman.ok("pod", "stop", "-t", "0", "pod");
    await podman.ok("pod", "rm", "pod");
    await podman.ok("rm", "-f", "-t", "0", "web", "again", "eats");
    await expectNothing(podman);
  });
});

buncDescribe("builds", () => {
  test("by podman and by buildah", async () => {
    const podman = await Podman.start(rig);
    const dir = rig.directory();
    writeFileSync(join(dir, "word"), "word\n");
    const steps = "cat /word > /made && echo $A >> /made && id -u >> /made";
    const build = (last: string) => {
      writeFileSync(
        join(dir, "Dockerfile"),
        `FROM ${IMAGE}\nCOPY word /word\nENV A=b\nRUN ${steps}\nRUN ${last}\n`,
      );
      // What buildah runs is in the "parent" itself.
      const flags = ["--network", "none", "--isolation", "oci", "--cgroup-parent", `${podman.parent}-build`];
      return podman.run("build", ...flags, "-t", "made", dir);
    };
    well(await build("test -s /made"));
    const run = ["run", "--rm", "--network", "none", "--cgroup-parent", podman.parent];
    expect(await podman.ok(...run, "made", "cat", "/made")).toBe("word\nb\n0");
    const refused = await build("echo sad; exit 3");
    expect(refused.code).not.toBe(0);
    expect(refused.stdout).toContain("sad");
    expect(refused.stderr).toContain("exit status 3");

    const buildah = async (...args: string[]) => well(await podman.with({}, "buildah", ...args)).trimEnd();
    const work = await buildah("from", "--cgroup-parent", `${podman.parent}-build`, IMAGE);
    const flags = ["--isolation", "oci", "--network", "none"];
    expect(await buildah("run", ...flags, work, "sh", "-c", "echo built > /built; hostname")).not.toBe("");
    const failed = await podman.with({}, "buildah", "run", ...flags, work, "sh", "-c", "exit 5");
    expect(failed.code).toBe(5);
    await buildah("commit", work, "second");
    await buildah("rm", work);
    expect(await podman.ok(...run, "second", "cat", "/built")).toBe("built");
    await expectNothing(podman);
  });
});
