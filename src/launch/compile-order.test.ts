/** Programs of bundles with early seccomp filters, and with namespaces that belong to others. Needs no build. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import type { LinuxSeccomp, Spec } from "../oci/config.ts";
import type { Op } from "./program.ts";
import { compile, FILTER, find, joinedSpec, only, plainSpec } from "./testing.ts";

describe("a filter that is loaded before init is done", () => {
  const loaded = { seccomp: { filter: FILTER, flags: 0, listener: false } };
  function closing(linux: Partial<NonNullable<Spec["linux"]>>): [ranges: number, single: number] {
    const spec = plainSpec();
    spec.process!.noNewPrivileges = false;
    Object.assign(spec.linux!, linux);
    const compiled = compile(spec, loaded);
    const sync = compiled.launch.plan.firstFd;
    const from = compiled.ops.findIndex((op) => op.call === abi.SYS_fcntl && op.args[0] === sync);
    const last = compiled.ops.slice(from + 1, -1);
    const single = last.filter((op) => op.call === abi.SYS_close);
    expect(single.map((op) => op.args)).toEqual(single.map((_, i) => [sync + 1 + i]));
    for (const op of single) expect(op.options.tolerate).toEqual([[abi.EBADF, 0]]);
    return [last.filter((op) => op.call === abi.SYS_close_range).length, single.length];
  }

  test("and may refuse close_range does not meet it", () => {
    const allow = (names: string[], args: object[] = []) => ({ names, action: "SCMP_ACT_ALLOW", args });
    const profiles: [profile: object, allowed: boolean][] = [
      [{ defaultAction: "SCMP_ACT_ALLOW" }, true],
      [{ defaultAction: "SCMP_ACT_LOG", syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_ERRNO" }] }, true],
      [{ defaultAction: "SCMP_ACT_ERRNO", syscalls: [allow(["read", "close_range"])] }, true],
      [{ defaultAction: "SCMP_ACT_ERRNO", syscalls: [allow(["read", "close"])] }, false],
      [
        {
          defaultAction: "SCMP_ACT_ERRNO",
          syscalls: [allow(["close_range"], [{ index: 2, value: 4, op: "SCMP_CMP_EQ" }])],
        },
        false,
      ],
      [
        { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["close_range"], action: "SCMP_ACT_KILL" }] },
        false,
      ],
    ];
    for (const [seccomp, allowed] of profiles) {
      const [ranges, single] = closing({ seccomp: seccomp as LinuxSeccomp });
      expect([ranges, single > 0]).toEqual(allowed ? [1, false] : [0, true]);
    }
  });

  test("comes before startContainer hooks, which may do no more than the program", () => {
    for (const noNewPrivileges of [true, false]) {
      const spec = plainSpec();
      spec.process!.noNewPrivileges = noNewPrivileges;
      spec.hooks = { startContainer: [{ path: "/bin/hook" }] };
      const compiled = compile(spec, loaded);
      const at = (op: Op) => compiled.ops.indexOf(op);
      expect(at(only(compiled, abi.SYS_seccomp))).toBeLessThan(at(only(compiled, abi.BUNC_OP_HOOK)));
    }
  });
});

test("what a joined user namespace does not own is joined with the rights of the host first", () => {
  const compiled = compile(joinedSpec(["user", "network", "uts"]));
  const joins = find(compiled, abi.SYS_setns).map((op) => [op.args[1], op.options.tolerate]);
  const refused: [errno: number, skip: number][] = [[abi.EPERM, 0]];
  expect(joins).toEqual([
    [abi.CLONE_NEWUTS, refused],
    [abi.CLONE_NEWNET, refused],
    [abi.CLONE_NEWUSER, undefined],
    [abi.CLONE_NEWUTS, undefined],
    [abi.CLONE_NEWNET, undefined],
  ]);
  // The second attempt is passed over when the first has succeeded.
  const checks = find(compiled, abi.BUNC_OP_EXPECT).slice(0, 2);
  for (const op of checks) expect(op.options).toMatchObject({ okSkip: 1, tolerate: [[abi.EINVAL, 0]] });
});
