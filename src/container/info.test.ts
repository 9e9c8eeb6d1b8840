import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { failure } from "../testing.ts";
import type { CgroupOps } from "./cgroups.ts";
import { loadState, Owners, userName } from "./info.ts";
import { listContainers } from "./list.ts";
import { stateText } from "./state-text.ts";
import { processStat } from "./status.ts";

const scratch = mkdtempSync(join(tmpdir(), "bunc-info-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let roots = 0;

const cgroups = (frozen = false) => ({ isFrozen: () => frozen }) as unknown as CgroupOps;
const start = processStat(process.pid)!.start;

/** A container whose init is this test. */
function make(root: string, id: string, more: object = {}, own: object = {}): string {
  const path = join(root, id);
  mkdirSync(path, { recursive: true });
  const state = {
    bunc: { version: 1, ociVersion: "1.3.0", bundle: "/b", rootfs: "/b/rootfs", ...own },
    id,
    init_process_pid: process.pid,
    init_process_start: start,
    created: "2026-11-20T23:53:25.9Z",
    cgroup_paths: {},
    config: { rootfs: "/b/rootfs" },
    ...more,
  };
  writeFileSync(join(path, "state.json"), stateText(state as never));
  return path;
}

const freshRoot = (): string => {
  const root = join(scratch, `root${++roots}`);
  mkdirSync(root);
  return root;
};

const me = Bun.spawnSync(["id", "-un"]).stdout.toString().trim();

describe("loadState", () => {
  test("tells what state prints, in its order", () => {
    const root = freshRoot();
    make(root, "x", {}, { annotations: { a: "b" } });
    const info = loadState(root, "x", cgroups());
    expect(Object.entries(info)).toEqual([
      ["ociVersion", "1.3.0"],
      ["id", "x"],
      ["pid", process.pid],
      ["status", "running"],
      ["bundle", "/b"],
      ["rootfs", "/b/rootfs"],
      ["created", "2026-11-20T23:53:25.9Z"],
      ["annotations", { a: "b" }],
      ["owner", ""],
    ]);
  });

  test("created, paused, stopped", () => {
    const root = freshRoot();
    const path = make(root, "x");
    expect(loadState(root, "x", cgroups(true)).status).toBe("paused");
    writeFileSync(join(path, "exec.fifo"), "");
    expect(loadState(root, "x", cgroups())).toMatchObject({ status: "created", pid: process.pid });
    make(root, "x", { init_process_start: start + 1 });
    expect(loadState(root, "x", cgroups(true))).toMatchObject({ status: "stopped", pid: 0 });
    make(root, "x", { init_process_pid: -1, init_process_start: 0 });
    expect(loadState(root, "x", cgroups())).toMatchObject({ status: "stopped", pid: 0 });
  });

  test("of no container", () => {
    expect(() => loadState(freshRoot(), "x", cgroups())).toThrow("container does not exist");
    expect(() => loadState(freshRoot(), "a/b", cgroups())).toThrow("invalid container ID format");
  });
});

describe("listContainers", () => {
  test("all containers by id; what is none is told or passed over", () => {
    const root = freshRoot();
    for (const id of ["b", "a", "B", "a.1", "stopped"]) {
      make(root, id, id === "stopped" ? { init_process_pid: -1 } : {});
    }
    writeFileSync(join(root, "a-file"), "");
    symlinkSync(join(root, "a"), join(root, "a-link"));
    mkdirSync(join(root, "broken"));
    writeFileSync(join(root, "broken", "state.json"), "{");
    mkdirSync(join(root, "empty"));
    const { containers, errors } = listContainers(root, cgroups());
    expect(containers.map(({ id, pid, status, owner }) => [id, pid, status, owner])).toEqual([
      ["B", process.pid, "running", me],
      ["a", process.pid, "running", me],
      ["a.1", process.pid, "running", me],
      ["b", process.pid, "running", me],
      ["stopped", 0, "stopped", me],
    ]);
    expect(errors.length).toBe(2);
    expect(errors[0]).toStartWith(
      `load container broken: ${root}/broken/state.json cannot be read: invalid JSON`,
    );
    expect(errors[0]).toContain("delete --force");
    expect(errors[1]).toStartWith("load container empty: container does not exist");
  });

  test("none, and no root", () => {
    const root = freshRoot();
    expect(listContainers(root, cgroups())).toEqual({ containers: [], errors: [] });
    const error = failure(() => listContainers(join(root, "absent")));
    expect([error.message, error.fields.errno]).toEqual([
      `open ${root}/absent: no such file or directory`,
      "ENOENT",
    ]);
    writeFileSync(join(root, "file"), "");
    const file = failure(() => listContainers(join(root, "file")));
    expect(file.message).toBe(`open ${root}/file: not a directory`);
  });

  test("a name that is no id is told like every other directory", () => {
    const root = freshRoot();
    make(root, "with space");
    expect(listContainers(root, cgroups()).containers.length).toBe(1);
  });
});

describe("owners", () => {
  test("userName reads passwd(5)", () => {
    const passwd =
      "root:x:0:0:root:/root:/bin/sh\n\n#:x\nbroken\n+::::::\nbob:x:1000:0::/:\nrob:x:1000:0::/:\nlast:x:7";
    expect(userName(passwd, 0)).toBe("root");
    expect(userName(passwd, 1000)).toBe("bob");
    expect(userName(passwd, 7)).toBe("last");
    expect(userName(passwd, 1)).toBeUndefined();
    expect(userName("", 0)).toBeUndefined();
  });

  test("a uid without a name", () => {
    const owners = new Owners();
    expect(owners.name(4_000_000_123)).toBe("#4000000123");
    expect(owners.name(process.getuid!())).toBe(me);
  });
});
