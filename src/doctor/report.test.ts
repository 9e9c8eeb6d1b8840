import { describe, expect, test } from "bun:test";
import type { Facts, Finding } from "./facts.ts";
import { soundHost, soundUser } from "./hosts.ts";
import { judge, renderReport } from "./report.ts";

/** The findings that are not ok, of a host that is sound but for the edit. */
function complaints(edit: (facts: Facts) => void, facts = soundHost()): Finding[] {
  edit(facts);
  return judge(facts).findings.filter(({ status }) => status !== "ok");
}

const user = (edit: (facts: Facts) => void): Finding[] => complaints(edit, soundUser());

test("a sound host, for root and for a user", () => {
  for (const facts of [soundHost(), soundUser()]) {
    const report = judge(facts);
    expect(report.findings.filter(({ status }) => status !== "ok")).toEqual([]);
    expect(report.canRun).toBe(true);
    expect(report.findings.length).toBeGreaterThan(12);
  }
});

test("the text: a line for each finding, and a sum", () => {
  const facts = soundHost();
  facts.calls.openat2 = "ENOSYS";
  delete facts.criu;
  const lines = renderReport(judge(facts)).split("\n");
  expect(lines[0]).toBe("ok       kernel: Linux 6.12.1 on x86_64");
  expect(lines).toContain(
    "missing  system call openat2: this kernel does not have it, or a filter hides it " +
      "(no container runs without it); fix: boot a newer kernel",
  );
  expect(lines).toContain(
    "missing  criu: not installed: no checkpoint and restore; fix: as root: apt-get install criu (Fedora: dnf install criu)",
  );
  expect(lines.at(-2)).toMatch(/^containers of root cannot run here: \d+ ok, 0 with a warning, 2 missing$/);
  expect(lines.at(-1)).toBe("");
});

describe("what is essential", () => {
  const cases: [name: string, edit: (facts: Facts) => void, topic: string, rootless?: boolean][] = [
    ["an old kernel", (f) => Object.assign(f.kernel, { version: 4019, release: "4.19" }), "kernel"],
    ["no clone3", (f) => Object.assign(f.calls, { clone3: "ENOSYS" }), "system call clone3"],
    ["a filter on clone3", (f) => Object.assign(f.calls, { clone3: "EPERM" }), "system call clone3"],
    ["no executable memfds", (f) => Object.assign(f, { start: "EACCES" }), "starting bunc-init"],
    ["no mount namespace", (f) => Object.assign(f.namespaces, { mount: "EPERM" }), "namespaces"],
    ["no tmpfs", (f) => Object.assign(f.mounts, { tmpfs: "EPERM" }), "mounts"],
    ["no /proc", (f) => Object.assign(f.proc, { mounted: false }), "/proc"],
    ["no state directory", (f) => Object.assign(f.root, { writable: "EROFS" }), "state directory"],
    [
      "no user namespace",
      (f) => Object.assign(f.userNamespaces, { create: "EPERM" }),
      "user namespaces",
      true,
    ],
    ["one without rights", (f) => Object.assign(f.userNamespaces, { use: "EPERM" }), "user namespaces", true],
  ];
  for (const [name, edit, topic, rootless] of cases) {
    test(name, () => {
      const facts = rootless ? soundUser() : soundHost();
      edit(facts);
      const report = judge(facts);
      expect(report.canRun).toBe(false);
      const fatal = report.findings.filter(({ essential }) => essential);
      expect(fatal.map((finding) => finding.topic)).toEqual([topic]);
      expect(fatal[0]!.fix).toBeTruthy();
    });
  }

  test("root's containers run without user namespaces", () => {
    const [finding, ...more] = complaints((facts) => {
      Object.assign(facts.userNamespaces, { create: "EINVAL", use: "EIO" });
      delete facts.userNamespaces.others;
    });
    expect(more).toEqual([]);
    expect(finding).toMatchObject({
      status: "missing",
      essential: false,
      fix: "a kernel with CONFIG_USER_NS=y",
    });
  });
});

describe("user namespaces", () => {
  const sysctl = (name: string, value: number, create: string, use = "EPERM") =>
    user((facts) => {
      facts.userNamespaces.sysctls[name] = value;
      Object.assign(facts.userNamespaces, { create, use });
      facts.namespaces = { mount: create };
    });

  test("forbidden by Debian's sysctl", () => {
    expect(sysctl("kernel.unprivileged_userns_clone", 0, "EPERM")).toMatchObject([
      {
        topic: "user namespaces",
        detail: "kernel.unprivileged_userns_clone is 0",
        fix: expect.stringContaining("kernel.unprivileged_userns_clone=1"),
      },
    ]);
  });
  test("none left", () => {
    expect(sysctl("user.max_user_namespaces", 0, "ENOSPC")).toMatchObject([
      {
        detail: "user.max_user_namespaces is 0",
        fix: expect.stringContaining("user.max_user_namespaces=15000"),
      },
    ]);
  });
  test("without rights under Ubuntu's AppArmor", () => {
    const [finding] = user((facts) => {
      facts.userNamespaces.sysctls["kernel.apparmor_restrict_unprivileged_userns"] = 1;
      facts.userNamespaces.use = "EPERM";
    });
    expect(finding).toMatchObject({ topic: "user namespaces", essential: true });
    expect(finding!.detail).toContain("apparmor_restrict_unprivileged_userns is 1");
    expect(finding!.fix).toContain("/etc/apparmor.d/bunc");
  });
  test("root is told what ordinary users lack", () => {
    const found = complaints((facts) => {
      facts.userNamespaces.others = { create: "EPERM", use: "EIO" };
      facts.userNamespaces.sysctls["kernel.unprivileged_userns_clone"] = 0;
    });
    expect(found).toMatchObject([{ topic: "rootless containers", status: "warning" }]);
  });
});

describe("id mappings", () => {
  const cases: [name: string, edit: (facts: Facts) => void, topic: string, fix: string][] = [
    ["no helper", (f) => delete f.idHelpers.uid.path, "newuidmap", "apt-get install uidmap"],
    [
      "no set-uid bit",
      (f) => Object.assign(f.idHelpers.gid, { privileged: false }),
      "newgidmap",
      "chmod u+s",
    ],
    ["nosuid", (f) => Object.assign(f.idHelpers.uid, { nosuid: true }), "newuidmap", "remount"],
    [
      "no line",
      (f) => Object.assign(f.idHelpers.uid, { ranges: [] }),
      "/etc/subuid",
      "usermod --add-subuids 100000-165535 u",
    ],
    [
      "few ids",
      (f) => Object.assign(f.idHelpers.gid, { ranges: [{ first: 1, count: 10 }] }),
      "/etc/subgid",
      "usermod --add-subgids",
    ],
  ];
  for (const [name, edit, topic, fix] of cases) {
    test(name, () => {
      expect(user(edit)).toMatchObject([{ topic, essential: false, fix: expect.stringContaining(fix) }]);
    });
  }
  test("no_new_privs", () => {
    const found = user((facts) => Object.assign(facts.caller, { noNewPrivs: true }));
    expect(found.map(({ topic }) => topic)).toEqual(["newuidmap", "newgidmap"]);
  });
  test("helpers that fail although all looks well", () => {
    expect(user((facts) => Object.assign(facts, { idMapping: "newuidmap: exit status 1" }))).toMatchObject([
      { topic: "id mappings", detail: "newuidmap: exit status 1" },
    ]);
  });
});

describe("cgroups", () => {
  const v2 = (edit: (group: NonNullable<Facts["cgroup"]["v2"]>) => void, base = soundHost()) =>
    complaints((facts) => edit(facts.cgroup.v2!), base);

  test("none", () => {
    expect(complaints((facts) => Object.assign(facts.cgroup, { mode: "none", v2: undefined }))).toMatchObject(
      [{ topic: "cgroups", fix: expect.stringContaining("mount -t cgroup2") }],
    );
  });
  test("a controller that the kernel does not turn on", () => {
    expect(
      v2((group) => {
        group.controllers = ["cpuset", "cpu", "io", "pids"];
        group.delegated = group.controllers;
      }),
    ).toMatchObject([
      { detail: "no memory: no limits of memory", fix: expect.stringContaining("cgroup_enable=memory") },
    ]);
  });
  test("not delegated to the user; read-only", () => {
    expect(v2((group) => Object.assign(group, { writable: "EACCES" }), soundUser())).toMatchObject([
      { topic: "cgroup delegation", fix: expect.stringContaining("Delegate=yes") },
    ]);
    expect(v2((group) => Object.assign(group, { writable: "EROFS" }))).toMatchObject([
      { detail: expect.stringContaining("read-only"), fix: "mount -o remount,rw /sys/fs/cgroup" },
    ]);
  });
  test("delegated in part, as systemd does before version 252", () => {
    expect(v2((group) => Object.assign(group, { delegated: ["memory", "pids"] }), soundUser())).toMatchObject(
      [{ detail: expect.stringContaining("cpu cpuset io"), fix: expect.stringContaining("delegate.conf") }],
    );
  });
  test("v1 as an ordinary user and as root in a container", () => {
    const hierarchy = {
      controllers: ["cpu", "cpuset", "memory", "pids", "blkio", "devices", "freezer"],
      mountPoint: "/sys/fs/cgroup/all",
      own: "/sys/fs/cgroup/all",
      writable: "EACCES",
    };
    const v1 = (facts: Facts, writable: string) =>
      complaints((one) => {
        one.cgroup = { mode: "v1", v1: [{ ...hierarchy, writable }], swap: false };
      }, facts);
    expect(v1(soundUser(), "EACCES")).toMatchObject([
      { topic: "cgroup delegation", fix: expect.stringContaining("unified_cgroup_hierarchy=1") },
      { topic: "limits of swap" },
    ]);
    expect(v1(soundHost(), "EROFS")[0]).toMatchObject({ fix: "mount -o remount,rw /sys/fs/cgroup/all" });
  });
  test("no device filters", () => {
    expect(complaints((facts) => Object.assign(facts.cgroup, { deviceFilter: "EINVAL" }))).toMatchObject([
      { topic: "device rules", fix: expect.stringContaining("CONFIG_CGROUP_BPF") },
    ]);
  });
});

describe("the rest", () => {
  const cases: [name: string, edit: (facts: Facts) => void, topic: string, fix: string][] = [
    ["no criu", (f) => delete f.criu, "criu", "apt-get install criu"],
    [
      "criu fails",
      (f) => Object.assign(f.criu!.check, { status: 1, output: "Error" }),
      "criu",
      "criu check -v4",
    ],
    ["criu hangs", (f) => Object.assign(f.criu!.version, { status: "timeout" }), "criu", "reinstall"],
    [
      "no systemd",
      (f) => Object.assign(f, { systemd: { running: false } }),
      "systemd",
      "SystemdCgroup = false",
    ],
    [
      "no bus",
      (f) => Object.assign(f, { systemd: { running: true, error: "no bus", hint: "start dbus" } }),
      "systemd",
      "start dbus",
    ],
    [
      "no seccomp",
      (f) => Object.assign(f.seccomp, { actions: { X: false } }),
      "seccomp",
      "CONFIG_SECCOMP_FILTER",
    ],
    [
      "no notify",
      (f) => Object.assign(f.seccomp.actions, { SCMP_ACT_NOTIFY: false }),
      "seccomp",
      "boot a newer kernel",
    ],
    [
      "no LSM",
      (f) => Object.assign(f, { lsm: { apparmor: false, label: "" } }),
      "security modules",
      "lsm=apparmor",
    ],
    ["RDT", (f) => Object.assign(f, { rdt: { cpu: true, mounted: false } }), "Intel RDT", "mount -t resctrl"],
    ["no overlay", (f) => Object.assign(f, { filesystems: [] }), "overlayfs", "CONFIG_OVERLAY_FS"],
    ["no ps", (f) => Object.assign(f, { ps: false }), "ps", "procps"],
    ["noexec", (f) => f.here.options.push("noexec"), "current directory", "exec"],
    ["few files", (f) => Object.assign(f.limits.nofile!, { hard: 256 }), "limits", "limits.d"],
    ["subset=pid", (f) => Object.assign(f.proc, { subset: "pid" }), "/proc", "mount"],
    [
      "no id-mapped mounts",
      (f) => Object.assign(f.idmapped, { "9p": "EINVAL" }),
      "mounts with mapped ids",
      "ext4",
    ],
  ];
  for (const [name, edit, topic, fix] of cases) {
    test(name, () => {
      const found = complaints(edit);
      expect(found).toMatchObject([{ topic, essential: false, fix: expect.stringContaining(fix) }]);
      expect(renderReport(judge(soundHost())).split("\n").length).toBeGreaterThan(found.length);
    });
  }

  test("what hides processes matters to users only", () => {
    const hide = (facts: Facts) => Object.assign(facts.proc, { hidepid: "invisible" });
    expect(complaints(hide)).toEqual([]);
    expect(user(hide)).toMatchObject([{ topic: "/proc", fix: expect.stringContaining("hidepid=0") }]);
  });

  test("a covered /proc in a container, for a user", () => {
    const found = user((facts) => Object.assign(facts.mounts, { proc: "EPERM" }));
    expect(found).toMatchObject([
      { topic: "mounts", status: "warning", fix: expect.stringContaining("rbind") },
    ]);
  });
});
