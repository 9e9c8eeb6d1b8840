/** Whole command lines up to the command: help, usage errors, the root, the log. */
import { beforeEach, describe, expect, test } from "bun:test";
import { BuncError } from "../errors.ts";
import { runCommandLine } from "./main.ts";
import { message, reset, rig, run, surroundings } from "./recorded.ts";

beforeEach(reset);

describe("help and version", () => {
  test("no command, --help and help print the same, and need no host", async () => {
    expect(await run([])).toBe(0);
    const text = rig.stdout;
    expect(text).toStartWith("NAME:\n   bunc - Open Container Initiative runtime\n");
    expect(text).toMatch(/\n {3}create +create a container, ready to be started\n/);
    expect(text).toMatch(
      /\n {3}--root value +directory of container state, best on a tmpfs \(default: "\/run\/bunc"\)\n/,
    );
    for (const args of [
      ["--help"],
      ["-h"],
      ["help"],
      ["h"],
      ["--help", "run", "--bogus"],
      ["help", ""],
      [""],
    ]) {
      rig.stdout = "";
      expect(await run(args)).toBe(0);
      expect(rig.stdout).toBe(text);
    }
    expect(rig.calls).toEqual([]);
  });
  test("help for a command, in all its spellings", async () => {
    expect(await run(["help", "kill"])).toBe(0);
    const text = rig.stdout;
    expect(text).toStartWith("NAME:\n   bunc kill - send a signal to a container's init\n\nUSAGE:\n");
    expect(text).toContain("   bunc kill [command options] <container-id> [signal]\n");
    expect(text).not.toContain("--all");
    for (const args of [
      ["kill", "-h"],
      ["kill", "x", "--help"],
      ["h", "kill", "extra"],
    ]) {
      rig.stdout = "";
      expect(await run(args)).toBe(0);
      expect(rig.stdout).toBe(text);
    }
  });
  test("every command has help without trailing blanks or tabs", async () => {
    for (const name of [
      "create",
      "delete",
      "explain",
      "kill",
      "list",
      "run",
      "spec",
      "start",
      "state",
      "validate",
      "help",
    ]) {
      rig.stdout = "";
      expect(await run(["help", name])).toBe(0);
      expect(rig.stdout).toStartWith(`NAME:\n   bunc ${name} - `);
      expect(rig.stdout).not.toMatch(/[ \t]\n|\t/);
      expect(rig.stdout).toMatch(/ {3}--help, -h +show help\n$/);
    }
  });
  test("--version wins over a command, --help over --version", async () => {
    expect(await run(["-v", "list"])).toBe(0);
    expect(rig.stdout).toStartWith("runc version ");
    rig.stdout = "";
    expect(await run(["--version", "--help"])).toBe(0);
    expect(rig.stdout).toStartWith("NAME:");
  });
});

describe("usage errors", () => {
  test("an unknown command exits with 3 and the nearest name", async () => {
    expect(await run(["stat", "x"])).toBe(3);
    expect(message()).toBe(String.raw`"No help topic for 'stat'. Did you mean \"state\"?"`);
    expect(rig.stdout).toBe("");
    rig.stderr = "";
    expect(await run(["help", "delte"])).toBe(3);
    expect(message()).toContain("delete");
    rig.stderr = "";
    expect(await run(["constructor"])).toBe(3);
    expect(message()).toBe(`"No help topic for 'constructor'"`);
  });
  test("an unknown command of any length and content is one line", async () => {
    expect(await run(["x".repeat(1 << 20)])).toBe(3);
    expect(rig.stderr.trimEnd()).not.toContain("\n");
    rig.stderr = "";
    expect(await run(["li\nst\x1b[31m\0"])).toBe(3);
    expect(rig.stderr.trimEnd()).not.toContain("\n");
    expect(rig.stderr).not.toContain("\x1b");
  });
  test("global flags", async () => {
    expect(await run(["--bogus", "list"])).toBe(1);
    expect(rig.stdout).toStartWith(
      "Incorrect Usage. flag provided but not defined: -bogus\n\nNAME:\n   bunc - ",
    );
    expect(message()).toBe('"flag provided but not defined: -bogus"');
  });
  test("a command's flags", async () => {
    expect(await run(["run", "--preserve-fds", "abc", "x"])).toBe(1);
    expect(rig.stdout).toStartWith(
      'Incorrect Usage: invalid value "abc" for flag -preserve-fds: parse error\n\nNAME:\n   bunc run - ',
    );
    expect(message()).toBe(String.raw`"invalid value \"abc\" for flag -preserve-fds: parse error"`);
  });
  test("a wrong flag gets a hint, after runc's own words", async () => {
    const cases: [string[], string][] = [
      [["--rot", "/x", "list"], "flag provided but not defined: -rot (hint: did you mean --root?)"],
      [["run", "--bundel=/b", "x"], "flag provided but not defined: -bundel (hint: did you mean --bundle?)"],
      [["run", "-detatch", "x"], "flag provided but not defined: -detatch (hint: did you mean --detach?)"],
      [
        ["run", "--root", "/x", "y"],
        String.raw`flag provided but not defined: -root (hint: --root is a global option, which stands before \"run\")`,
      ],
      [
        ["delete", "x", "--forse"],
        String.raw`bunc: \"delete\" requires exactly 1 argument(s) (hint: did you mean --force?)`,
      ],
      // Neither hidden ones nor ones that have nothing in common.
      [["update", "--kernel-memor", "1", "x"], "flag provided but not defined: -kernel-memor"],
      [["run", "-x", "y"], "flag provided but not defined: -x"],
      [["run", "--quux", "y"], "flag provided but not defined: -quux"],
      [["run", `--${"b".repeat(1 << 16)}`, "y"], `flag provided but not defined: -${"b".repeat(1 << 16)}`],
    ];
    for (const [args, words] of cases) {
      rig.stdout = rig.stderr = "";
      expect(await run(args, "bunc")).toBe(1);
      expect(rig.stdout).toStartWith("Incorrect Usage");
      expect(rig.stdout).not.toContain("hint:");
      expect(message()).toBe(`"${words}"`);
    }
  });
  test("under the name runc it is called runc, everywhere", async () => {
    for (const args of [
      [],
      ["help", "run"],
      ["--bogus"],
      ["run"],
      ["stat"],
      ["help", "bogus"],
      ["--version"],
      ["start", ""],
      ["create", ""],
    ]) {
      rig.stdout = rig.stderr = "";
      await run(args, "/usr/sbin/runc");
      expect(rig.stdout + rig.stderr).not.toMatch(/(?<![+.-])\bbunc\b/);
    }
    expect(await run(["help"], "/usr/sbin/runc")).toBe(0);
    expect(rig.stdout).toContain("\n    # runc run <container-id>\n");
    expect(rig.stdout).toContain('(default: "/run/runc")');
  });
  test("numbers of arguments", async () => {
    const cases: [string[], string][] = [
      [["create"], '\\"create\\" requires exactly 1'],
      [["run", "x", "y"], '\\"run\\" requires exactly 1'],
      [["list", "x"], '\\"list\\" requires exactly 0'],
      [["kill"], '\\"kill\\" requires a minimum of 1'],
      [["kill", "x", "9", "y"], '\\"kill\\" requires a maximum of 2'],
    ];
    for (const [args, words] of cases) {
      rig.stdout = rig.stderr = "";
      expect(await run(args, "./bunc")).toBe(1);
      expect(rig.stdout).toStartWith(`Incorrect Usage.\n\nNAME:\n   bunc ${args[0]} - `);
      expect(message()).toBe(`"./bunc: ${words} argument(s)"`);
    }
    expect(rig.calls).toEqual([]);
  });
  test("a closed rig.stdout does not hide the error", async () => {
    const output = {
      ...surroundings.output,
      stdout: () => Promise.reject(new BuncError("write /dev/stdout: broken pipe")),
    };
    const code = await runCommandLine("bunc", ["run"], { ...surroundings, output });
    expect(code).toBe(1);
    expect(message()).toContain("requires exactly 1 argument(s)");
  });
});

describe("the root", () => {
  const rootOf = async (args: string[], argv0?: string, env?: Record<string, string>) => {
    rig.calls = [];
    rig.stderr = "";
    await run([...args, "start", "x"], argv0, env);
    return rig.calls.find(([name]) => name === "start")?.[1] ?? message();
  };
  test("by name", async () => {
    expect(await rootOf([])).toBe("/run/bunc");
    expect(await rootOf([], "/usr/sbin/runc")).toBe("/run/runc");
    expect(await rootOf([], "runc")).toBe("/run/runc");
    expect(await rootOf([], "docker-runc")).toBe("/run/bunc");
  });
  test("given", async () => {
    expect(await rootOf(["--root", "/a//b/../c/"])).toBe("/a/c");
    expect(await rootOf(["--root=sub"])).toBe(`${process.cwd()}/sub`);
    expect(await rootOf(["--root", "/a", "--root", "/b"])).toBe("/b");
  });
  test("/ and nothing are refused", async () => {
    for (const value of ["/", "//", "/..", "/a/..", "../".repeat(64)]) {
      expect(await rootOf(["--root", value])).toBe('"Option --root argument should not be set to /"');
    }
    expect(await rootOf(["--root="])).toBe('"Option --root argument should not be empty"');
  });
  test("XDG_RUNTIME_DIR counts only for users and in user namespaces", async () => {
    const env = { XDG_RUNTIME_DIR: "/run/user/1000" };
    expect(await rootOf([], undefined, env)).toBe("/run/bunc");
    rig.uid = 1000;
    expect(await rootOf([], undefined, env)).toBe("/run/user/1000/bunc");
    expect(rig.calls.slice(0, 2)).toEqual([
      ["mkdir", "/run/user/1000/bunc", 0o700],
      ["chmod", "/run/user/1000/bunc", 0o1700],
    ]);
    expect(await rootOf([], "runc", env)).toBe("/run/user/1000/runc");
    expect(await rootOf([], undefined, { XDG_RUNTIME_DIR: "" })).toBe("/run/bunc");
    expect(await rootOf(["--root", "/x"], undefined, env)).toBe("/x");
    expect(rig.calls.some(([name]) => name === "mkdir")).toBe(false);
    rig.uid = 0;
    rig.userNamespace = true;
    expect(await rootOf([], undefined, env)).toBe("/run/user/1000/bunc");
    expect(await rootOf([], undefined, { ...env, USER: "me" })).toBe("/run/user/1000/bunc");
    expect(await rootOf([], undefined, { ...env, USER: "root" })).toBe("/run/bunc");
  });
  test("an XDG directory that cannot be made says what to do", async () => {
    rig.uid = 1000;
    expect(await rootOf([], undefined, { XDG_RUNTIME_DIR: "/denied" })).toBe(
      '"mkdir /denied/bunc: permission denied (hint: $XDG_RUNTIME_DIR must name a directory the user may write to)"',
    );
  });
});

describe("the log", () => {
  test("text on rig.stderr without --log", async () => {
    rig.failure = new BuncError("container does not exist", { code: "not-found" });
    expect(await run(["state", "x"])).toBe(1);
    expect(message()).toBe('"container does not exist"');
  });
  test("short and coloured at a rig.terminal, unless json is asked for", async () => {
    rig.terminal = true;
    rig.failure = new BuncError("container does not exist");
    await run(["state", "x"]);
    expect(rig.stderr).toMatch(/^\u001b\[31mERRO\u001b\[0m\[\d{4}\] container does not exist\n$/);
    rig.stderr = "";
    await run(["--log-format", "json", "state", "x"]);
    expect(JSON.parse(rig.stderr).msg).toBe("container does not exist");
  });
  test("a file gets the entry, rig.stderr the bare line", async () => {
    rig.failure = new BuncError("container does not exist");
    expect(await run(["--log", "/l.json", "--log-format=json", "state", "x"])).toBe(1);
    expect(rig.stderr).toBe("container does not exist\n");
    expect(rig.files["/l.json"]).toMatch(
      /^\{"level":"error","msg":"container does not exist","time":"\d{4}-\d\d-\d\dT[^"]+"\}\n$/,
    );
    await run(["--log", "/l.txt", "--log-format=", "state", "x"]);
    expect(rig.files["/l.txt"]).toMatch(/^time="[^"]+" level=error msg="container does not exist"\n$/);
  });
  test("the file is made even when all is well, and usage errors of commands go to it", async () => {
    expect(await run(["--log", "/l", "start", "x"])).toBe(0);
    expect(rig.files["/l"]).toBe("");
    expect(await run(["--log", "/l", "start", "--bogus"])).toBe(1);
    expect(rig.files["/l"]).toContain('level=error msg="flag provided but not defined: -bogus"');
    expect(await run(["--log", "/l", "--root=/", "start", "x"])).toBe(1);
    expect(rig.files["/l"]).toContain("--root argument");
    expect(await run(["--log", "/l", "bogus"])).toBe(3);
    expect(rig.files["/l"]).toContain("No help topic for 'bogus'");
  });
  test("one that cannot be opened, or has no such format, is an error", async () => {
    expect(await run(["--log", "/missing/l", "start", "x"])).toBe(1);
    expect(message()).toBe('"open /missing/l: no such file or directory"');
    rig.stderr = "";
    expect(await run(["--log-format", "xml", "start", "x"])).toBe(1);
    expect(message()).toStartWith('"invalid log-format: xml');
    expect(rig.calls).toEqual([]);
  });
  test("what the program itself would have said is not made an entry on stderr", async () => {
    rig.failure = new BuncError("exec /x: exec format error", {
      verbatim: true,
      exitCode: 255,
      phase: "start",
    });
    expect(await run(["state", "x"])).toBe(255);
    expect(rig.stderr).toBe("exec /x: exec format error\n");
    expect(await run(["--log", "/l", "state", "x"])).toBe(255);
    expect(rig.stderr).toBe("exec /x: exec format error\n".repeat(2));
    expect(rig.files["/l"]).toContain('level=error msg="exec /x: exec format error (in start)"');
  });
  test("crun's forms: file:, journald:, syslog:, and levels", async () => {
    rig.failure = new BuncError("boom");
    expect(await run(["--log", "file:/l", "state", "x"])).toBe(1);
    expect(rig.files["/l"]).toContain("level=error msg=boom");
    for (const target of ["journald:web", "syslog:"]) {
      rig.stderr = "";
      expect(await run(["--log", target, "state", "x"])).toBe(1);
      expect(rig.files[target]).toBe("error: boom\n");
      expect(rig.stderr).toBe("boom\n");
    }
    expect(await run(["--log=/d", "--log-level=debug", "state", "x"])).toBe(1);
    expect(rig.files["/d"]).toContain("level=debug");
    rig.stderr = "";
    expect(await run(["--log-level=loud", "list"])).toBe(1);
    expect(message()).toContain(String.raw`invalid --log-level value \"loud\"`);
  });
  test("--debug adds entries before the error, which stays last", async () => {
    rig.failure = new TypeError("x is not a function");
    expect(await run(["--debug", "--log", "/l", "state", "a b"])).toBe(1);
    const lines = (rig.files["/l"] ?? "").trimEnd().split("\n");
    expect(lines[0]).toMatch(/level=debug msg="state \[\\"a b\\"\]"$/);
    expect(lines[1]).toContain("level=debug");
    expect(lines.at(-1)).toMatch(/level=error msg="x is not a function"$/);
    expect(lines.length).toBe(3);
  });
});
