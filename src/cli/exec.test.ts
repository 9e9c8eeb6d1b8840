/** `exec` on the command line: what reaches the container layer, and its exit codes. */
import { beforeEach, describe, expect, test } from "bun:test";
import { BuncError } from "../errors.ts";
import { message, reset, rig, run } from "./recorded.ts";

beforeEach(reset);

const exec = (...args: string[]) => run(["--root=/r", "exec", ...args]);

async function options(...args: string[]): Promise<Record<string, unknown>> {
  await exec(...args);
  const { log: _, ...given } = rig.calls.findLast(([name]) => name === "exec")![1] as Record<string, unknown>;
  return given;
}

describe("exec", () => {
  test("the plainest: the container's process with other arguments, which begin after the id", async () => {
    expect(await options("web", "sh", "-c", "--tty")).toEqual({
      root: "/r",
      id: "web",
      process: {
        changes: { args: ["sh", "-c", "--tty"], env: [], terminal: false, additionalGids: [], caps: [] },
      },
      preserveFds: 0,
      cgroups: [],
      ignorePaused: false,
      detach: false,
    });
    expect(await exec("web", "true")).toBe(3);
  });

  test("all flags reach the container layer", async () => {
    const flags = ["-t", "-d", "--cwd", "/c", "-e", "A=1", "-e", "B=2", "-u", "1:2", "-g", "3", "-g", "4"];
    const more = [
      "--pid-file",
      "pid",
      "--process-label",
      "l",
      "--apparmor",
      "a",
      "--no-new-privs",
      "-c",
      "CAP_KILL",
    ];
    const last = ["--preserve-fds", "2", "--cgroup", "cpu:x", "--cgroup", "pids:y", "--ignore-paused"];
    const sockets = ["--console-socket", "c.sock", "--pidfd-socket", "p.sock"];
    expect(await options(...flags, ...more, ...last, ...sockets, "web", "true")).toEqual({
      root: "/r",
      id: "web",
      process: {
        changes: {
          args: ["true"],
          cwd: "/c",
          env: ["A=1", "B=2"],
          terminal: true,
          user: "1:2",
          additionalGids: [3, 4],
          apparmor: "a",
          selinuxLabel: "l",
          noNewPrivileges: true,
          caps: ["CAP_KILL"],
        },
      },
      consoleSocket: "c.sock",
      pidfdSocket: "p.sock",
      pidFile: `${process.cwd()}/pid`,
      preserveFds: 2,
      cgroups: ["cpu:x", "pids:y"],
      ignorePaused: true,
      detach: true,
    });
    // Without the bundle's process there is no reason to look in the bundle for sockets.
    expect(await options("-p", "file.json", ...sockets, "web")).toMatchObject({
      process: { file: "file.json" },
      consoleSocket: `${process.cwd()}/c.sock`,
      pidfdSocket: `${process.cwd()}/p.sock`,
    });
  });

  test("its own failures end with 255", async () => {
    rig.failure = new BuncError("no good", { code: "state" });
    expect(await exec("web", "true")).toBe(255);
    expect(message()).toContain("exec failed: no good");
  });

  test("what is no number", async () => {
    for (const flags of [
      ["-g", "x"],
      ["-g", ""],
      ["-g", "4294967295"],
      ["--preserve-fds", "-1"],
    ]) {
      reset();
      expect([flags, await exec(...flags, "web", "true")]).toEqual([flags, 255]);
      expect(rig.calls.filter(([name]) => name === "exec")).toEqual([]);
    }
  });

  test("without an id it tells how it is used", async () => {
    expect(await exec()).not.toBe(0);
    expect(rig.stdout).toContain("Incorrect Usage");
  });
});
