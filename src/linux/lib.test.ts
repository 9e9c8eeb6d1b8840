/** The binding to libbunc: that the library loads from memory, and how arguments and results travel. */
import { expect, test } from "bun:test";
import { BUNC_CALL_RUN, EINVAL, ENOENT, ENOSYS, SYS_close, SYS_getpid, SYS_openat } from "./abi.gen.ts";
import { bytesOf, cstring, sys, text } from "./lib.ts";

test("Bun still has the foreign functions on its global object", () => {
  const { FFI } = Bun as unknown as { FFI?: { dlopen?: unknown; ptr?: unknown } };
  expect(typeof FFI?.dlopen).toBe("function");
  expect(typeof FFI?.ptr).toBe("function");
});

test("a system call answers with its value or -errno", () => {
  expect(sys(SYS_getpid)).toBe(process.pid);
  expect(sys(SYS_close, 12345)).toBeLessThan(0);
  expect(sys(SYS_openat, -100, "/does/not/exist", 0, 0)).toBe(-ENOENT);
});

test("a number that is no call is refused, and so is a program that is none", () => {
  expect(sys(0xffff)).toBe(-ENOSYS);
  expect(sys(BUNC_CALL_RUN, new Uint8Array(40), 40, new Uint8Array(4096))).toBe(-EINVAL);
});

test("strings are UTF-8 with one final NUL, and may hold none", () => {
  expect([...cstring("é")]).toEqual([0xc3, 0xa9, 0]);
  expect(cstring("").length).toBe(1);
  expect(() => cstring("a\0b")).toThrow("NUL");
  expect(text(bytesOf("grün"))).toBe("grün");
});
