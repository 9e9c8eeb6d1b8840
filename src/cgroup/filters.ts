/** Device filters that a cgroup of v2 has already (bpf(2)): a cgroup that is used again loses them to the new one. */
import { ptr } from "bun:ffi";
import { BuncError } from "../errors.ts";
import { abi, bpf_attr_, bpf_query_, sizeof_ } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { sys } from "../linux/lib.ts";

/** The kernel attaches no more to one cgroup. */
const MAX_FILTERS = 64;

function attribute(): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(sizeof_.bpf_attr);
  return { bytes, view: new DataView(bytes.buffer) };
}

/** Opens a cgroup, calls, closes. */
function withDir<T>(path: string, run: (fd: number) => T): T {
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_DIRECTORY | abi.O_CLOEXEC, 0);
  if (fd < 0) throw failed("open", path, fd);
  try {
    return run(fd);
  } finally {
    sys(abi.SYS_close, fd);
  }
}

function failed(what: string, path: string, result: number): BuncError {
  return new BuncError(`cannot replace the device filter of ${path}: ${what}: ${errnoText(-result)}`, {
    code: "host",
    phase: "cgroup",
    path: "linux.resources.devices",
    errno: errnoName(-result),
  });
}

/** Ids of the device filters that are attached to this cgroup itself. */
export function attachedFilters(path: string): number[] {
  return withDir(path, (fd) => {
    const ids = new Uint32Array(MAX_FILTERS);
    const { bytes, view } = attribute();
    const Q = bpf_query_;
    view.setUint32(Q.target_fd, fd, true);
    view.setUint32(Q.attach_type, abi.BPF_CGROUP_DEVICE, true);
    view.setBigUint64(Q.prog_ids, BigInt(ptr(ids)), true);
    view.setUint32(Q.prog_cnt, ids.length, true);
    const result = sys(abi.SYS_bpf, abi.BPF_PROG_QUERY, bytes, bytes.length);
    if (result < 0) throw failed("BPF_PROG_QUERY", path, result);
    return [...ids.subarray(0, view.getUint32(Q.prog_cnt, true))];
  });
}

/** Takes filters off a cgroup, by the ids of attachedFilters. */
export function detachFilters(path: string, ids: readonly number[]): void {
  withDir(path, (fd) => {
    for (const id of ids) {
      const get = attribute();
      get.view.setUint32(bpf_attr_.prog_id, id, true);
      const program = sys(abi.SYS_bpf, abi.BPF_PROG_GET_FD_BY_ID, get.bytes, get.bytes.length);
      // Gone meanwhile, or kept from us by a security module: then it goes on to restrict, which is no harm.
      if (program === -abi.ENOENT || program === -abi.EPERM || program === -abi.EACCES) continue;
      if (program < 0) throw failed("BPF_PROG_GET_FD_BY_ID", path, program);
      const { bytes, view } = attribute();
      view.setUint32(bpf_attr_.target_fd, fd, true);
      view.setUint32(bpf_attr_.attach_bpf_fd, program, true);
      view.setUint32(bpf_attr_.attach_type, abi.BPF_CGROUP_DEVICE, true);
      const result = sys(abi.SYS_bpf, abi.BPF_PROG_DETACH, bytes, bytes.length);
      sys(abi.SYS_close, program);
      if (result < 0 && result !== -abi.ENOENT) throw failed("BPF_PROG_DETACH", path, result);
    }
  });
}
