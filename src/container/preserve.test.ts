/** --preserve-fds and $LISTEN_FDS. What was passed is only known to a process of its own, so each test starts one. */
import { describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { listenCount } from "./preserve.ts";

const module = join(import.meta.dir, "preserve.ts");
const script = `
  import { renderError } from ${JSON.stringify(join(import.meta.dir, "../errors.ts"))};
  import { passedFds } from ${JSON.stringify(module)};
  try {
    console.log(JSON.stringify(passedFds(Number(process.argv.at(-1)))));
  } catch (error) {
    console.log(renderError(error));
  }`;

/**
 * Calls passedFds in a process that was given descriptors by these numbers.
 * @param listen value of $LISTEN_FDS, with the process's own pid in $LISTEN_PID
 */
function passed(preserve: number, numbers: readonly number[], listen?: string): unknown {
  const file = openSync("/etc/passwd", "r");
  try {
    const redirections = numbers.map((number) => `${number}<&0`).join(" ");
    const variables = listen === undefined ? "" : `export LISTEN_PID=$$ LISTEN_FDS=${listen};`;
    // Whatever the shell had open itself is not passed on.
    const closed = [3, 4, 5, 6, 7, 8, 9].filter((number) => !numbers.includes(number));
    const shell = `${variables} exec "$@" ${redirections} ${closed.map((number) => `${number}<&-`).join(" ")}`;
    const { stdout } = Bun.spawnSync(
      ["sh", "-c", shell, "sh", process.execPath, "-e", script, String(preserve)],
      {
        stdio: [file, "pipe", "inherit"],
      },
    );
    const text = stdout.toString().trim();
    return text.startsWith("{") ? JSON.parse(text) : text;
  } finally {
    closeSync(file);
  }
}

const env = (listen: number) => (listen ? [`LISTEN_FDS=${listen}`, "LISTEN_PID=1"] : []);

describe("descriptors that are there", () => {
  const cases: [number, number[], string | undefined, number, number][] = [
    [0, [], undefined, 0, 0],
    [0, [3, 4], undefined, 0, 0],
    [2, [3, 4], undefined, 0, 2],
    [1, [3, 4, 5], undefined, 0, 1],
    [0, [3, 4], "2", 2, 2],
    [1, [3, 4, 5], "2", 2, 3],
  ];
  test.each(cases)(
    "--preserve-fds %d, given %p, LISTEN_FDS %p",
    (preserve, numbers, listen, listenFds, count) => {
      expect(passed(preserve, numbers, listen)).toEqual({ listenFds, count, env: env(listenFds) });
    },
  );
});

describe("descriptors that are missing", () => {
  // Without a check the numbers would be those of the runtime's own descriptors.
  const cases: [number, number[], string | undefined, string][] = [
    [1, [], undefined, "unable to stat preserved-fd 0 (of 1): no such file or directory"],
    [2, [3], undefined, "unable to stat preserved-fd 1 (of 2): "],
    [3, [3, 5], undefined, "unable to stat preserved-fd 1 (of 3): "],
    [1000000000, [3], undefined, "unable to stat preserved-fd 1 (of 1000000000): "],
    [2, [3, 4], "1", "unable to stat preserved-fd 1 (of 2): "],
    [0, [3], "2", "LISTEN_FDS=2, but descriptor 4 is not open"],
    [5, [], "1", "LISTEN_FDS=1, but descriptor 3 is not open"],
  ];
  test.each(cases)("--preserve-fds %d, given %p, LISTEN_FDS %p", (preserve, numbers, listen, words) => {
    expect(passed(preserve, numbers, listen)).toStartWith(words);
  });
});

test("the variables count for the process they name, if they are numbers", () => {
  expect(listenCount({ LISTEN_PID: "7", LISTEN_FDS: "3" }, 7)).toBe(3);
  expect(listenCount({ LISTEN_PID: "+7", LISTEN_FDS: "03" }, 7)).toBe(3);
  for (const env of [
    {},
    { LISTEN_FDS: "3" },
    { LISTEN_PID: "7" },
    { LISTEN_PID: "8", LISTEN_FDS: "3" },
    { LISTEN_PID: "", LISTEN_FDS: "3" },
    { LISTEN_PID: "7x", LISTEN_FDS: "3" },
    { LISTEN_PID: "7.0", LISTEN_FDS: "3" },
    { LISTEN_PID: "7", LISTEN_FDS: "0" },
    { LISTEN_PID: "7", LISTEN_FDS: "-3" },
    { LISTEN_PID: "7", LISTEN_FDS: "0x3" },
    { LISTEN_PID: "7", LISTEN_FDS: "99999999999999999999" },
  ]) {
    expect([env, listenCount(env, 7)]).toEqual([env, 0]);
  }
});
