// The config Docker writes for a container, its default seccomp profile included.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dockerCapabilities, dockerConfig } from "../bundles/docker.ts";
import { capabilitiesIn, capabilityNames } from "../rig/config.ts";
import type { Container } from "../rig/container.ts";
import { profileMissing } from "../rig/moby-profile.ts";
import { mountAt, parseMountInfo } from "../rig/mountinfo.ts";
import { useRig } from "../rig/rig.ts";
import { host } from "../rig/runtime.ts";

const rig = useRig();
const missing = profileMissing();

const docker = (...args: string[]): Container =>
  rig.container((config, container) => dockerConfig(config, container, args));

if (missing !== undefined) console.warn(`Docker's config is not tested: ${missing}`);

describe.skipIf(missing !== undefined)(
  `Docker's config${missing === undefined ? "" : ` (skipped: ${missing})`}`,
  () => {
    test("runs: user, names, capabilities, files, network", async () => {
      const container = docker();
      const report = await container.report();
      const ordered = capabilityNames.filter((name) => dockerCapabilities.includes(name));
      expect(report).toMatchObject({
        pid: 1,
        groups: [0, 10],
        uts: ["0123456789ab", "(none)", "x86_64"],
        cwd: "/",
      });
      for (const set of ["CapBnd", "CapEff", "CapPrm"])
        expect(capabilitiesIn(report.status[set]!)).toEqual(ordered);
      expect(report.status).toMatchObject({
        NoNewPrivs: "0",
        Seccomp: "2",
        CapInh: "0000000000000000",
        CapAmb: "0000000000000000",
      });
      expect(report.env).toEqual(expect.arrayContaining(["HOSTNAME=0123456789ab", "HOME=/root"]));
      const told = JSON.parse(readFileSync(container.path("prestart.json"), "utf8"));
      expect(told).toMatchObject({ id: container.id, status: "creating", bundle: container.bundle });
      const text = await container.shell(
        "cat /etc/resolv.conf /etc/hostname /etc/hosts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/self/mountinfo",
      );
      expect(text).toStartWith(
        "nameserver 192.0.2.1\n0123456789ab\n127.0.0.1\tlocalhost\n172.17.0.2\t0123456789ab\n0\n",
      );
      const table = parseMountInfo(text);
      expect(mountAt(table, "/").options).toContain("rw");
      for (const path of ["/proc/bus", "/proc/sys", "/sys", "/sys/firmware"])
        expect(mountAt(table, path).options).toContain("ro");
      expect(mountAt(table, "/etc/hosts").options).toContain("rw");
    });

    test("the profile: what Docker forbids is forbidden, what it allows works", async () => {
      const container = docker();
      const ADDR_NO_RANDOMIZE = 0x0040000;
      const CLONE_NEWUSER = 0x10000000;
      const results = await container.systemCalls(
        "mount none /mnt tmpfs 0 0",
        `unshare ${CLONE_NEWUSER}`,
        "setns 0 0",
        "keyctl 0",
        "add_key user x 0 0 0",
        "bpf 0 0 0",
        "kexec_load 0 0 0 0",
        "reboot 0",
        "swapon /x",
        `personality ${ADDR_NO_RANDOMIZE}`,
        "clone3 0 0",
        "9999",
      );
      expect(results.map(({ call, error }) => [call.split(" ")[0], error])).toEqual([
        ...[
          "mount",
          "unshare",
          "setns",
          "keyctl",
          "add_key",
          "bpf",
          "kexec_load",
          "reboot",
          "swapon",
          "personality",
        ].map((name) => [name, "EPERM"]),
        ["clone3", "ENOSYS"], // so that libc falls back to clone, whose flags the filter can see
        ["9999", "ENOSYS"], // newer than all the profile knows
      ]);
      const allowed = await container.systemCalls(
        "mkdirat -100 /opt/new 0755",
        "fchmodat -100 /opt/new 0700",
        "personality 0xffffffff",
        "personality 8",
        "socket 2 1 0",
        "socket 16 3 0",
        "getppid",
      );
      expect(allowed.map(({ error }) => error)).toEqual(Array(7).fill(""));
    });

    test("limits are set, with Docker's zeros for what was not given", async () => {
      const container = docker("sleep", "60");
      await container.detach();
      if (host.cgroupV1) {
        expect(container.cgroupFile("memory", "memory.limit_in_bytes")).toBe(String(256 << 20));
        expect(container.cgroupFile("cpu", "cpu.shares")).toBe("1024");
        expect(container.cgroupFile("pids", "pids.max")).toBe("100");
      } else {
        expect(container.cgroupFile("unified", "memory.max")).toBe(String(256 << 20));
        expect(container.cgroupFile("unified", "pids.max")).toBe("100");
      }
      expect((await container.state()).status).toBe("running");
    });

    test("masked paths are empty, read-only paths cannot be written, devices follow the rules", async () => {
      const container = docker();
      const text = await container.shell(
        `cat /proc/keys /proc/timer_list /proc/interrupts | wc -c; ls -A /proc/acpi /sys/firmware | grep -v : | grep -c .
      for f in /proc/sys/kernel/hostname /proc/sys/kernel/domainname; do (echo x >$f) 2>&1; done | grep -c 'Read-only'
      mknod /opt/sda b 8 0; head -c 1 /opt/sda 2>&1 | grep -c 'not permitted'; mknod /opt/null c 1 3 && echo x >/opt/null && echo null
      ls -ld /root; chown 5:5 /opt; ping -c 1 -w 1 127.0.0.1 | grep -c ttl=`,
      );
      const lines = text.trim().split("\n");
      expect(lines.slice(0, 2)).toEqual(["0", "0"]);
      expect(lines.slice(2, 5)).toEqual(["2", "1", "null"]);
      expect(lines.at(-1)).toBe("1");
    });
  },
);
