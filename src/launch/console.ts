/** What only the first process of a container has of its terminal: a pty of the host, and the pty as /dev/console. */
import { abi } from "../linux/abi.gen.ts";
import type { Context } from "./context.ts";
import { needsDev } from "./devices.ts";
import type { Slot } from "./program.ts";
import { openHow } from "./resolve.ts";
import { moveMount } from "./rootfs.ts";
import { CONSOLE_FD } from "./terminal.ts";

/** Without a mount namespace the container has no devpts of its own: the pty is one of the host, opened before chroot. */
export function compileHostMaster(c: Context): void {
  if (c.fd(CONSOLE_FD) === undefined) return;
  c.hostMaster = c.slots.take("pty master");
  c.part.at("terminal", "process.terminal");
  c.part.op(abi.SYS_openat, [abi.AT_FDCWD, "/dev/ptmx", abi.O_RDWR | abi.O_NOCTTY | abi.O_CLOEXEC, 0], {
    slot: c.hostMaster,
    about: "cannot open /dev/ptmx of the host for the terminal",
  });
}

/**
 * The pty over /dev/console. The file is made without following a link, so a hostile /dev cannot place it elsewhere; what
 * is there already is covered and never opened, as it may be a device of the image's choice.
 */
export function bindConsole(c: Context, peer: Slot): void {
  if (!c.namespace("mount") || !needsDev(c)) return;
  const { part, slots } = c;
  const dev = slots.take("/dev");
  const file = slots.take("/dev/console");
  const tree = slots.take("pty mount");
  const how = openHow(abi.O_PATH | abi.O_DIRECTORY);
  part.op(abi.SYS_openat2, [c.root, "/dev", how, how.size], { slot: dev, about: "cannot open /dev" });
  part.op(abi.SYS_mknodat, [dev, "console", abi.S_IFREG | 0o666, 0], {
    tolerate: [[abi.EEXIST, 0]],
    about: "cannot make /dev/console",
  });
  const reach = openHow(abi.O_PATH, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS);
  part.op(abi.SYS_openat2, [dev, "console", reach, reach.size], {
    slot: file,
    about: "cannot open /dev/console",
  });
  part.op(abi.SYS_open_tree, [peer, "", abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_EMPTY_PATH], {
    slot: tree,
    about: "cannot bind the pty over /dev/console",
  });
  moveMount(part, tree, file, "cannot bind the pty over /dev/console");
  for (const slot of [tree, file, dev]) part.op(abi.SYS_close, [slot]);
  slots.give(dev, file, tree);
}
