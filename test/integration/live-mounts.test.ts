// `mounts add` and `mounts remove`: what is mounted in a container that runs, seen from inside, and what a container
// that works against it gains.
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mount } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { Result } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";

const rig = useRig();

function sleeper(): Container {
  return rig.container((config) => {
    config.root.readonly = false;
    config.process.args = ["sleep", "60"];
  });
}

/** The same, whose root is nobody on the host. */
function inUserNamespace(): Container {
  const container = sleeper();
  container.config.linux.namespaces.push({ type: "user" });
  container.config.linux.uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
  container.config.linux.gidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
  return container;
}

/** Changes the mounts of a container. */
function change(action: "add" | "remove", container: Container, mounts: unknown): Promise<Result> {
  const file = container.path("mounts.json");
  writeFileSync(file, typeof mounts === "string" ? mounts : JSON.stringify(mounts));
  return rig.call(["mounts", action, container.id, file]);
}

const inside = async (container: Container, script: string): Promise<string> =>
  (await container.call("exec", "sh", "-c", script)).ok().stdout.trim();

/** Mount points of the container's init. */
async function points(container: Container): Promise<string[]> {
  const { pid } = await container.state();
  const lines = readFileSync(`/proc/${pid}/mountinfo`, "utf8").trim().split("\n");
  return lines.map((line) => line.split(" ")[4]!);
}

/** A directory of the host with a file. */
function source(): string {
  const dir = rig.directory();
  writeFileSync(join(dir, "file"), "of the host\n");
  return dir;
}

const bind = (from: string, destination: string, ...options: string[]): Mount => ({
  destination,
  type: "bind",
  source: from,
  options: ["bind", ...options],
});

describe("a running container", () => {
  test("gets binds of directories and files, a tmpfs and a proc, and loses them", async () => {
    const container = sleeper();
    await container.detach();
    const dir = source();
    const mounts = [
      bind(dir, "/new/place", "ro", "nosuid"),
      bind(join(dir, "file"), "/new/file"),
      { destination: "/tmpfs", type: "tmpfs", source: "tmpfs", options: ["size=1m", "mode=750", "nodev"] },
      { destination: "/procs", type: "proc", source: "proc" },
    ];
    const before = await points(container);
    (await change("add", container, mounts)).ok();
    expect((await points(container)).slice(before.length)).toEqual([
      "/new/place",
      "/new/file",
      "/tmpfs",
      "/procs",
    ]);
    expect(await inside(container, "cat /new/place/file /new/file")).toBe("of the host\nof the host");
    expect(await inside(container, "echo x 2>&1 >/new/place/x || echo refused")).toEndWith("refused");
    await inside(container, "echo changed >/new/file");
    expect(readFileSync(join(dir, "file"), "utf8")).toBe("changed\n");
    expect(await inside(container, "stat -c %a /tmpfs; grep ' /tmpfs ' /proc/mounts")).toMatch(
      /^750\n.*\bnodev\b.*size=1024k/,
    );
    // Of the container's own pid namespace.
    expect(await inside(container, "cat /procs/1/comm")).toBe("sleep");
    expect((await inside(container, "ls /procs | grep -c '^[0-9]'")).length).toBe(1);
    // Nothing of it reaches the host.
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(`${container.rootfs}/new`);
    expect(readdirSync(join(container.rootfs, "new/place"))).toEqual([]);

    (await change("remove", container, [{ destination: "/procs" }, ...mounts.slice(0, 3).reverse()])).ok();
    expect(await points(container)).toEqual(before);
    expect(await inside(container, "ls /new/place")).toBe("");
  });

  test("created, paused, or with a user namespace", async () => {
    const container = inUserNamespace();
    await container.create();
    const dir = source();
    (await change("add", container, [bind(dir, "/etc")])).ok();
    (await container.call("start")).ok();
    expect(await inside(container, "cat /etc/file")).toBe("of the host");
    (await container.call("pause")).ok();
    (await change("add", container, [{ destination: "/tmp", type: "tmpfs", source: "t" }])).ok();
    (await change("remove", container, [{ destination: "/etc" }])).ok();
    (await container.call("resume")).ok();
    expect(await inside(container, "grep -c ' /tmp tmpfs' /proc/mounts")).toBe("1");
    expect(await points(container)).not.toContain("/etc");
  });

  test("with a user namespace: a mount that the host has read-only stays so", async () => {
    const container = inUserNamespace();
    await container.detach();
    const dir = source();
    output(["mount", "--bind", dir, dir]);
    output(["mount", "-o", "remount,bind,ro", dir]);
    try {
      (await change("add", container, [bind(dir, "/etc")])).ok();
      const script = "mount -o remount,bind,rw /etc; touch /etc/new; cat /etc/file";
      const result = await rig.call(["exec", "--cap", "CAP_SYS_ADMIN", container.id, "sh", "-c", script]);
      expect(result.ok().stdout).toBe("of the host\n");
      expect(existsSync(join(dir, "new"))).toBe(false);
    } finally {
      output(["umount", dir]);
    }
  });

  test("with a bind whose ids are mapped", async () => {
    const container = sleeper();
    await container.detach();
    const ids = [{ containerID: 0, hostID: 4711, size: 1 }];
    const mounted = await change("add", container, [
      { ...bind(source(), "/mapped"), uidMappings: ids, gidMappings: ids },
    ]);
    if (mounted.code !== 0) expect(mounted.stderr).toMatch(/id-mapped|idmap|map the ids/);
    else expect(await inside(container, "stat -c %u:%g /mapped/file")).toBe("4711:4711");
  });
});

describe("a container that works against it", () => {
  test("cannot have a mount leave its root", async () => {
    const container = sleeper();
    const host = source();
    mkdirSync(join(container.rootfs, "srv"), { recursive: true });
    symlinkSync(`../../../../../../../..${host}`, join(container.rootfs, "srv/up"));
    symlinkSync(host, join(container.rootfs, "srv/absolute"));
    await container.detach();
    const dir = source();
    writeFileSync(join(dir, "file"), "new\n");
    (await change("add", container, [bind(dir, "/srv/up/a"), bind(dir, "/srv/absolute/b")])).ok();
    expect(readdirSync(host)).toEqual(["file"]);
    expect(await inside(container, `cat ${host}/a/file ${host}/b/file`)).toBe("new\nnew");
  });

  test("cannot have a mount cover a part of /proc, or follow its magic links", async () => {
    const container = sleeper();
    symlinkSync("/proc/sys", join(container.rootfs, "sys-link"));
    symlinkSync("/proc/self/fd", join(container.rootfs, "fd-link"));
    symlinkSync("/proc/1/root", join(container.rootfs, "root-link"));
    await container.detach();
    const before = await points(container);
    for (const destination of ["/sys-link/kernel", "/fd-link/3", "/root-link/x", "/proc/sys/kernel"]) {
      const result = await change("add", container, [bind(source(), destination)]);
      expect([destination, result.code]).toEqual([destination, 1]);
    }
    expect(await points(container)).toEqual(before);
  });

  test("cannot have its masked paths unmounted by a link", async () => {
    const container = sleeper();
    container.file("data/");
    await container.detach();
    (await change("add", container, [bind(source(), "/data/a"), bind("/dev/null", "/data/keys")])).ok();
    await inside(container, "mv /data /moved && ln -s /proc /data");
    const before = await points(container);
    expect(before).toContain("/proc/keys");
    for (const destination of ["/data/keys", "/data/sys", "/data"]) {
      const result = await change("remove", container, [{ destination }]);
      expect(result.code).toBe(1);
      expect(result.stderr).toContain(`cannot unmount ${JSON.stringify(destination)}`.replaceAll('"', '\\"'));
    }
    expect(await points(container)).toEqual(before);
    (await change("remove", container, [{ destination: "/moved/a" }, { destination: "/moved/keys" }])).ok();
  });

  test("is refused what would change its protection, or copy its files", async () => {
    const container = sleeper();
    await container.detach();
    for (const [mount, words] of [
      [{ destination: "/proc/sys", options: ["remount", "bind", "rw"], source: "x" }, "remount"],
      [{ destination: "/x", type: "tmpfs", source: "t", options: ["tmpcopyup"] }, "tmpcopyup"],
      [{ destination: "/x", type: "cgroup", source: "c" }, "the type cgroup"],
    ] as const) {
      const result = (await change("add", container, [mount])).ok(1);
      expect(result.stderr).toContain(words);
      expect(result.stderr).toMatch(/is not for a container that runs already|cannot be mounted/);
    }
  });
});

describe("errors", () => {
  test("of the file", async () => {
    const container = sleeper();
    await container.detach();
    for (const [action, text, words] of [
      ["add", "{}", "mounts must be an array"],
      ["remove", "{}", "mounts must be an array"],
      ["add", "[", "invalid JSON"],
      ["add", "[3]", "mounts[0]"],
      ["add", '[{"destination": 3}]', "mounts[0].destination"],
      ["add", '[{"destination": "/x"}]', "mounts[0].type"],
      ["add", '[{"destination": "/x", "type": "bind", "options": ["bind"]}]', "mounts[0].source"],
      ["remove", '[{"destination": ""}]', "mounts[0].destination"],
      ["remove", "[null]", "mounts[0].destination"],
      ["remove", '[{"destination": "/../."}]', "the root of the container cannot be unmounted"],
      ["remove", '[{"destination": "/bin"}]', "cannot unmount"],
      ["remove", '[{"destination": "/bin/busybox"}]', "cannot unmount"],
      ["remove", '[{"destination": "/nowhere/x"}]', "cannot unmount"],
      ["add", '[{"destination": "/x", "type": "nosuchfs", "source": "x"}]', "error mounting"],
    ] as const) {
      const result = await change(action, container, text);
      expect([text, result.code]).toEqual([text, 1]);
      expect(result.stderr).toContain(words);
    }
    const result = await rig.call(["mounts", "add", container.id, "/nowhere/file"]);
    expect(result.stderr).toContain("open /nowhere/file: no such file or directory");
  });

  test("of a source that is not there: what came before it stays", async () => {
    const container = sleeper();
    await container.detach();
    const mounts = [bind(source(), "/first"), bind("/nowhere/at/all", "/second")];
    const result = (await change("add", container, mounts)).ok(1);
    expect(result.stderr).toContain("/nowhere/at/all");
    // Sources are opened before anything is done.
    expect(await points(container)).not.toContain("/first");
    const half = [bind(source(), "/first"), { destination: "/x", type: "nosuchfs", source: "x" }];
    expect((await change("add", container, half)).code).toBe(1);
    expect(await points(container)).toContain("/first");
  });

  test("of the container and the words", async () => {
    const container = sleeper();
    container.config.process.args = ["true"];
    await container.detach();
    await container.waitFor("stopped");
    expect((await change("add", container, [])).stderr).toContain("container not running");
    expect((await rig.call(["mounts", "add", rig.unique(), "x"])).stderr).toContain(
      "container does not exist",
    );
    expect((await rig.call(["mounts", "change", container.id, "x"])).stderr).toContain(
      "unknown command change",
    );
    expect((await rig.call(["mounts", "add", container.id])).stderr).toContain(
      "requires exactly 3 argument(s)",
    );
  });
});
