// linux.netDevices beyond the plain case (process-attributes.test.ts): which addresses go along, indexes that are taken,
// joined and user namespaces, several devices, and what is left on the host when a launch fails.
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import type { Config } from "../rig/config.ts";
import type { Result } from "../rig/rig.ts";
import { useRig } from "../rig/rig.ts";
import { buncDescribe, testUnless } from "../rig/runtime.ts";

const rig = useRig();
const noIp = existsSync("/usr/sbin/ip") || existsSync("/sbin/ip") ? undefined : "no iproute2 on this host";

/**
 * Runs a container in a fresh network namespace as its "host", where `script` makes the devices; `$@` runs the runtime.
 * What the host's `ip -o link` shows afterwards follows the line "--".
 */
async function launch(
  script: string,
  edit: (config: Config) => void,
  after = "true",
): Promise<{ result: Result; inside: string; host: string }> {
  const container = rig.container((config) => {
    config.process.args = ["ip", "addr"];
    edit(config);
  });
  const wrap = [
    "unshare",
    "-n",
    "sh",
    "-c",
    `set -e; ${script}; set +e; "$@"; code=$?; echo --; ip -o link; ${after}; exit $code`,
    "sh",
  ];
  const result = await container.run([], { wrap });
  const [inside = "", host = ""] = result.stdout.split(/^--$/m);
  return { result, inside, host };
}

/** The lines that `ip addr` of busybox prints about one device. */
function device(text: string, name: string): string {
  const found = text.split(/^(?=\d+: )/m).find((block) => new RegExp(`^\\d+: ${name}(@\\S+)?:`).test(block));
  if (!found) throw new Error(`no device ${name} in:\n${text}`);
  return found;
}

const veth = "ip link add dev0 type veth peer name dev1";

buncDescribe("netDevices", () => {
  testUnless(noIp, "permanent addresses of global scope go along as they are; others do not", async () => {
    const script = `${veth}
      ip addr add 10.9.8.7/24 brd + dev dev0
      ip addr add 10.9.8.8/24 dev dev0 label dev0:1
      ip addr add 10.1.1.1 peer 10.1.1.2 dev dev0
      ip -6 addr add 2001:db8::5/64 nodad dev dev0
      ip addr add 169.254.7.7/16 scope link dev dev0
      ip addr add 10.9.8.9/24 valid_lft 1000 preferred_lft 900 dev dev0
      ip link set dev0 up`;
    const { result, inside, host } = await launch(script, (config) => {
      config.linux.netDevices = { dev0: { name: "eth0" } };
    });
    result.ok();
    const eth0 = device(inside, "eth0");
    expect(eth0).toContain("inet 10.9.8.7/24 brd 10.9.8.255 scope global eth0");
    expect(eth0).toMatch(/inet 10\.9\.8\.8\/24 scope global secondary eth0:1/);
    expect(eth0).toContain("inet 10.1.1.1 peer 10.1.1.2/32 scope global eth0");
    expect(eth0).toContain("inet6 2001:db8::5/64 scope global");
    expect(eth0).not.toContain("169.254.7.7");
    expect(eth0).not.toContain("10.9.8.9");
    expect(eth0).toMatch(/<[^>]*\bUP\b/);
    expect(host).not.toContain("dev0");
  });

  testUnless(noIp, "several devices, with names the kernel completes", async () => {
    const { result, inside } = await launch(
      `${veth}; ip addr add 10.0.0.1/24 dev dev0; ip addr add 10.0.1.1/24 dev dev1`,
      (config) => {
        config.linux.netDevices = { dev0: { name: "net%d" }, dev1: { name: "net%d" } };
      },
    );
    result.ok();
    expect(device(inside, "net0")).toContain("10.0.0.1/24");
    expect(device(inside, "net1")).toContain("10.0.1.1/24");
  });

  testUnless(
    noIp,
    "in a joined namespace, where the index and the template's first numbers are taken",
    async () => {
      const { line } = await rig.background(["unshare", "-n", "sh", "-c", "echo $$; exec sleep 60"]);
      const target = `nsenter --net=/proc/${line}/ns/net`;
      // The first device of a namespace gets index 2, on the host as in the target.
      const script = `${target} ip link add q0 type veth peer name q1; ${veth}; ip addr add 10.0.0.1/24 dev dev1`;
      const edit = (config: Config) => {
        config.linux.netDevices = { dev1: { name: "q%d" } };
        config.linux.namespaces.find(({ type }) => type === "network")!.path = `/proc/${line}/ns/net`;
      };
      // Asked while the namespace of its peer lives.
      const { result, inside, host } = await launch(script, edit, `echo; ${target} ip -o link`);
      result.ok();
      const moved = device(inside, "q2");
      expect(moved).toContain("10.0.0.1/24");
      expect(moved).toMatch(/<[^>]*\bUP\b/);
      expect(Number.parseInt(moved, 10)).toBeGreaterThan(3);
      expect(device(inside, "q1")).not.toMatch(/<[^>]*\bUP\b/);
      // Who owns the namespace keeps the device after the container's end.
      expect(host).toContain("q2@");
    },
  );

  testUnless(noIp, "in a new user namespace", async () => {
    const mapping = [{ containerID: 0, hostID: 100000, size: 65536 }];
    const { result, inside } = await launch(`${veth}; ip addr add 10.0.0.1/24 dev dev0`, (config) => {
      config.linux.netDevices = { dev0: {} };
      config.linux.namespaces.push({ type: "user" });
      config.linux.uidMappings = mapping;
      config.linux.gidMappings = mapping;
    });
    result.ok();
    expect(device(inside, "dev0")).toContain("10.0.0.1/24");
  });

  testUnless(noIp, "a name that is taken fails before anything has changed on the host", async () => {
    for (const devices of [{ dev0: { name: "lo" } }, { dev1: { name: "other" }, dev0: { name: "lo" } }]) {
      const { result, host } = await launch(`${veth}; ip link set dev0 up`, (config) => {
        config.linux.netDevices = devices;
      });
      expect([result.code, result.stderr]).toEqual([
        1,
        expect.stringMatching(/has a device \\?"lo\\?" already: file exists/),
      ]);
      expect(result.stderr).toContain("linux.netDevices.dev0");
      expect(host).toMatch(/dev0@dev1: <[^>]*\bUP\b/);
      expect(host).toContain("dev1@dev0");
    }
  });

  testUnless(noIp, "a device that cannot move is named, with the kernel's reason", async () => {
    const { result } = await launch("true", (config) => {
      config.linux.netDevices = { lo: { name: "lo1" } };
    });
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringMatching(/cannot move the network device \\?"lo\\?"/),
    ]);
    expect(result.stderr).toContain("linux.netDevices.lo");
  });
});

test("devices without a network namespace are refused", async () => {
  const container = rig.container((config) => {
    config.linux.netDevices = { lo: {} };
    config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== "network");
  });
  expect((await container.run()).code).toBe(1);
});
