// checkpoint with a criu that is a script: what it is asked for, what is done when it says how far it is, and that the
// container goes on, whatever criu does.
import { expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Script, Step } from "../rig/fake-criu.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { bench, DUMP, DUMPED, PRE_DUMP, RESTORE } from "./criu.rig.ts";

const rig = useRig();

buncDescribe("checkpoint", () => {
  test("asks criu for the container with its external mounts, and deletes it when it is saved", async () => {
    const source = rig.directory();
    const b = bench(rig, { steps: DUMPED }, (config, made) => {
      symlinkSync("mnt", join(made.rootfs, "other"));
      config.mounts.push({ destination: "/other/data", type: "bind", source, options: ["rbind"] });
      made.file("mnt/data/");
      config.linux.maskedPaths = ["/etc/passwd", "/home", "/no/such/file"];
    });
    await b.container.detach();
    const { pid } = await b.container.state();
    (
      await b.checkpoint("--shell-job", "--file-locks", "--link-remap", "--manage-cgroups-mode", "ignore")
    ).ok();
    const { request, fds } = b.asked(DUMP);
    const opts = request.opts!;
    expect(opts).toMatchObject({
      pid,
      root: b.container.rootfs,
      leave_running: false,
      shell_job: true,
      file_locks: true,
      link_remap: true,
      tcp_established: false,
      notify_scripts: true,
      orphan_pts_master: true,
      manage_cgroups: true,
      manage_cgroups_mode: 0,
      log_file: "dump.log",
      config_file: "/etc/criu/runc.conf",
      freeze_cgroup: b.container.cgroup("freezer")!,
      external: [],
    });
    expect(opts.ext_mnt).toContainEqual({ key: "/mnt/data", val: "/mnt/data" });
    expect(opts.ext_mnt).toContainEqual({ key: "/dev/null", val: "/dev/null" });
    expect(opts.ext_mnt).toContainEqual({ key: "/etc/passwd", val: "/dev/null" });
    const keys = opts.ext_mnt.map(({ key }) => key);
    expect([keys.includes("/home"), keys.includes("/no/such/file")]).toEqual([false, false]);
    expect(fds[1]).toBe("/dev/null");
    const descriptors = JSON.parse(readFileSync(join(b.images, "descriptors.json"), "utf8"));
    expect([descriptors.length, descriptors[0]]).toEqual([3, "/dev/null"]);
    expect(statSync(b.images).mode & 0o777).toBe(0o700);
    expect(rig.states()).toEqual([]);
    expect(b.container.cgroupDirectories()).toEqual([]);
  });

  test("--leave-running and --pre-dump leave it running", async () => {
    const b = bench(rig, { steps: [{ notify: "pre-dump" }, { answer: {} }] });
    await b.container.detach();
    (await b.checkpoint("--leave-running")).ok();
    expect(b.asked(DUMP).request.opts!.leave_running).toBe(true);
    const parent = join(b.images, "..", "parent");
    (await b.call(["checkpoint", "--pre-dump", "--image-path", parent, b.container.id])).ok();
    const before = b.asked(PRE_DUMP).request.opts!;
    expect([before.ext_mnt, before.track_mem]).toEqual([[], false]);
    expect(existsSync(join(parent, "descriptors.json"))).toBe(false);
    expect((await b.container.state()).status).toBe("running");
    (await b.checkpoint("--parent-path", "../parent", "--leave-running")).ok();
    const last = b.criu.noted().findLast(({ request }) => request.type === DUMP)!.request.opts!;
    expect([last.parent_img, last.track_mem]).toEqual(["../parent", true]);
  });

  test("a namespace that was joined by path is left out", async () => {
    const netns = await rig.background(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 60"]);
    const path = `/proc/${netns.pid}/ns/net`;
    const b = bench(rig, { steps: DUMPED }, (config) => {
      config.linux.namespaces.find(({ type }) => type === "network")!.path = path;
    });
    await b.container.detach();
    (await b.checkpoint()).ok();
    const inode = /\d+/.exec(readlinkSync(path))![0];
    expect(b.asked(DUMP).request.opts!.external).toEqual([`net[${inode}]:extRootNetNS`]);
  });

  test("a criu that waits for who fetches lazy pages ends with who waits for it; one that dumps does not", async () => {
    for (const lazy of [true, false]) {
      const steps: Step[] = [{ notify: "status-ready" }, { file: "waits", text: "" }, { wait: 60 }];
      const b = bench(rig, { steps });
      await b.container.detach();
      const flags = lazy ? ["--lazy-pages"] : [];
      const running = rig.spawn(["checkpoint", ...flags, "--image-path", b.images, b.container.id], {
        env: b.criu.env,
      });
      let criu = 0;
      for (let i = 0; i < 1000 && !criu; i++) {
        await Bun.sleep(20);
        if (existsSync(join(b.images, "waits"))) criu = b.asked(DUMP).pid;
      }
      expect(criu).toBeGreaterThan(1);
      running.signal("SIGKILL");
      await running.done;
      for (let i = 0; i < (lazy ? 250 : 25) && existsSync(`/proc/${criu}/cwd`); i++) await Bun.sleep(20);
      expect([lazy, existsSync(`/proc/${criu}/cwd`)]).toEqual([lazy, !lazy]);
      if (!lazy) process.kill(criu, "SIGKILL");
      expect((await b.container.state()).status).toBe("running");
      // Nobody holds the container's lock any more.
      (await b.container.call("update", "--pids-limit", "50")).ok();
      (await b.container.remove("--force")).ok();
    }
  });
  test("a page server, lazy pages and a descriptor that is told when they are ready", async () => {
    const b = bench(rig, { steps: [{ notify: "status-ready" }, ...DUMPED] });
    await b.container.detach();
    const status = join(rig.directory(), "status");
    const fd = openSync(status, "w");
    const result = await b.call(
      [
        "checkpoint",
        ...["--lazy-pages", "--page-server", "127.0.0.1:27277", "--status-fd", "3"],
        ...["--image-path", b.images, b.container.id],
      ],
      { fds: [fd] },
    );
    result.ok();
    const { ps, lazy_pages, status_fd } = b.asked(DUMP).request.opts!;
    expect([ps, lazy_pages, status_fd]).toEqual([{ address: "127.0.0.1", port: 27277 }, true, -1]);
    expect(readFileSync(status, "latin1")).toBe("\0");
  });

  test("a status descriptor that nobody gave, or that cannot be written to", async () => {
    const b = bench(rig, { steps: DUMPED });
    await b.container.detach();
    const closed = await b.checkpoint("--lazy-pages", "--status-fd", "99");
    expect([closed.code, closed.stderr]).toEqual([
      1,
      expect.stringContaining("invalid --status-fd argument 99: bad file descriptor"),
    ]);
    const fd = openSync("/dev/null", "r");
    const readonly = await b.call(
      ["checkpoint", "--lazy-pages", "--status-fd", "3", "--image-path", b.images, b.container.id],
      { fds: [fd] },
    );
    expect(readonly.stderr).toContain("invalid --status-fd argument 3: not writable");
    expect((await b.container.state()).status).toBe("running");
  });

  test("criu's settings are those of the annotation", async () => {
    const b = bench(rig, { steps: DUMPED }, (config) => {
      config.annotations = { "org.criu.config": "/etc/my-criu.conf" };
    });
    await b.container.detach();
    (await b.checkpoint()).ok();
    expect(b.asked(DUMP).request.opts!.config_file).toBe("/etc/my-criu.conf");
  });

  test("is refused for a container that is none, is created or has stopped", async () => {
    const b = bench(rig, { steps: DUMPED });
    expect((await b.checkpoint()).stderr).toContain("container does not exist");
    await b.container.create();
    expect((await b.checkpoint()).stderr).toContain("Container cannot be checkpointed in created state");
    (await b.container.call("start")).ok();
    (await b.container.call("kill", "KILL")).ok();
    await b.container.waitFor("stopped");
    expect((await b.checkpoint()).stderr).toContain("Container cannot be checkpointed in stopped state");
    expect(b.criu.noted()).toEqual([]);
  });

  test("refuses what cannot be, and the container goes on", async () => {
    const b = bench(rig, { steps: DUMPED });
    await b.container.detach();
    const refused: [flags: string[], words: string][] = [
      [["--parent-path", "/p"], "--parent-path must be relative"],
      [["--parent-path", "../p"], "invalid --parent-path: stat "],
      [["--parent-path", "file"], "invalid --parent-path: stat "],
      [["--manage-cgroups-mode", "some"], "invalid manage-cgroups-mode value"],
      [["--work-path", "/no/such/dir"], "mkdir /no/such/dir: no such file or directory"],
    ];
    mkdirSync(b.images);
    writeFileSync(join(b.images, "file"), "");
    for (const [flags, words] of refused) {
      const result = await b.checkpoint(...flags);
      expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(words)]);
    }
    expect((await b.container.state()).status).toBe("running");
    expect(b.criu.noted().filter(({ request }) => request.type === DUMP)).toEqual([]);
  });
});

buncDescribe("a checkpoint that fails", () => {
  /** The message after criu has taken these steps; the container goes on. */
  async function failed(script: Script, ...flags: string[]): Promise<string> {
    const b = bench(rig, script);
    await b.container.detach();
    const result = await b.checkpoint(...flags);
    expect(result.code).toBe(1);
    expect(result.stderr.trim().split("\n")).toHaveLength(1);
    expect((await b.container.state()).status).toBe("running");
    (await b.container.remove("--force")).ok();
    return result.stderr;
  }

  test("has the reason from criu's log in its one line", async () => {
    const work = rig.directory();
    const log =
      "(00.01) Warn  (criu/a.c:1): x\n(00.02) Error (criu/sk-inet.c:191): inet: Connected TCP socket\n";
    const steps: Step[] = [
      { file: "dump.log", text: `${log}(00.03) Error (criu/cr-dump.c:2098): Dumping FAILED.\n` },
      { answer: { success: false, cr_errno: 0 } },
    ];
    const message = await failed({ steps }, "--work-path", work);
    expect(message).toContain(
      "criu failed: type DUMP errno 0: (criu/sk-inet.c:191): inet: Connected TCP socket (hint: the whole log is",
    );
    expect(message).toContain(`${work}/dump.log`);
  });

  test("when criu dies, hangs up or speaks another language", async () => {
    expect(await failed({ steps: [{ kill: "self" }] })).toContain("criu failed: it closed its socket");
    expect(await failed({ steps: [{ notify: "pre-dump" }, { exit: 0 }] })).toContain("(exit status 0)");
    expect(await failed({ steps: [{ raw: "ffff" }] })).toContain("cannot understand its answer");
    // "HTTP" happens to be a message: field 9, the text "TP".
    expect(await failed({ steps: [{ raw: "48545450" }] })).toContain("criu failed: type EMPTY errno 0: TP");
    expect(await failed({ steps: [{ raw: "ff", times: 60_000 }] })).toContain("cannot understand its answer");
    expect(await failed({ steps: [{ answer: { type: RESTORE } }] })).toContain(
      "it answers RESTORE, not DUMP",
    );
  });

  test("when criu is missing, too old, or cannot do it", async () => {
    expect(await failed({ version: [2, 12] })).toContain("CRIU version 21200 must be 30000 or higher");
    expect(await failed({ features: { mem_track: false } }, "--pre-dump")).toContain(
      "criu is missing features: [MemTrack]",
    );
    const b = bench(rig, {});
    await b.container.detach();
    const result = await b.call(["checkpoint", "--image-path", b.images, b.container.id], {
      env: { PATH: rig.directory() },
    });
    expect(result.stderr).toContain(
      'CRIU version check failed: exec: \\"criu\\": executable file not found in $PATH',
    );
  });
});
