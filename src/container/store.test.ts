import { afterAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BuncError, renderError } from "../errors.ts";
import * as abi from "../linux/abi.gen.ts";
import { closeFd } from "../linux/process.ts";
import { restoreWaiting, waitInBackground } from "../linux/wait.rig.ts";
import { laterFailure } from "../testing.ts";
import { findHolder, lockHolder } from "./lock-holder.ts";
import { removeStateDir } from "./remove.ts";
import type { State } from "./state.ts";
import {
  checkId,
  createStateDir,
  exists,
  hasFifo,
  listDirectory,
  openDirectory,
  openStateDir,
  readState,
  readSummary,
  statePath,
} from "./store.ts";

const scratch = mkdtempSync(join(tmpdir(), "bunc-store-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let roots = 0;
const freshRoot = (): string => join(scratch, `root${++roots}`);

const isRoot = process.getuid?.() === 0;

const failure = (run: () => unknown): Promise<BuncError> => laterFailure((async () => run())());

function example(id: string): State {
  return {
    bunc: { version: 1, ociVersion: "1.3.0", bundle: "/b", rootfs: "/b/rootfs" },
    id,
    init_process_pid: -1,
    init_process_start: 0,
    created: "2026-11-20T23:53:25Z",
    config: { rootfs: "/b/rootfs", mounts: [], devices: [], namespaces: [], labels: [], version: "1.3.0" },
  } as never;
}

restoreWaiting();

describe("checkId", () => {
  test("takes letters, digits and _ + . -", () => {
    for (const id of ["a", "A-Z_+.-09", "...", ".a", "-", "a".repeat(255)]) checkId(id);
  });

  test("refuses the rest in runc's words", async () => {
    const ids = [
      "",
      ".",
      "..",
      "a/b",
      "/",
      "a b",
      "ü",
      "a\n",
      "a\0",
      "*",
      "a:b",
      "\ud800",
      `${"a".repeat(999)}/`,
    ];
    for (const id of ids) {
      const error = await failure(() => checkId(id));
      expect(error.message).toBe("invalid container ID format");
      expect(error.fields.code).toBe("usage");
      expect(renderError(error).length).toBeLessThan(200);
      expect(() => statePath("/r", id)).toThrow("invalid container ID format");
    }
  });
});

describe("a state directory", () => {
  test("is made with runc's modes, parents included, and only once", async () => {
    const root = join(freshRoot(), "deep", "er");
    const dir = createStateDir(root, "x");
    expect(dir.path).toBe(`${root}/x`);
    expect(statSync(dir.path).mode & 0o7777).toBe(0o711);
    expect(statSync(root).mode & 0o7777).toBe(0o700);
    const error = await failure(() => createStateDir(root, "x"));
    expect([error.message, error.fields.code]).toEqual(["container with given ID already exists", "exists"]);
    dir.close();
  });

  test("errors name path and call", async () => {
    const file = join(scratch, "file");
    writeFileSync(file, "");
    const inFile = await failure(() => createStateDir(file, "x"));
    expect(inFile.message).toBe(`mkdir ${file}/x: not a directory`);
    const long = await failure(() => createStateDir(scratch, "a".repeat(256)));
    expect(long.message).toEndWith("file name too long");
    const inProc = await failure(() => createStateDir("/proc/bunc/root", "x"));
    expect(inProc.message).toMatch(/^mkdir \/proc\/bunc: (no such file or directory|permission denied)$/);
    if (!isRoot) {
      const root = freshRoot();
      mkdirSync(root, { mode: 0o500 });
      const denied = await failure(() => createStateDir(root, "x"));
      expect(denied.message).toBe(`mkdir ${root}/x: permission denied`);
    }
  });

  test("that is a link is not opened", async () => {
    const root = freshRoot();
    mkdirSync(join(root, "real"), { recursive: true });
    symlinkSync("real", join(root, "link"));
    const error = await failure(() => openStateDir(root, "link"));
    expect(error.message).toMatch(/^(container does not exist|open .*: too many levels of symbolic links)$/);
  });

  test("saves and reads a state, through a file that is replaced as a whole", () => {
    const root = freshRoot();
    const dir = createStateDir(root, "x");
    writeFileSync(join(root, "x", ".state.json"), "left by a crash");
    dir.save(example("x"));
    expect(readdirSync(dir.path)).toEqual(["state.json"]);
    expect(statSync(join(dir.path, "state.json")).mode & 0o7777).toBe(0o600);
    expect(readSummary(root, "x")).toEqual(dir.summary());
    expect(readState(root, "x")).toEqual(example("x"));
    dir.save({ ...example("x"), init_process_pid: 77 });
    expect(readSummary(root, "x").pid).toBe(77);
    dir.close();
  });

  test("a state larger than the first read, with its config first or last", () => {
    const root = freshRoot();
    const dir = createStateDir(root, "x");
    const big = example("x");
    big.config.labels = ["a".repeat(200_000)];
    dir.save(big);
    expect(readSummary(root, "x").bundle).toBe("/b");
    big.bunc!.annotations = { a: "é".repeat(100_000) };
    dir.save(big);
    expect(readSummary(root, "x").annotations?.a).toBe("é".repeat(100_000));
    delete big.bunc;
    dir.save(big);
    expect(readSummary(root, "x").rootfs).toBe("/b/rootfs");
    dir.close();
  });

  test("what is missing or no file", async () => {
    const root = freshRoot();
    const missing = await failure(() => readSummary(root, "x"));
    expect(missing.message).toBe("container does not exist");
    expect(missing.fields).toMatchObject({ code: "not-found", hint: expect.stringContaining(`${root}/x`) });
    expect((await failure(() => openStateDir(root, "x"))).message).toBe("container does not exist");
    mkdirSync(join(root, "x", "state.json"), { recursive: true });
    const directory = await failure(() => readSummary(root, "x"));
    expect(directory.message).toBe(`open ${root}/x/state.json: is a directory`);
    writeFileSync(join(root, "plain"), "");
    expect((await failure(() => readSummary(root, "plain"))).message).toBe("container does not exist");
  });

  test("a file that is far too large is told, not read into memory", async () => {
    const root = freshRoot();
    mkdirSync(join(root, "x"), { recursive: true });
    Bun.spawnSync(["truncate", "-s", "100G", join(root, "x", "state.json")]);
    const error = await failure(() => readSummary(root, "x"));
    expect(error.message).toBe(`${root}/x/state.json is larger than 64 MB`);
  });
});

describe("the lock", () => {
  test("is held by one, waited for by others, and told with its holder", async () => {
    const root = freshRoot();
    const first = createStateDir(root, "x");
    const second = openStateDir(root, "x");
    expect(second.tryLock()).toBe(false);
    const error = await failure(() => second.lock(0.05));
    expect(error.message).toBe("container x is busy: another command has been changing it for 0.05 s");
    // Some file systems have other device numbers in /proc/locks; then nobody is named.
    const holder = lockHolder(second.fd);
    if (holder) expect(holder).toStartWith(`process ${process.pid} (`);
    expect(error.fields.hint).toContain(holder ?? "wait for that command");
    waitInBackground();
    setTimeout(() => first.unlock(), 30);
    await second.lock(5);
    expect(first.tryLock()).toBe(false);
    second.close();
    expect(first.tryLock()).toBe(true);
    first.close();
  });

  test("ends with a process that is killed", async () => {
    const root = freshRoot();
    mkdirSync(join(root, "x"), { recursive: true });
    // flock(1) holds the lock itself (-o) while its command waits for the end of its input.
    const other = Bun.spawn(["flock", "-o", join(root, "x"), "-c", "echo held; exec cat"], {
      stdin: "pipe",
      stdout: "pipe",
    });
    await other.stdout.getReader().read();
    const dir = openStateDir(root, "x");
    expect(dir.tryLock()).toBe(false);
    other.kill("SIGKILL");
    await dir.lock(5);
    dir.close();
    other.stdin.end();
    await other.exited;
  });

  test("is not inherited by programs that are started", async () => {
    const root = freshRoot();
    const dir = createStateDir(root, "x");
    const child = Bun.spawn(["sh", "-c", 'ls -l /proc/$$/fd | grep -c "$1"', "sh", root], { stdout: "pipe" });
    expect((await child.stdout.text()).trim()).toBe("0");
    dir.close();
  });

  test("findHolder reads proc_locks(5)", () => {
    const locks = [
      "1: POSIX  ADVISORY  WRITE 10 fe:00:77 0 EOF",
      "2: FLOCK  ADVISORY  WRITE 11 fe:00:78 0 EOF",
      "3: FLOCK  ADVISORY  WRITE 12 fe:00:77 0 EOF",
      "3: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF",
      "4: FLOCK  ADVISORY  WRITE 14 103:00:5 0 EOF",
    ].join("\n");
    expect(findHolder(locks, 0xfe00n, 77n)).toBe(12);
    expect(findHolder(locks, 0x10300n, 5n)).toBe(14);
    expect(findHolder(locks, 0xfe00n, 79n)).toBeUndefined();
    expect(findHolder("", 0n, 0n)).toBeUndefined();
  });

  test("a directory that was removed or made anew is not current", () => {
    const root = freshRoot();
    const dir = createStateDir(root, "x");
    expect(dir.isCurrent()).toBe(true);
    rmSync(dir.path, { recursive: true });
    expect(dir.isCurrent()).toBe(false);
    const again = createStateDir(root, "x");
    expect(again.isCurrent()).toBe(true);
    expect(dir.isCurrent()).toBe(false);
    expect(listDirectory(dir.fd)).toEqual([]);
    dir.close();
    again.close();
  });
});

describe("the exec fifo", () => {
  test("is a fifo the container's root may write to, whatever the umask", () => {
    const root = freshRoot();
    const dir = createStateDir(root, "x");
    const old = process.umask(0o077);
    try {
      dir.makeFifo(0, 0);
    } finally {
      process.umask(old);
    }
    const stat = lstatSync(dir.fifo);
    expect([stat.isFIFO(), stat.mode & 0o7777]).toEqual([true, 0o622]);
    expect(hasFifo(dir.path)).toBe(true);
    expect(() => dir.makeFifo(0, 0)).toThrow(`mkfifo ${dir.fifo}: file exists`);
    dir.close();
  });

  test.skipIf(!isRoot)("belongs to the container's root", () => {
    const dir = createStateDir(freshRoot(), "x");
    dir.makeFifo(100000, 200000);
    const { uid, gid } = lstatSync(dir.fifo);
    expect([uid, gid]).toEqual([100000, 200000]);
    dir.close();
  });
});

test("listDirectory: all entries of a large directory, with their types", () => {
  const dir = freshRoot();
  mkdirSync(join(dir, "sub"), { recursive: true });
  symlinkSync("sub", join(dir, "link"));
  for (let i = 0; i < 2000; i++) writeFileSync(join(dir, `file-é-${i}`), "");
  const fd = openDirectory(dir);
  const entries = listDirectory(fd);
  closeFd(fd);
  if (typeof entries === "number") throw new Error(`errno ${-entries}`);
  expect(entries.map(({ name }) => name).sort()).toEqual(readdirSync(dir).sort());
  const typeOf = (name: string) => entries.find((entry) => entry.name === name)?.type;
  expect([abi.DT_DIR, abi.DT_UNKNOWN]).toContain(typeOf("sub")!);
  expect(typeOf("link")).not.toBe(abi.DT_DIR);
  expect(openDirectory(join(dir, "link"))).toBe(-abi.ENOTDIR);
});

describe("removal", () => {
  function filled(names: readonly string[]): { root: string; path: string } {
    const root = freshRoot();
    const path = join(root, "x");
    mkdirSync(path, { recursive: true });
    for (const name of names) writeFileSync(join(path, name), "");
    return { root, path };
  }

  test("takes all that bunc and runc put there", () => {
    const known = ["state.json", ".state.json", "exec.fifo", "checkpoint", "state-123456", "runc.a1B2c3"];
    const { root, path } = filled(known);
    mkdirSync(join(path, "notify"));
    writeFileSync(join(path, "notify", "notify.sock"), "");
    mkdirSync(join(path, "criu-root"));
    const dir = openStateDir(root, "x");
    removeStateDir(dir);
    expect(existsSync(path)).toBe(false);
    // A second time there is nothing to do.
    removeStateDir(dir);
    dir.close();
  });

  test("leaves what it does not know, and says so", async () => {
    const { root, path } = filled(["state.json", "mine.txt", "also mine"]);
    mkdirSync(join(path, "notify"));
    writeFileSync(join(path, "notify", "more"), "");
    const dir = openStateDir(root, "x");
    const error = await failure(() => removeStateDir(dir));
    expect(error.message).toBe(`unable to remove container state dir: rmdir ${path}: directory not empty`);
    expect(error.fields.hint).toMatch(/"mine.txt"/);
    expect(readdirSync(path).sort()).toEqual(["also mine", "mine.txt", "notify", "state.json"]);
    expect(exists(join(path, "notify", "more"))).toBe(true);
    dir.close();
  });

  test("follows no link", async () => {
    const { root, path } = filled([]);
    const outside = freshRoot();
    mkdirSync(outside);
    writeFileSync(join(outside, "notify.sock"), "precious");
    writeFileSync(join(outside, "state"), "precious");
    symlinkSync(outside, join(path, "notify"));
    symlinkSync(join(outside, "state"), join(path, "state.json"));
    symlinkSync(outside, join(path, "criu-root"));
    const dir = openStateDir(root, "x");
    await failure(() => removeStateDir(dir));
    expect(readdirSync(outside).sort()).toEqual(["notify.sock", "state"]);
    expect(readFileSync(join(outside, "state"), "utf8")).toBe("precious");
    dir.close();
  });

  test("mount points: only those below the directory", () => {
    const { root, path } = filled(["masks"]);
    mkdirSync(join(path, "empty"));
    const dir = openStateDir(root, "x");
    if (!isRoot) return dir.close();
    removeStateDir(dir, ["masks", "empty", "../../..", "/proc"]);
    expect(existsSync("/proc/self")).toBe(true);
    expect(existsSync(path)).toBe(false);
    dir.close();
  });
});
