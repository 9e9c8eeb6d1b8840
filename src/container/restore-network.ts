/**
 * The network namespace that criu makes for a restored container is empty, and its loopback device down. Others configure
 * the rest, as after a launch; the loopback device was up in what was saved, and connections within need it.
 */
import { Part, Slot, Struct } from "../launch/program.ts";
import { abi } from "../linux/abi.gen.ts";
import { servesOthers } from "../linux/wait.ts";
import { Init } from "./init-channel.ts";

/**
 * Brings up the loopback device in the network namespace of a process.
 * @throws BuncError
 */
export async function bringLoopbackUp(pid: number): Promise<void> {
  const init = Init.spawn({ flags: 0, firstFd: 3, fds: [], preserve: 0 });
  try {
    init.send(compileLoopback(`/proc/${pid}/ns/net`));
    if (servesOthers()) await init.told();
    init.next();
  } finally {
    init.kill();
  }
}

function compileLoopback(path: string): Part {
  const part = new Part().at("network", "linux.namespaces");
  const namespace = new Slot(0, "network namespace");
  const sock = new Slot(1, "socket");
  const request = new Struct(40, "ifreq");
  request.view.setUint16(0, 0x6f6c, true); // "lo"
  request.view.setUint16(abi.IFNAMSIZ, abi.IFF_UP | abi.IFF_RUNNING, true);
  const about = "cannot bring the loopback device up";
  part.op(abi.SYS_openat, [abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0], { slot: namespace, about });
  part.op(abi.SYS_setns, [namespace, abi.CLONE_NEWNET], { about });
  part.op(abi.SYS_socket, [abi.AF_INET, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0], { slot: sock, about });
  part.op(abi.SYS_ioctl, [sock, abi.SIOCSIFFLAGS, request], { about });
  return part;
}
