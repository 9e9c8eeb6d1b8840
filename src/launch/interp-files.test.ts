/**
 * The composites that read an image's files, executed by build/libbunc.so in directories of /tmp: HOME (a passwd file)
 * and COPYUP (tmpcopyup). Needs a build, but no root.
 */
import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as abi from "../linux/abi.gen.ts";
import { sys, text } from "../linux/lib.ts";
import { descriptors, opened } from "../testing.ts";
import { Part } from "./program.ts";
import { errnoOf, inTemporary, run } from "./testing-run.ts";

describe("HOME", () => {
  const buffer = new Uint8Array(1024);

  function home(path: string, uid: number, size = buffer.length): string {
    const part = new Part();
    part.op(abi.BUNC_OP_HOME, [path, uid, buffer, size]);
    return readBack(part);
  }

  /** Executes a part, then writes the buffer, which lies in the part, to a pipe; gives its text or the errno. */
  function readBack(part: Part): string {
    const ends = new Int32Array(2);
    sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC);
    try {
      part.op(abi.BUNC_OP_WRITE, [ends[1]!, buffer, buffer.length]);
      const { errno } = run(part);
      if (errno) return errno;
      const got = new Uint8Array(buffer.length);
      sys(abi.SYS_read, ends[0]!, got, got.length);
      return text(got.subarray(0, got.indexOf(0)));
    } finally {
      sys(abi.SYS_close, ends[0]!);
      sys(abi.SYS_close, ends[1]!);
    }
  }

  async function withPasswd(content: string | Uint8Array, body: (path: string) => void): Promise<void> {
    await inTemporary((dir) => {
      writeFileSync(join(dir, "passwd"), content);
      body(join(dir, "passwd"));
    });
  }

  const PASSWD =
    "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nlast:x:4294967295:1::/last:";

  test("is that of the uid, also in a last line without a newline", async () => {
    await withPasswd(PASSWD, (path) => {
      expect(home(path, 0)).toBe("HOME=/root");
      expect(home(path, 1000)).toBe("HOME=/home/user");
      expect(home(path, 4294967295)).toBe("HOME=/last");
      expect(home(path, 7)).toBe("HOME=/");
      expect(home(path, 100)).toBe("HOME=/");
    });
  });

  test("of the first line that has the uid counts", async () => {
    await withPasswd("a:x:5:5::/first:\nb:x:5:5::/second:\n", (path) =>
      expect(home(path, 5)).toBe("HOME=/first"),
    );
  });

  test.each([
    ["", "HOME=/"],
    ["\n\n\n", "HOME=/"],
    ["root", "HOME=/"],
    ["root:x:0", "HOME=/"],
    ["root:x:0:0:root", "HOME=/"],
    ["root:x:0:0:root:", "HOME=/"],
    ["root:x:0:0:root:/root", "HOME=/root"],
    ["root:x:0:0:root:relative:x", "HOME=relative"],
    ["root:x::0:root:/bad:\nroot:x:0:0::/good:", "HOME=/good"],
    ["root:x:+0:0:root:/bad:\nroot:x:0:0::/good:", "HOME=/good"],
    ["root:x: 0:0:root:/bad:\nroot:x:0:0::/good:", "HOME=/good"],
    ["root:x:0x0:0:root:/bad:\nroot:x:0:0::/good:", "HOME=/good"],
    ["root:x:18446744073709551616:0:root:/bad:\nroot:x:0:0::/good:", "HOME=/good"],
    ["root:x:4294967296:0:root:/bad:\nroot:x:0:0::/good:", "HOME=/good"],
    [":::::::::\n:x:0::::::\n", "HOME=/"],
    ["#root:x:0:0::/commented:", "HOME=/commented"],
  ])("of %p is %p", async (content, wanted) => {
    await withPasswd(content, (path) => expect(home(path, 0)).toBe(wanted));
  });

  test("is / for a home that does not fit, and never cut off", async () => {
    await withPasswd(`root:x:0:0::/${"h".repeat(2000)}:\n`, (path) => expect(home(path, 0)).toBe("HOME=/"));
    const fits = `/${"h".repeat(buffer.length - 7)}`;
    await withPasswd(`root:x:0:0::${fits}:\n`, (path) => expect(home(path, 0)).toBe(`HOME=${fits}`));
    await withPasswd(`root:x:0:0::${fits}h:\n`, (path) => expect(home(path, 0)).toBe("HOME=/"));
    await withPasswd(PASSWD, (path) => {
      expect(home(path, 0, 6)).toBe("EINVAL");
      expect(home(path, 0, 7)).toBe("HOME=/");
    });
  });

  test("is found behind long lines, wherever the reads end", async () => {
    for (const size of [4000, 4080, 4090, 4095, 4096, 4097, 8191, 8192, 8193, 100_000]) {
      const line = `long:x:0:0:${"c".repeat(size)}:/wrong:\n`;
      await withPasswd(`first:x:1:1::/first:\n${line}user:x:1000:1000::/home/user:\n`, (path) => {
        expect(home(path, 1)).toBe("HOME=/first");
        expect(home(path, 1000)).toBe("HOME=/home/user");
      });
    }
  });

  test("is not taken from the middle of a long line", async () => {
    for (let size = 4050; size < 4140; size++) {
      const line = `${"c".repeat(size)}:x:0:0::/wrong:/bin/sh`;
      await withPasswd(`long:x:77:77:${line}\nroot:x:0:0::/right:\n`, (path) => {
        expect([size, home(path, 0)]).toEqual([size, "HOME=/right"]);
      });
    }
  });

  test("is found for every alignment of short lines", async () => {
    for (let pad = 0; pad < 64; pad++) {
      const lines = Array.from(
        { length: 200 },
        (_, i) => `u${i}:x:${i + 1}:1:${"c".repeat((i * 7) % 60)}:/home/${i}:`,
      );
      await withPasswd(`${"p".repeat(pad)}:x:9999:1::/p:\n${lines.join("\n")}`, (path) => {
        for (const uid of [1, 99, 150, 200]) expect(home(path, uid)).toBe(`HOME=/home/${uid - 1}`);
      });
    }
  });

  test("is / where there is no file to read, and does not wait for one", async () => {
    await inTemporary((dir) => {
      expect(home(join(dir, "missing"), 0)).toBe("HOME=/");
      expect(home(dir, 0)).toBe("HOME=/");
      expect(home("/dev/zero", 0)).toBe("HOME=/");
      const fifo = join(dir, "fifo");
      expect(sys(abi.SYS_mknodat, abi.AT_FDCWD, fifo, abi.S_IFIFO | 0o600, 0)).toBe(0);
      expect(home(fifo, 0)).toBe("HOME=/");
    });
  });

  test("of an endless file is given up", async () => {
    await inTemporary((dir) => {
      const path = join(dir, "passwd");
      writeFileSync(path, "");
      truncateSync(path, 1 << 40);
      const before = performance.now();
      expect(home(path, 0)).toBe("HOME=/");
      expect(performance.now() - before).toBeLessThan(2000);
    });
  });
});

describe("COPYUP", () => {
  function copyUp(from: string, to: string): string {
    const open = (path: string) =>
      sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
    const [source, target] = [open(from), open(to)];
    try {
      return errnoOf(abi.BUNC_OP_COPYUP, source, target);
    } finally {
      sys(abi.SYS_close, source);
      sys(abi.SYS_close, target);
    }
  }

  async function withTrees(body: (from: string, to: string) => void): Promise<void> {
    await inTemporary((dir) => {
      const [from, to] = [join(dir, "from"), join(dir, "to")];
      mkdirSync(from);
      mkdirSync(to);
      const before = descriptors();
      body(from, to);
      expect(opened(before)).toEqual([]);
    });
  }

  test("copies every kind of file with mode and times", async () => {
    await withTrees((from, to) => {
      const large = Buffer.alloc(3_000_000, "0123456789");
      mkdirSync(join(from, "dir/sub"), { recursive: true });
      writeFileSync(join(from, "dir/large"), large);
      writeFileSync(join(from, "dir/sub/empty"), "");
      writeFileSync(join(from, "setuid"), "x");
      symlinkSync("/etc/passwd", join(from, "absolute"));
      symlinkSync("dir/../../..", join(from, "relative"));
      symlinkSync("t".repeat(4000), join(from, "long"));
      for (const [name, type] of [
        ["fifo", abi.S_IFIFO],
        ["socket", abi.S_IFSOCK],
      ] as const) {
        expect(sys(abi.SYS_mknodat, abi.AT_FDCWD, join(from, name), type | 0o640, 0)).toBe(0);
        chmodSync(join(from, name), 0o642);
      }
      chmodSync(join(from, "setuid"), 0o4751);
      chmodSync(join(from, "dir/sub"), 0o1777);
      chmodSync(join(from, "dir"), 0o500);
      for (const name of ["dir/sub/empty", "dir/sub", "dir"])
        utimesSync(join(from, name), 1_000_000, 2_000_000.5);
      expect(copyUp(from, to)).toBe("");
      const names = (dir: string): string[] =>
        readdirSync(dir, { withFileTypes: true })
          .flatMap((entry) => [
            entry.name,
            ...(entry.isDirectory()
              ? names(join(dir, entry.name)).map((below) => `${entry.name}/${below}`)
              : []),
          ])
          .sort();
      expect(names(to)).toEqual(names(from));
      for (const name of names(from)) {
        const [a, b] = [lstatSync(join(from, name)), lstatSync(join(to, name))];
        expect([name, b.mode, b.uid, b.gid]).toEqual([name, a.mode, a.uid, a.gid]);
        if (a.isSymbolicLink()) expect(readlinkSync(join(to, name))).toBe(readlinkSync(join(from, name)));
        if (a.isFile() || a.isDirectory()) expect([name, b.mtimeMs]).toEqual([name, a.mtimeMs]);
      }
      expect(readFileSync(join(to, "dir/large")).equals(large)).toBe(true);
      chmodSync(join(from, "dir"), 0o700);
      chmodSync(join(to, "dir"), 0o700);
    });
  });

  test("copies names of any bytes, and many of them", async () => {
    await withTrees((from, to) => {
      for (let i = 0; i < 400; i++) writeFileSync(join(from, `${i}-${"x".repeat(i % 240)}`), String(i));
      writeFileSync(join(from, "new\nline \u0001 ä😀"), "");
      writeFileSync(join(from, ".hidden"), "");
      writeFileSync(join(from, "..."), "");
      expect(copyUp(from, to)).toBe("");
      expect(readdirSync(to).sort()).toEqual(readdirSync(from).sort());
      expect(readFileSync(join(to, "399-".padEnd(4 + (399 % 240), "x")), "utf8")).toBe("399");
    });
  });

  test("copies each name of a file with several", async () => {
    await withTrees((from, to) => {
      writeFileSync(join(from, "a"), "content");
      linkSync(join(from, "a"), join(from, "b"));
      expect(copyUp(from, to)).toBe("");
      expect(readFileSync(join(to, "b"), "utf8")).toBe("content");
    });
  });

  test("merges into directories that are there, and refuses to overwrite a file", async () => {
    await withTrees((from, to) => {
      mkdirSync(join(from, "dir"));
      mkdirSync(join(to, "dir"));
      writeFileSync(join(from, "dir/new"), "new");
      writeFileSync(join(to, "dir/old"), "old");
      expect(copyUp(from, to)).toBe("");
      expect(readdirSync(join(to, "dir")).sort()).toEqual(["new", "old"]);
      writeFileSync(join(from, "dir/old"), "other");
      expect(copyUp(from, to)).toBe("EEXIST");
      expect(readFileSync(join(to, "dir/old"), "utf8")).toBe("old");
    });
  });

  test("does not write through a link that stands in the copy's way", async () => {
    await withTrees((from, to) => {
      const victim = join(to, "../victim");
      mkdirSync(victim);
      mkdirSync(join(from, "dir"));
      writeFileSync(join(from, "dir/file"), "x");
      symlinkSync(victim, join(to, "dir"));
      expect(copyUp(from, to)).toBe("ENOTDIR");
      expect(readdirSync(victim)).toEqual([]);
    });
  });

  test("goes down a hundred directories, and gives up before the stack ends", async () => {
    await withTrees((from, to) => {
      const path = (depth: number) => join(from, "d/".repeat(depth));
      mkdirSync(path(100), { recursive: true });
      writeFileSync(join(path(100), "file"), "deep");
      expect(copyUp(from, to)).toBe("");
      expect(readFileSync(join(to, "d/".repeat(100), "file"), "utf8")).toBe("deep");
    });
    await withTrees((from, to) => {
      mkdirSync(join(from, "d/".repeat(300)), { recursive: true });
      expect(copyUp(from, to)).toBe("ELOOP");
    });
  });

  test("of something that is no directory fails", async () => {
    await withTrees((from, to) => {
      expect(copyUp(from, to)).toBe("");
      expect(copyUp(join(from, "missing"), to)).toBe("EBADF");
      expect(copyUp(from, join(to, "missing"))).toBe("");
      writeFileSync(join(from, "file"), "");
      expect(copyUp(from, join(to, "missing"))).toBe("EBADF");
    });
  });
});
