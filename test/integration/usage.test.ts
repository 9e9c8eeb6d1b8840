// Errors of the command line itself, beside those of Debian's runc: the same exit code, the same words at the beginning.
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtime, buncTest as test } from "../rig/runtime.ts";

let dir = "";

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "bunc-usage-"));
  mkdirSync(join(dir, "cwd"));
  // Under the same name, as messages have it in them.
  symlinkSync(runtime, join(dir, "runc"));
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Said {
  code: number;
  message: string;
  head: string;
}

/** Exit code, the message of the error, and the first line of stdout; a program's own path is "runc". */
async function call(program: string, args: readonly (string | Uint8Array)[]): Promise<Said> {
  const child = Bun.spawn([program, "--root", join(dir, "root"), ...(args as string[])], {
    cwd: join(dir, "cwd"),
    stdin: null,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const quoted = /^time="[^"]+" level=error msg=(.*)\n$/.exec(err)?.[1] ?? err;
  const message = (quoted.startsWith('"') ? (JSON.parse(quoted) as string) : quoted).trimEnd();
  const own = (text: string) => text.replaceAll(program, "runc");
  return { code: await child.exited, message: own(message), head: own(out.split("\n")[0]!) };
}

const LINES: readonly string[][] = [
  ["stat"],
  ["state"],
  ["state", ""],
  ["state", "a", "b"],
  ["state", "nosuch"],
  ["state", "--", "nosuch"],
  ["state", "--", "-x"],
  ["state", "--help=false", "nosuch"],
  ["state", "é"],
  ["state", "a b"],
  ["state", "../x"],
  ["start"],
  ["start", "a", "b"],
  ["start", "-x"],
  ["start", "--bogus", "a"],
  ["start", "a", "--bogus"],
  ["kill"],
  ["kill", "a", "b", "c"],
  ["kill", "nosuch"],
  ["kill", "--all", "nosuch"],
  ["delete"],
  ["delete", "nosuch"],
  ["delete", "--force", "nosuch"],
  ["delete", "-f", "-f", "nosuch"],
  ["delete", "--force", "-f", "nosuch"],
  ["delete", "--force=maybe", "x"],
  ["run"],
  ["run", "-b"],
  ["run", "--bundle"],
  ["run", "--preserve-fds", "x", "a"],
  ["run", "--preserve-fds"],
  ["run", "--", "-x"],
  ["run", "x"],
  ["create", "x"],
  ["exec"],
  ["exec", "nosuch", "ls"],
  ["exec", "--user"],
  ["exec", "-e"],
  ["exec", "--bogus", "a", "b"],
  ["exec", "", "ls"],
  ["ps"],
  ["ps", "nosuch"],
  ["pause"],
  ["pause", "nosuch"],
  ["resume", "nosuch"],
  ["update"],
  ["update", "nosuch"],
  ["events"],
  ["events", "nosuch"],
  ["events", "--interval", "x", "a"],
  ["list", "x"],
  ["list", "--format", "xml"],
  ["list", "-f"],
  ["spec", "x"],
  ["features", "x"],
  ["checkpoint"],
  ["checkpoint", "nosuch"],
  ["restore"],
  ["--bogus"],
  ["--log"],
  ["--log-format", "xml", "list"],
  ["--debug=maybe", "list"],
  ["help", "bogus"],
];

test.each(LINES.map((line) => [line.join(" ").slice(0, 60), line] as const))("runc %s", async (_, line) => {
  const [peer, own] = await Promise.all([call("/usr/sbin/runc", line), call(join(dir, "runc"), line)]);
  expect(own.code).toBe(peer.code);
  expect(own.head).toBe(peer.head);
  // What stands behind runc's words is a hint.
  expect(own.message.slice(0, peer.message.length)).toBe(peer.message);
  expect(own.message.slice(peer.message.length)).toMatch(/^( \((hint: |in ).*\)|\. Did you mean "\w+"\?)?$/);
});

test("a long id is one line", async () => {
  const { code, message } = await call(join(dir, "runc"), ["state", "x".repeat(5000)]);
  expect(code).toBe(1);
  expect(message).toContain("file name too long");
  expect(message).not.toContain("\n");
});

test("an empty id and an unknown signal are told before the container is looked for", async () => {
  const bunc = join(dir, "runc");
  expect((await call(bunc, ["create", ""])).message).toBe("runc create failed: container id cannot be empty");
  expect((await call(bunc, ["kill", "nosuch", "FOO"])).message).toBe('unknown signal "FOO"');
});

test("arguments that are no UTF-8 are refused as ids", async () => {
  // Bun.spawn takes strings alone, so a shell makes the bytes.
  const script = `exec "$0" --root "$1" state "$(printf 'a\\377')"`;
  const child = Bun.spawn(["sh", "-c", script, join(dir, "runc"), join(dir, "root")], { stderr: "pipe" });
  expect(await new Response(child.stderr).text()).toContain("invalid container ID format");
  expect(await child.exited).toBe(1);
});
