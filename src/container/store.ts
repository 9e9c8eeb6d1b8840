/**
 * The state directories: `<root>/<id>` with state.json, exec.fifo and what else a container needs. Commands that change
 * a container hold a lock on its directory (flock(2), which runc neither takes nor notices); `state` and `list` do not.
 */
import { BuncError } from "../errors.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { pathError, readBytes, readInto, writeAtomic, writeNew } from "../linux/file.ts";
import { succeeds, sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { sleep } from "../linux/wait.ts";
import { isWholeHead, parseState, parseSummary, type State, type Summary } from "./state.ts";
import { stateText } from "./state-text.ts";

/** How long a command waits for another one to be done with the container. */
const LOCK_SECONDS = 10;

/** The end of a file beyond this is not a state.json. */
const LONGEST = 64 << 20;

/** What bunc's own state.json has before its config hardly ever exceeds this. */
const HEAD_SIZE = 4096;

const STATE = "state.json";
const FIFO = "exec.fifo";

/**
 * Checks an id: letters, digits and "_+.-", and neither "." nor "..".
 * @throws BuncError "invalid container ID format"
 */
export function checkId(id: string): void {
  let legal = id.length > 0 && id !== "." && id !== "..";
  for (let i = 0; legal && i < id.length; i++) {
    const c = id.charCodeAt(i);
    legal =
      (c >= 0x61 && c <= 0x7a) ||
      (c >= 0x41 && c <= 0x5a) ||
      (c >= 0x30 && c <= 0x39) ||
      c === 0x5f || // _
      c === 0x2b || // +
      c === 0x2d || // -
      c === 0x2e; // .
  }
  if (legal) return;
  const shown = JSON.stringify(id.length > 60 ? `${id.slice(0, 57)}...` : id);
  throw new BuncError("invalid container ID format", {
    code: "usage",
    hint: `${shown} may only have letters, digits and the characters _ + . -`,
  });
}

/** The path of a container's state directory. The id is checked, so it cannot lead out of the root. */
export function statePath(root: string, id: string): string {
  checkId(id);
  return root === "/" ? `/${id}` : `${root}/${id}`;
}

function notFound(path: string): BuncError {
  return new BuncError("container does not exist", {
    code: "not-found",
    hint: `there is no ${path}; --root may name another directory`,
  });
}

/**
 * What the commands need of a container, in one read; takes no lock.
 * @throws BuncError "container does not exist", or an error that names the file
 */
export function readSummary(root: string, id: string): Summary {
  const path = statePath(root, id);
  return summaryAt(abi.AT_FDCWD, `${path}/${STATE}`, path);
}

/** One for all reads: `list` makes hundreds. */
let head: Uint8Array | undefined;

/**
 * Reads a state.json.
 * @param dir what `name` is relative to, or AT_FDCWD
 * @param path the state directory, for messages
 */
export function summaryAt(dir: number, name: string, path: string): Summary {
  head ??= new Uint8Array(HEAD_SIZE);
  const n = readInto(dir, name, head);
  if (n < 0) throw readError(path, n);
  // Its create was killed, or is, between the two calls that make and write the first one: nothing else exists then.
  if (n === 0) throw notFound(path);
  const start = text(head.subarray(0, n));
  const whole = n < HEAD_SIZE || isWholeHead(start) ? start : readWhole(dir, name, path);
  return parseSummary(whole, `${path}/${STATE}`, () => readWhole(abi.AT_FDCWD, `${path}/${STATE}`, path));
}

/**
 * The whole state of a container, exactly, for commands that change and save it.
 * @throws BuncError as readSummary
 */
export function readState(root: string, id: string): State {
  const path = statePath(root, id);
  return parseState(readWhole(abi.AT_FDCWD, `${path}/${STATE}`, path), `${path}/${STATE}`);
}

function readWhole(dir: number, name: string, path: string): string {
  const bytes = readBytes(name, LONGEST, dir);
  if (typeof bytes === "number") throw readError(path, bytes);
  if (bytes.length < LONGEST) return text(bytes);
  throw new BuncError(`${path}/${STATE} is larger than ${LONGEST >> 20} MB`, {
    code: "state",
    hint: "it was not written by a container runtime; delete --force removes it",
  });
}

function readError(path: string, result: number): BuncError {
  if (result === -abi.ENOENT || result === -abi.ENOTDIR) return notFound(path);
  return pathError("open", `${path}/${STATE}`, result);
}

const stat = new DataView(new ArrayBuffer(sizeof_.stat));
const statBytes = new Uint8Array(stat.buffer);

/** stat(2) into `stat`, without following the last symlink; an empty name is the open directory itself. 0 or -errno. */
function readStat(dir: number, name: string): number {
  const flags = abi.AT_SYMLINK_NOFOLLOW | abi.AT_EMPTY_PATH;
  return sys(abi.SYS_newfstatat, dir, name, statBytes, flags);
}

/** The uid of a file's owner, or -errno. */
export function ownerOf(dir: number, name: string): number {
  const result = readStat(dir, name);
  return result < 0 ? result : stat.getUint32(stat_.st_uid, true);
}

/** What is equal only for the same file, or undefined when there is none. */
function identityOf(dir: number, name: string): string | undefined {
  if (readStat(dir, name) < 0) return undefined;
  return `${stat.getBigUint64(stat_.st_dev, true)}:${stat.getBigUint64(stat_.st_ino, true)}`;
}

/** Whether a path exists; the last symlink is not followed. */
export function exists(path: string): boolean {
  return succeeds(abi.SYS_newfstatat, abi.AT_FDCWD, path, statBytes, abi.AT_SYMLINK_NOFOLLOW);
}

/** Whether a created container still waits for `start`. */
export function hasFifo(path: string): boolean {
  return exists(`${path}/${FIFO}`);
}

/** One entry of a directory; `type` is DT_*. */
export interface Entry {
  name: string;
  type: number;
}

/** The entries of an open directory without "." and "..", or -errno (getdents64(2)). */
export function listDirectory(fd: number): Entry[] | number {
  const entries: Entry[] = [];
  const buffer = new Uint8Array(32768);
  const view = new DataView(buffer.buffer);
  for (;;) {
    const n = sys(abi.SYS_getdents64, fd, buffer, buffer.length);
    // A directory that was removed while it was open.
    if (n === -abi.ENOENT || n === 0) return entries;
    if (n < 0) return n;
    for (let at = 0; at < n; at += view.getUint16(at + 16, true)) {
      const end = buffer.indexOf(0, at + 19);
      const name = text(buffer.subarray(at + 19, end));
      if (name !== "." && name !== "..") entries.push({ name, type: buffer[at + 18]! });
    }
  }
}

/** Opens a directory to list or lock it; a descriptor or -errno. */
export function openDirectory(path: string): number {
  const flags = abi.O_RDONLY | abi.O_DIRECTORY | abi.O_NOFOLLOW | abi.O_CLOEXEC;
  return sys(abi.SYS_openat, abi.AT_FDCWD, path, flags, 0);
}

/** mkdir -p for the root, with the mode runc gives to all that is missing. */
function makeRoot(path: string): void {
  let result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o700);
  const parent = path.slice(0, path.lastIndexOf("/"));
  if (result === -abi.ENOENT && parent !== "") {
    makeRoot(parent);
    result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o700);
  }
  if (result === -abi.EACCES) {
    const { message, fields } = pathError("mkdir", path, result);
    const hint =
      "an ordinary user's containers are kept below XDG_RUNTIME_DIR, which must be set, or in --root DIR";
    throw new BuncError(message, { ...fields, hint });
  }
  if (result < 0 && result !== -abi.EEXIST) throw pathError("mkdir", path, result);
}

/**
 * Makes and locks the state directory of a new container, and the root if need be.
 * @throws BuncError "container with given ID already exists", or one that names path and call
 */
export function createStateDir(root: string, id: string): StateDir {
  const path = statePath(root, id);
  let result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o711);
  if (result === -abi.ENOENT) {
    makeRoot(root);
    result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, 0o711);
  }
  if (result === -abi.EEXIST) {
    throw new BuncError("container with given ID already exists", {
      code: "exists",
      hint: `delete it first, or take another id than ${id}`,
    });
  }
  if (result < 0) throw pathError("mkdir", path, result);
  let dir: StateDir | undefined;
  try {
    dir = openStateDir(root, id);
    if (dir.tryLock() && dir.isCurrent()) return dir;
  } catch (error) {
    dir?.close();
    sys(abi.SYS_unlinkat, abi.AT_FDCWD, path, abi.AT_REMOVEDIR);
    throw error;
  }
  dir.close();
  throw new BuncError("container was deleted while it was being created", { code: "state" });
}

/**
 * Opens the state directory of a container, without a lock.
 * @throws BuncError "container does not exist", or one that names path and call
 */
export function openStateDir(root: string, id: string): StateDir {
  const path = statePath(root, id);
  const fd = openDirectory(path);
  if (fd === -abi.ENOENT || fd === -abi.ENOTDIR) throw notFound(path);
  if (fd < 0) throw pathError("open", path, fd);
  return new StateDir(path, fd, id);
}

/** A container's state directory, open. */
export class StateDir {
  constructor(
    readonly path: string,
    readonly fd: number,
    readonly id: string,
  ) {}

  close(): void {
    closeFd(this.fd);
  }

  /** What the commands need to know; read below the open directory. */
  summary(): Summary {
    return summaryAt(this.fd, STATE, this.path);
  }

  /** Writes state.json as a whole; the lock must be held. */
  save(state: State): void {
    this.saveText(stateText(state));
  }

  /** The same with the text of a state that is not complete yet. */
  saveText(content: string): void {
    const file = `${this.path}/${STATE}`;
    const result = writeAtomic(file, content, 0o600);
    if (result < 0) throw pathError("write", file, result);
  }

  /** The first text of a directory that is new: there is nothing to replace. */
  claim(content: string): void {
    const file = `${this.path}/${STATE}`;
    const result = writeNew(file, content, 0o600);
    if (result < 0) throw pathError("write", file, result);
  }

  /** False when another command holds the lock. */
  tryLock(): boolean {
    const result = sys(abi.SYS_flock, this.fd, abi.LOCK_EX | abi.LOCK_NB);
    if (result === 0) return true;
    if (result === -abi.EAGAIN || result === -abi.EINTR) return false;
    const error = pathError("flock", this.path, result);
    throw new BuncError(error.message, {
      ...error.fields,
      hint: "--root must be on a local file system, best a tmpfs",
    });
  }

  /**
   * Waits until this command alone may change the container.
   * @param seconds how long to wait
   * @throws BuncError naming who holds the lock
   */
  async lock(seconds: number = LOCK_SECONDS): Promise<void> {
    const deadline = Bun.nanoseconds() + seconds * 1e9;
    for (let pause = 1; !this.tryLock(); pause = pause < 25 ? pause * 2 : 50) {
      if (Bun.nanoseconds() > deadline) throw await this.busy(seconds);
      await sleep(pause);
    }
  }

  private async busy(seconds: number): Promise<BuncError> {
    const { lockHolder } = await import("./lock-holder.ts");
    const holder = lockHolder(this.fd);
    return new BuncError(
      `container ${this.id} is busy: another command has been changing it for ${seconds} s`,
      {
        code: "state",
        hint: holder ? `wait for ${holder}, or end it` : "wait for that command, or end it",
      },
    );
  }

  unlock(): void {
    sys(abi.SYS_flock, this.fd, abi.LOCK_UN);
  }

  /** Whether the path still leads to this directory: it may have been removed, and made anew, meanwhile. */
  isCurrent(): boolean {
    const mine = identityOf(this.fd, "");
    return mine !== undefined && mine === identityOf(abi.AT_FDCWD, this.path);
  }

  /** Path of the fifo at which a created container waits. */
  get fifo(): string {
    return `${this.path}/${FIFO}`;
  }

  /**
   * Makes the fifo: whoever `start`s opens it for reading, the container's init for writing.
   * @param uid host id of the container's root
   */
  makeFifo(uid: number, gid: number): void {
    const mode = 0o622;
    let call = "mkfifo";
    let result = sys(abi.SYS_mknodat, this.fd, FIFO, abi.S_IFIFO | mode, 0);
    if (result === 0) {
      // Again, because of the umask.
      call = "chmod";
      result = sys(abi.SYS_fchmodat, this.fd, FIFO, mode);
    }
    if (result === 0 && (uid !== 0 || gid !== 0)) {
      call = "chown";
      result = sys(abi.SYS_fchownat, this.fd, FIFO, uid, gid, abi.AT_SYMLINK_NOFOLLOW);
    }
    if (result < 0) throw pathError(call, this.fifo, result);
  }
}
