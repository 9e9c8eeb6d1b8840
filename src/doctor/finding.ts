/** Making findings, and words that several checks share. */
import type { Facts, Finding } from "./facts.ts";

export const ok = (topic: string, detail: string): Finding => ({
  topic,
  status: "ok",
  essential: false,
  detail,
});

export const warning = (topic: string, detail: string, fix?: string): Finding => ({
  topic,
  status: "warning",
  essential: false,
  detail,
  ...(fix ? { fix } : {}),
});

export const missing = (topic: string, detail: string, fix?: string): Finding => ({
  ...warning(topic, detail, fix),
  status: "missing",
});

/** Something without which nothing runs. */
export const fatal = (topic: string, detail: string, fix?: string): Finding => ({
  ...missing(topic, detail, fix),
  essential: true,
});

/** Root of the host, with all that this means; not root of a user namespace. */
export const isRoot = ({ caller }: Facts): boolean =>
  caller.uid === 0 && !caller.userNamespace && caller.effective.includes("CAP_SYS_ADMIN");

/** Whether containers of this caller get a user namespace that it makes itself, without rights outside of it. */
export const isRootless = ({ caller }: Facts): boolean =>
  caller.uid !== 0 || !caller.effective.includes("CAP_SYS_ADMIN");

/** Sets a number of /proc/sys now and after each boot. */
export const setSysctl = (name: string, value: number): string =>
  `as root: echo ${name}=${value} >> /etc/sysctl.d/90-bunc.conf && sysctl -p /etc/sysctl.d/90-bunc.conf`;

/** Why a call that the kernel knows may be refused. */
export const refusal = ({ caller }: Facts): string =>
  caller.seccomp === 2
    ? "a seccomp filter on this process refuses it"
    : "this process may not, or a security module refuses it";

/** How bunc itself is to be run when it is in a container that keeps too much from it. */
export const LOOSEN =
  "run bunc outside of the surrounding container, or give that one more rights (docker run --privileged)";
