/** What the command line itself asks of the operating system; commands ask through the container layer. */

import type { Log } from "../container/types.ts";
import type { Level } from "./log.ts";

/** All functions throw BuncError in Go's words, e.g. `open /x: permission denied`. */
export interface Host {
  /** Opens a file for --log: O_WRONLY|O_CREAT|O_APPEND|O_SYNC|O_CLOEXEC, mode 0644. */
  openLog(path: string): number;
  /** The log "journald:ID" or "syslog:ID", connected. */
  daemonLog(target: string, level: Level): Promise<Log>;
  /** Writes everything, however often it takes. */
  writeAll(fd: number, text: string): void;
  isTerminal(fd: number): boolean;
  /** A variable of the environment. The first look costs 0.13 ms in Bun 1.4.5, so ask only when it matters. */
  variable(name: string): string | undefined;
  effectiveUid(): number;
  /** Whether /proc/self/uid_map maps anything but all ids to themselves; false when it cannot be read. */
  inUserNamespace(): boolean;
  /** mkdir -p; the mode is for directories that are made. */
  makeDirectories(path: string, mode: number): void;
  changeMode(path: string, mode: number): void;
}
