// Root filesystems for test containers, made from what Debian installs: busybox, and redis-server with its libraries.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  realpathSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

let applets: string[] | undefined;

/** Runs a host command and returns its output; throws with what it printed when it fails. */
export function output(command: string[]): string {
  const result = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe" });
  if (result.exitCode !== 0) throw new Error(`${command.join(" ")}: ${result.stderr.toString().trim()}`);
  return result.stdout.toString();
}

let busyboxPath: string | undefined;

/** The host's static busybox (Debian: busybox-static). */
export function busybox(): string {
  if (busyboxPath !== undefined) return busyboxPath;
  const path = Bun.which("busybox", { PATH: "/bin:/usr/bin:/sbin:/usr/sbin" });
  if (path === null) throw new Error("no busybox on this machine: apt-get install busybox-static");
  if (/interpreter/.test(output(["readelf", "-lW", path]))) {
    throw new Error(`${path} needs shared libraries: apt-get install busybox-static`);
  }
  busyboxPath = realpathSync(path);
  return busyboxPath;
}

const directories = [
  "dev",
  "etc",
  "home",
  "mnt",
  "opt",
  "proc",
  "root",
  "run",
  "srv",
  "sys",
  "tmp",
  "usr/local/bin",
  "var",
];

/** Puts a program into a root filesystem: a hard link to one copy of it in `store`, so that the host's file is safe. */
export function putProgram(program: string, store: string, target: string): string {
  const copy = join(store, basename(target));
  if (!existsSync(copy)) {
    mkdirSync(store, { recursive: true });
    copyFileSync(program, copy);
    chmodSync(copy, 0o755);
  }
  linkSync(copy, target);
  return copy;
}

/**
 * Makes a busybox root filesystem: the binary, /etc/passwd and /etc/group, and every applet as a hard link (a new
 * symlink takes ext4 ten times as long, and there are 400).
 *
 * @param dir where to make it; must not exist
 * @param store where the copies lie that every root filesystem of a run links to; on the same filesystem as `dir`
 */
export function makeRootfs(dir: string, store: string): string {
  applets ??= output([busybox(), "--list-full"]).trim().split("\n");
  mkdirSync(join(dir, "bin"), { recursive: true });
  const copy = putProgram(busybox(), store, join(dir, "bin/busybox"));
  for (const name of directories) mkdirSync(join(dir, name), { recursive: true, mode: 0o755 });
  const made = new Set(directories);
  for (const path of applets) {
    const parent = dirname(path);
    if (!made.has(parent)) mkdirSync(join(dir, parent), { recursive: true });
    made.add(parent);
    if (path !== "bin/busybox" && path !== "linuxrc") linkSync(copy, join(dir, path));
  }
  chmodSync(join(dir, "tmp"), 0o1777);
  writeFileSync(join(dir, "etc/passwd"), passwd);
  writeFileSync(join(dir, "etc/group"), group);
  return dir;
}

/** Users of the test root filesystems: root, and guest whose home differs from the default. */
const passwd = `root:x:0:0:root:/root:/bin/sh
guest:x:1000:1000:a guest:/home/guest:/bin/sh
`;
const group = `root:x:0:
tty:x:5:
guest:x:1000:
`;

/** Copies a host file into a root filesystem at the same path (`usr/lib/...`), following symlinks. */
export function copyInto(rootfs: string, path: string): void {
  const target = join(rootfs, path);
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(path, target);
  chmodSync(target, lstatSync(realpathSync(path)).mode & 0o777);
}

/** The shared libraries of a program, its loader included, as absolute host paths. */
export function libraries(program: string): string[] {
  const found: string[] = [];
  for (const line of output(["ldd", program]).split("\n")) {
    const path = /(?:=>)?\s(\/\S+)\s\(0x/.exec(line)?.[1];
    if (path !== undefined) found.push(path);
  }
  return found;
}

/**
 * Makes a root filesystem that holds Debian's redis-server, the libraries it needs and nothing else to run.
 *
 * @param dir where to make it; must not exist
 */
export function redisRootfs(dir: string): string {
  const server = Bun.which("redis-server", { PATH: "/usr/bin:/usr/local/bin:/bin" });
  if (server === null) throw new Error("no redis-server on this machine: apt-get install redis-server");
  for (const name of ["data", "dev", "etc", "proc", "sys", "tmp", "run"])
    mkdirSync(join(dir, name), { recursive: true });
  for (const path of libraries(server)) copyInto(dir, path);
  const program = join(dir, "usr/bin/redis-server");
  mkdirSync(dirname(program), { recursive: true });
  copyFileSync(realpathSync(server), program);
  chmodSync(program, 0o755);
  writeFileSync(join(dir, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nredis:x:999:999::/data:/bin/sh\n");
  return dir;
}
