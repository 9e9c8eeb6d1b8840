/** Seccomp, security modules, criu, limits, and the places that bunc works in. */
import type { Facts, Finding } from "./facts.ts";
import { fatal, isRoot, LOOSEN, missing, ok, setSysctl, warning } from "./finding.ts";

export function checkSecurity(facts: Facts): Finding[] {
  return [...checkSeccomp(facts), ...checkLsm(facts), ...checkRdt(facts)];
}

function split(table: Readonly<Record<string, boolean>>): [there: string[], not: string[]] {
  const names = Object.keys(table);
  return [names.filter((name) => table[name]), names.filter((name) => !table[name])];
}

function checkSeccomp(facts: Facts): Finding[] {
  const topic = "seccomp";
  const [there, not] = split(facts.seccomp.actions);
  const short = (name: string): string => name.replace(/^SCMP_ACT_|^SECCOMP_FILTER_FLAG_/, "");
  if (there.length === 0) {
    const fix = facts.caller.seccomp === 2 ? LOOSEN : "a kernel with CONFIG_SECCOMP_FILTER=y";
    return [missing(topic, "no filters: bundles with linux.seccomp are refused", fix)];
  }
  const found = [ok(topic, `actions ${there.map(short).join(" ")}`)];
  const [, flags] = split(facts.seccomp.flags);
  if (not.length) found.push(warning(topic, `no action ${not.map(short).join(" ")}`, "boot a newer kernel"));
  if (flags.length)
    found.push(warning(topic, `no flag ${flags.map(short).join(" ")}`, "boot a newer kernel"));
  return found;
}

function checkLsm({ lsm }: Facts): Finding[] {
  const found: Finding[] = [];
  const as = lsm.label ? `, the caller is ${lsm.label}` : "";
  if (lsm.apparmor) found.push(ok("AppArmor", `on${as}`));
  if (lsm.selinux) found.push(ok("SELinux", `${lsm.selinux}${as}`));
  if (found.length) return found;
  return [
    missing(
      "security modules",
      "neither AppArmor nor SELinux is on: process.apparmorProfile and selinuxLabel are refused",
      "add lsm=apparmor (or security=selinux selinux=1) to the kernel's command line and reboot, if the kernel has it",
    ),
  ];
}

function checkRdt({ rdt }: Facts): Finding[] {
  if (rdt.mounted) return [ok("Intel RDT", "resctrl is mounted")];
  // Nothing is to be done on a machine whose processor cannot, so it is not listed.
  if (!rdt.cpu) return [];
  return [
    missing(
      "Intel RDT",
      "resctrl is not mounted: linux.intelRdt is refused",
      "as root: mount -t resctrl resctrl /sys/fs/resctrl",
    ),
  ];
}

export function checkCriu({ criu, caller }: Facts): Finding[] {
  const topic = "criu";
  const lost = "no checkpoint and restore";
  if (!criu)
    return [
      missing(topic, `not installed: ${lost}`, "as root: apt-get install criu (Fedora: dnf install criu)"),
    ];
  const version = /Version:\s*([\w.-]+)/.exec(criu.version.output)?.[1];
  if (criu.version.status !== 0 || !version) {
    return [
      missing(topic, `${criu.version.path} --version: ${ended(criu.version)}: ${lost}`, "reinstall criu"),
    ];
  }
  const major = Number.parseInt(version, 10);
  if (major < 3)
    return [warning(topic, `${version} is older than 3.0: ${lost}`, "install criu 3.0 or newer")];
  if (criu.check.status === 0) return [ok(topic, `${version}, its check finds this kernel good`)];
  const said = `criu check: ${ended(criu.check)}`;
  if (caller.uid === 0) {
    const fix = "see criu check -v4; a kernel with CONFIG_CHECKPOINT_RESTORE=y, a newer criu";
    return [warning(topic, `${version} does not work here (${said}): ${lost}`, fix)];
  }
  const fix = `run as root, or as root: setcap cap_checkpoint_restore+eip ${criu.check.path} (criu 3.18 or newer)`;
  return [warning(topic, `${version} does not work for this user (${said}): ${lost}`, fix)];
}

function ended({ status, output }: { status: number | string; output: string }): string {
  const how = typeof status === "number" ? `exit status ${status}` : status;
  // An old criu answers an option it does not know with all of its help.
  return output && !output.startsWith("Usage:") ? `${how}, ${output.slice(0, 200)}` : how;
}

/** Below these numbers containers of usual size fail. */
const LEAST = { nofile: 1024, nproc: 256, keys: 200 } as const;

export function checkLimits({ limits, caller, sysctls }: Facts): Finding[] {
  const found: Finding[] = [];
  const shown: string[] = [];
  for (const [name, { soft, hard }] of Object.entries(limits)) {
    const words = (value: number): string => (value < 0 ? "unlimited" : String(value));
    shown.push(`${name} ${soft === hard ? words(soft) : `${words(soft)} (hard ${words(hard)})`}`);
  }
  if (shown.length) found.push(ok("limits", shown.join(", ")));
  for (const name of ["nofile", "nproc"] as const) {
    const limit = limits[name];
    if (!limit || limit.hard < 0 || limit.hard >= LEAST[name]) continue;
    const fix = `as root: echo '${caller.name || "*"} hard ${name} ${LEAST[name] * 64}' > /etc/security/limits.d/bunc.conf; then log in again`;
    found.push(warning("limits", `no more than ${limit.hard} ${name}`, fix));
  }
  const keys = sysctls["kernel.keys.maxkeys"];
  if (caller.uid !== 0 && typeof keys === "number" && keys < LEAST.keys) {
    found.push(
      warning(
        "keyrings",
        `a user may have ${keys}, and every container takes one`,
        setSysctl("kernel.keys.maxkeys", LEAST.keys * 10),
      ),
    );
  }
  return found;
}

export function checkPlaces(facts: Facts): Finding[] {
  const { proc, root, here, ps, caller } = facts;
  const found: Finding[] = [];
  if (!proc.mounted) found.push(fatal("/proc", "is not mounted", "mount -t proc proc /proc"));
  else if (proc.subset !== "") {
    found.push(
      warning(
        "/proc",
        `is mounted with subset=${proc.subset}`,
        "as root: mount -o remount,subset= /proc, or mount it anew",
      ),
    );
  } else if (proc.hidepid !== "" && proc.hidepid !== "0" && proc.hidepid !== "off" && !isRoot(facts)) {
    found.push(
      warning(
        "/proc",
        `is mounted with hidepid=${proc.hidepid}: processes of containers with ids of their own are not seen`,
        "as root: mount -o remount,hidepid=0 /proc",
      ),
    );
  } else found.push(ok("/proc", "whole"));
  if (root.writable === "ok") {
    found.push(ok("state directory", root.path));
  } else {
    const fix =
      caller.uid === 0
        ? "--root with a directory that can be written to"
        : "log in so that $XDG_RUNTIME_DIR is set (machinectl shell, ssh), or --root with a directory of yours";
    found.push(fatal("state directory", `${root.path}: ${root.nearest}: ${root.writable}`, fix));
  }
  const bad = here.options.filter(
    (option) => option === "noexec" || option === "nosuid" || option === "nodev",
  );
  if (bad.includes("noexec")) {
    found.push(
      warning(
        "current directory",
        `${here.path} is on a mount with ${bad.join(",")}: programs of a rootfs there cannot be executed`,
        "keep bundles on another file system, or as root: mount -o remount,exec its mount",
      ),
    );
  } else if (bad.includes("nosuid")) {
    found.push(
      warning(
        "current directory",
        `${here.path} is on a mount with nosuid: set-uid programs of a rootfs there get no rights`,
        "keep bundles on another file system, or as root: remount it with suid",
      ),
    );
  }
  if (!ps) found.push(missing("ps", "not in $PATH: no bunc ps", "as root: apt-get install procps"));
  return found;
}
