/**
 * Agreement with C: parts that the encoder made are executed by the interpreter of build/libbunc.so. Only harmless
 * calls; needs a build, but no root. Paths, hooks, mounts and malformed parts have files of their own.
 */
import { describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as abi from "../linux/abi.gen.ts";
import { bytesOf, sys, text } from "../linux/lib.ts";
import { HostState } from "../linux/run-part.ts";
import { receiveFd, socketPair } from "../linux/socket.ts";
import { descriptors, opened } from "../testing.ts";
import { Part, Slot, Struct } from "./program.ts";
import { call, errnoOf, expectSlot, inTemporary, run } from "./testing-run.ts";

const A = new Slot(0, "a");
const B = new Slot(abi.BUNC_SLOTS - 1, "b");

describe("arguments reach C as they are", () => {
  const numbers = [
    0,
    1,
    -1,
    -100,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x100000000,
    -0x100000000,
    Number.MAX_SAFE_INTEGER,
    Number.MIN_SAFE_INTEGER,
  ];
  const bigints = [0n, -1n, 0xffffffffffffffffn, -0x8000000000000000n, 0x7fffffffffffffffn];

  test.each([...numbers, ...bigints])("%p", (value) => {
    const part = new Part();
    // What is compared with is built from two halves, so that both sides cannot err alike.
    const wanted = BigInt.asUintN(64, BigInt(value));
    const struct = new Struct(8, "word").u32(0, Number(wanted & 0xffffffffn)).u32(4, Number(wanted >> 32n));
    const low = new Slot(1, "low");
    const high = new Slot(2, "high");
    part.op(abi.BUNC_OP_LOAD, [struct, 4], { slot: low });
    part.op(abi.BUNC_OP_LOAD, [struct.at(4), 4], { slot: high });
    part.op(abi.BUNC_OP_EXPECT, [value, 0xffffffff, low, abi.EDOM]);
    const buffer = new Struct(8, "buffer");
    part.op(abi.BUNC_OP_PATCH, [buffer, 8, 0, value]);
    part.op(abi.BUNC_OP_LOAD, [buffer.at(4), 4], { slot: A });
    part.op(abi.BUNC_OP_EXPECT, [A, -1, high, abi.ERANGE]);
    expect(run(part).errno).toBe("");
  });

  test("a slot holds what a call answered, and passes it on", () => {
    const part = new Part();
    const state = new HostState();
    part.op(abi.SYS_getpid, [], { slot: A });
    part.op(abi.BUNC_OP_EXPECT, [A, -1, process.pid, abi.EDOM], { slot: B });
    expect(run(part, state).errno).toBe("");
    expect(state.get(A)).toBe(process.pid);
    expect(state.get(B)).toBe(0);
  });

  test("strings in UTF-8, ended where they end", async () => {
    await inTemporary((dir) => {
      const names = ["plain", "größe", "日本語", "😀", "x\udc00y", "n".repeat(255), "two\nlines", " "];
      const part = new Part();
      for (const name of names) {
        const flags = abi.O_CREAT | abi.O_EXCL | abi.O_WRONLY | abi.O_CLOEXEC;
        part.op(abi.SYS_openat, [abi.AT_FDCWD, `${dir}/${name}`, flags, 0o600], { slot: A });
        part.op(abi.SYS_close, [A]);
      }
      expect(run(part).errno).toBe("");
      const wanted = names.map((name) => name.replace("\udc00", "\ufffd"));
      expect(readdirSync(dir).sort()).toEqual(wanted.sort());
    });
  });

  test("an empty string is empty", () => {
    expect(errnoOf(abi.SYS_openat, abi.AT_FDCWD, "", abi.O_RDONLY | abi.O_CLOEXEC, 0)).toBe("ENOENT");
  });

  test("pointers in structures lead to what they point to", () => {
    const words = [
      new Struct(8, "one").u64(0, 1111),
      new Uint8Array(8).fill(7),
      new Struct(8, "two").u64(0, 2222),
    ];
    const array = new Struct(24, "array");
    for (let i = 0; i < words.length; i++) array.pointer(i * 8, words[i]!);
    const outer = new Struct(8, "outer").pointer(0, array);
    const part = new Part();
    for (const [i, value] of [1111, 0x0707070707070707n, 2222].entries()) {
      part.op(abi.BUNC_OP_LOAD, [array.at(i * 8), 8], { slot: B });
      part.op(abi.BUNC_OP_LOAD, [B, 8], { slot: B });
      expectSlot(part, B, value);
    }
    // From the outer structure to the array, to its first item, to that item's word.
    part.op(abi.BUNC_OP_LOAD, [outer, 8], { slot: A });
    part.op(abi.BUNC_OP_LOAD, [A, 8], { slot: A });
    part.op(abi.BUNC_OP_LOAD, [A, 8], { slot: A });
    expectSlot(part, A, 1111);
    expect(run(part).errno).toBe("");
  });

  test("a buffer that one operation fills is the one that another's structure points to", () => {
    const buffer = new Uint8Array(8);
    const pointing = new Struct(8, "pointing").pointer(0, buffer);
    const part = new Part();
    part.op(abi.BUNC_OP_PATCH, [buffer, 8, 0, 4711]);
    part.op(abi.BUNC_OP_LOAD, [pointing, 8], { slot: A });
    part.op(abi.BUNC_OP_LOAD, [A, 8], { slot: A });
    expectSlot(part, A, 4711);
    expect(run(part).errno).toBe("");
  });
});

describe("control flow", () => {
  /** Operations after the first write 1, 2, 3, ... into one word; gives those that did. */
  function steps(first: (part: Part) => void): { steps: number[]; errno: string; index: number } {
    const part = new Part();
    const state = new HostState();
    first(part);
    for (let i = 1; i <= 6; i++) part.op(abi.BUNC_OP_EXPECT, [0, 0, 0, 0], { slot: new Slot(i, "step") });
    for (let i = 1; i <= 6; i++) state.set(new Slot(i, "step"), -1);
    const { errno, index } = run(part, state);
    return { steps: [1, 2, 3, 4, 5, 6].filter((i) => state.get(new Slot(i, "step")) === 0), errno, index };
  }

  const missing = (part: Part, tolerate: (readonly [number, number])[], okSkip = 0) =>
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/no/such/file", 0, 0], { tolerate, okSkip });
  const fine = (part: Part, tolerate: (readonly [number, number])[], okSkip = 0) =>
    part.op(abi.SYS_getpid, [], { tolerate, okSkip });

  test.each([
    ["success goes on", (p: Part) => fine(p, []), [1, 2, 3, 4, 5, 6]],
    ["success skips", (p: Part) => fine(p, [[abi.ENOENT, 5]], 2), [3, 4, 5, 6]],
    ["success skips the rest and more", (p: Part) => fine(p, [], 255), []],
    ["a tolerated errno goes on", (p: Part) => missing(p, [[abi.ENOENT, 0]], 3), [1, 2, 3, 4, 5, 6]],
    ["a tolerated errno skips", (p: Part) => missing(p, [[abi.ENOENT, 4]], 1), [5, 6]],
    [
      "the second tolerated errno skips by its own number",
      (p: Part) =>
        missing(p, [
          [abi.EPERM, 1],
          [abi.ENOENT, 3],
        ]),
      [4, 5, 6],
    ],
    ["any errno is tolerated", (p: Part) => missing(p, [[abi.BUNC_ERR_ANY, 1]]), [2, 3, 4, 5, 6]],
    [
      "the first that fits counts",
      (p: Part) =>
        missing(p, [
          [abi.ENOENT, 5],
          [abi.BUNC_ERR_ANY, 1],
        ]),
      [6],
    ],
    ["a tolerated errno skips the rest and more", (p: Part) => missing(p, [[abi.ENOENT, 255]]), []],
  ] as const)("%s", (_name, first, wanted) => {
    expect(steps(first)).toEqual({ steps: [...wanted], errno: "", index: 0 });
  });

  test("any other errno ends the part, and says where", () => {
    const failed = steps((part) => {
      fine(part, []);
      missing(part, [
        [abi.EPERM, 2],
        [abi.EACCES, 2],
      ]);
    });
    expect(failed).toEqual({ steps: [], errno: "ENOENT", index: 1 });
  });

  test("a tolerated errno stays in the slot, negative", () => {
    const part = new Part();
    const state = new HostState();
    part.op(abi.SYS_openat, [abi.AT_FDCWD, "/no/such/file", 0, 0], { slot: A, tolerate: [[abi.ENOENT, 0]] });
    expectSlot(part, A, -abi.ENOENT);
    expect(run(part, state).errno).toBe("");
    expect(state.get(A)).toBe(-abi.ENOENT);
  });

  test("slots live across parts, and indexes count on", () => {
    const state = new HostState();
    const first = new Part();
    first.op(abi.SYS_getpid, [], { slot: A });
    first.op(abi.SYS_getpid, []);
    expect(run(first, state).errno).toBe("");
    const second = new Part();
    expectSlot(second, A, process.pid);
    second.op(abi.SYS_close, [-1]);
    expect(run(second, state)).toMatchObject({ errno: "EBADF", index: 3 });
  });

  test("the end of a part is the end here, too; the parent of the parent is nobody", () => {
    const part = new Part();
    part.op(abi.BUNC_OP_PART, [0, 0]);
    part.op(abi.SYS_close, [-1]);
    expect(run(part).errno).toBe("");
    expect(errnoOf(abi.BUNC_OP_REPORT, 1, 0)).toBe("EBADF");
    expect(errnoOf(abi.BUNC_OP_PART, 1, 0)).toBe("EBADF");
  });

  test("an operation that this interpreter does not know is refused", () => {
    expect(errnoOf(abi.BUNC_OP_LAST)).toBe("ENOSYS");
    expect(errnoOf(0xffff)).toBe("ENOSYS");
  });

  test("a part without operations does nothing", () => {
    expect(run(new Part()).errno).toBe("");
  });

  test("several thousand operations", () => {
    const part = new Part();
    for (let i = 0; i < 5000; i++) part.op(abi.BUNC_OP_EXPECT, [i, -1, i, abi.EDOM], { slot: A });
    part.op(abi.SYS_close, [-1]);
    expect(run(part)).toMatchObject({ errno: "EBADF", index: 5000 });
  });
});

describe("words", () => {
  test.each([
    [4, 0xffffffff, 0, 0x11223344, 0x11223344],
    [4, ~abi.ONLCR, 0, 0xffffffff, 0xffffffff & ~abi.ONLCR],
    [4, 0, 0x80000001, 0x11223344, 0x80000001],
    [8, -1, 1, 0x100, 0x101],
    [8, 0, Number.MAX_SAFE_INTEGER, 5, Number.MAX_SAFE_INTEGER],
  ])("PATCH of %d bytes", (size, and, or, before, after) => {
    const struct = new Struct(16, "words").u64(0, before).u64(8, 0x5555);
    const part = new Part();
    part.op(abi.BUNC_OP_PATCH, [struct, size, and, or]);
    part.op(abi.BUNC_OP_LOAD, [struct, size], { slot: A });
    expectSlot(part, A, after >>> 0 === after || size === 8 ? after : after >>> 0);
    part.op(abi.BUNC_OP_LOAD, [struct.at(8), 8], { slot: A });
    expectSlot(part, A, 0x5555);
    expect(run(part).errno).toBe("");
  });

  test.each([
    [1, 0xf8],
    [2, 0xf7f8],
    [4, 0xf5f6f7f8],
    // The sign is left out: a result below 0 would be an errno.
    [8, 0x71f2f3f4f5f6f7f8n],
  ])("LOAD of %d bytes", (size, value) => {
    const struct = new Struct(8, "word").u64(0, 0xf1f2f3f4f5f6f7f8n);
    const part = new Part();
    part.op(abi.BUNC_OP_LOAD, [struct, size], { slot: A });
    expectSlot(part, A, value);
    expect(run(part).errno).toBe("");
  });

  test("other sizes are refused", () => {
    for (const size of [0, 3, 16, -1]) {
      expect(errnoOf(abi.BUNC_OP_LOAD, new Uint8Array(16), size)).toBe("EINVAL");
      expect(errnoOf(abi.BUNC_OP_PATCH, new Uint8Array(16), size, 0, 0)).toBe("EINVAL");
    }
    expect(errnoOf(abi.BUNC_OP_PATCH, new Uint8Array(16), 2, 0, 0)).toBe("EINVAL");
  });

  test("EXPECT compares below a mask", () => {
    expect(errnoOf(abi.BUNC_OP_EXPECT, 0o100644, abi.S_IFMT, abi.S_IFREG, abi.EPERM)).toBe("");
    expect(errnoOf(abi.BUNC_OP_EXPECT, 0o100644, abi.S_IFMT, abi.S_IFDIR, abi.EPERM)).toBe("EPERM");
    expect(errnoOf(abi.BUNC_OP_EXPECT, 0x1_0000_0001, -1, 1, abi.ERANGE)).toBe("ERANGE");
    expect(errnoOf(abi.BUNC_OP_EXPECT, 0, 1, 1, abi.EEXIST)).toBe("EEXIST");
  });
});

describe("files", () => {
  test("WRITE and WRITE_AT write all and nothing else", async () => {
    await inTemporary((dir) => {
      const large = new Uint8Array(300_000).map((_, i) => i);
      writeFileSync(join(dir, "file"), "before");
      const part = new Part();
      const flags = abi.O_WRONLY | abi.O_TRUNC | abi.O_CLOEXEC;
      part.op(abi.BUNC_OP_WRITE_AT, [abi.AT_FDCWD, `${dir}/file`, flags, bytesOf("value"), 5]);
      part.op(abi.SYS_openat, [abi.AT_FDCWD, `${dir}/large`, flags | abi.O_CREAT, 0o600], { slot: A });
      part.op(abi.BUNC_OP_WRITE, [A, large, large.length]);
      part.op(abi.SYS_close, [A]);
      expect(run(part).errno).toBe("");
      expect(readFileSync(join(dir, "file"), "utf8")).toBe("value");
      expect(Buffer.from(readFileSync(join(dir, "large"))).equals(large)).toBe(true);
      const at = (path: string, open: number) =>
        errnoOf(abi.BUNC_OP_WRITE_AT, abi.AT_FDCWD, path, open, bytesOf("x"), 1);
      expect(at(`${dir}/missing`, abi.O_WRONLY)).toBe("ENOENT");
      expect(at(dir, abi.O_WRONLY)).toBe("EISDIR");
      expect(at("/dev/full", abi.O_WRONLY)).toBe("ENOSPC");
      expect(at(`${dir}/file`, abi.O_RDONLY)).toBe("EBADF");
      expect(errnoOf(abi.BUNC_OP_WRITE, -1, bytesOf("x"), 1)).toBe("EBADF");
    });
  });

  test("WRITE_AT leaves no descriptor open", async () => {
    await inTemporary((dir) => {
      const before = descriptors();
      for (const path of [`${dir}/new`, "/dev/full"]) {
        errnoOf(abi.BUNC_OP_WRITE_AT, abi.AT_FDCWD, path, abi.O_WRONLY | abi.O_CREAT, bytesOf("x"), 1);
      }
      expect(opened(before)).toEqual([]);
    });
  });

  test("LOOKPATH gives the first that can be executed, and the best reason otherwise", async () => {
    await inTemporary((dir) => {
      mkdirSync(join(dir, "directory"));
      writeFileSync(join(dir, "plain"), "", { mode: 0o644 });
      writeFileSync(join(dir, "script"), "", { mode: 0o755 });
      chmodSync(join(dir, "script"), 0o755);
      const look = (...names: string[]) => {
        const list = bytesOf(`${names.map((name) => `${dir}/${name}\0`).join("")}\0`);
        const part = new Part();
        part.op(abi.BUNC_OP_LOOKPATH, [list], { slot: A });
        // The result is an address in the list; its last bytes tell which candidate it is.
        part.op(abi.SYS_openat, [abi.AT_FDCWD, A, abi.O_PATH | abi.O_CLOEXEC, 0], { slot: B });
        const state = new HostState();
        const { errno } = run(part, state);
        if (errno) return errno;
        const target = new Uint8Array(4096);
        const path = `/proc/self/fd/${state.get(B)}`;
        const size = sys(abi.SYS_readlinkat, abi.AT_FDCWD, path, target, target.length);
        sys(abi.SYS_close, state.get(B));
        return text(target.subarray(0, size)).slice(dir.length + 1);
      };
      expect(look("script")).toBe("script");
      expect(look("missing", "directory", "plain", "script", "other")).toBe("script");
      expect(look()).toBe("ENOENT");
      expect(look("missing", "missing2")).toBe("ENOENT");
      expect(look("missing", "directory")).toBe("EISDIR");
      expect(look("plain", "missing")).toBe("EACCES");
      expect(look("plain/below", "missing")).not.toBe("");
    });
  });

  test("CHECK_CWD is content with a directory below the root", () => {
    expect(errnoOf(abi.BUNC_OP_CHECK_CWD)).toBe("");
  });
});

describe("sockets", () => {
  test("SENDFD sends the descriptor with the bytes", () => {
    const [left, right] = socketPair();
    try {
      const name = bytesOf("/dev/ptmx");
      expect(errnoOf(abi.BUNC_OP_SENDFD, left, 0, name, name.length)).toBe("");
      const received = receiveFd(right);
      expect(received?.fd).toBeGreaterThan(2);
      sys(abi.SYS_close, received!.fd);
      expect(errnoOf(abi.BUNC_OP_SENDFD, 0, 1, name, name.length)).toBe("ENOTSOCK");
      sys(abi.SYS_close, right);
      expect(errnoOf(abi.BUNC_OP_SENDFD, left, 0, name, name.length)).toBe("EPIPE");
    } finally {
      sys(abi.SYS_close, left);
    }
  });

  test("NETLINK takes whole messages and gives the kernel's answer", () => {
    const sock = call(abi.SYS_socket, abi.AF_NETLINK, abi.SOCK_RAW | abi.SOCK_CLOEXEC, abi.NETLINK_ROUTE);
    expect(sock).toBeGreaterThan(2);
    try {
      const request = new Struct(32, "nlmsg").u32(0, 32);
      request.view.setUint16(4, abi.RTM_SETLINK, true);
      request.view.setUint16(6, abi.NLM_F_REQUEST | abi.NLM_F_ACK, true);
      request.u32(8, 77);
      request.view.setInt32(20, 0x7ffffff0, true);
      // No such device; who is not root is not even told that.
      expect(["ENODEV", "EPERM"]).toContain(errnoOf(abi.BUNC_OP_NETLINK, sock, request, 32));
      expect(errnoOf(abi.BUNC_OP_NETLINK, sock, request, 16)).toBe("EINVAL");
      expect(errnoOf(abi.BUNC_OP_NETLINK, sock, new Uint8Array(3), 3)).toBe("EINVAL");
    } finally {
      sys(abi.SYS_close, sock);
    }
  });
});
