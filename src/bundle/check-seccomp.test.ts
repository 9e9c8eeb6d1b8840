import { describe, expect } from "bun:test";
import { defaultSpec } from "../oci/spec-default.ts";
import { type Config, table } from "./check-cases.ts";

describe("seccomp", () => {
  const set = (seccomp: object) => (c: Config) => {
    c.linux.seccomp = { defaultAction: "SCMP_ACT_ALLOW", ...seccomp };
  };
  const call = (value: object) =>
    set({ syscalls: [{ names: ["kill"], action: "SCMP_ACT_ERRNO", ...value }] });
  const at = "linux.seccomp";
  table(defaultSpec, [
    [
      "names",
      set({
        defaultAction: "ALLOW",
        architectures: ["amd64"],
        flags: ["LOG"],
        syscalls: [{ names: ["a"], action: "x", args: [{ index: 6, value: -1, op: "EQ" }] }],
      }),
      `${at}.defaultAction: "ALLOW" is not a seccomp action; one of SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, ` +
        "SCMP_ACT_KILL_THREAD, SCMP_ACT_TRAP, SCMP_ACT_ERRNO, SCMP_ACT_TRACE, SCMP_ACT_ALLOW, SCMP_ACT_LOG, SCMP_ACT_NOTIFY",
      expect.stringMatching(
        /^linux\.seccomp\.architectures\[0\]: "amd64" is not a seccomp architecture; one of /,
      ) as never,
      expect.stringMatching(/^linux\.seccomp\.flags\[0\]: "LOG" is not a seccomp flag; one of /) as never,
      expect.stringMatching(
        /^linux\.seccomp\.syscalls\[0\]\.action: "x" is not a seccomp action; one of /,
      ) as never,
      `${at}.syscalls[0].args[0].index: must be an integer from 0 to 5, not 6`,
      `${at}.syscalls[0].args[0].value: must be an integer from 0 to 18446744073709551615, not -1`,
      expect.stringMatching(
        /^linux\.seccomp\.syscalls\[0\]\.args\[0\]\.op: "EQ" is not a seccomp operator; one of /,
      ) as never,
    ],
    ["no names", call({ names: [] }), `${at}.syscalls[0].names: must not be empty`],
    [
      "an empty name",
      call({ names: ["a", ""] }),
      `${at}.syscalls[0].names[1]: empty string is not a valid syscall`,
    ],
    [
      "notify",
      call({ action: "SCMP_ACT_NOTIFY" }),
      `${at}.listenerPath: is required when SCMP_ACT_NOTIFY is used`,
    ],
    [
      "notify of write",
      (c) => {
        call({ action: "SCMP_ACT_NOTIFY", names: ["read", "write"] })(c);
        c.linux.seccomp.listenerPath = "/s";
      },
      `${at}.syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall`,
    ],
    [
      "notify by default",
      set({ defaultAction: "SCMP_ACT_NOTIFY", listenerPath: "/s" }),
      `${at}.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action`,
    ],
    [
      "metadata alone",
      set({ listenerMetadata: "m" }),
      `${at}.listenerMetadata: must not be set if listenerPath is not set`,
    ],
    ["a path that is not used", set({ listenerPath: "/s" })],
    [
      "waiting without notify",
      set({ flags: ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }),
      `${at}.flags[1]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY`,
    ],
    [
      "errno",
      call({ errnoRet: 4096 }),
      `${at}.syscalls[0].errnoRet: must be an errno from 0 to 4095, not 4096`,
    ],
    ["errno of trace", call({ action: "SCMP_ACT_TRACE", errnoRet: 65535 })],
    [
      "errno of neither",
      set({ defaultErrnoRet: 1, syscalls: [{ names: ["a"], action: "SCMP_ACT_KILL", errnoRet: 0 }] }),
      `${at}.defaultErrnoRet: SCMP_ACT_ALLOW does not support a return code; SCMP_ACT_ERRNO and SCMP_ACT_TRACE do`,
      `${at}.syscalls[0].errnoRet: SCMP_ACT_KILL does not support a return code; SCMP_ACT_ERRNO and SCMP_ACT_TRACE do`,
    ],
  ]);
});
