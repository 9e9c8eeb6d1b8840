// The talk with criu, with a fake one: the protocol, and every way in which a criu can fail.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FakeCriu, fakeCriu, type Script, type Step } from "../../test/rig/fake-criu.ts";
import { BuncError, renderError } from "../errors.ts";
import { restoreWaiting, waitInBackground } from "../linux/wait.rig.ts";
import { descriptors, laterFailure, opened } from "../testing.ts";
import { type Response, Type } from "./rpc.gen.ts";
import { FIRST_FD, parseResponse, Swrk } from "./swrk.ts";
import { criuVersion, type Notification, perform, requireFeature, requireVersion } from "./talk.ts";

const scratch = mkdtempSync(join(tmpdir(), "bunc-criu-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
restoreWaiting();

function fake(script: Script): FakeCriu {
  return fakeCriu(mkdtempSync(join(scratch, "fake-")), script);
}

function environment({ path }: FakeCriu): string[] {
  return [`PATH=${path}:/usr/bin:/bin`];
}

/** A dump of process 1, which the fake leaves alone. */
async function dump(
  criu: FakeCriu,
  notified?: (notification: Notification) => unknown,
  fds: number[] = [],
): Promise<Response> {
  const swrk = await Swrk.start({ env: environment(criu), quiet: true, fds });
  try {
    const response = await perform(swrk, { type: Type.DUMP, opts: { pid: 1 } as never }, notified);
    await swrk.end();
    return response;
  } finally {
    swrk.kill();
  }
}

const failure = async (run: Promise<unknown>): Promise<string> => (await laterFailure(run)).message;

const steps = (...list: Step[]): FakeCriu => fake({ steps: list });

describe("a criu that works", () => {
  test("is started with its socket and the descriptors that are given to it, and no others", async () => {
    const criu = steps({ answer: {} });
    await dump(criu, undefined, [2]);
    const [{ args, fds, request }] = criu.noted() as [ReturnType<FakeCriu["noted"]>[number]];
    expect(args).toEqual(["swrk", "4"]);
    expect([fds[0], fds[1], fds[2]]).toEqual(["/dev/null", "/dev/null", "/dev/null"]);
    expect(fds[4]).toStartWith("socket:");
    expect(fds[FIRST_FD]).toBeDefined();
    expect(request.opts!.pid).toBe(1);
  });

  test("is answered at each notification, in order", async () => {
    const criu = steps({ notify: "pre-dump" }, { notify: "post-dump", pid: 77 }, { answer: { cr_errno: 0 } });
    const told: Notification[] = [];
    await dump(criu, (notification) => told.push(notification));
    expect(told.map(({ script, pid, fd }) => [script, pid, fd])).toEqual([
      ["pre-dump", 0, -1],
      ["post-dump", 77, -1],
    ]);
    expect(criu.noted().map(({ request }) => [request.type, request.notify_success])).toEqual([
      [Type.DUMP, false],
      [Type.NOTIFY, true],
      [Type.NOTIFY, true],
    ]);
  });

  test("may send a descriptor, which is closed afterwards", async () => {
    let open = "";
    const before = descriptors();
    await dump(steps({ notify: "orphan-pts-master", fd: "null" }, { answer: {} }), ({ fd }) => {
      open = readdirSync("/proc/self/fd").includes(String(fd)) ? "yes" : "no";
    });
    expect(open).toBe("yes");
    expect(opened(before)).toEqual([]);
  });

  test("is waited for by an event loop, where there is one", async () => {
    waitInBackground();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await dump(steps({ notify: "a" }, { notify: "b" }, { answer: {} }));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(5);
  });
});

describe("versions and features", () => {
  test("a version is one number, and one from git counts as the next", async () => {
    expect(await criuVersion(environment(fake({ version: [4, 1, 1] })))).toBe(40101);
    expect(await criuVersion(environment(fake({ version: [3, 17] })))).toBe(31700);
    expect(await criuVersion(environment(fake({ version: [3, 17, 1], gitid: "v3.17.1-5" })))).toBe(31800);
  });

  test("a criu that is too old is told by runc's words", () => {
    expect(() => requireVersion(21200, 30000)).toThrow("CRIU version 21200 must be 30000 or higher");
    expect(() => requireVersion(30000, 30000)).not.toThrow();
  });

  test("a feature that is missing", async () => {
    const env = environment(fake({ features: { lazy_pages: false } }));
    await requireFeature("mem_track", env);
    expect(await failure(requireFeature("lazy_pages", env))).toBe("criu is missing features: [LazyPages]");
  });

  test("no criu at all", async () => {
    const message = await failure(criuVersion(["PATH=/nowhere"]));
    expect(message).toBe('CRIU version check failed: exec: "criu": executable file not found in $PATH');
    expect(await failure(criuVersion([]))).toBe(message);
  });

  test("something else of the name criu", async () => {
    const answers = await failure(criuVersion(environment(fake({ versionSteps: [{ raw: "ffffffff" }] }))));
    expect(answers).toBe(
      "CRIU version check failed: criu failed: cannot understand its answer (no message of its protocol)",
    );
    const ends = await failure(criuVersion(environment(fake({ versionSteps: [{ exit: 3 }] }))));
    expect(ends).toBe(
      "CRIU version check failed: criu failed: it closed its socket without an answer (exit status 3)",
    );
  });
});

describe("a criu that fails", () => {
  test("says so", async () => {
    const criu = steps({ answer: { success: false, cr_errno: 52, cr_errmsg: "no such task" } });
    expect(await failure(dump(criu))).toBe("criu failed: type DUMP errno 52: no such task");
    const first = "Error (criu/mount.c:1088): mnt: Mount 153 has unreachable sharing.\n";
    const newer = steps({ answer: { success: false, cr_errmsg: first } });
    expect(await failure(dump(newer))).toBe(
      "criu failed: type DUMP errno 0: (criu/mount.c:1088): mnt: Mount 153 has unreachable sharing.",
    );
  });

  test("ends half way", async () => {
    expect(await failure(dump(steps({ notify: "pre-dump" }, { exit: 9 })))).toBe(
      "criu failed: it closed its socket without an answer (exit status 9)",
    );
    expect(await failure(dump(steps({ kill: "self" })))).toBe(
      "criu failed: it closed its socket without an answer (signal: SIGKILL)",
    );
  });

  test("says that it is done, and then fails", async () => {
    expect(await failure(dump(steps({ answer: {} }, { exit: 1 })))).toBe("criu failed: exit status 1");
  });

  test("is told to give up when we cannot do our share, and our error is the one that counts", async () => {
    const criu = steps({ notify: "setup-namespaces" }, { answer: {} });
    const run = dump(criu, () => {
      throw new BuncError("the hook failed");
    });
    expect(await failure(run)).toBe("the hook failed");
    expect(criu.noted().at(-1)!.request.notify_success).toBe(false);
  });

  test("answers something else", async () => {
    expect(await failure(dump(steps({ answer: { type: Type.RESTORE } })))).toBe(
      "criu failed: it answers RESTORE, not DUMP",
    );
    expect(await failure(dump(steps({ answer: { type: 77 } })))).toBe("criu failed: it answers 77, not DUMP");
  });

  test("answers with too much", async () => {
    expect(await failure(dump(steps({ raw: "00", times: 50_000 })))).toBe(
      "criu failed: cannot understand its answer (50000 bytes)",
    );
  });
});

describe("hostile bytes", () => {
  test("are a message or an error in one line", () => {
    let seed = 7;
    const samples = [
      "ffffffff",
      "0affffffff0f",
      "2affffffffffffffffff7f",
      "2a02",
      "0b0c",
      "07",
      "06",
      "3880808080808080808001",
    ];
    const noise = Array.from({ length: 3000 }, (_, round) => {
      const bytes = new Uint8Array(round % 80);
      for (let i = 0; i < bytes.length; i++) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        bytes[i] = seed >> 16;
      }
      return bytes;
    });
    for (const bytes of [...samples.map((sample) => Buffer.from(sample, "hex")), ...noise]) {
      try {
        const { type, cr_errno } = parseResponse(bytes);
        expect([type, cr_errno].every(Number.isInteger)).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(BuncError);
        expect(renderError(error)).not.toContain("\n");
      }
    }
  });
});
