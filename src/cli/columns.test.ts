/** Expected texts were printed by Go's text/tabwriter with minwidth 12, tabwidth 1, padding 3. */
import { expect, test } from "bun:test";
import { formatColumns, printable } from "./columns.ts";

test("short cells take the minimum, long ones push their column", () => {
  expect(formatColumns([["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]], 12, 3)).toBe(
    "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n",
  );
  expect(
    formatColumns(
      [
        ["ID", "PID", "OWNER"],
        ["a-rather-long-id", "0", "root"],
        ["x", "4194304", "#1000"],
      ],
      12,
      3,
    ),
  ).toBe(
    "ID                 PID         OWNER\n" +
      "a-rather-long-id   0           root\n" +
      "x                  4194304     #1000\n",
  );
});

test("nine characters fit the minimum, ten do not", () => {
  expect(formatColumns([["123456789", "x"]], 12, 3)).toBe("123456789   x\n");
  expect(formatColumns([["1234567890", "x"]], 12, 3)).toBe("1234567890   x\n");
});

test("width is counted in code points, and an empty last cell leaves trailing spaces as Go does", () => {
  expect(formatColumns([["日本😀", ""]], 12, 3)).toBe(`日本😀${" ".repeat(9)}\n`);
});

test("no rows, one cell", () => {
  expect(formatColumns([], 12, 3)).toBe("");
  expect(formatColumns([["x"]], 12, 3)).toBe("x\n");
});

test("printable shows control characters instead of sending them", () => {
  expect(printable("/a\x1b[31m\n\t\0\x7f\x9b é")).toBe("/a\\x1b[31m\\x0a\\x09\\x00\\x7f\\x9b é");
});
