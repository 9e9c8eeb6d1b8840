/**
 * The terminal: a pty of the container's own devpts, whose master goes to the console socket. It is made after the
 * mounts, through the container's root, and only if that is a devpts (CVE-2025-52565).
 */
import { abi } from "../linux/abi.gen.ts";
import type { Context } from "./context.ts";
import { type Slot, Struct } from "./program.ts";
import { openHow } from "./resolve.ts";

/** Name of the inherited descriptor of the socket that gets the master. */
export const CONSOLE_FD = "console-socket";

/** Declares the console socket, when the program is to have a terminal. */
export function planTerminal(c: Context): void {
  if (c.process.terminal) c.inherit({ name: CONSOLE_FD, from: { kind: "console-socket" } });
}

/**
 * Makes the pty, sends its master away and puts its other end on the standard streams.
 * @param bindConsole puts it over /dev/console, too
 */
export function compileTerminal(c: Context, bindConsole?: (c: Context, peer: Slot) => void): void {
  const socket = c.fd(CONSOLE_FD);
  if (socket === undefined) return;
  const { part, slots } = c;
  const master = c.hostMaster ?? slots.take("pty master");
  const peer = slots.take("pty");
  part.at("terminal", "process.terminal");
  if (c.hostMaster === undefined) openMaster(c, master);
  part.op(abi.SYS_ioctl, [master, abi.TIOCSPTLCK, new Struct(4, "int")], { about: "cannot unlock the pty" });
  part.op(abi.SYS_ioctl, [master, abi.TIOCGPTPEER, abi.O_RDWR | abi.O_NOCTTY | abi.O_CLOEXEC], {
    slot: peer,
    about: "cannot open the pty's other end",
  });
  compileSize(c, peer);
  bindConsole?.(c, peer);
  const name = new TextEncoder().encode("/dev/ptmx");
  part.at("terminal", "process.terminal");
  part.op(abi.BUNC_OP_SENDFD, [socket, master, name, name.length], {
    about: "cannot send the terminal to the console socket",
  });
  part.op(abi.SYS_close, [master]);
  part.op(abi.SYS_close, [socket]);
  part.op(abi.SYS_setsid, [], { tolerate: [[abi.EPERM, 0]] });
  for (const fd of [0, 1, 2]) part.op(abi.SYS_dup3, [peer, fd, 0]);
  part.op(abi.SYS_ioctl, [0, abi.TIOCSCTTY, 0], { about: "cannot make the pty the controlling terminal" });
  part.op(abi.SYS_close, [peer]);
  slots.give(master, peer);
}

/**
 * Opens ptmx of what must be a devpts: there the kernel makes it, and nobody else can. Anything else that the image has
 * in its place is not even opened.
 */
function openMaster(c: Context, master: Slot): void {
  const { part, slots } = c;
  const about = "cannot open /dev/pts/ptmx for the terminal";
  const hint = "process.terminal needs a mount of type devpts at /dev/pts";
  const pts = slots.take("/dev/pts");
  const kind = slots.take("file system of /dev/pts");
  const statfs = new Struct(120, "statfs");
  const directory = openHow(abi.O_PATH | abi.O_DIRECTORY, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS);
  part.op(abi.SYS_openat2, [c.root, "/dev/pts", directory, directory.size], { slot: pts, about, hint });
  part.op(abi.SYS_fstatfs, [pts, statfs], { about });
  part.op(abi.BUNC_OP_LOAD, [statfs, 8], { slot: kind });
  part.op(abi.BUNC_OP_EXPECT, [kind, -1, abi.DEVPTS_SUPER_MAGIC, abi.EPERM], {
    about: "/dev/pts/ptmx of the container is not the pty multiplexer",
    hint,
  });
  const how = openHow(abi.O_RDWR | abi.O_NOCTTY, abi.RESOLVE_NO_SYMLINKS | abi.RESOLVE_NO_XDEV);
  part.op(abi.SYS_openat2, [pts, "ptmx", how, how.size], { slot: master, about });
  part.op(abi.SYS_close, [pts]);
  slots.give(pts, kind);
}

/** The size of the terminal is consoleSize; whoever gets the master may change it. */
function compileSize(c: Context, peer: Slot): void {
  const size = c.process.consoleSize;
  if (!size?.height || !size.width) return;
  const winsize = new Struct(8, "winsize");
  winsize.view.setUint16(0, size.height, true);
  winsize.view.setUint16(2, size.width, true);
  c.part.at("terminal", "process.consoleSize");
  c.part.op(abi.SYS_ioctl, [peer, abi.TIOCSWINSZ, winsize], { about: "cannot set the size of the terminal" });
}
