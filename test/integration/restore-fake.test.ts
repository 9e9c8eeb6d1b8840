// restore with a criu that is a script: what it is asked for, what is done when it says how far it is, and that nothing is
// left when it fails.
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Step } from "../rig/fake-criu.ts";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, host } from "../rig/runtime.ts";
import { type Bench, bench, type Edit, fakeImages, mountPoints, RESTORE, RESTORED } from "./criu.rig.ts";

const rig = useRig();

buncDescribe("restore", () => {
  test("asks criu for the container, which runs in the container's cgroups, and records it", async () => {
    const source = rig.directory();
    const b = bench(rig, { steps: RESTORED }, (config, made) => {
      symlinkSync("mnt", join(made.rootfs, "other"));
      config.mounts.push({ destination: "/other/data", type: "bind", source, options: ["rbind"] });
      config.mounts.push({
        destination: "/other/data/below/it",
        type: "bind",
        source: "/usr",
        options: ["rbind"],
      });
      config.linux.resources!.pids = { limit: 77 };
    });
    fakeImages(b);
    const pidFile = b.container.path("pid");
    (await b.restore("--detach", "--pid-file", pidFile, "--tcp-established")).ok();
    const { request, fds, cgroup } = b.asked(RESTORE);
    const opts = request.opts!;
    expect(opts).toMatchObject({
      rst_sibling: true,
      evasive_devices: true,
      tcp_established: true,
      log_file: "restore.log",
      root: join(rig.scratch.root, b.container.id, "criu-root"),
      inherit_fd: [{ key: "pipe:[77]", fd: 1 }],
    });
    expect(opts.ext_mnt).toContainEqual({ key: "/mnt/data", val: source });
    expect(opts.ext_mnt).toContainEqual({ key: "/dev/null", val: "/dev/null" });
    // The mount points are there, those in what is bound as well.
    expect(existsSync(join(b.container.rootfs, "mnt/data"))).toBe(true);
    expect(existsSync(join(source, "below/it"))).toBe(true);
    expect(cgroup).toContain(b.container.id);
    for (const { path } of opts.cg_root) expect(cgroup).toContain(`:${path}\n`);
    expect(fds[0]).toBe("/dev/null");
    expect(b.container.cgroupFile("pids", "pids.max")).toBe("77");
    const state = await b.container.state();
    expect(state).toMatchObject({ status: "running", bundle: b.container.bundle });
    expect(readFileSync(pidFile, "utf8")).toBe(String(state.pid));
    expect(Date.now() - Date.parse(state.created)).toBeLessThan(60_000);
    const saved = JSON.parse(readFileSync(join(rig.scratch.root, b.container.id, "state.json"), "utf8"));
    expect(saved.init_process_pid).toBe(state.pid);
    if (host.timeNamespaces) expect(saved.config.namespaces).toContainEqual({ type: "NEWTIME" });
    expect(entries(join(rig.scratch.root, b.container.id))).toEqual(["state.json"]);
    expect(mountPoints().filter((point) => point.includes(b.container.id))).toEqual([]);
    (await b.container.call("kill", "KILL")).ok();
    await b.container.waitFor("stopped");
    (await b.container.remove()).ok();
  });

  test("in the foreground it ends as the container does, and deletes it", async () => {
    const b = bench(rig, { steps: RESTORED });
    fakeImages(b);
    const running = rig.spawn(
      ["restore", "--image-path", b.images, "--bundle", b.container.bundle, b.container.id],
      {
        env: b.criu.env,
      },
    );
    await b.container.waitFor("running");
    running.signal("SIGTERM");
    expect((await running.done).code).toBe(128 + 15);
    expect(rig.states()).toEqual([]);
    expect(b.container.cgroupDirectories()).toEqual([]);
  });

  test("the terminal goes to the console socket", async () => {
    const steps: Step[] = [{ start: true }, { notify: "orphan-pts-master", fd: "pty" }];
    const b = bench(
      rig,
      { steps: [...steps, { notify: "post-restore", pid: "restored" }, { answer: {} }] },
      (config) => {
        config.process.terminal = true;
      },
    );
    fakeImages(b);
    const listener = await rig.listener("recvtty");
    (await b.restore("--detach", "--console-socket", listener.path)).ok();
    const message = await listener.message();
    expect([message.text, message.fds.length]).toEqual(["orphan-pts-master", 1]);
    expect(message.fds[0]!.target).toMatch(/ptmx$/);
  });

  test("hooks: prestart and createRuntime with the pid that criu tells, poststop at the end", async () => {
    const said = join(rig.directory(), "said");
    const hook = (name: string) => [
      { path: "/bin/sh", args: ["sh", "-c", `echo ${name} $(cat) >> ${said}; echo ${name}`] },
    ];
    const b = bench(rig, { steps: RESTORED }, (config) => {
      config.hooks = {
        prestart: hook("prestart"),
        createRuntime: hook("createRuntime"),
        poststart: hook("poststart"),
        poststop: hook("poststop"),
      };
      config.annotations = { "run.oci.hooks.stdout": `${said}.out` };
    });
    fakeImages(b);
    (await b.restore("--detach")).ok();
    const { pid } = await b.container.state();
    (await b.container.remove("--force")).ok();
    const lines = readFileSync(said, "utf8").trim().split("\n");
    expect(lines.map((line) => line.split(" ")[0])).toEqual(["prestart", "createRuntime", "poststop"]);
    expect(readFileSync(`${said}.out`, "utf8")).toBe("prestart\ncreateRuntime\npoststop\n");
    expect(JSON.parse(lines[0]!.slice(9))).toMatchObject({
      id: b.container.id,
      pid,
      status: "creating",
    });
  });

  test("namespaces that were joined by path are handed to criu", async () => {
    const netns = await rig.background(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 60"]);
    const path = `/proc/${netns.pid}/ns/net`;
    const b = bench(rig, { steps: RESTORED }, (config) => {
      for (const namespace of config.linux.namespaces) {
        if (namespace.type === "network") namespace.path = path;
        if (namespace.type === "ipc") namespace.path = `/proc/${netns.pid}/ns/ipc`;
      }
    });
    fakeImages(b);
    (await b.restore("--detach")).ok();
    const { request, fds } = b.asked(RESTORE);
    const inherited = request.opts!.inherit_fd.find(({ key }) => key === "extRootNetNS")!;
    expect(fds[inherited.fd]).toBe(readlinkSync(path));
    expect(request.opts!.join_ns).toEqual([{ ns: "ipc", ns_file: `/proc/${netns.pid}/ns/ipc` }] as never);
  });

  test("a profile of a security module needs a criu that can take it", async () => {
    const old = bench(rig, { steps: RESTORED, version: [3, 15] });
    fakeImages(old);
    expect((await old.restore("-d", "--lsm-profile", "apparmor:x")).stderr).toContain(
      "--lsm-profile requires at least CRIU 3.16",
    );
    const b = bench(rig, { steps: RESTORED });
    fakeImages(b);
    (await b.restore("-d", "--lsm-profile", "apparmor:x", "--lsm-mount-context", "c")).ok();
    expect(b.asked(RESTORE).request.opts).toMatchObject({
      lsm_profile: "apparmor:x",
      lsm_mount_context: "c",
    });
  });
});

buncDescribe("a restore that fails", () => {
  /** The message; nothing of a container is left, which the rig checks too. */
  async function failed(b: Bench, ...flags: string[]): Promise<string> {
    const result = await b.restore("--detach", ...flags);
    expect(result.code).toBe(1);
    expect(result.stderr.trim().split("\n")).toHaveLength(1);
    expect(rig.states()).toEqual([]);
    expect(b.container.cgroupDirectories()).toEqual([]);
    expect(mountPoints().filter((point) => point.includes(b.container.id))).toEqual([]);
    return result.stderr;
  }

  function made(steps: Step[], edit?: Edit): Bench {
    const b = bench(rig, { steps }, edit);
    fakeImages(b);
    return b;
  }

  test("when there are no images, or no images of ours", async () => {
    const b = bench(rig, { steps: RESTORED });
    expect(await failed(b)).toContain(`open ${b.images}: no such file or directory`);
    mkdirSync(b.images);
    expect(await failed(b)).toContain(`open ${b.images}/descriptors.json: no such file or directory`);
    for (const text of ["", "{}", "[1]", "[", "null"]) {
      writeFileSync(join(b.images, "descriptors.json"), text);
      expect(await failed(b)).toContain("descriptors.json is not a list of strings");
    }
  });

  test("when criu says so: with its log", async () => {
    const b = made([
      { file: "restore.log", text: "(00.1) Error (criu/mount.c:2): mnt: No mapping for 123\n" },
      { answer: { success: false, cr_errno: 17 } },
    ]);
    expect(await failed(b)).toContain(
      "criu failed: type RESTORE errno 17: (criu/mount.c:2): mnt: No mapping for 123",
    );
  });

  test("when criu dies after it has made processes", async () => {
    expect(await failed(made([{ start: true }, { kill: "self" }]))).toContain(
      "criu failed: it closed its socket",
    );
    const known = made([{ start: true }, { notify: "post-restore", pid: "restored" }, { kill: "self" }]);
    expect(await failed(known)).toContain("(signal: SIGKILL)");
  });

  test("when criu tells nonsense", async () => {
    expect(await failed(made([{ answer: {} }]))).toContain("it has told of no restored process");
    expect(await failed(made([{ notify: "post-restore", pid: 4194305 }, { answer: {} }]))).toContain(
      "criu failed: open its process 4194305",
    );
    expect(await failed(made([{ notify: "post-restore", pid: -1 }, { answer: {} }]))).toContain(
      "criu failed",
    );
    const terminal = made([{ notify: "orphan-pts-master" }, { answer: {} }]);
    expect(await failed(terminal)).toContain("it has sent no terminal");
  });

  test("when a file for what hooks say cannot be opened", async () => {
    const b = made(RESTORED, (config) => {
      config.hooks = { createRuntime: [{ path: "/bin/true" }] };
      config.annotations = { "run.oci.hooks.stderr": "/no/such/file" };
    });
    expect(await failed(b)).toContain("open /no/such/file: no such file or directory");
  });

  test("when a hook fails", async () => {
    const b = made(RESTORED, (config) => {
      config.hooks = { createRuntime: [{ path: "/bin/false" }] };
    });
    expect(await failed(b)).toContain("error running createRuntime hook #0: exit status 1");
  });

  test("when a terminal has nowhere to go, and when the id is taken", async () => {
    const b = made(RESTORED, (config) => {
      config.process.terminal = true;
    });
    expect(await failed(b)).toContain(
      "cannot allocate tty if runc will detach without setting console socket",
    );
    expect(await failed(b, "--console-socket", "absent")).toContain("absent: no such file or directory");
    const twice = made(RESTORED);
    (await twice.restore("-d")).ok();
    expect((await twice.restore("-d")).stderr).toContain("container with given ID already exists");
    expect((await twice.container.state()).status).toBe("running");
  });

  test("when bunc is killed: delete --force takes back the rest", async () => {
    const b = made([{ start: true }, { wait: 60 }]);
    const running = rig.spawn(
      ["restore", "-d", "--image-path", b.images, "--bundle", b.container.bundle, b.container.id],
      { env: b.criu.env },
    );
    const root = join(rig.scratch.root, b.container.id, "criu-root/bin");
    for (let i = 0; !existsSync(root) || b.asked(RESTORE) === undefined; i++) {
      if (i > 500) throw new Error("criu is not asked");
      await Bun.sleep(10);
    }
    running.signal("SIGKILL");
    await running.done;
    (await b.container.remove("--force")).ok();
    expect(rig.states()).toEqual([]);
    expect(existsSync(join(b.container.rootfs, "bin"))).toBe(true);
  });
});
