/** Looking for network devices, and BUNC_OP_NETLINK as the parent's part uses it. What needs root is in test/integration. */
import { describe, expect, test } from "bun:test";
import { Part } from "../launch/program.ts";
import * as abi from "../linux/abi.gen.ts";
import { encodeRequest, linkHeader, NetlinkSocket } from "../linux/netlink.ts";
import { runPart } from "../linux/run-part.ts";
import { defaultSpec } from "../oci/spec-default.ts";
import { failure } from "../testing.ts";
import { addressText, findNetDevices } from "./net-devices.ts";

describe("findNetDevices", () => {
  test("finds a device's index; addresses of the host alone stay", () => {
    const spec = defaultSpec();
    spec.linux!.netDevices = { lo: { name: "lo1" } };
    const { devices } = findNetDevices(spec);
    expect(devices).toEqual([
      { path: "linux.netDevices.lo", host: "lo", name: "lo1", index: 1, addresses: [] },
    ]);
  });

  test("names the field of a device that is not there", () => {
    const spec = defaultSpec();
    spec.linux!.netDevices = { lo: {}, "no.such": {} };
    const { message, fields } = failure(() => findNetDevices(spec));
    expect(message).toBe('network device "no.such" not found');
    expect(fields).toMatchObject({ path: 'linux.netDevices["no.such"]', errno: "ENODEV" });
  });

  test("of no devices is nothing", () => {
    expect(findNetDevices(defaultSpec()).devices).toEqual([]);
  });
});

test("addresses are shown as people write them", () => {
  expect(addressText(new Uint8Array([10, 0, 0, 255]))).toBe("10.0.0.255");
  const v6 = new Uint8Array(16);
  v6.set([0x20, 0x01, 0x0d, 0xb8]);
  v6[15] = 0x10;
  expect(addressText(v6)).toBe("2001:db8:0:0:0:0:0:10");
  expect(addressText(new Uint8Array(0))).toBe("");
});

describe("BUNC_OP_NETLINK", () => {
  const run = (request: Uint8Array, length = request.length) => {
    const socket = new NetlinkSocket();
    const part = new Part().at("network", "linux.netDevices.x");
    part.op(abi.BUNC_OP_NETLINK, [socket.fd, request, length], { about: "cannot do it" });
    try {
      runPart(part);
    } finally {
      socket.close();
    }
  };
  const get = (name: string, seq: number) =>
    encodeRequest(abi.RTM_GETLINK, abi.NLM_F_ACK, seq, linkHeader(0), [[abi.IFLA_IFNAME, name]]);

  test("waits for the acknowledgement of its own request, over other answers", () => {
    expect(() => run(get("lo", 5))).not.toThrow();
    expect(() => run(get("lo", 0xffffffff))).not.toThrow();
  });

  test("tells the errno and what the kernel says about it", () => {
    const { message, fields } = failure(() => run(get("no-such-link", 5)));
    expect(message).toMatch(/^cannot do it: no such device/);
    expect(fields).toMatchObject({ errno: "ENODEV", path: "linux.netDevices.x" });
    // A type of message that does not exist, and an attribute that is too long: the kernel has words for the second.
    expect(failure(() => run(encodeRequest(999, abi.NLM_F_ACK, 1, linkHeader(0)))).fields.errno).toBe(
      "EOPNOTSUPP",
    );
    expect(failure(() => run(get("x".repeat(300), 5))).message).toContain(
      "Attribute failed policy validation",
    );
  });

  test("refuses a request whose length is not the message's", () => {
    const request = get("lo", 1);
    expect(failure(() => run(request, request.length - 4)).fields.errno).toBe("EINVAL");
    expect(failure(() => run(new Uint8Array(8))).fields.errno).toBe("EINVAL");
  });
});
