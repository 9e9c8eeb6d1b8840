/**
 * Collects what `doctor` judges. Things are tried rather than concluded from version numbers, in processes and namespaces
 * that are gone afterwards; nothing of the host is changed.
 */
import { abi } from "../linux/abi.gen.ts";
import { readText } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import { kernelVersion } from "../linux/process.ts";
import type { CallerFacts, Facts, Outcome, ProgramFacts, SystemdFacts } from "./facts.ts";
import { gatherCgroups, writable } from "./gather-cgroups.ts";
import { NOT_MOUNTS, tryIdmappedMounts, tryMounts } from "./gather-mounts.ts";
import {
  fullMaps,
  gatherCaller,
  gatherHelper,
  gatherUserNamespaces,
  readSysctls,
  singleMaps,
  textOf,
} from "./gather-users.ts";
import { type MountLine, mountOf, parseFilesystems, parseMounts } from "./parse.ts";
import { probeCalls, probeSeccompActions, probeSeccompFlags } from "./probe-calls.ts";
import { type Steps, tryOut } from "./trial.ts";

/**
 * @param root directory of container state
 * @param here absolute path of the current directory
 */
export async function gatherFacts(root: string, here: string): Promise<Facts> {
  const caller = gatherCaller();
  const mountinfo = textOf("/proc/self/mountinfo", 16 << 20);
  const mounts = parseMounts(mountinfo);
  const kernel = gatherKernel();
  const filesystems = gatherFilesystems(kernel.release);
  const idHelpers = {
    uid: gatherHelper("uid", caller, mounts),
    gid: gatherHelper("gid", caller, mounts),
  };
  // Containers of a caller without rights over its namespaces have a user namespace of their own.
  const privileged = caller.effective.includes("CAP_SYS_ADMIN");
  const maps = caller.uid === 0 && privileged ? undefined : singleMaps();
  const mounted = tryMounts(maps, filesystems.includes("overlay"));
  for (const name of NOT_MOUNTS) delete mounted.steps[name];
  const facts: Facts = {
    caller,
    kernel,
    calls: probeCalls(),
    start: tryOut({}).start,
    namespaces: tryNamespaces(privileged),
    sysctls: readSysctls(["vm.memfd_noexec", "kernel.keys.maxkeys"]),
    userNamespaces: gatherUserNamespaces(caller),
    idHelpers,
    mounts: mounted.start === "ok" && mounted.user === "ok" ? mounted.steps : {},
    filesystems,
    idmapped: tryIdmappedMounts(caller, mounts, here),
    cgroup: gatherCgroups(mountinfo),
    seccomp: { actions: probeSeccompActions(), flags: probeSeccompFlags() },
    lsm: gatherLsm(),
    systemd: await gatherSystemd(caller),
    limits: gatherLimits(),
    proc: gatherProc(mounts),
    root: gatherRoot(root),
    here: { path: here, options: mountOf(mounts, here)?.options ?? [] },
    rdt: {
      cpu: /^flags\s*:.*\brdt_a\b/m.test(textOf("/proc/cpuinfo", 65536)),
      mounted: mounts.some(({ type }) => type === "resctrl"),
    },
    ps: Bun.which("ps", { PATH: process.env.PATH ?? "" }) !== null,
  };
  if (caller.uid !== 0 && idHelpers.uid.ranges.length > 0 && idHelpers.gid.ranges.length > 0) {
    facts.idMapping = tryOut({}, fullMaps(idHelpers.uid, idHelpers.gid)).maps;
  }
  const criu = await gatherCriu(caller);
  if (criu) facts.criu = criu;
  return facts;
}

function gatherKernel(): Facts["kernel"] {
  const FIELD = 65;
  const names = new Uint8Array(6 * FIELD);
  sys(abi.SYS_uname, names);
  const field = (index: number): string => {
    const bytes = names.subarray(index * FIELD, (index + 1) * FIELD);
    return text(bytes.subarray(0, bytes.indexOf(0)));
  };
  return { release: field(2), machine: field(4), version: kernelVersion() };
}

/** Each namespace apart, in a user namespace where the caller has no rights otherwise. */
function tryNamespaces(privileged: boolean): Record<string, Outcome> {
  const kinds: Record<string, number> = {
    mount: abi.CLONE_NEWNS,
    pid: abi.CLONE_NEWPID,
    network: abi.CLONE_NEWNET,
    ipc: abi.CLONE_NEWIPC,
    uts: abi.CLONE_NEWUTS,
    cgroup: abi.CLONE_NEWCGROUP,
    time: abi.CLONE_NEWTIME,
  };
  const steps: Steps = {};
  for (const kind in kinds) steps[kind] = [{ call: abi.SYS_unshare, args: [kinds[kind]!] }];
  const tried = tryOut(steps, privileged ? "own" : "unmapped");
  const failure = tried.start === "ok" ? tried.user : tried.start;
  if (failure === "ok") return tried.steps;
  return Object.fromEntries(Object.keys(kinds).map((kind) => [kind, failure]));
}

function gatherFilesystems(release: string): string[] {
  const known = textOf("/proc/filesystems");
  const wanted = /\/(?:overlay|fuse)\.ko/;
  let modules = "";
  for (const directory of [`/lib/modules/${release}`, `/usr/lib/modules/${release}`]) {
    for (const file of ["modules.builtin", "modules.dep"]) {
      for (const line of textOf(`${directory}/${file}`, 16 << 20).split("\n")) {
        const name = line.split(":")[0]!;
        if (wanted.test(name)) modules += `${name}\n`;
      }
    }
  }
  return parseFilesystems(known, modules);
}

function gatherLsm(): Facts["lsm"] {
  const enforce = textOf("/sys/fs/selinux/enforce", 16).trim();
  return {
    apparmor: textOf("/sys/module/apparmor/parameters/enabled", 16).startsWith("Y"),
    ...(enforce === "" ? {} : { selinux: enforce === "1" ? "enforcing" : "permissive" }),
    label: textOf("/proc/self/attr/current", 4096).replace(/[\0\n]+$/, ""),
  };
}

async function gatherSystemd(caller: CallerFacts): Promise<SystemdFacts> {
  const running = readText("/run/systemd/system", 1) === -abi.EISDIR;
  if (!running) return { running };
  const [{ SystemdBus }, { BuncError }] = await Promise.all([
    import("../cgroup/systemd-bus.ts"),
    import("../errors.ts"),
  ]);
  try {
    const bus = new SystemdBus(caller.uid !== 0 || caller.userNamespace);
    try {
      return { running, version: bus.managerText("Version") };
    } finally {
      bus.close();
    }
  } catch (error) {
    if (!(error instanceof BuncError)) throw error;
    const { hint } = error.fields;
    return { running, error: error.message, ...(hint ? { hint } : {}) };
  }
}

function gatherLimits(): Facts["limits"] {
  const limits: Facts["limits"] = {};
  const wanted: readonly [string, number][] = [
    ["nofile", abi.RLIMIT_NOFILE],
    ["nproc", abi.RLIMIT_NPROC],
    ["memlock", abi.RLIMIT_MEMLOCK],
    ["sigpending", abi.RLIMIT_SIGPENDING],
  ];
  for (const [name, resource] of wanted) {
    const pair = new BigUint64Array(2);
    if (sys(abi.SYS_prlimit64, 0, resource, 0, new Uint8Array(pair.buffer)) < 0) continue;
    const number = (value: bigint): number => (value === 0xffff_ffff_ffff_ffffn ? -1 : Number(value));
    limits[name] = { soft: number(pair[0]!), hard: number(pair[1]!) };
  }
  return limits;
}

/** How /proc is mounted (proc(5)): with hidepid others' processes are not seen, subset=pid leaves out the rest. */
function gatherProc(mounts: readonly MountLine[]): Facts["proc"] {
  const mount = mounts.findLast(({ point, type }) => point === "/proc" && type === "proc");
  const option = (name: string): string =>
    mount?.superOptions.find((one) => one.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
  return { mounted: mount !== undefined, hidepid: option("hidepid"), subset: option("subset") };
}

function gatherRoot(path: string): Facts["root"] {
  let nearest = path;
  for (;;) {
    const access = writable(nearest);
    if (access !== "ENOENT" || nearest === "/") return { path, nearest, writable: access };
    nearest = nearest.slice(0, nearest.lastIndexOf("/")) || "/";
  }
}

/** How long a program may take, in milliseconds. */
const PATIENCE = 15_000;

async function ask(path: string, ...args: string[]): Promise<ProgramFacts> {
  const child = Bun.spawn([path, ...args], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, PATIENCE);
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  clearTimeout(timer);
  const output = `${stdout}\n${stderr}`
    .slice(0, 4000)
    .trim()
    .replace(/\s*\n\s*/g, "; ");
  return { path, status: late ? "timeout" : (child.signalCode ?? child.exitCode ?? 0), output };
}

async function gatherCriu(caller: CallerFacts): Promise<Facts["criu"]> {
  // In /usr/sbin, which an ordinary user's $PATH may not have.
  const PATH = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;
  const path = Bun.which("criu", { PATH });
  if (!path) return undefined;
  const version = await ask(path, "--version");
  // A default.conf may make it write a log into the current directory.
  const user = caller.uid === 0 ? [] : ["--unprivileged"];
  const check = await ask(path, "check", "--no-default-config", ...user);
  return { version, check };
}
