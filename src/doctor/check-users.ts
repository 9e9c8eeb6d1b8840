/** User namespaces and the ids that may be mapped in them. */
import type { Facts, Finding, IdHelperFacts, Outcome } from "./facts.ts";
import { fatal, isRootless, LOOSEN, missing, ok, setSysctl, warning } from "./finding.ts";

const TOPIC = "user namespaces";

export function checkUserNamespaces(facts: Facts): Finding[] {
  const { create, use, others } = facts.userNamespaces;
  const found: Finding[] = [];
  const rootless = isRootless(facts);
  const end = create === "ok" ? use : create;
  if (end === "ok") {
    found.push(ok(TOPIC, rootless ? "can be made by this user" : "can be made by root"));
  } else {
    const detail = `${reason(facts, create, use)}${rootless ? "" : ": no containers with linux.namespaces user"}`;
    const fix = repair(facts, create);
    found.push(rootless ? fatal(TOPIC, detail, fix) : missing(TOPIC, detail, fix));
  }
  if (others) {
    if (others.create === "ok" && others.use === "ok") {
      found.push(ok("rootless containers", "ordinary users can make user namespaces"));
    } else if (end === "ok") {
      found.push(
        warning(
          "rootless containers",
          `ordinary users have none: ${reason(facts, others.create, others.use)}`,
          repair(facts, others.create),
        ),
      );
    }
  }
  return found;
}

function reason({ userNamespaces: { sysctls }, caller }: Facts, create: Outcome, use: Outcome): string {
  if (create === "EINVAL") return "this kernel has none";
  if (create === "ENOSPC")
    return `user.max_user_namespaces is ${sysctls["user.max_user_namespaces"] ?? "too low"}`;
  if (sysctls["kernel.unprivileged_userns_clone"] === 0 && create === "EPERM")
    return "kernel.unprivileged_userns_clone is 0";
  if (sysctls["kernel.apparmor_restrict_unprivileged_userns"] === 1)
    return "kernel.apparmor_restrict_unprivileged_userns is 1 and no AppArmor profile allows bunc to make them";
  if (create === "ok") return `they give no rights (unshare: ${use})`;
  return `clone3: ${create}${caller.seccomp === 2 ? ", by a seccomp filter on this process" : ""}`;
}

/** The profile that Ubuntu's own container engines come with. */
const PROFILE =
  "as root: printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile bunc /usr/{local/,}{s,}bin/bunc flags=(unconfined) {\\n  userns,\\n}\\n' " +
  "> /etc/apparmor.d/bunc && apparmor_parser -r /etc/apparmor.d/bunc (or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)";

function repair({ userNamespaces: { sysctls } }: Facts, create: Outcome): string {
  if (create === "EINVAL") return "a kernel with CONFIG_USER_NS=y";
  if (create === "ENOSPC") return setSysctl("user.max_user_namespaces", 15000);
  if (sysctls["kernel.unprivileged_userns_clone"] === 0 && create === "EPERM")
    return setSysctl("kernel.unprivileged_userns_clone", 1);
  if (sysctls["kernel.apparmor_restrict_unprivileged_userns"] === 1) return PROFILE;
  return LOOSEN;
}

/** Ids of a container besides the user's own; root writes mappings itself. */
export function checkIdMaps(facts: Facts): Finding[] {
  if (!isRootless(facts) || facts.caller.uid === 0) return [];
  const found = [
    ...checkHelper(facts, facts.idHelpers.uid, "uid"),
    ...checkHelper(facts, facts.idHelpers.gid, "gid"),
  ];
  if (facts.idMapping === "") found.push(ok("id mappings", "all ranges can be mapped"));
  else if (facts.idMapping && found.every(({ status }) => status === "ok"))
    found.push(warning("id mappings", facts.idMapping));
  return found;
}

const INSTALL = "as root: apt-get install uidmap (Fedora: dnf install shadow-utils)";

function checkHelper(facts: Facts, helper: IdHelperFacts, kind: "uid" | "gid"): Finding[] {
  const { program, path, ranges } = helper;
  const { name, uid } = facts.caller;
  const limit = "without it a container has a single id, the user's own";
  const found: Finding[] = [];
  if (!path) found.push(missing(program, `not in $PATH; ${limit}`, INSTALL));
  else if (!helper.privileged)
    found.push(missing(program, `${path} is not set-uid root; ${limit}`, `as root: chmod u+s ${path}`));
  else if (helper.nosuid)
    found.push(
      missing(program, `${path} is on a mount with nosuid; ${limit}`, "as root: remount it with suid"),
    );
  else if (facts.caller.noNewPrivs)
    found.push(
      missing(
        program,
        `no_new_privs is set on this process; ${limit}`,
        "start bunc without it (systemd: NoNewPrivileges=no)",
      ),
    );
  else found.push(ok(program, path));
  const file = `/etc/sub${kind}`;
  const total = ranges.reduce((sum, { count }) => sum + count, 0);
  const who = name || String(uid);
  const add = `as root: usermod --add-sub${kind}s 100000-165535 ${who}`;
  const shown = ranges.map(({ first, count }) => `${first}:${count}`).join(" ");
  if (total === 0) found.push(missing(file, `no line for ${who}; ${limit}`, add));
  else if (total < 65536)
    found.push(warning(file, `only ${total} ids for ${who} (${shown}); images use up to 65536`, add));
  else found.push(ok(file, `${total} ids for ${who} (${shown})`));
  return found;
}
