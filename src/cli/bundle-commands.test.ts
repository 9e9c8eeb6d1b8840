/** The commands that work on a bundle without a container: spec, validate, explain. Needs build/libbunc.ts. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { message, reset, rig, run } from "./recorded.ts";

let bundle: string;
beforeEach(() => {
  reset();
  bundle = mkdtempSync(join(tmpdir(), "bunc-bundle-"));
});
afterEach(() => rmSync(bundle, { recursive: true, force: true }));

function config(text: string | object): void {
  writeFileSync(join(bundle, "config.json"), typeof text === "string" ? text : JSON.stringify(text));
}

describe("spec", () => {
  test("writes a config.json that validates, indented by tabs, 0666 & ~umask", async () => {
    const old = process.umask(0o027);
    const code = await run(["spec", "-b", bundle]);
    process.umask(old);
    expect(code).toBe(0);
    const path = join(bundle, "config.json");
    const text = readFileSync(path, "utf8");
    expect(text).toStartWith('{\n\t"ociVersion": "');
    expect(text).toEndWith("}");
    expect(JSON.parse(text).process.args).toEqual(["sh"]);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    mkdirSync(join(bundle, "rootfs"));
    expect(await run(["validate", "-b", bundle])).toBe(0);
  });
  test("--rootless maps the caller", async () => {
    expect(await run(["spec", "--rootless", "--bundle", bundle])).toBe(0);
    const { linux } = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8"));
    expect(linux.uidMappings).toEqual([{ containerID: 0, hostID: process.geteuid?.(), size: 1 }]);
  });
  test("never overwrites, nor follows a dangling link", async () => {
    config("mine");
    expect(await run(["spec", "-b", bundle])).toBe(1);
    expect(message()).toBe('"File config.json exists. Remove it first"');
    expect(readFileSync(join(bundle, "config.json"), "utf8")).toBe("mine");
    rmSync(join(bundle, "config.json"));
    symlinkSync(join(bundle, "elsewhere"), join(bundle, "config.json"));
    rig.stderr = "";
    expect(await run(["spec", "-b", bundle])).toBe(1);
    expect(message()).toContain("Remove it first");
  });
  test("a bundle that is not there", async () => {
    expect(await run(["spec", "-b", join(bundle, "no")])).toBe(1);
    expect(message()).toContain("no such file or directory");
  });
});

describe("validate", () => {
  test("lists every problem on stdout, and says how many on stderr", async () => {
    config({ ociVersion: "1.0.2", process: { cwd: "x", args: [], user: {} }, root: { path: "rootfs" } });
    expect(await run(["validate", "-b", bundle])).toBe(1);
    const lines = rig.stdout.trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(1);
    expect(lines.some((line) => line.startsWith("process.cwd: "))).toBe(true);
    expect(lines.some((line) => line.startsWith("process.args: "))).toBe(true);
    expect(message()).toBe(`"config.json has ${lines.length} problems"`);
  });
  test("what cannot be read or parsed is one error", async () => {
    const cases: [() => void, string][] = [
      [() => {}, "config.json not found"],
      [() => config(""), "is empty"],
      [() => config("{"), "config.json"],
      [() => mkdirSync(join(bundle, "config.json")), "is a directory"],
      [() => symlinkSync("config.json", join(bundle, "config.json")), "too many levels of symbolic links"],
    ];
    for (const [arrange, words] of cases) {
      rmSync(join(bundle, "config.json"), { recursive: true, force: true });
      arrange();
      rig.stderr = "";
      expect(await run(["validate", "-b", bundle])).toBe(1);
      expect(message()).toContain(words);
      expect(rig.stdout).toBe("");
    }
    rig.stderr = "";
    expect(await run(["validate", "-b", join(bundle, "no")])).toBe(1);
    expect(message()).toContain("no such file or directory");
  });
  test("a missing rootfs", async () => {
    await run(["spec", "-b", bundle]);
    expect(await run(["validate", "-b", bundle])).toBe(1);
    expect(message()).toContain("rootfs");
  });
});

test("explain hands the absolute bundle on and prints what comes back", async () => {
  expect(await run(["explain", "-b", bundle])).toBe(0);
  expect(await run(["explain", "--json"])).toBe(0);
  expect(rig.calls).toEqual([
    ["explain", bundle, false],
    ["explain", process.cwd(), true],
  ]);
  expect(rig.stdout).toBe("mounts\n{}\n");
});

test("explain exec hands on what exec would, and refuses what is neither", async () => {
  const args = ["exec", "-t", "--user", "1:2", "-e", "A=b", "web", "sh", "-c", "x"];
  expect(await run(["explain", "--json", ...args])).toBe(0);
  expect(await run(args)).toBe(3);
  const [explained, executed] = rig.calls as [string, object][];
  const { detach: _, log: __, ...options } = executed![1] as { detach: boolean; log: object };
  expect(explained![0]).toBe("explain exec");
  expect(explained![1]).toMatchObject(options);
  expect(rig.stdout).toBe("{}\n");
  rig.stdout = "";
  expect(await run(["explain", "exec", "--help"])).toBe(0);
  expect(rig.stdout).toContain("--no-new-privs");
  for (const [wrong, words] of [
    [["web"], 'takes no \\"web\\"'],
    [["-b", "/b", "exec", "web", "sh"], "takes no --bundle"],
    [["exec"], "container id cannot be empty"],
    [["exec", "--bogus", "web"], "flag provided but not defined: -bogus"],
  ] as const) {
    rig.stderr = "";
    expect(await run(["explain", ...wrong])).toBe(1);
    expect(rig.stderr).toContain(words);
  }
});
