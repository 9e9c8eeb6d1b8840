/** The directories of images and of criu's work, made and opened. */
import { BuncError } from "../errors.ts";
import { abi, sizeof_, stat_ } from "../linux/abi.gen.ts";
import { pathError } from "../linux/file.ts";
import { sys } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import type { CriuOptions } from "./options.ts";

/** Open directories; criu reaches them by these numbers in /proc. */
export interface Directories {
  images: number;
  /** -1: that of the images. */
  work: number;
  /** Where the log is. */
  logDir: number;
  logPath: string;
  close(): void;
}

const MODE = 0o700;

/**
 * @param forDump makes that of the images, where it is missing
 * @throws BuncError naming the directory
 */
export function openDirectories({ imagePath, workPath }: CriuOptions, forDump: boolean): Directories {
  if (forDump) makeAll(imagePath);
  const images = open(imagePath);
  let work = -1;
  try {
    if (workPath !== undefined) {
      const result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, workPath, MODE);
      if (result < 0 && result !== -abi.EEXIST) throw pathError("mkdir", workPath, result);
      work = open(workPath);
    }
  } catch (error) {
    closeFd(images);
    throw error;
  }
  return {
    images,
    work,
    logDir: work < 0 ? images : work,
    logPath: workPath ?? imagePath,
    close: () => {
      closeFd(images);
      closeFd(work);
    },
  };
}

/**
 * @param parent of --parent-path, relative to the directory of the images
 * @throws BuncError "--parent-path must be relative" or "invalid --parent-path: ..."
 */
export function checkParent(imagePath: string, parent: string): void {
  if (parent.startsWith("/")) throw new BuncError("--parent-path must be relative", { code: "usage" });
  const path = `${imagePath}/${parent}`;
  const stat = new DataView(new ArrayBuffer(sizeof_.stat));
  let result = sys(abi.SYS_newfstatat, abi.AT_FDCWD, path, new Uint8Array(stat.buffer), 0);
  if (result === 0 && (stat.getUint32(stat_.st_mode, true) & abi.S_IFMT) !== abi.S_IFDIR)
    result = -abi.ENOTDIR;
  if (result === 0) return;
  const { message, fields } = pathError("stat", path, result);
  throw new BuncError(`invalid --parent-path: ${message}`, {
    ...fields,
    code: "usage",
    hint: "it is relative to --image-path, and must exist",
  });
}

function makeAll(path: string): void {
  let result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, MODE);
  const parent = path.slice(0, path.lastIndexOf("/"));
  if (result === -abi.ENOENT && parent) {
    makeAll(parent);
    result = sys(abi.SYS_mkdirat, abi.AT_FDCWD, path, MODE);
  }
  if (result < 0 && result !== -abi.EEXIST) throw pathError("mkdir", path, result);
}

function open(path: string): number {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
  if (fd < 0) throw pathError("open", path, fd);
  return fd;
}
