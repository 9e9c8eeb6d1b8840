import { describe, expect, test } from "bun:test";
import { abi } from "../linux/abi.gen.ts";
import { findHierarchy, ownPath, parseLayout, readLayout, v2Controllers } from "./layout.ts";
import { HYBRID, layoutOf, NESTED, NONE, SEPARATE, V2 } from "./testing.ts";

describe("parseLayout", () => {
  test("v1, one controller in each hierarchy", () => {
    const layout = layoutOf(SEPARATE);
    expect(layout.mode).toBe("v1");
    expect(layout.v2).toBeUndefined();
    expect(layout.v1.map(({ controllers, mountPoint }) => [controllers.join(), mountPoint])).toEqual([
      ["cpu", "/sys/fs/cgroup/cpu"],
      ["cpuset", "/sys/fs/cgroup/cpuset"],
      ["memory", "/sys/fs/cgroup/memory"],
      ["devices", "/sys/fs/cgroup/devices"],
      ["freezer", "/sys/fs/cgroup/freezer"],
      ["pids", "/sys/fs/cgroup/pids"],
    ]);
    expect(ownPath(layout, findHierarchy(layout, "memory")!)).toBe("/jobs/a");
    expect(ownPath(layout, findHierarchy(layout, "cpu")!)).toBe("");
  });

  test("hybrid, controllers together, options that are no controllers", () => {
    const layout = layoutOf(HYBRID);
    expect(layout.mode).toBe("hybrid");
    expect(layout.v2?.mountPoint).toBe("/sys/fs/cgroup/unified");
    expect(layout.v1.map(({ controllers }) => controllers)).toEqual([
      ["name=systemd"],
      ["cpu", "cpuacct"],
      ["devices"],
      ["memory"],
    ]);
    expect(findHierarchy(layout, "cpuacct")?.mountPoint).toBe("/sys/fs/cgroup/cpu,cpuacct");
    // /proc/self/cgroup names the controllers in another order.
    expect(ownPath(layout, findHierarchy(layout, "cpu")!)).toBe("");
    expect(ownPath(layout, findHierarchy(layout, "name=systemd")!)).toBe("/user.slice/a.scope");
    expect(ownPath(layout, layout.v2!)).toBe("/user.slice/a.scope");
  });

  test("v2", () => {
    const layout = layoutOf(V2);
    expect(layout.mode).toBe("v2");
    expect(layout.v1).toEqual([]);
    expect(layout.v2?.mountPoint).toBe("/sys/fs/cgroup");
    expect(v2Controllers(layout)).toEqual(["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]);
    expect(ownPath(layout, layout.v2!)).toBe("/user.slice/session.scope");
  });

  test("v2 wins over hierarchies of v1 in other places, as runc decides", () => {
    const extra = "50 22 0:50 / /opt/vpn rw - cgroup net_cls rw,net_cls\n";
    const layout = layoutOf({ ...V2, mountinfo: V2.mountinfo + extra });
    expect(layout.mode).toBe("v2");
    expect(layout.v1).toEqual([]);
  });

  test("cgroup2 in a place of its own makes a v1 host no hybrid one, but is all there is where there is no v1", () => {
    const extra = "50 22 0:50 / /run/cilium/cgroupv2 rw - cgroup2 none rw\n";
    expect(layoutOf({ ...SEPARATE, mountinfo: SEPARATE.mountinfo + extra }).mode).toBe("v1");
    const alone = layoutOf({ ...NONE, mountinfo: NONE.mountinfo + extra });
    expect([alone.mode, alone.v2?.mountPoint]).toEqual(["v2", "/run/cilium/cgroupv2"]);
  });

  test("nested: a mount shows only a part of its hierarchy", () => {
    const layout = layoutOf(NESTED);
    const own = (name: string) => ownPath(layout, findHierarchy(layout, name)!);
    expect(own("memory")).toBe("");
    expect(own("devices")).toBe("/sub");
    // Not below what is mounted: the mount point is the nearest that can be reached.
    expect(own("freezer")).toBe("");
  });

  test("a cgroup above the namespace's root", () => {
    const layout = layoutOf({ ...V2, self: "0::/../outside\n" });
    expect(ownPath(layout, layout.v2!)).toBe("");
  });

  test("none, nonsense, nothing", () => {
    expect(layoutOf(NONE).mode).toBe("none");
    expect(parseLayout("").mode).toBe("none");
    expect(parseLayout(" - cgroup").mode).toBe("none");
    expect(parseLayout("a b c d e - cgroup cgroup\n - cgroup2 \n").mode).toBe("none");
    expect(readLayout(undefined, () => -abi.ENOENT).mode).toBe("none");
    expect(v2Controllers(parseLayout(V2.mountinfo, () => -abi.ENOENT))).toEqual([]);
    expect(
      ownPath(
        parseLayout(V2.mountinfo, () => -abi.ENOENT),
        parseLayout(V2.mountinfo).v2!,
      ),
    ).toBe("");
    expect(
      ownPath(
        parseLayout(V2.mountinfo, () => "no colons\n:one\n"),
        parseLayout(V2.mountinfo).v2!,
      ),
    ).toBe("");
  });

  test("what is mounted over counts as not there", () => {
    const over = "60 23 0:60 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const layout = layoutOf({ ...HYBRID, mountinfo: HYBRID.mountinfo + over });
    expect([layout.mode, layout.v1.length, layout.v2?.mountPoint]).toEqual(["v2", 0, "/sys/fs/cgroup"]);
    const hidden = "61 22 0:61 / /sys rw - tmpfs tmpfs rw\n";
    expect(layoutOf({ ...HYBRID, mountinfo: HYBRID.mountinfo + hidden }).mode).toBe("none");
    const one = "62 44 0:62 / /sys/fs/cgroup/memory rw - tmpfs tmpfs rw\n";
    const rest = layoutOf({ ...HYBRID, mountinfo: HYBRID.mountinfo + one });
    expect(findHierarchy(rest, "memory")).toBeUndefined();
    expect(findHierarchy(rest, "devices")).toBeDefined();
    // Mounted again over the cover: there it is.
    const again = "63 61 0:43 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n";
    const found = layoutOf({ ...HYBRID, mountinfo: HYBRID.mountinfo + hidden + again });
    expect([found.mode, found.v1.map(({ controllers }) => controllers[0])]).toEqual(["v1", ["devices"]]);
  });

  test("a mount that was moved may be listed before the one it lies on", () => {
    const moved = `22 1 254:1 / / rw - ext4 /dev/vda1 rw
31 70 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:32 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
70 22 0:21 / /sys rw - sysfs sysfs rw
`;
    expect(parseLayout(moved).v1.map(({ mountPoint }) => mountPoint)).toEqual(["/sys/fs/cgroup/devices"]);
    // A circle, which the kernel never writes, must not hang.
    expect(parseLayout(moved.replace("31 70", "31 32")).mode).toBe("none");
  });

  test("a root that reads like a mount point covers nothing", () => {
    const bind = "64 22 0:21 /sys/fs/cgroup /mnt rw - sysfs sysfs rw\n65 22 0:1 /sys /mnt2 rw - tmpfs t rw\n";
    expect(layoutOf({ ...SEPARATE, mountinfo: SEPARATE.mountinfo + bind }).v1.length).toBe(6);
  });

  test("mounted twice: the usual place is taken", () => {
    const early = "25 22 0:34 / /mnt/memory rw - cgroup cgroup rw,memory\n";
    const layout = layoutOf({ ...SEPARATE, mountinfo: early + SEPARATE.mountinfo });
    expect(findHierarchy(layout, "memory")?.mountPoint).toBe("/sys/fs/cgroup/memory");
    const late = layoutOf({ ...SEPARATE, mountinfo: SEPARATE.mountinfo + early });
    expect(findHierarchy(late, "memory")?.mountPoint).toBe("/sys/fs/cgroup/memory");
  });

  test("escaped paths and noprefix", () => {
    const text =
      "30 22 0:9 /a\\040b /mnt/c\\134d\\011e rw - cgroup cgroup rw,cpuset,noprefix,clone_children\n";
    expect(parseLayout(text).v1).toEqual([
      { controllers: ["cpuset"], mountPoint: "/mnt/c\\d\te", root: "/a b", noprefix: true },
    ]);
  });

  test("a hierarchy without any controller is none", () => {
    expect(parseLayout("30 22 0:9 / /mnt/x rw - cgroup cgroup rw,xattr\n").mode).toBe("none");
  });

  test("a host with thousands of other mounts is read quickly", () => {
    let text = SEPARATE.mountinfo;
    for (let i = 0; i < 5000; i++)
      text += `${1000 + i} 22 0:9 / /var/lib/x/${i}/merged rw - overlay overlay rw\n`;
    const start = performance.now();
    expect(parseLayout(text).v1.length).toBe(6);
    expect(performance.now() - start).toBeLessThan(100);
  });
});
