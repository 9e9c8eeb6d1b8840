// `doctor`: a real run, as root and as a user that was kept from something; it leaves the host as it was.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { entries } from "../rig/leaks.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, cgroupMounts } from "../rig/runtime.ts";

const rig = useRig();

interface Found {
  canRun: boolean;
  findings: { topic: string; status: string; essential: boolean; detail: string; fix?: string }[];
  facts: { calls: Record<string, string>; mounts: Record<string, string>; cgroup: { mode: string } };
}

async function doctor(options: Parameters<typeof rig.call>[1] = {}): Promise<Found & { code: number }> {
  const result = await rig.call(["doctor", "--json"], options);
  expect(result.stderr).toBe("");
  return { ...(JSON.parse(result.stdout) as Found), code: result.code };
}

/** Other test files may run at the same time. */
const others = (name: string): boolean => name.includes("bunc-test-");

/** Cgroups at the top of every hierarchy; /proc/cgroups also counts those that are gone, as long as pages are theirs. */
function topCgroups(): string[] {
  const all = [...cgroupMounts().values()].flatMap((point) =>
    entries(point).map((name) => join(point, name)),
  );
  return all.filter((path) => !others(path));
}

function hostMounts(): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => !others(line));
}

buncDescribe("doctor", () => {
  test("finds that containers run where these tests run, and changes nothing", async () => {
    const mounts = hostMounts();
    const cgroups = topCgroups();
    const { code, canRun, findings, facts } = await doctor();
    expect({ code, canRun }).toEqual({ code: 0, canRun: true });
    expect(facts.calls).toMatchObject({ clone3: "ok", openat2: "ok", pidfd_open: "ok" });
    expect(facts.mounts).toMatchObject({ tmpfs: "ok", proc: "ok" });
    expect(findings.filter(({ status, fix }) => status !== "ok" && !fix)).toEqual([]);
    expect(hostMounts()).toEqual(mounts);
    expect(topCgroups().filter((path) => !cgroups.includes(path))).toEqual([]);
  });

  test("text: the same findings, each on one line", async () => {
    const { findings } = await doctor();
    const { stdout } = (await rig.call(["doctor"])).ok();
    const lines = stdout.trimEnd().split("\n");
    expect(lines.length).toBe(findings.length + 1);
    for (const line of lines.slice(0, -1)) expect(line).toMatch(/^(?:ok|warning|missing) +\S.*: \S/);
    expect(lines.at(-1)).toStartWith("containers of root can run here: ");
  });

  test("an ordinary user is told what it cannot have", async () => {
    const root = join(rig.directory(), "state");
    const { code, findings } = await doctor({
      wrap: ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
      cwd: "/",
      root,
    });
    // The directory belongs to root.
    expect(code).toBe(1);
    const fatal = findings.filter(({ essential, status }) => essential && status === "missing");
    expect(fatal).toContainEqual(expect.objectContaining({ topic: "state directory" }));
    expect(findings).toContainEqual(
      expect.objectContaining({
        topic: "/etc/subuid",
        status: "missing",
        fix: expect.stringContaining("usermod"),
      }),
    );
  });

  test("a user for whom there are no user namespaces", async () => {
    const wrap = [
      "unshare",
      "--user",
      "--map-root-user",
      "sh",
      "-c",
      'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -all --inh-caps -all "$@"',
      "sh",
    ];
    const { code, findings } = await doctor({ wrap, env: { XDG_RUNTIME_DIR: rig.directory() } });
    expect(code).toBe(1);
    expect(findings).toContainEqual(
      expect.objectContaining({
        topic: "user namespaces",
        status: "missing",
        essential: true,
        detail: "user.max_user_namespaces is 0",
      }),
    );
  });

  test("has help", async () => {
    expect((await rig.call(["help", "doctor"])).ok().stdout).toContain("--json");
  });
});
