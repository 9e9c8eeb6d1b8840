import { describe, expect, test } from "bun:test";
import { type BuncError, renderError } from "../errors.ts";
import { defaultSpec, formatSpec } from "../oci/spec-default.ts";
import { failure as refused } from "../testing.ts";
import { type Answer, absolute, type BundleIo, LONGEST_CONFIG, loadBundle } from "./load.ts";

/** A host of a few files (text), directories (null), and paths that fail (an errno). */
function host(paths: Record<string, string | null | { errno: string }>): BundleIo {
  function find(path: string): string | null | { errno: string } {
    return Object.hasOwn(paths, path) ? paths[path]! : { errno: "ENOENT" };
  }
  return {
    readText(path, limit): Answer<string> {
      const found = Object.hasOwn(paths, path) ? paths[path] : { errno: "ENOENT" };
      if (found === null) return { errno: "EISDIR" };
      if (typeof found === "object") return found;
      return found!.length > limit ? { errno: "EFBIG" } : { value: found! };
    },
    isDirectory(path): Answer<boolean> {
      const found = find(path);
      if (found === null) return { value: true };
      return typeof found === "object" ? found : { value: false };
    },
  };
}

const failure = (dir: string, io: BundleIo): BuncError => refused(() => loadBundle(dir, io));

const good = formatSpec(defaultSpec());

test("a good bundle", () => {
  const bundle = loadBundle("/b", host({ "/b": null, "/b/config.json": good, "/b/rootfs": null }));
  expect(bundle).toEqual({
    dir: "/b",
    spec: { ...defaultSpec(), root: { path: "/b/rootfs", readonly: true } },
    warnings: [],
    digest: expect.any(String),
  });
});

test("a config.json that is known to be valid is not validated again, another is", () => {
  const load = (config: string, valid?: string) =>
    loadBundle("/b", host({ "/b/config.json": config, "/b/rootfs": null }), undefined, valid);
  const first = load(good);
  expect(load(good, first.digest)).toEqual(first);
  const bad = good.replace('"cwd": "/"', '"cwd": ""');
  expect(refused(() => load(bad, first.digest)).fields.path).toBe("process.cwd");
  expect(load(good.replace("TERM=xterm", "TERM=vt100"), first.digest).digest).not.toBe(first.digest);
});

test.each([
  ["of an old version", good.replace(/"ociVersion": "[^"]*"/, '"ociVersion": "0.5.0"')],
  ["with a number beyond 2^53", good.replace(/"hard": \d+/, '"hard": 18446744073709551615')],
  ["with a warning", good.replace('"/proc"', '"proc"')],
])("a config.json %s is always validated", (_, config) => {
  expect(config).not.toBe(good);
  const bundle = loadBundle("/b", host({ "/b/config.json": config, "/b/rootfs": null }));
  expect(bundle.digest).toBeUndefined();
});

test("warnings come with it", () => {
  const config = good.replace('"/proc"', '"proc"').replace('"rootfs"', '"/elsewhere/./root"');
  const bundle = loadBundle("/b", host({ "/b/config.json": config, "/elsewhere/./root": null }));
  expect(bundle.spec.root.path).toBe("/elsewhere/./root");
  expect(bundle.warnings.map(({ path }) => path)).toEqual(["mounts[0].destination"]);
});

describe("what cannot be loaded", () => {
  test.each([
    [
      "no config.json",
      { "/b": null },
      "not-found",
      'JSON specification file config.json not found (in bundle; hint: a bundle is a directory with a config.json; "spec" writes one)',
    ],
    ["no bundle", {}, "not-found", 'bundle "/b": no such file or directory (in bundle; ENOENT)'],
    [
      "a file as bundle",
      { "/b": "", "/b/config.json": { errno: "ENOTDIR" } },
      "not-found",
      'bundle "/b": not a directory (in bundle)',
    ],
    [
      "a bundle that may not be entered",
      { "/b/config.json": { errno: "EACCES" } },
      "host",
      "read /b/config.json: permission denied (in bundle; EACCES)",
    ],
    [
      "a directory as config.json",
      { "/b": null, "/b/config.json": null },
      "host",
      "read /b/config.json: is a directory (in bundle; EISDIR)",
    ],
    [
      "a pipe as config.json",
      { "/b/config.json": { errno: "EAGAIN" } },
      "host",
      "read /b/config.json: it is a pipe, which is not waited for (in bundle; EAGAIN)",
    ],
    [
      "an errno without words",
      { "/b/config.json": { errno: "ESTALE" } },
      "host",
      "read /b/config.json: ESTALE (in bundle)",
    ],
    ["an empty config.json", { "/b/config.json": "" }, "config", "/b/config.json is empty (in bundle)"],
    [
      "no JSON",
      { "/b/config.json": '{"ociVersion":\n}' },
      "config",
      '/b/config.json: invalid JSON: "}" where a value should be at line 2 column 1 (in bundle)',
    ],
    ["null", { "/b/config.json": "null" }, "config", "config cannot be null (in validation)"],
    [
      "one problem",
      { "/b/config.json": good.replace('"cwd": "/"', '"cwd": "x"') },
      "config",
      "process.cwd: Cwd must be an absolute path (in validation)",
    ],
    [
      "many",
      { "/b/config.json": "{}" },
      "config",
      "config.json has 3 problems: ociVersion: is required; process: process property must not be empty; root: root must be specified (in validation)",
    ],
    [
      "no rootfs",
      { "/b/config.json": good },
      "not-found",
      "invalid rootfs: stat /b/rootfs: no such file or directory (in bundle; at root.path; ENOENT)",
    ],
    [
      "a file as rootfs",
      { "/b/config.json": good, "/b/rootfs": "" },
      "config",
      "invalid rootfs: /b/rootfs: not a directory (in bundle; at root.path)",
    ],
    [
      "a rootfs that may not be seen",
      { "/b/config.json": good, "/b/rootfs": { errno: "EACCES" } },
      "host",
      "invalid rootfs: stat /b/rootfs: permission denied (in bundle; at root.path; EACCES)",
    ],
  ] as const)("%s", (_what, paths, code, line) => {
    const error = failure("/b", host(paths));
    expect(renderError(error)).toBe(line);
    expect(error.fields.code).toBe(code);
  });

  test("a config.json that is too long", () => {
    const io = host({ "/b": null });
    io.readText = (_path, limit) => {
      expect(limit).toBe(LONGEST_CONFIG);
      return { errno: "EFBIG" };
    };
    expect(renderError(failure("/b", io))).toBe("/b/config.json is longer than 64 MB (in bundle)");
  });
});

test.each([
  ["/b", "rootfs", "/b/rootfs"],
  ["/", "rootfs", "/rootfs"],
  ["/b", "/r/../s", "/r/../s"],
  ["/b", "./a//b/", "/b/a/b"],
  ["/b/c", "../root", "/b/root"],
  ["/b", "../../../x", "/x"],
  ["/b", ".", "/b"],
  ["/", "..", "/"],
  ["/b", ".hidden", "/b/.hidden"],
])("in %s, %s is %s", (dir, path, result) => {
  expect(absolute(dir, path)).toBe(result);
});
