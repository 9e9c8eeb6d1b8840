import { describe, expect, test } from "bun:test";
import { abi } from "../linux/abi.gen.ts";
import type { Mount, Spec } from "../oci/config.ts";
import type { HostFacts, LaunchSettings } from "./context.ts";
import { LiveMountProgram } from "./live-mounts.ts";
import { Struct } from "./program.ts";

const SPEC: Spec = {
  ociVersion: "1.3.0",
  process: { cwd: "/", args: ["sh"], user: { uid: 0, gid: 0 } },
  root: { path: "rootfs" },
};
const SETTINGS: LaunchSettings = {
  id: "x",
  bundle: "/b",
  rootfs: "/b/rootfs",
  noPivot: false,
  noNewKeyring: true,
  preserve: 0,
  waitForStart: false,
  pidfdSocket: false,
  setgroups: true,
  innerPid: 0,
  hookEnv: [],
  enterCgroup: undefined,
};
const HOST: HostFacts = { apparmor: false, selinux: false, fullProcMounts: [], cgroup: undefined };

function compile(action: "add" | "remove", ...mounts: Mount[]) {
  const change = { action, mounts, join: ["pid", "mount"] as const };
  const program = new LiveMountProgram(SPEC, change, SETTINGS, HOST);
  return { fds: program.context.fds, ops: [...program.parts()].flatMap(({ part }) => part.ops) };
}

const calls = (...found: ReturnType<typeof compile>["ops"]) => found.map(({ call }) => call);

describe("mounts add", () => {
  test("every bind's source is opened by the parent, which alone sees the host", () => {
    const { fds, ops } = compile(
      "add",
      { destination: "/a", type: "bind", source: "/host/a", options: ["rbind"] },
      { destination: "/t", type: "tmpfs", source: "t" },
      { destination: "/b", type: "bind", source: "relative", options: ["bind"] },
    );
    expect(fds.map(({ from }) => from)).toEqual([
      { kind: "sync" },
      { kind: "container-init" },
      { kind: "tree", source: "/host/a", recursive: true, mount: 0 },
      { kind: "tree", source: "/b/relative", recursive: false, mount: 2 },
    ]);
    // No process of the container ever sees it without this.
    const hidden = ops.findIndex(
      ({ call, args }) => call === abi.SYS_prctl && args[0] === abi.PR_SET_DUMPABLE,
    );
    expect(hidden).toBeGreaterThan(0);
    expect(hidden).toBeLessThan(calls(...ops).indexOf(abi.SYS_setns));
    expect(calls(...ops).filter((call) => call === abi.BUNC_OP_MOUNT)).toHaveLength(3);
  });

  test("what only a container that does not run yet may have is refused", () => {
    for (const [mount, words] of [
      [{ options: ["remount", "bind"] }, "remount"],
      [{ type: "tmpfs", source: "t", options: ["tmpcopyup"] }, "tmpcopyup"],
      [{ type: "cgroup2", source: "c" }, "the type cgroup2"],
    ] as const) {
      const whole = { destination: "/x", ...mount } as Mount;
      expect(() => compile("add", whole)).toThrow(
        `cannot mount "/x": ${words} is not for a container that runs already`,
      );
    }
    expect(() => compile("add", { destination: "/proc/sys/x", type: "tmpfs", source: "t" })).toThrow(
      "inside /proc",
    );
    expect(() => compile("add", { destination: "/", type: "tmpfs", source: "t" })).toThrow("is the root");
  });
});

describe("mounts remove", () => {
  test("follows no link: neither on the way, nor at the end", () => {
    const { ops } = compile("remove", { destination: "a/../b//c" });
    const opens = ops.filter(({ call }) => call === abi.SYS_openat2);
    expect(opens.map(({ args }) => args[1])).toEqual(["/b/c", "/b"]);
    for (const { args } of opens) {
      const how = args[2] as Struct;
      expect(how).toBeInstanceOf(Struct);
      expect(how.view.getUint32(16, true)).toBe(abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS);
    }
    const unmounts = ops.filter(({ call }) => call === abi.SYS_umount2);
    expect(unmounts.map(({ args }) => args)).toEqual([
      [".", abi.MNT_DETACH],
      ["c", abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW],
    ]);
  });

  test("not the root, however it is written", () => {
    for (const destination of ["/", ".", "/a/..", "//", "../.."]) {
      expect(() => compile("remove", { destination })).toThrow(
        "the root of the container cannot be unmounted",
      );
    }
  });
});
