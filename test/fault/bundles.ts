// The bundles whose launch is walked: between them they have every kind of operation there is.
import { lchownSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { type HookKind, hookKinds } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import type { Rig } from "../rig/rig.ts";
import type { Launch } from "./walk.ts";

/** A bundle, and what its launch needs besides it. */
export interface Walked {
  container: Container;
  /** A terminal is asked for. */
  terminal?: boolean;
  before?: Launch["before"];
}

/** What `spec` writes. */
export function defaultBundle(rig: Rig): Walked {
  const container = rig.container((config) => {
    config.process.args = ["true"];
  });
  return { container };
}

/** A terminal with a size, and a hook of every kind. */
export function terminalBundle(rig: Rig): Walked {
  const container = rig.container((config) => {
    config.process.terminal = true;
    config.process.consoleSize = { height: 30, width: 90 };
    config.process.args = ["true"];
    const hooks: Partial<Record<HookKind, { path: string; args: string[] }[]>> = {};
    for (const kind of hookKinds) hooks[kind] = [{ path: "/bin/true", args: ["true"] }];
    config.hooks = hooks;
    config.annotations = { "run.oci.hooks.stdout": "/dev/null" };
  });
  return { container, terminal: true };
}

/** A user namespace with mappings; devices are bound there, and the parent opens the sources of binds. */
export function userBundle(rig: Rig): Walked {
  const container = rig.container((config, it) => {
    config.process.args = ["true"];
    config.linux.namespaces.push({ type: "user" }, { type: "cgroup" });
    config.linux.uidMappings = [{ containerID: 0, hostID: 100000, size: 65536 }];
    config.linux.gidMappings = [{ containerID: 0, hostID: 200000, size: 1000 }];
    config.mounts.push({ destination: "/mnt/made", source: rig.directory(), options: ["rbind", "ro"] });
    own(it.rootfs);
  });
  return { container };
}

function own(dir: string): void {
  lchownSync(dir, 100000, 200000);
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) own(join(dir, entry.name));
  }
}

/**
 * Joined namespaces: pid, network, ipc, uts and mount of a process that is made anew for each launch, because what was
 * mounted in a joined mount namespace stays there, and so does a change of its root.
 */
export function joinedBundle(rig: Rig): Walked {
  const container = rig.container((config) => {
    config.process.args = ["true"];
    delete config.hostname;
  });
  let holder: Subprocess<"ignore", "pipe", "inherit"> | undefined;
  const end = async (): Promise<void> => {
    holder?.kill("SIGKILL");
    await holder?.exited;
    holder = undefined;
  };
  rig.defer(end);
  const before = async (): Promise<void> => {
    await end();
    // --kill-child: the shell that keeps the pid namespace ends with unshare.
    const script = ["sh", "-c", "echo; exec sleep 60"];
    const command = ["unshare", "-m", "-u", "-i", "-n", "-p", "-f", "--kill-child", ...script];
    holder = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    await holder.stdout.getReader().read();
    const path = (name: string): string => `/proc/${holder!.pid}/ns/${name}`;
    container.config.linux.namespaces = [
      { type: "pid", path: path("pid_for_children") },
      { type: "network", path: path("net") },
      { type: "ipc", path: path("ipc") },
      { type: "uts", path: path("uts") },
      { type: "mount", path: path("mnt") },
    ];
  };
  return { container, before };
}

/** Nearly every other field of config.json that makes operations. */
export function fullBundle(rig: Rig): Walked {
  const container = rig.container((config, it) => {
    config.root.readonly = false;
    config.domainname = "example";
    config.process = {
      ...config.process,
      args: ["true"],
      user: { uid: 1000, gid: 1000, umask: 0o27, additionalGids: [5, 1001] },
      cwd: "/srv/made",
      oomScoreAdj: 100,
      noNewPrivileges: false,
      scheduler: { policy: "SCHED_BATCH", nice: 1 },
      ioPriority: { class: "IOPRIO_CLASS_BE", priority: 5 },
    };
    const { capabilities } = config.process;
    capabilities!.inheritable = capabilities!.ambient = ["CAP_KILL"];
    it.file("opt/data/");
    it.file("opt/data/file", "copied\n");
    config.mounts.push(
      { destination: "/opt/data", type: "tmpfs", source: "tmpfs", options: ["tmpcopyup", "ro", "nosuid"] },
      {
        destination: "/etc/bound",
        source: join(it.bundle, "config.json"),
        options: ["bind", "ro", "rprivate"],
      },
    );
    config.linux.namespaces.push({ type: "cgroup" }, { type: "time" });
    Object.assign(config.linux, {
      timeOffsets: { monotonic: { secs: 100, nanosecs: 5 } },
      sysctl: { "net.ipv4.ip_forward": "1", "kernel.domainname": "other" },
      personality: { domain: "LINUX" },
      rootfsPropagation: "shared",
      devices: [{ path: "/dev/sub/one", type: "c", major: 1, minor: 5, fileMode: 0o600, uid: 3, gid: 4 }],
      seccomp: {
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [{ names: ["swapon"], action: "SCMP_ACT_ERRNO" }],
      },
    });
    config.linux.resources = {
      devices: [{ allow: false, access: "rwm" }],
      memory: { limit: 64 << 20 },
      cpu: { shares: 512 },
      pids: { limit: 50 },
    };
  });
  return { container };
}
