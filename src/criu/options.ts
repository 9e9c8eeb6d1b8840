/** The options of a checkpoint and of a restore, and what of criu's request they are; pure. */
import { BuncError } from "../errors.ts";
import type { Options } from "./rpc.gen.ts";

/** What both are told. */
export interface CriuOptions {
  /** Absolute path of the directory of the images. */
  imagePath: string;
  /** Absolute path of the directory of criu's log and temporary files; absent: that of the images. */
  workPath?: string;
  /** Established TCP connections may be there. */
  tcpEstablished: boolean;
  /** Unix sockets whose other end is outside may be there. */
  extUnixSk: boolean;
  /** The terminal is the caller's. */
  shellJob: boolean;
  fileLocks: boolean;
  autoDedup: boolean;
  lazyPages: boolean;
  /** "soft", "full", "strict", "ignore", or "" for criu's own choice. */
  manageCgroupsMode: string;
}

/** Errors, warnings and what criu does: what runc asks for. */
const LOG_LEVEL = 4;

/** CLONE_NEWNET: what a network namespace has is never criu's to save or make; others configure it. */
const EMPTY_NAMESPACES = 0x40000000;

/** The numbers of criu_cg_mode. */
const MODES: Readonly<Record<string, number>> = { "": 6, soft: 3, full: 4, strict: 5, ignore: 0 };

/** @throws BuncError "invalid manage-cgroups-mode value" */
export function cgroupMode(mode: string): number {
  const number = Object.hasOwn(MODES, mode) ? MODES[mode] : undefined;
  if (number !== undefined) return number;
  throw new BuncError("invalid manage-cgroups-mode value", {
    code: "usage",
    hint: "it is soft, full, strict or ignore",
  });
}

/** criu's file of settings, which come before those of the request: a container's own, or one for all. */
export function configFile(annotations: Readonly<Record<string, string>> | undefined): Partial<Options> {
  const own = annotations?.["org.criu.config"];
  if (own === undefined) return { config_file: "/etc/criu/runc.conf" };
  return own === "" ? {} : { config_file: own };
}

/**
 * The part of a request that checkpoint and restore have in common.
 * @param logFile name of the log in the work directory
 */
export function commonOptions(
  options: CriuOptions,
  annotations: Readonly<Record<string, string>> | undefined,
  logFile: string,
): Partial<Options> {
  return {
    log_level: LOG_LEVEL,
    log_file: logFile,
    manage_cgroups: true,
    manage_cgroups_mode: cgroupMode(options.manageCgroupsMode),
    notify_scripts: true,
    shell_job: options.shellJob,
    tcp_established: options.tcpEstablished,
    ext_unix_sk: options.extUnixSk,
    file_locks: options.fileLocks,
    empty_ns: EMPTY_NAMESPACES,
    orphan_pts_master: true,
    auto_dedup: options.autoDedup,
    lazy_pages: options.lazyPages,
    ...configFile(annotations),
  };
}
