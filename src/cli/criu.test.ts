// checkpoint and restore: what their flags become, and what is refused before anything is done.
import { beforeEach, describe, expect, test } from "bun:test";
import type { CheckpointOptions } from "../container/checkpoint.ts";
import type { RestoreOptions } from "../container/restore.ts";
import { message, reset, rig, run } from "./recorded.ts";

beforeEach(reset);

const ROOT = ["--root", "/r"];

async function checkpoint(...flags: string[]): Promise<CheckpointOptions> {
  expect(await run([...ROOT, "checkpoint", ...flags, "c1"])).toBe(0);
  return rig.calls.at(-1)![1] as CheckpointOptions;
}

async function restore(...flags: string[]): Promise<RestoreOptions & { noSubreaper: boolean }> {
  expect(await run([...ROOT, "restore", ...flags, "c1"])).toBe(7);
  return rig.calls.at(-1)![1] as RestoreOptions & { noSubreaper: boolean };
}

describe("checkpoint", () => {
  test("without flags", async () => {
    expect(await checkpoint()).toEqual({
      root: "/r",
      id: "c1",
      imagePath: `${process.cwd()}/checkpoint`,
      tcpEstablished: false,
      extUnixSk: false,
      shellJob: false,
      fileLocks: false,
      autoDedup: false,
      lazyPages: false,
      manageCgroupsMode: "",
      leaveRunning: false,
      preDump: false,
      tcpSkipInFlight: false,
      linkRemap: false,
      statusFd: -1,
    } as unknown as CheckpointOptions);
  });

  test("with all of them", async () => {
    const switches =
      "leave-running tcp-established tcp-skip-in-flight link-remap ext-unix-sk shell-job lazy-pages"
        .concat(" file-locks pre-dump auto-dedup")
        .split(" ")
        .map((name) => `--${name}`);
    const options = await checkpoint(
      ...switches,
      ...["--image-path", "/i", "--work-path", "w", "--parent-path", "../p", "--status-fd", "5"],
      ...["--page-server", "[::1]:27", "--manage-cgroups-mode", "soft", "--empty-ns", "network"],
    );
    expect(options).toEqual({
      root: "/r",
      id: "c1",
      imagePath: "/i",
      workPath: `${process.cwd()}/w`,
      parentPath: "../p",
      tcpEstablished: true,
      extUnixSk: true,
      shellJob: true,
      fileLocks: true,
      autoDedup: true,
      lazyPages: true,
      manageCgroupsMode: "soft",
      leaveRunning: true,
      preDump: true,
      tcpSkipInFlight: true,
      linkRemap: true,
      statusFd: 5,
      pageServer: { address: "::1", port: 27 },
    } as unknown as CheckpointOptions);
  });

  test("a page server that cannot be one", async () => {
    for (const text of ["host", ":1", "host:", "::1:27", "[]:1", ":"]) {
      reset();
      expect(await run(["checkpoint", "--page-server", text, "c1"])).toBe(1);
      expect(message()).toContain("Use --page-server ADDRESS:PORT to specify page server");
    }
    for (const port of ["0", "65536", "x", "-1", "1.5", "99999999999999999999"]) {
      reset();
      expect(await run(["checkpoint", "--page-server", `h:${port}`, "c1"])).toBe(1);
      expect(message()).toContain("Invalid port number");
    }
  });

  test("a namespace that cannot be left empty", async () => {
    expect(await run(["checkpoint", "--empty-ns", "pid", "c1"])).toBe(1);
    expect(message()).toContain(String.raw`namespace \"pid\" is not supported`);
  });
});

describe("restore", () => {
  test("without flags", async () => {
    const options = await restore();
    expect(options).toMatchObject({
      root: "/r",
      id: "c1",
      bundle: process.cwd(),
      imagePath: `${process.cwd()}/checkpoint`,
      detach: false,
      noSubreaper: false,
      noPivot: false,
    });
    for (const name of ["lsmProfile", "lsmMountContext", "consoleSocket", "pidFile", "workPath"]) {
      expect(options).not.toHaveProperty(name);
    }
  });

  test("with its own", async () => {
    const options = await restore(
      ...["-d", "--no-subreaper", "--no-pivot", "-b", "/b", "--pid-file", "p", "--console-socket", "s"],
      ...["--lsm-profile", "apparmor:x", "--lsm-mount-context", "c"],
    );
    expect(options).toMatchObject({
      bundle: "/b",
      detach: true,
      noSubreaper: true,
      noPivot: true,
      pidFile: `${process.cwd()}/p`,
      consoleSocket: "s",
      lsmProfile: "apparmor:x",
      lsmMountContext: "c",
    });
  });
});
