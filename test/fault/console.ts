// The receiver of --console-socket for many launches in a row: takes the terminals and sees that nobody keeps a
// connection open.
import { expect } from "bun:test";
import { join } from "node:path";
import * as abi from "../../src/linux/abi.gen.ts";
import { sys } from "../../src/linux/lib.ts";
import { closeFd } from "../../src/linux/process.ts";
import { receiveFd } from "../../src/linux/socket.ts";
import type { Rig } from "../rig/rig.ts";

/** A listening socket. What is sent over it waits in the kernel until `expectClosed`. */
export class ConsoleSocket {
  readonly path: string;
  private readonly fd: number;

  constructor(rig: Rig) {
    this.path = join(rig.scratch.bundles, "console");
    const type = abi.SOCK_STREAM | abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK;
    this.fd = sys(abi.SYS_socket, abi.AF_UNIX, type, 0);
    rig.defer(() => closeFd(this.fd));
    const address = Buffer.concat([Buffer.from([abi.AF_UNIX, 0]), Buffer.from(`${this.path}\0`)]);
    expect(sys(abi.SYS_bind, this.fd, address, address.length)).toBe(0);
    expect(sys(abi.SYS_listen, this.fd, 16)).toBe(0);
  }

  /** Takes all connections: each has brought at most one terminal, and is closed at the other end. */
  expectClosed(): void {
    for (;;) {
      const connection = sys(abi.SYS_accept4, this.fd, 0, 0, abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK);
      if (connection === -abi.EAGAIN) return;
      expect(connection).toBeGreaterThanOrEqual(0);
      closeFd(receiveFd(connection)?.fd);
      expect(sys(abi.SYS_read, connection, new Uint8Array(1), 1)).toBe(0);
      closeFd(connection);
    }
  }
}
