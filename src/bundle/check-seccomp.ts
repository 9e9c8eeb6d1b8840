/** Checks of `linux.seccomp` that need only the document (runtime-spec config-linux.md "Seccomp"). */
import type { LinuxSeccomp, LinuxSeccompAction } from "../oci/config.ts";
import { type Findings, problem } from "./findings.ts";

/** Checks the filter: what libseccomp or the kernel would refuse, and what could never work. */
export function checkSeccomp(seccomp: LinuxSeccomp, out: Findings): void {
  const at = "linux.seccomp";
  const { defaultAction, syscalls } = seccomp;
  if (defaultAction === "SCMP_ACT_NOTIFY") {
    problem(out, `${at}.defaultAction`, "SCMP_ACT_NOTIFY cannot be used as default action");
  }
  checkReturn(defaultAction, seccomp.defaultErrnoRet, out, `${at}.defaultErrnoRet`);
  let notifies = defaultAction === "SCMP_ACT_NOTIFY";
  if (syscalls) {
    for (let i = 0; i < syscalls.length; i++) {
      const { names, action, errnoRet } = syscalls[i]!;
      if (names.length === 0) problem(out, `${at}.syscalls[${i}].names`, "must not be empty");
      const empty = names.indexOf("");
      if (empty >= 0)
        problem(out, `${at}.syscalls[${i}].names[${empty}]`, "empty string is not a valid syscall");
      if (errnoRet !== undefined) checkReturn(action, errnoRet, out, `${at}.syscalls[${i}].errnoRet`);
      if (action !== "SCMP_ACT_NOTIFY") continue;
      notifies = true;
      const write = names.indexOf("write");
      if (write >= 0) {
        // Whoever sends the notification descriptor to its listener has to write.
        const path = `${at}.syscalls[${i}].names[${write}]`;
        problem(out, path, "SCMP_ACT_NOTIFY cannot be used for the write syscall");
      }
    }
  }
  if (notifies && !seccomp.listenerPath) {
    problem(out, `${at}.listenerPath`, "is required when SCMP_ACT_NOTIFY is used");
  }
  if (seccomp.listenerMetadata && !seccomp.listenerPath) {
    problem(out, `${at}.listenerMetadata`, "must not be set if listenerPath is not set");
  }
  const waits = seccomp.flags?.indexOf("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") ?? -1;
  if (waits >= 0 && !notifies) {
    // seccomp(2) takes it only together with SECCOMP_FILTER_FLAG_NEW_LISTENER.
    problem(out, `${at}.flags[${waits}]`, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY");
  }
}

/** The highest errno the kernel returns to a program (MAX_ERRNO). */
const HIGHEST_ERRNO = 4095;

function checkReturn(
  action: LinuxSeccompAction,
  value: number | undefined,
  out: Findings,
  path: string,
): void {
  if (value === undefined) return;
  if (action === "SCMP_ACT_ERRNO") {
    if (value > HIGHEST_ERRNO)
      problem(out, path, `must be an errno from 0 to ${HIGHEST_ERRNO}, not ${value}`);
  } else if (action !== "SCMP_ACT_TRACE") {
    problem(out, path, `${action} does not support a return code; SCMP_ACT_ERRNO and SCMP_ACT_TRACE do`);
  }
}
