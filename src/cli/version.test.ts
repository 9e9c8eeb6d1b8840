/** The lines of `--version`, read by the rules of the programs that read them. */
import { describe, expect, test } from "bun:test";
import { formatVersion, versionText } from "./version.ts";

const TEXT = formatVersion("0.1.0", "abc1234", "1.4.5", "2.5.4");

test("the form", () => {
  expect(TEXT).toBe("runc version 0.1.0+bunc\ncommit: abc1234\nspec: 1.3.0\nbun: 1.4.5\nlibseccomp: 2.5.4\n");
  expect(formatVersion("0.2.0+dirty", "", "1.4.5", "")).toBe(
    "runc version 0.2.0+dirty.bunc\nspec: 1.3.0\nbun: 1.4.5\n",
  );
});

test("without a build there is still a version that can be parsed", () => {
  expect(versionText()).toMatch(/^runc version \d+\.\d+\.\d+\+bunc\n/);
});

describe("readers", () => {
  const lines = TEXT.trim().split("\n");
  test("go-runc (containerd): fixed prefixes, first line first", () => {
    expect(lines[0]?.startsWith("runc version ")).toBe(true);
    expect(lines[0]?.slice(13)).toBe("0.1.0+bunc");
    expect(lines.find((line) => line.startsWith("commit: "))?.slice(8)).toBe("abc1234");
    expect(lines.find((line) => line.startsWith("spec: "))?.slice(6)).toBe("1.3.0");
  });
  test("moby: every line with the word version overwrites the last", () => {
    const said = lines.filter((line) => line.includes("version"));
    expect(said).toEqual(["runc version 0.1.0+bunc"]);
    expect(said[0]?.split("version").map((part) => part.trim())).toEqual(["runc", "0.1.0+bunc"]);
  });
  test("semantic versioning", () => {
    expect(lines[0]?.split(" ")[2]).toMatch(/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/);
  });
});
