/**
 * An ordinary user's init executes bunc-init anew once it is root of the container's user namespace.
 *
 * Whoever looks into a hidden process (PR_SET_DUMPABLE 0) needs CAP_SYS_PTRACE in the user namespace in which its image
 * was executed (ptrace(2) "Ptrace access mode checking"). Init's first image was in the caller's: root has that right
 * there, an ordinary user never, who could not exec into a container until its program runs, nor have a hook or a
 * network helper join its namespaces. In the new user namespace its maker has every right, and of the container only who
 * was given CAP_SYS_PTRACE there, as in a container of root's. Were init simply not hidden, every process of its user
 * could take it over before it has the container's seccomp filter.
 *
 * With that right, and CAP_SYS_ADMIN, such a process could still take over init, and make any mount that init holds
 * writable. So init holds none with a file of the host's by then: of the state directory just the fifo, cloned as a mount
 * of its own, and as nothing but a link in /proc can open that, a clone of its own /proc/self/fd, which has nothing above.
 */
import { abi } from "../linux/abi.gen.ts";
import { type Context, type SentPart, Stage } from "./context.ts";
import { STATE_DIR_FD } from "./finish.ts";
import { compileBirth, compileLabelFiles } from "./namespaces.ts";
import { type Slot, Struct } from "./program.ts";

/**
 * Whether somebody may want to reach init before it executes the program. Not into a joined user namespace, whose root
 * could get hold of the new image before it hides; mounts can be cloned in a mount namespace of its own only; and the
 * files that hooks write to would be open to the container.
 */
export function renews(c: Context): boolean {
  const { settings, spec } = c;
  if (!settings.rootless || !c.isNew("user") || !c.isNew("mount")) return false;
  const { prestart, createRuntime, createContainer, startContainer } = spec.hooks ?? {};
  if (settings.hookFiles?.length && (createContainer?.length || startContainer?.length)) return false;
  return (
    settings.waitForStart || Boolean(settings.seccomp?.listener || prestart?.length || createRuntime?.length)
  );
}

/** The part that ends in the new image, which reads the next one; where that is impossible the old one goes on. */
export function compileRenewal(c: Context): SentPart {
  const { part } = c;
  part.at("namespaces", c.namespace("user")!.at);
  if (c.procfs) {
    // The old image may go on, and is then to hold nothing of the host's.
    part.op(abi.SYS_close, [c.procfs]);
    c.slots.give(c.procfs);
    c.procfs = undefined;
  }
  if (c.settings.waitForStart) {
    // By its path: what is inherited lies in the caller's mount namespace, of which nothing can be cloned here.
    const fifo = cloneOf(c, `${c.settings.stateDir}/exec.fifo`, "exec fifo");
    part.op(abi.SYS_dup3, [fifo, c.fd(STATE_DIR_FD)!, 0]);
    part.op(abi.SYS_close, [fifo]);
    c.slots.give(fifo);
  }
  part.at("ids", "linux.uidMappings");
  // Nobody but root keeps its rights in an execve.
  part.op(abi.SYS_setresgid, [0, 0, 0]);
  part.op(abi.SYS_setresuid, [0, 0, 0]);
  part.at("namespaces", c.namespace("user")!.at);
  const argv = new Struct(3 * 8, "argv").pointer(0, "bunc-init").pointer(8, String(c.fd("sync")!));
  part.op(abi.SYS_execve, ["/proc/self/exe", argv, new Struct(8, "envp")], {
    tolerate: [[abi.BUNC_ERR_ANY, 0]],
  });
  const sent = c.endPart(Stage.none);
  compileBirth(c);
  compileLabelFiles(c);
  c.part.at("namespaces", c.namespace("user")!.at);
  if (c.settings.waitForStart) c.ownFds = cloneOf(c, "/proc/self/fd", "init's descriptors");
  return sent;
}

function cloneOf(c: Context, path: string, name: string): Slot {
  const slot = c.slots.take(name);
  c.part.op(abi.SYS_open_tree, [abi.AT_FDCWD, path, abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC], {
    slot,
    about: `cannot clone ${path}`,
  });
  return slot;
}
