/** For tests: made-up hosts to judge. */
import type { Facts } from "./facts.ts";

const CAPABILITIES = ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"];

/** Debian as root, with cgroup v2 and systemd: nothing to complain of. */
export function soundHost(): Facts {
  const each = <T>(value: T, ...names: string[]) => Object.fromEntries(names.map((name) => [name, value]));
  return {
    caller: {
      uid: 0,
      name: "root",
      effective: [...CAPABILITIES],
      bounding: [],
      noNewPrivs: false,
      seccomp: 0,
      userNamespace: false,
    },
    kernel: { release: "6.12.1", machine: "x86_64", version: 6012 },
    calls: each("ok", "clone3", "openat2", "mount_setattr", "fsopen", "pidfd_getfd"),
    start: "ok",
    namespaces: each("ok", "mount", "pid", "network", "ipc", "uts", "cgroup", "time"),
    sysctls: { "vm.memfd_noexec": 0, "kernel.keys.maxkeys": 200 },
    userNamespaces: {
      create: "ok",
      use: "ok",
      others: { create: "ok", use: "ok" },
      sysctls: {
        "kernel.unprivileged_userns_clone": 1,
        "kernel.apparmor_restrict_unprivileged_userns": null,
        "user.max_user_namespaces": 15000,
        "user.max_mnt_namespaces": 15000,
      },
    },
    idHelpers: {
      uid: { program: "newuidmap", path: "/usr/bin/newuidmap", privileged: true, nosuid: false, ranges: [] },
      gid: { program: "newgidmap", path: "/usr/bin/newgidmap", privileged: true, nosuid: false, ranges: [] },
    },
    mounts: each("ok", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2", "overlay", "mknod"),
    filesystems: ["tmpfs", "proc", "overlay"],
    idmapped: { ext4: "ok" },
    cgroup: {
      mode: "v2",
      v1: [],
      v2: {
        controllers: ["cpuset", "cpu", "io", "memory", "pids"],
        mountPoint: "/sys/fs/cgroup",
        own: "/sys/fs/cgroup/init.scope",
        writable: "ok",
        delegated: ["cpuset", "cpu", "io", "memory", "pids"],
        procs: "ok",
      },
      swap: true,
      deviceFilter: "ok",
    },
    seccomp: {
      actions: each(true, "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"),
      flags: each(true, "SECCOMP_FILTER_FLAG_LOG"),
    },
    lsm: { apparmor: true, label: "unconfined" },
    criu: {
      version: { path: "/usr/sbin/criu", status: 0, output: "Version: 4.1" },
      check: { path: "/usr/sbin/criu", status: 0, output: "Looks good." },
    },
    systemd: { running: true, version: "257.8" },
    limits: { nofile: { soft: 1024, hard: 524288 }, nproc: { soft: -1, hard: -1 } },
    proc: { mounted: true, hidepid: "", subset: "" },
    root: { path: "/run/bunc", nearest: "/run", writable: "ok" },
    here: { path: "/root", options: ["rw", "relatime"] },
    rdt: { cpu: false, mounted: false },
    ps: true,
  };
}

/** The same for u in a session whose cgroup is its own. */
export function soundUser(): Facts {
  const facts = soundHost();
  facts.caller = { ...facts.caller, uid: 1000, name: "u", effective: [] };
  delete facts.userNamespaces.others;
  for (const kind of ["uid", "gid"] as const)
    facts.idHelpers[kind].ranges = [{ first: 100000, count: 65536 }];
  facts.idMapping = "";
  facts.idmapped = {};
  facts.mounts.mknod = "EPERM";
  Object.assign(facts.calls, { fsopen: "EPERM" });
  facts.cgroup.deviceFilter = "EPERM";
  facts.root = { path: "/run/user/1000/bunc", nearest: "/run/user/1000", writable: "ok" };
  return facts;
}
