/** $NOTIFY_SOCKET: what of a container's words reaches the host's socket, and who waits for what. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuncError } from "../errors.ts";
import * as abi from "../linux/abi.gen.ts";
import { bytesOf, sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { defaultSpec } from "../oci/spec-default.ts";
import { addNotifyMount, makeNotifyDirectory, NotifySocket } from "./notify.ts";

const scratch = mkdtempSync(join(tmpdir(), "bunc-notify-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const open: number[] = [];
const sockets: NotifySocket[] = [];
afterEach(() => {
  // First those of the host: a socket that is closed waits for what the host holds.
  for (const fd of open.splice(0)) closeFd(fd);
  for (const socket of sockets.splice(0)) socket.close();
});
let names = 0;

/** struct sockaddr_un; "@" for an abstract name. */
function address(path: string): Uint8Array {
  const bytes = new Uint8Array(2 + bytesOf(path).length + (path.startsWith("@") ? 0 : 1));
  bytes.set(bytesOf(path), 2);
  bytes[0] = abi.AF_UNIX;
  if (path.startsWith("@")) bytes[2] = 0;
  return bytes;
}

function datagramSocket(): number {
  const fd = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0);
  open.push(fd);
  return fd;
}

/** The host's socket (systemd's), which tells what it got so far. */
class Host {
  private readonly fd = datagramSocket();
  private readonly held: number[] = [];

  constructor(
    readonly path = join(scratch, `host${++names}`),
    private readonly keepDescriptors = false,
  ) {
    const where = address(path);
    expect(sys(abi.SYS_bind, this.fd, where, where.length)).toBe(0);
  }

  /** Texts of the messages, those with a descriptor marked. */
  messages(): string[] {
    const all: string[] = [];
    for (;;) {
      const buffer = new Uint8Array(4096);
      const fds = new Int32Array(32);
      const n = sys(abi.BUNC_CALL_RECV, this.fd, buffer, 4096, new Uint8Array(fds.buffer), abi.MSG_DONTWAIT);
      if (n < 0) return all;
      all.push(text(buffer.subarray(0, n)) + (fds[0] ? " +fd" : ""));
      for (let i = 1; i <= fds[0]!; i++) this.held.push(fds[i]!);
      if (!this.keepDescriptors) this.release();
    }
  }

  release(): void {
    for (const fd of this.held.splice(0)) closeFd(fd);
  }

  close(): void {
    closeFd(this.fd);
    open.splice(open.indexOf(this.fd), 1);
  }
}

/** A state directory with a listening socket. */
function listening(host: string): { dir: string; socket: NotifySocket } {
  const dir = join(scratch, `state${++names}`);
  mkdirSync(dir);
  makeNotifyDirectory(dir);
  const socket = NotifySocket.open(dir, host);
  sockets.push(socket);
  return { dir, socket };
}

/** Says something as the container would, with a descriptor on request; 0 or -errno. */
function say(dir: string, message: string, descriptor = -1): number {
  const fd = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0);
  const where = address(join(dir, "notify/notify.sock"));
  let result = sys(abi.SYS_connect, fd, where, where.length);
  const bytes = bytesOf(message);
  if (result === 0) result = sys(abi.BUNC_CALL_SEND_FD, fd, descriptor, bytes, bytes.length);
  closeFd(fd);
  return result;
}

const told = (pid: number, ready = "READY=1") => [`${ready}\n`, `MAINPID=${pid}\n`, "BARRIER=1 +fd"];

test("the container gets a mount and a variable", () => {
  const spec = defaultSpec();
  const before = { mounts: spec.mounts!.length, env: spec.process!.env!.length };
  addNotifyMount(spec, "/run/bunc/x");
  expect(spec.mounts!.slice(before.mounts)).toEqual([
    {
      destination: "/run/notify",
      source: "/run/bunc/x/notify",
      options: ["bind", "nosuid", "noexec", "nodev", "ro"],
    },
  ]);
  expect(spec.process!.env!.slice(before.env)).toEqual(["NOTIFY_SOCKET=/run/notify/notify.sock"]);
  const bare = { ociVersion: "1.3.0", process: { user: { uid: 0, gid: 0 }, cwd: "/" } } as typeof spec;
  addNotifyMount(bare, "/s");
  expect([bare.mounts?.length, bare.process!.env]).toEqual([1, ["NOTIFY_SOCKET=/run/notify/notify.sock"]]);
});

test("every user of the container may write to the socket, whatever the umask", () => {
  const mask = process.umask(0o077);
  try {
    const { dir } = listening("@nobody");
    expect(statSync(join(dir, "notify")).mode & 0o777).toBe(0o755);
    expect(statSync(join(dir, "notify/notify.sock")).mode & 0o777).toBe(0o777);
    expect(makeNotifyDirectory(dir)).toBe(join(dir, "notify"));
  } finally {
    process.umask(mask);
  }
});

describe("handle", () => {
  test("passes READY on with the pid and a barrier, and nothing else", () => {
    const host = new Host();
    const { dir, socket } = listening(host.path);
    expect(socket.handle(42)).toBe("more");
    for (const other of [
      "STATUS=warming up",
      "MAINPID=1",
      "FDSTORE=1",
      "WATCHDOG=1",
      "",
      "READY",
      "xREADY=1",
    ]) {
      expect(say(dir, other)).toBe(0);
      expect(socket.handle(42)).toBe("more");
    }
    expect(host.messages()).toEqual([]);
    say(dir, "READY=1");
    expect(socket.handle(42)).toBe("ready");
    expect(host.messages()).toEqual(told(42));
    // Once is enough.
    say(dir, "READY=1");
    expect(socket.handle(42)).toBe("ready");
    expect(host.messages()).toEqual([]);
  });

  test("finds READY in any line, and takes nothing along", () => {
    const host = new Host();
    const { dir, socket } = listening(host.path);
    say(dir, "STATUS=up\nREADY=1\nMAINPID=1\nFDSTORE=1");
    expect(socket.handle(7)).toBe("ready");
    expect(host.messages()).toEqual(told(7));
  });

  test("drops descriptors at once, and answers a barrier of the container by that", () => {
    const host = new Host();
    const { dir, socket } = listening(host.path);
    const ends = new Int32Array(2);
    sys(abi.SYS_pipe2, new Uint8Array(ends.buffer), abi.O_CLOEXEC | abi.O_NONBLOCK);
    open.push(ends[0]!);
    say(dir, "BARRIER=1", ends[1]!);
    closeFd(ends[1]);
    const byte = new Uint8Array(1);
    expect(sys(abi.SYS_read, ends[0]!, byte, 1)).toBe(-abi.EAGAIN);
    expect(socket.handle(1)).toBe("more");
    expect(sys(abi.SYS_read, ends[0]!, byte, 1)).toBe(0);
  });

  test("does not let a flood keep it from returning, and loses nothing by that", () => {
    const host = new Host();
    const { dir, socket } = listening(host.path);
    let sent = 0;
    // The queue of a socket holds few (net.unix.max_dgram_qlen); a sender that would wait is one too many.
    const fd = sys(abi.SYS_socket, abi.AF_UNIX, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK, 0);
    open.push(fd);
    const where = address(join(dir, "notify/notify.sock"));
    sys(abi.SYS_connect, fd, where, where.length);
    const flood = () => {
      while (sys(abi.SYS_write, fd, bytesOf("STATUS=x"), 8) === 8) sent++;
    };
    for (let i = 0; i < 20; i++) {
      flood();
      expect(socket.handle(1)).toBe("more");
    }
    expect(sent).toBeGreaterThan(20);
    say(dir, "READY=1");
    expect(socket.handle(1)).toBe("ready");
  });

  test("tells an abstract socket too", () => {
    const host = new Host(`@bunc-test-${process.pid}-${++names}`);
    const { dir, socket } = listening(host.path);
    say(dir, "READY=1");
    socket.handle(3);
    expect(host.messages()).toEqual(told(3));
  });

  test("says what is wrong with the host's socket, once", () => {
    const absent = listening(join(scratch, "absent"));
    say(absent.dir, "READY=1");
    expect(() => absent.socket.handle(3)).toThrow(
      `NOTIFY_SOCKET: connect ${join(scratch, "absent")}: no such file`,
    );
    expect(absent.socket.handle(3)).toBe("ready");
    const long = listening(`/${"x".repeat(200)}`);
    say(long.dir, "READY=1");
    expect(() => long.socket.handle(3)).toThrow(BuncError);
  });

  test("under a watch, errors go to the one who watches", () => {
    const errors: unknown[] = [];
    const { dir, socket } = listening(join(scratch, "absent"));
    const watch = socket.watch(3, (error) => errors.push(error));
    expect(watch.fd).toBe(socket.fd);
    say(dir, "READY=1");
    expect([watch.handle(), errors.length]).toEqual([true, 1]);
    say(dir, "STATUS=1");
    expect([watch.handle(), errors.length]).toEqual([true, 1]);
  });
});

describe("waitReady", () => {
  /** A child that runs a script of sh, and its pidfd. */
  function child(script: string): { pidfd: number; kill(): Promise<void> } {
    const process = Bun.spawn(["sh", "-c", script], { stdio: ["ignore", "ignore", "ignore"] });
    const pidfd = sys(abi.SYS_pidfd_open, process.pid, 0);
    open.push(pidfd);
    return {
      pidfd,
      kill: async () => {
        process.kill("SIGKILL");
        await process.exited;
      },
    };
  }

  test("ends with the container", () => {
    const host = new Host();
    const { socket } = listening(host.path);
    expect(socket.waitReady(child("exit 3").pidfd, 5)).toBe("gone");
    expect(socket.waitReady(-1, 5)).toBe("gone");
    expect(host.messages()).toEqual([]);
  });

  test("counts what was said before the end", () => {
    for (const pidfd of [child("exit 0").pidfd, -1]) {
      const host = new Host();
      const { dir, socket } = listening(host.path);
      say(dir, "STATUS=1");
      say(dir, "READY=1");
      expect(socket.waitReady(pidfd, 5)).toBe("ready");
      expect(host.messages()).toEqual(told(5));
    }
  });

  test("returns at READY while the container goes on", async () => {
    const host = new Host();
    const { dir, socket } = listening(host.path);
    const running = child("exec sleep 60");
    say(dir, "READY=1");
    expect(socket.waitReady(running.pidfd, 5)).toBe("ready");
    await running.kill();
  });
});

describe("close", () => {
  test("waits until the host has let go of the barrier", () => {
    const host = new Host(undefined, true);
    const { dir, socket } = listening(host.path);
    say(dir, "READY=1");
    socket.handle(5);
    expect(host.messages()).toEqual(told(5));
    host.release();
    const before = performance.now();
    socket.close();
    expect(performance.now() - before).toBeLessThan(1000);
    expect(say(dir, "READY=1")).toBe(-abi.ECONNREFUSED);
  });

  test("does not wait for a host that is gone with its messages unread", () => {
    const host = new Host();
    const { dir, socket } = listening(host.path);
    say(dir, "READY=1");
    socket.handle(5);
    host.close();
    const before = performance.now();
    socket.close();
    expect(performance.now() - before).toBeLessThan(1000);
  });
});

describe("the directory", () => {
  test("may be deeper than an address is long", () => {
    const deep = join(scratch, "d".repeat(100), "e".repeat(100));
    mkdirSync(deep, { recursive: true });
    makeNotifyDirectory(deep);
    const socket = NotifySocket.open(deep, "@nobody");
    sockets.push(socket);
    expect(existsSync(join(deep, "notify/notify.sock"))).toBe(true);
  });

  test("with a socket of an earlier attempt is fine; a missing one is an error", () => {
    const { dir, socket } = listening("@nobody");
    socket.close();
    sockets.pop();
    sockets.push(NotifySocket.open(dir, "@nobody"));
    expect(say(dir, "x")).toBe(0);
    expect(() => NotifySocket.open(join(scratch, "nowhere"), "@nobody")).toThrow("no such file or directory");
    expect(() => makeNotifyDirectory(join(scratch, "nowhere"))).toThrow("no such file or directory");
  });
});
