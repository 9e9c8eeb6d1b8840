// Where external mounts are: destinations are followed as the container would, and never out of the rootfs.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LibcontainerConfig } from "../container/libcontainer.ts";
import { BuncError } from "../errors.ts";
import { dumpMounts, restoreMounts } from "./mounts.ts";

const rootfs = mkdtempSync("/tmp/bunc-criu-mounts-");
afterAll(() => rmSync(rootfs, { recursive: true }));
mkdirSync(join(rootfs, "real/deep"), { recursive: true });
mkdirSync(join(rootfs, "etc"));
writeFileSync(join(rootfs, "real/file"), "");
symlinkSync("real", join(rootfs, "link"));
symlinkSync("/real/deep", join(rootfs, "absolute"));
symlinkSync("../../../../../../etc", join(rootfs, "escape"));
symlinkSync("loop", join(rootfs, "loop"));

function config(destinations: string[], more: Partial<LibcontainerConfig> = {}): LibcontainerConfig {
  return {
    rootfs,
    mounts: destinations.map((destination) => ({ source: "/src", destination, device: "bind" })),
    devices: null,
    namespaces: [{ type: "NEWCGROUP" }],
    cgroups: { devices: [] },
    version: "1.3.0",
    labels: null,
    ...more,
  };
}

const places = (...destinations: string[]): string[] =>
  restoreMounts(config(destinations), {}).map(({ key }) => key);

describe("a destination", () => {
  test("is clean, and its links are those of the container", () => {
    expect(places("/real//deep/./", "/link/deep", "/absolute", "/real/../link/file")).toEqual([
      "/real/deep",
      "/real/deep",
      "/real/deep",
      "/real/file",
    ]);
  });

  test("that does not exist, as it lies on another mount, stays as it is from there", () => {
    expect(places("/link/new/place", "/nowhere/link", "/real/file/below")).toEqual([
      "/real/new/place",
      "/nowhere/link",
      "/real/file/below",
    ]);
  });

  test("cannot leave the rootfs", () => {
    expect(places("/escape/passwd", "/../../etc/passwd")).toEqual(["/etc/passwd", "/etc/passwd"]);
    expect(() => places("/loop/x")).toThrow(BuncError);
  });

  test("may name the rootfs, as runc has it", () => {
    expect(places(`${rootfs}/link/deep`)).toEqual(["/real/deep"]);
  });
});

test("what is external: binds, devices, masked files; other file systems are not", () => {
  const mixed = config(["/real"], {
    mask_paths: ["/etc/shadow"],
    devices: [
      { path: "/dev/x", type: 99, major: 1, minor: 3, permissions: "", allow: false, file_mode: 0o666 },
    ],
  });
  mixed.mounts!.push({ source: "proc", destination: "/proc", device: "proc" });
  expect(restoreMounts(mixed, {})).toEqual([
    { key: "/real", val: "/src" },
    { key: "/dev/null", val: "/dev/null" },
    { key: "/dev/x", val: "/dev/x" },
  ]);
});

test("at a dump masked paths are external where they are files of the process", () => {
  const masked = config([], { mask_paths: ["/etc/passwd", "/etc", "/no/such/thing", "/etc/passwd/below"] });
  expect(dumpMounts(masked, process.pid)).toEqual([{ key: "/etc/passwd", val: "/dev/null" }]);
});

test("a rootfs that is gone is named", () => {
  expect(() => restoreMounts(config(["/a"], { rootfs: "/no/such/rootfs" }), {})).toThrow(
    "open /no/such/rootfs: no such file or directory",
  );
});
