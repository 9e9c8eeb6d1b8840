/** Facts about user namespaces and about the ids an ordinary user may map. */
import { userName } from "../container/info.ts";
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import type { CallerFacts, IdHelperFacts, UserNamespaceFacts } from "./facts.ts";
import { type MountLine, mountOf, parseNumber, parseRanges, parseStatus } from "./parse.ts";
import { type Maps, slots, tryOut } from "./trial.ts";

/** A file as text, "" when it cannot be read. */
export const textOf = (path: string, max = 1 << 20): string => {
  const text = readText(path, max);
  return typeof text === "string" ? text : "";
};

/** Numbers of /proc/sys by their names with dots. */
export function readSysctls(names: readonly string[]): Record<string, number | null> {
  const found: Record<string, number | null> = {};
  for (const name of names) found[name] = parseNumber(readText(`/proc/sys/${name.replaceAll(".", "/")}`, 64));
  return found;
}

export function gatherCaller(): CallerFacts {
  const uid = sys(abi.SYS_geteuid);
  return {
    uid,
    name: userName(textOf("/etc/passwd", 16 << 20), uid) ?? "",
    ...parseStatus(textOf("/proc/self/status")),
    // The initial namespace maps every id, from 0 to 2^32-2, to itself (user_namespaces(7)).
    userNamespace: !/^\s*0\s+0\s+4294967295\s*$/.test(textOf("/proc/self/uid_map", 4096)),
  };
}

/** An id that no user has: nobody of Debian, Fedora and the kernel's own overflowuid. */
const NOBODY = 65534;

export function gatherUserNamespaces(caller: CallerFacts): UserNamespaceFacts {
  const [unused] = slots("unused");
  const inNew = tryOut({ use: [{ call: abi.SYS_unshare, args: [abi.CLONE_NEWNS] }] }, "unmapped");
  const facts: UserNamespaceFacts = {
    create: inNew.start === "ok" ? inNew.user : inNew.start,
    use: inNew.steps.use!,
    sysctls: readSysctls([
      "kernel.unprivileged_userns_clone",
      "kernel.apparmor_restrict_unprivileged_userns",
      "user.max_user_namespaces",
      "user.max_mnt_namespaces",
    ]),
  };
  const mayBecome = ["CAP_SETUID", "CAP_SETGID"].every((name) => caller.effective.includes(name));
  if (caller.uid !== 0 || caller.userNamespace || !mayBecome) return facts;
  const { steps } = tryOut({
    become: [
      { call: abi.SYS_setgroups, args: [0, 0], slot: unused! },
      { call: abi.SYS_setresgid, args: [NOBODY, NOBODY, NOBODY] },
      { call: abi.SYS_setresuid, args: [NOBODY, NOBODY, NOBODY] },
    ],
    create: [{ call: abi.SYS_unshare, args: [abi.CLONE_NEWUSER] }],
    use: [{ call: abi.SYS_unshare, args: [abi.CLONE_NEWNS] }],
  });
  if (steps.become === "ok") facts.others = { create: steps.create!, use: steps.use! };
  return facts;
}

const S_ISUID = 0o4000;

/** newuidmap or newgidmap. */
export function gatherHelper(
  kind: "uid" | "gid",
  caller: CallerFacts,
  mounts: readonly MountLine[],
): IdHelperFacts {
  const program = `new${kind}map`;
  const path = Bun.which(program, { PATH: process.env.PATH ?? "" });
  const ranges = parseRanges(textOf(`/etc/sub${kind}`, 16 << 20), caller.name, caller.uid);
  if (!path) return { program, privileged: false, nosuid: false, ranges };
  const { statSync, realpathSync } = require("node:fs") as typeof import("node:fs");
  const real = realpathSync(path);
  const { mode, uid } = statSync(real);
  return {
    program,
    path,
    privileged: ((mode & S_ISUID) !== 0 && uid === 0) || hasCapability(real, kind),
    nosuid: mountOf(mounts, real)?.options.includes("nosuid") ?? false,
    ranges,
  };
}

/** Whether a program has CAP_SETUID or CAP_SETGID by its file capabilities, struct vfs_cap_data in an attribute. */
function hasCapability(path: string, kind: "uid" | "gid"): boolean {
  const data = new Uint8Array(24);
  const size = sys(abi.SYS_getxattr, path, "security.capability", data, data.length);
  if (size < 8) return false;
  const permitted = new DataView(data.buffer).getUint32(4, true);
  const number = kind === "uid" ? abi.CAP_SETUID : abi.CAP_SETGID;
  return ((permitted >>> number) & 1) === 1;
}

/** The caller as root of a new user namespace, and behind it all ids it has been given. */
export function fullMaps(uid: IdHelperFacts, gid: IdHelperFacts): Maps {
  const map = (own: number, ranges: IdHelperFacts["ranges"]) => {
    const maps = [{ containerID: 0, hostID: own, size: 1 }];
    let next = 1;
    for (const { first, count } of ranges) {
      maps.push({ containerID: next, hostID: first, size: count });
      next += count;
    }
    return maps;
  };
  return { uid: map(sys(abi.SYS_geteuid), uid.ranges), gid: map(sys(abi.SYS_getegid), gid.ranges) };
}

/** The caller alone as root of a new user namespace: needs no helper. */
export function singleMaps(): Maps {
  const none: IdHelperFacts = { program: "", privileged: false, nosuid: false, ranges: [] };
  return fullMaps(none, none);
}
