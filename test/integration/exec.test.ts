// `exec`: what the process sees in the container, what its caller sees, and what fails.
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import type { Container } from "../rig/container.ts";
import { useRig } from "../rig/rig.ts";
import { ok, present, SLEEP, useTakeover } from "./takeover.rig.ts";

const rig = useRig();

async function running(): Promise<Container> {
  const container = rig.container((config) => {
    config.process.args = ["sleep", "60"];
  });
  await container.detach();
  return container;
}

const exec = (container: Container, ...args: string[]) => {
  const command = args.indexOf("--");
  return rig.call(["exec", ...args.slice(0, command), container.id, ...args.slice(command + 1)]);
};

describe("a process in a container", () => {
  test("is in its namespaces and cgroups, with its environment and capabilities", async () => {
    const container = await running();
    const { pid } = await container.state();
    const script =
      "cat /proc/self/cgroup; readlink /proc/self/ns/mnt; readlink /proc/self/ns/pid; echo $PATH:$HOME; pwd; hostname";
    const { stdout } = (await exec(container, "--", "sh", "-c", script)).ok();
    for (const line of readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().split("\n")) {
      expect(stdout).toContain(`${line.split(":")[1]}:`);
    }
    const status = (await exec(container, "--", "cat", "/proc/self/status")).ok().stdout;
    const ofInit = readFileSync(`/proc/${pid}/status`, "utf8");
    for (const field of ["CapBnd", "CapEff", "CapPrm", "NoNewPrivs", "Seccomp"]) {
      const line = new RegExp(`^${field}:.*$`, "m");
      expect(line.exec(status)![0]).toBe(line.exec(ofInit)![0]);
    }
    const inner = (await exec(container, "--", "readlink", "/proc/1/ns/mnt")).ok().stdout;
    expect(stdout).toContain(inner.trim());
  });

  test("has nothing open but its streams, and only processes of the container in sight", async () => {
    const container = await running();
    const { stdout } = (await exec(container, "--", "sh", "-c", "ls /proc/self/fd; echo /proc/[0-9]*")).ok();
    // 3 is the directory that ls reads.
    expect(stdout).toStartWith("0\n1\n2\n3\n");
    expect(stdout).toContain("/proc/1");
    expect(stdout).not.toContain(`/proc/${process.pid}\n`);
  });

  test("options change it", async () => {
    const container = await running();
    const result = await exec(
      container,
      ...["--user", "12:34", "-g", "56", "--cwd", "/bin", "-e", "A=b", "-e", "C=d e", "--no-new-privs", "--"],
      ...["sh", "-c", "id -u; id -g; id -G; pwd; echo $A $C; grep NoNewPrivs /proc/self/status"],
    );
    expect(result.ok().stdout).toBe("12\n34\n34 56\n/bin\nb d e\nNoNewPrivs:\t1\n");
    const caps = await exec(container, "--cap", "CAP_SYS_TIME", "--", "grep", "CapEff", "/proc/self/status");
    expect(BigInt(`0x${caps.ok().stdout.split("\t")[1]!.trim()}`) & (1n << 25n)).toBe(1n << 25n);
  });

  test("gives its exit code, 128 and more for a signal", async () => {
    const container = await running();
    expect((await exec(container, "--", "sh", "-c", "exit 42")).code).toBe(42);
    expect((await exec(container, "--", "sh", "-c", "kill -9 $$")).code).toBe(137);
  });

  test("comes from a file, in its old shape too", async () => {
    const container = await running();
    const file = container.path("process.json");
    const process = {
      terminal: false,
      user: { uid: 7 },
      args: ["sh", "-c", "id -u; pwd"],
      cwd: "/bin",
      env: ["PATH=/bin"],
    };
    writeFileSync(file, JSON.stringify({ ...process, capabilities: ["CAP_KILL"] }));
    expect((await rig.call(["exec", "--process", file, container.id])).ok().stdout).toBe("7\n/bin\n");
  });

  test("stays when detached, with its pid in a file", async () => {
    const container = await running();
    const file = container.path("exec.pid");
    (await exec(container, "-d", "--pid-file", file, "--", "sleep", "50")).ok();
    const pid = Number(readFileSync(file, "utf8"));
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toBe("sleep\0" + "50\0");
    const { pid: init } = await container.state();
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toBe(readFileSync(`/proc/${init}/cgroup`, "utf8"));
  });
});

describe("--debug", () => {
  test("tells how far it has come, and with which CPUs it began", async () => {
    const container = rig.container((config) => {
      config.process.args = ["sleep", "60"];
      (config.process as { execCPUAffinity?: object }).execCPUAffinity = { initial: "0" };
    });
    await container.detach();
    const { stderr } = (await rig.call(["--debug", "exec", container.id, "true"])).ok();
    const steps = ["nsexec container setup", ": affinity: 0x1", "child process in init()", "about to exec"];
    const at = steps.map((step) => stderr.indexOf(step));
    expect(at).toEqual(at.filter((place) => place >= 0).sort((a, b) => a - b));
    expect((await exec(container, "--", "true")).ok().stderr).toBe("");
  });
});

describe("its own failures end with 255", () => {
  test("and say what was wrong", async () => {
    const container = await running();
    const cases: [string[], string][] = [
      [
        ["--", "no-such-program"],
        'exec failed: unable to start container process: exec: \\"no-such-program\\": executable file not found in $PATH',
      ],
      [["--"], "exec failed: exec args cannot be empty"],
      [["--cwd", "bin", "--", "true"], "Cwd must be an absolute path"],
      [["--user", "x", "--", "true"], "bad uid"],
      [["--user", "1:-1", "--", "true"], "bad gid"],
      [["--cgroup", "nosuch:/x", "--", "true"], "unknown controller nosuch"],
      [["--process", "/nonexistent.json", "--"], "open /nonexistent.json: no such file or directory"],
      [["-d", "-t", "--", "true"], "cannot allocate tty if runc will detach without setting console socket"],
    ];
    for (const [args, words] of cases) {
      const result = await exec(container, ...args);
      expect(result.stderr).toContain(words);
      expect(result.code).toBe(255);
    }
  });

  test("in a container that is paused, stopped or not there", async () => {
    const container = await running();
    (await container.call("pause")).ok();
    const paused = await exec(container, "--", "true");
    expect(paused.stderr).toContain("cannot exec in a paused container (use --ignore-paused to override)");
    expect(paused.code).toBe(255);
    (await container.call("resume")).ok();
    (await container.call("kill", "KILL")).ok();
    await container.waitFor("stopped");
    const stopped = await exec(container, "--", "true");
    expect(stopped.stderr).toContain("cannot exec in a stopped container");
    expect(stopped.code).toBe(255);
    const missing = await rig.call(["exec", rig.unique(), "true"]);
    expect(missing.stderr).toContain("container does not exist");
    expect(missing.code).toBe(255);
  });
});

describe.skipIf(!present)("containers of Debian's runc", () => {
  const { root, create, runc } = useTakeover();

  test("take processes of bunc", async () => {
    const { id } = create(SLEEP);
    ok(runc("start", id));
    const result = await rig.call(["exec", id, "sh", "-c", "cat /proc/1/comm; exit 3"], { root });
    expect(result.stdout).toBe("sleep\n");
    expect(result.code).toBe(3);
  });
});
