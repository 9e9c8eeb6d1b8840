/** For tests: layouts of made-up hosts, and operations written as lines. */
import { Field, type Op, type Part, Slot, Slots, Struct } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { callName } from "../linux/names.ts";
import type { Spec } from "../oci/config.ts";
import { CgroupfsGroup } from "./cgroupfs.ts";
import { type Layout, parseLayout } from "./layout.ts";

/** Lines of a mountinfo that have nothing to do with cgroups. */
const OTHERS = `22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
24 22 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
`;
const TMPFS = "31 23 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n";

export function v1Line(id: number, options: string, point: string, root = "/"): string {
  return `${id} 31 0:${id} ${root} /sys/fs/cgroup/${point} rw,relatime shared:${id} - cgroup cgroup rw,${options}\n`;
}

/** A host: mountinfo, and the other files that are read. */
export interface Host {
  mountinfo: string;
  self: string;
  controllers?: string;
}

/** Every controller in a hierarchy of its own, no cgroup2. */
export const SEPARATE: Host = {
  mountinfo:
    OTHERS +
    TMPFS +
    v1Line(32, "cpu", "cpu") +
    v1Line(33, "cpuset", "cpuset") +
    v1Line(34, "memory", "memory") +
    v1Line(35, "devices", "devices") +
    v1Line(36, "freezer", "freezer") +
    v1Line(37, "pids", "pids"),
  self: "6:pids:/\n5:freezer:/\n4:devices:/\n3:memory:/jobs/a\n2:cpuset:/\n1:cpu:/\n",
};

/** As systemd mounts them: controllers together, a named hierarchy, and cgroup2 beside. */
export const HYBRID: Host = {
  mountinfo:
    OTHERS +
    TMPFS +
    "40 31 0:40 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n" +
    v1Line(41, "xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd", "systemd") +
    v1Line(42, "cpu,cpuacct", "cpu,cpuacct") +
    v1Line(43, "devices", "devices") +
    v1Line(44, "memory", "memory"),
  self: "4:memory:/user.slice\n3:devices:/user.slice\n2:cpuacct,cpu:/\n1:name=systemd:/user.slice/a.scope\n0::/user.slice/a.scope\n",
};

export const V2: Host = {
  mountinfo: `${OTHERS}30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - cgroup2 cgroup2 rw,nsdelegate\n`,
  self: "0::/user.slice/session.scope\n",
  controllers: "cpuset cpu io memory hugetlb pids\n",
};

/** Inside of a container of v1 that has no cgroup namespace: each mount shows the container's cgroup. */
export const NESTED: Host = {
  mountinfo:
    OTHERS +
    TMPFS +
    v1Line(32, "memory", "memory", "/docker/abc") +
    v1Line(33, "devices", "devices", "/docker/abc") +
    v1Line(34, "freezer", "freezer", "/docker/abc"),
  self: "3:freezer:/elsewhere\n2:devices:/docker/abc/sub\n1:memory:/docker/abc\n",
};

export const NONE: Host = { mountinfo: OTHERS, self: "" };

export function layoutOf(host: Host): Layout {
  return parseLayout(host.mountinfo, (path) => {
    if (path === "/proc/self/cgroup") return host.self;
    if (path.endsWith("/cgroup.controllers")) return host.controllers ?? -abi.ENOENT;
    throw new Error(`read of ${path}`);
  });
}

/** The plan for a bundle that has only what is given of `linux`. */
export function groupOf(host: Host, linux: Spec["linux"] = {}, more: Partial<Spec> = {}): CgroupfsGroup {
  const spec: Spec = { ociVersion: "1.3.0", ...more, linux };
  return new CgroupfsGroup({ spec, id: "c1", layout: layoutOf(host), slots: new Slots() });
}

/** An operation as a line: call and arguments, then `= slot`, what is tolerated, and how many are skipped. */
export function line(op: Op): string {
  const { args, options } = op;
  let text: string;
  if (op.call === abi.BUNC_OP_WRITE_AT) {
    const value = args[3];
    const bytes =
      value instanceof Uint8Array ? new TextDecoder().decode(value) : `<${(value as Struct).name}>`;
    text = `${args[1]} < ${bytes}`;
  } else if (op.call === abi.SYS_openat) {
    text = `open ${args[1]} ${openFlags(args[2] as number)}`;
  } else {
    text = [callName(op.call), ...args.map(argument)].join(" ");
  }
  if (options.slot) text += ` = ${options.slot.name}`;
  for (const [errno, skip] of options.tolerate ?? []) {
    const name = errno === abi.BUNC_ERR_ANY ? "any" : errnoName(errno);
    text += ` ?${name}${skip ? `+${skip}` : ""}`;
  }
  if (options.okSkip) text += ` ok+${options.okSkip}`;
  return text;
}

function errnoName(errno: number): string {
  const found = Object.entries(abi).find(([name, value]) => /^E[A-Z]+$/.test(name) && value === errno);
  return found?.[0] ?? String(errno);
}

const OPEN_FLAGS: readonly (readonly [name: string, flag: number])[] = [
  ["O_WRONLY", abi.O_WRONLY],
  ["O_PATH", abi.O_PATH],
  ["O_DIRECTORY", abi.O_DIRECTORY],
];

/** By name, as the numbers differ between machines; each must close on execve. */
function openFlags(flags: number): string {
  if (!(flags & abi.O_CLOEXEC)) throw new Error("a descriptor would be inherited");
  const set = OPEN_FLAGS.filter(([, flag]) => (flags & flag) === flag);
  return set.map(([name]) => name).join("|") || "O_RDONLY";
}

function argument(arg: Op["args"][number]): string {
  if (arg instanceof Slot || arg instanceof Struct) return `<${arg.name}>`;
  if (arg instanceof Field) return `<${arg.struct.name}+${arg.offset}>`;
  if (arg instanceof Uint8Array) return `<${arg.length} bytes>`;
  return arg === abi.AT_FDCWD ? "." : String(arg);
}

/** The operations of a part as lines. */
export function lines(part: Part): string[] {
  return part.ops.map(line);
}

/** Those that write to a file of a cgroup: "memory.max < 512". */
export function writes(part: Part): string[] {
  return lines(part)
    .filter((text) => text.includes(" < "))
    .map((text) => text.slice(text.lastIndexOf("/", text.indexOf(" < ")) + 1));
}
