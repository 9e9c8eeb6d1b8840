/**
 * MKPATH, executed by build/libbunc.so in directories of /tmp: mount targets below a rootfs with whatever links, loops
 * and files in the way. Needs a build, but no root.
 */
import { describe, expect, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as abi from "../linux/abi.gen.ts";
import { errnoName } from "../linux/errno.ts";
import { sys, text } from "../linux/lib.ts";
import { descriptors, opened } from "../testing.ts";
import { call, errnoOf, inTemporary, withDirectory } from "./testing-run.ts";

const DIRECTORY = abi.S_IFDIR;
const FILE = abi.S_IFREG;

/** Makes a path below a root; gives where it led (relative to the root's parent), or the errno. */
function makePath(root: string, path: string, kind: number, mode = 0o755): string {
  return withDirectory(root, (fd) => {
    const found = call(abi.BUNC_OP_MKPATH, fd, path, kind, mode);
    if (found < 0) return errnoName(-found);
    const target = new Uint8Array(8192);
    const size = sys(abi.SYS_readlinkat, abi.AT_FDCWD, `/proc/self/fd/${found}`, target, target.length);
    sys(abi.SYS_close, found);
    return text(target.subarray(0, size)).slice(root.length) || "/";
  });
}

/** A root beside a directory that nothing may be made in. */
async function inRoot(body: (root: string, outside: string) => void): Promise<void> {
  await inTemporary((dir) => {
    const root = join(dir, "root");
    const outside = join(dir, "outside");
    mkdirSync(root);
    mkdirSync(outside);
    body(root, outside);
    expect(readdirSync(outside)).toEqual([]);
    expect(readdirSync(dir).sort()).toEqual(["outside", "root"]);
  });
}

describe("MKPATH", () => {
  test("makes what is missing, with the mode, and gives a descriptor of it", async () => {
    await inRoot((root) => {
      expect(makePath(root, "/a/b/c", DIRECTORY, 0o750)).toBe("/a/b/c");
      for (const path of ["a", "a/b", "a/b/c"]) {
        const { mode } = statSync(join(root, path));
        expect(mode & 0o7777).toBe(0o750 & ~process.umask());
      }
      expect(makePath(root, "/a/b/file", FILE)).toBe("/a/b/file");
      expect(statSync(join(root, "a/b/file")).isFile()).toBe(true);
      expect(statSync(join(root, "a/b/file")).mode & 0o111).toBe(0);
    });
  });

  test("leaves what is there alone", async () => {
    await inRoot((root) => {
      mkdirSync(join(root, "a"), { mode: 0o700 });
      writeFileSync(join(root, "a/file"), "content", { mode: 0o600 });
      expect(makePath(root, "/a", DIRECTORY)).toBe("/a");
      expect(makePath(root, "/a/file", FILE)).toBe("/a/file");
      expect(statSync(join(root, "a")).mode & 0o777).toBe(0o700);
      expect(readFileSync(join(root, "a/file"), "utf8")).toBe("content");
    });
  });

  test.each([
    ["/", "/"],
    ["", "/"],
    [".", "/"],
    ["//", "/"],
    ["a", "/a"],
    ["//a///b//", "/a/b"],
    ["/./a/./b/.", "/a/b"],
    ["/..", "/"],
    ["/../../../../a", "/a"],
    ["/there/../a", "/a"],
  ])("of %p leads to %p", async (path, wanted) => {
    await inRoot((root) => {
      mkdirSync(join(root, "there"));
      expect(makePath(root, path, DIRECTORY)).toBe(wanted);
    });
  });

  test("refuses .. below what does not exist, as nobody can say where that leads", async () => {
    await inRoot((root) => {
      expect(makePath(root, "/missing/../a", DIRECTORY)).toBe("EINVAL");
      expect(makePath(root, "/missing2/../../../a", FILE)).toBe("EINVAL");
    });
  });

  test.each([
    ["an absolute link", "/real", "/real/x"],
    ["an absolute link to the root", "/", "/x"],
    ["a relative link", "real", "/real/x"],
    ["a link with ..", "../../../real", "/real/x"],
    ["a link through itself", "deep/../../real", "/real/x"],
    ["a dangling link", "/new/place", "/new/place/x"],
    ["a dangling relative link", "new/place", "/new/place/x"],
    ["a dangling link above the root", "../../../../new", "/new/x"],
  ])("follows %s inside of the root", async (_name, target, wanted) => {
    await inRoot((root) => {
      mkdirSync(join(root, "real"));
      mkdirSync(join(root, "deep"));
      symlinkSync(target, join(root, "link"));
      expect(makePath(root, "/link/x", DIRECTORY)).toBe(wanted);
    });
  });

  test("makes the file that a dangling last link names, as images have /etc/resolv.conf", async () => {
    await inRoot((root) => {
      mkdirSync(join(root, "etc"));
      mkdirSync(join(root, "run"));
      symlinkSync("../run/systemd/stub.conf", join(root, "etc/resolv.conf"));
      expect(makePath(root, "/etc/resolv.conf", FILE)).toBe("/run/systemd/stub.conf");
      expect(statSync(join(root, "run/systemd/stub.conf")).isFile()).toBe(true);
      expect(lstatSync(join(root, "etc/resolv.conf")).isSymbolicLink()).toBe(true);
    });
  });

  test("never leaves the root by a link to what lies outside", async () => {
    await inRoot((root, outside) => {
      symlinkSync(outside, join(root, "absolute"));
      symlinkSync(`../${"../".repeat(40)}${outside}`, join(root, "relative"));
      symlinkSync("../outside", join(root, "beside"));
      expect(makePath(root, "/absolute/a", DIRECTORY)).toBe(`${outside}/a`);
      expect(makePath(root, "/relative/b", FILE)).toBe(`${outside}/b`);
      expect(makePath(root, "/beside/c", DIRECTORY)).toBe("/outside/c");
      expect(existsSync(join(root, outside, "a"))).toBe(true);
    });
  });

  test("refuses magic links, which lead anywhere", async () => {
    await inRoot((root) => {
      symlinkSync("/proc/self/root", join(root, "link"));
      // Without a /proc in the root it is a dangling link like any other.
      expect(makePath(root, "/link/x", DIRECTORY)).toBe("/proc/self/root/x");
    });
    withDirectory("/proc", (proc) => {
      expect(errnoOf(abi.BUNC_OP_MKPATH, proc, "/self/cwd/x", DIRECTORY, 0o755)).toBe("ELOOP");
      expect(errnoOf(abi.BUNC_OP_MKPATH, proc, "/self/exe", FILE, 0o755)).toBe("ELOOP");
    });
  });

  test("ends on loops and on chains that are too long", async () => {
    await inRoot((root) => {
      symlinkSync("b", join(root, "a"));
      symlinkSync("a", join(root, "b"));
      symlinkSync("self/x", join(root, "self"));
      for (let i = 0; i < 60; i++) symlinkSync(`l${i + 1}`, join(root, `l${i}`));
      expect(makePath(root, "/a/x", DIRECTORY)).toBe("ELOOP");
      expect(makePath(root, "/self", FILE)).toBe("ELOOP");
      expect(makePath(root, "/l0/x", DIRECTORY)).toBe("ELOOP");
      expect(makePath(root, "/l50", FILE)).toBe("/l60");
    });
  });

  test("ends on links that grow with each step", async () => {
    await inRoot((root) => {
      // Each makes the path longer; 40 links of 200 bytes pass the longest path there is.
      const long = "d".repeat(200);
      for (let i = 0; i < 39; i++) symlinkSync(`g${i + 1}/${long}`, join(root, `g${i}`));
      expect(["ENAMETOOLONG", "ELOOP"]).toContain(makePath(root, "/g0/x", DIRECTORY));
      symlinkSync(`m1/${"x".repeat(250)}`.padEnd(4000, "/y"), join(root, "m0"));
      expect(makePath(root, `/m0/${"z/".repeat(200)}`, DIRECTORY)).toBe("ENAMETOOLONG");
    });
  });

  test("refuses a file in the way", async () => {
    await inRoot((root) => {
      writeFileSync(join(root, "file"), "");
      symlinkSync("file", join(root, "link"));
      expect(makePath(root, "/file/x", DIRECTORY)).toBe("ENOTDIR");
      expect(makePath(root, "/link/x/y", FILE)).toBe("ENOTDIR");
      expect(makePath(root, "/file/", DIRECTORY)).toBe("ENOTDIR");
      expect(readdirSync(root).sort()).toEqual(["file", "link"]);
    });
  });

  test("takes names of 255 bytes and none that are longer, in bytes and not characters", async () => {
    await inRoot((root) => {
      const longest = "n".repeat(255);
      const wide = "ä".repeat(127);
      expect(makePath(root, `/${longest}/${wide}a/x`, DIRECTORY)).toBe(`/${longest}/${wide}a/x`);
      expect(makePath(root, `/${longest}n`, DIRECTORY)).toBe("ENAMETOOLONG");
      expect(makePath(root, `/a/${wide}ä`, FILE)).toBe("ENAMETOOLONG");
      expect(makePath(root, `/${"a/".repeat(3000)}`, DIRECTORY)).toBe("ENAMETOOLONG");
    });
  });

  test("goes down hundreds of directories", async () => {
    await inRoot((root) => {
      const deep = "/a".repeat(300);
      expect(makePath(root, deep, DIRECTORY)).not.toStartWith("E");
      expect(makePath(root, `${deep}/file`, FILE)).not.toStartWith("E");
    });
  });

  test("gives an errno for a root that is none", () => {
    expect(errnoOf(abi.BUNC_OP_MKPATH, -1, "/a", DIRECTORY, 0o755)).toBe("EBADF");
    expect(errnoOf(abi.BUNC_OP_MKPATH, 9999, "a/b", FILE, 0o755)).toBe("EBADF");
  });

  test("leaves no descriptor open, whatever happens", async () => {
    await inRoot((root) => {
      symlinkSync("a/../b", join(root, "link"));
      const before = descriptors();
      for (const path of ["/x/y/z", "/link/c", "/missing/../a", "/a/../../b", `/q/${"n".repeat(300)}`]) {
        makePath(root, path, DIRECTORY);
        makePath(root, path, FILE);
      }
      expect(opened(before)).toEqual([]);
    });
  });
});
