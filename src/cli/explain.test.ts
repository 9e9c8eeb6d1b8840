/** `explain` as a command: on bundles on disk, without root, and without leaving anything. Needs a build. */
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuncError } from "../errors.ts";
import { plainSpec } from "../launch/testing.ts";
import type { Spec } from "../oci/config.ts";
import { defaultSpec, formatSpec } from "../oci/spec-default.ts";
import { command, explainBundle } from "./explain.ts";

const dir = mkdtempSync(join(tmpdir(), "bunc-explain-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let bundle = "";
let number = 0;

beforeEach(() => {
  bundle = join(dir, `bundle-${++number}`);
  mkdirSync(join(bundle, "rootfs"), { recursive: true });
});

function write(spec: Spec | string): void {
  writeFileSync(join(bundle, "config.json"), typeof spec === "string" ? spec : formatSpec(spec));
}

/** The command's output and its error. */
async function explain(json = false): Promise<{ stdout: string; error: string }> {
  let stdout = "";
  const output = {
    async stdout(text: string) {
      stdout += text;
    },
    stderr() {},
  };
  const context = { args: [], flags: { bundle, json }, output, containers: { explainBundle } };
  try {
    expect(await command(context as unknown as Parameters<typeof command>[0])).toBe(0);
    return { stdout, error: "" };
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    return { stdout, error: error.message };
  }
}

describe("a bundle", () => {
  test("as spec writes it is explained, both sides", async () => {
    write(defaultSpec());
    const { stdout, error } = await explain();
    expect(error).toBe("");
    for (const line of [
      "parent: cgroup",
      "parent: namespaces",
      "init: namespaces",
      "init: mounts",
      "init: start",
    ]) {
      expect(stdout.split("\n")).toContain(line);
    }
    expect(stdout).toContain(`openat(AT_FDCWD, "${bundle}/rootfs", `);
    expect(stdout).toContain('execve($path_of_the_program, ["sh"], ');
  });

  test("is explained the same way twice, and nothing is left of it", async () => {
    write(defaultSpec());
    const first = await explain(true);
    expect(await explain(true)).toEqual(first);
    const parts: { side: string; ops: { index: number | null }[] }[] = JSON.parse(first.stdout);
    expect(new Set(parts.map(({ side }) => side))).toEqual(new Set(["parent", "init"]));
    for (const side of ["parent", "init"]) {
      const indexes = parts
        .filter((part) => part.side === side)
        .flatMap(({ ops }) => ops.map(({ index }) => index))
        .filter((index) => index !== null);
      expect(indexes).toEqual(indexes.map((_, i) => i));
    }
    expect(readdirSync(bundle).sort()).toEqual(["config.json", "rootfs"]);
  });

  test("with a user namespace, hooks and a score: the parent's share is told where it happens", async () => {
    const spec = plainSpec();
    const mapping = [{ containerID: 0, hostID: 100000, size: 65536 }];
    spec.linux!.namespaces!.push({ type: "user" });
    Object.assign(spec.linux!, { uidMappings: mapping, gidMappings: mapping });
    spec.process!.oomScoreAdj = 100;
    const hook = (path: string) => [{ path }];
    spec.hooks = { prestart: hook("/pre"), createRuntime: hook("/create"), poststart: hook("/post") };
    write(spec);
    const { stdout } = await explain();
    const at = (text: string) => {
      expect(stdout).toContain(text);
      return stdout.indexOf(text);
    };
    const order = [
      "clone3(",
      'write "100" to "/proc/self/oom_score_adj"',
      "unshare(CLONE_NEWUSER)",
      'write "0 100000 65536\\n" to "/proc/<pid of init>/uid_map"',
      "unshare(CLONE_NEWNS",
      'run hook "/pre"',
      'run hook "/create"',
      "pivot_root(",
      "execve(",
      'run hook "/post"',
    ].map(at);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    // The caller's environment is nobody's business.
    expect(stdout).toContain("<environment of bunc>");
  });

  test("with a seccomp profile shows how long its filter is", async () => {
    const spec = plainSpec();
    spec.linux!.seccomp = {
      defaultAction: "SCMP_ACT_ALLOW",
      syscalls: [{ names: ["ptrace", "kexec_load"], action: "SCMP_ACT_ERRNO" }],
    };
    write(spec);
    const { stdout, error } = await explain();
    expect(error).toBe("");
    expect(stdout).toMatch(
      /linux\.seccomp +seccomp\(SECCOMP_SET_MODE_FILTER, \w+, \{filter: \d+ instructions\}\)/,
    );
  });

  test("with labels that this host may not have is explained, with a note then", async () => {
    const spec = plainSpec();
    spec.process!.apparmorProfile = "profile";
    spec.process!.selinuxLabel = "label";
    write(spec);
    const { stdout, error } = await explain();
    expect(error).toBe("");
    expect(stdout).toContain('write "exec profile" to $apparmor_label');
    expect(stdout).toContain('write "label" to $selinux_label');
  });
});

describe("a bundle with mistakes", () => {
  test("is reported as validate does: every problem on a line", async () => {
    const spec = plainSpec();
    spec.linux!.namespaces!.push({ type: "nett" as "network" });
    spec.process!.cwd = "relative";
    write(spec);
    const { stdout, error } = await explain();
    expect(
      stdout
        .split("\n")
        .filter(Boolean)
        .map((line) => line.split(":")[0])
        .sort(),
    ).toEqual(["linux.namespaces[6].type", "process.cwd"]);
    expect(error).toBe("config.json has 2 problems");
  });

  test("leaves stdout empty for JSON", async () => {
    // Nothing to run: that is a mistake, too.
    write("{}");
    expect((await explain()).stdout).toContain("process");
    const { stdout, error } = await explain(true);
    expect(stdout).toBe("");
    expect(error).toMatch(/^config\.json has \d+ problems?: /);
  });

  test("that cannot be read says so", async () => {
    expect((await explain()).error).toContain("config.json not found");
    write("{");
    expect((await explain()).error).toContain("config.json");
    write(plainSpec());
    rmSync(join(bundle, "rootfs"), { recursive: true });
    expect((await explain()).error).toContain("rootfs");
  });

  test("that asks for what no kernel can do is refused as run refuses it", async () => {
    const spec = plainSpec();
    spec.mounts!.push({ destination: "/proc/1", type: "tmpfs" });
    write(spec);
    expect((await explain()).error).toContain("inside /proc");
  });
});
