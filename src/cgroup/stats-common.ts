/** Statistics that v1 and v2 have in common. */
import { abi } from "../linux/abi.gen.ts";
import { sys, text } from "../linux/lib.ts";
import { forEachLine, parseCount, readStat } from "./stats-read.ts";
import type { RdmaEntry } from "./stats-types.ts";
import { subgroups } from "./tree.ts";

/** The sizes of huge pages as the hugetlb controller names them: "2MB". */
export function hugePageSizes(): string[] {
  const flags = abi.O_RDONLY | abi.O_DIRECTORY | abi.O_CLOEXEC;
  const fd = sys(abi.SYS_openat, abi.AT_FDCWD, "/sys/kernel/mm/hugepages", flags, 0);
  if (fd < 0) return [];
  const sizes: string[] = [];
  for (const bytes of subgroups(fd)) {
    const name = text(bytes.subarray(0, -1));
    if (!name.startsWith("hugepages-") || !name.endsWith("kB")) continue;
    const size = pageSizeName(Number(name.slice("hugepages-".length, -2)));
    if (size) sizes.push(size);
  }
  sys(abi.SYS_close, fd);
  return sizes.sort();
}

/** mem_fmt() of the kernel's mm/hugetlb_cgroup.c. */
export function pageSizeName(kilobytes: number): string | undefined {
  if (!Number.isSafeInteger(kilobytes) || kilobytes <= 0) return undefined;
  if (kilobytes >= 1 << 20) return `${Math.floor(kilobytes / (1 << 20))}GB`;
  return kilobytes >= 1 << 10 ? `${Math.floor(kilobytes / (1 << 10))}MB` : `${kilobytes}KB`;
}

/** rdma.current and rdma.max, when they tell of the same devices. */
export function readRdma(dir: string | undefined): { current: RdmaEntry[]; limit: RdmaEntry[] } | undefined {
  const used = readStat(dir, "rdma.current");
  const most = readStat(dir, "rdma.max");
  if (used === undefined || most === undefined) return undefined;
  const current = rdmaEntries(used);
  const limit = rdmaEntries(most);
  return current.length === limit.length ? { current, limit } : undefined;
}

/** Lines "mlx4_0 hca_handle=2 hca_object=max". */
function rdmaEntries(lines: string): RdmaEntry[] {
  const entries: RdmaEntry[] = [];
  forEachLine(lines, ([device, ...values]) => {
    const entry = { device: device!, hcaHandles: 0, hcaObjects: 0 };
    for (const item of values) {
      const equals = item.indexOf("=");
      const value = parseCount(item.slice(equals + 1));
      if (value === undefined) continue;
      const number = Math.min(Number(value), 0xffffffff);
      if (item.startsWith("hca_handle=")) entry.hcaHandles = number;
      else if (item.startsWith("hca_object=")) entry.hcaObjects = number;
    }
    entries.push(entry);
  });
  return entries;
}
