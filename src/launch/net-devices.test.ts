/** linux.netDevices in the launch program. */
import { describe, expect, test } from "bun:test";
import * as abi from "../linux/abi.gen.ts";
import { decodeAttributes, decodeMessages, numberAt } from "../linux/netlink.ts";
import { Context } from "./context.ts";
import { type NetDevice, NetDeviceProgram, wantedNetDevices } from "./net-devices.ts";
import type { Op } from "./program.ts";
import { HOST, plainSpec, settings, simulate } from "./testing.ts";

const ADDRESS = {
  family: abi.AF_INET,
  prefix: 24,
  attributes: [[abi.IFA_LOCAL, new Uint8Array([10, 0, 0, 1])]] as const,
  text: "10.0.0.1/24",
};
const eth0: NetDevice = {
  path: "linux.netDevices.eth0",
  host: "eth0",
  name: "net0",
  index: 7,
  addresses: [ADDRESS, { ...ADDRESS, prefix: 16 }],
};
const eth1: NetDevice = { path: "linux.netDevices.eth1", host: "eth1", name: "e%d", index: 8, addresses: [] };

const context = () => new Context(plainSpec(), settings(), HOST);

/** The requests of a program, decoded. */
function requests(ops: readonly Op[]) {
  const sent = ops.filter(({ call }) => call === abi.BUNC_OP_NETLINK).map(({ args }) => args);
  return sent.map(([, bytes, length]) => {
    expect((bytes as Uint8Array).length).toBe(length as number);
    const message = decodeMessages(bytes as Uint8Array)[0]!;
    const isLink = message.type === abi.RTM_SETLINK;
    return {
      ...message,
      index: numberAt(message.body, isLink ? abi.ifinfomsg_.ifi_index : abi.ifaddrmsg_.ifa_index),
    };
  });
}

test("the devices of config.json, those without a name keep theirs", () => {
  const spec = plainSpec();
  expect(wantedNetDevices(spec)).toEqual([]);
  spec.linux!.netDevices = { eth0: {}, "eth0.5": { name: "vlan" }, eth2: { name: "" } };
  expect(wantedNetDevices(spec).map(({ path, host, name }) => [path, host, name])).toEqual([
    ["linux.netDevices.eth0", "eth0", "eth0"],
    ['linux.netDevices["eth0.5"]', "eth0.5", "vlan"],
    ["linux.netDevices.eth2", "eth2", "eth2"],
  ]);
});

describe("set-up", () => {
  test("gives each device its addresses, then sets it up, over one socket that is closed", () => {
    const c = context();
    new NetDeviceProgram([eth0, eth1]).compileSetup(c);
    const { ops } = c.part;
    expect(ops.map(({ call }) => call)).toEqual([
      abi.SYS_socket,
      abi.SYS_setsockopt,
      ...new Array(4).fill(abi.BUNC_OP_NETLINK),
      abi.SYS_close,
    ]);
    const sent = requests(ops);
    expect(sent.map(({ type, index, seq }) => [type, index, seq])).toEqual([
      [abi.RTM_NEWADDR, 7, 1],
      [abi.RTM_NEWADDR, 7, 2],
      [abi.RTM_SETLINK, 7, 3],
      [abi.RTM_SETLINK, 8, 4],
    ]);
    expect(decodeAttributes(sent[0]!.body, abi.sizeof_.ifaddrmsg).get(abi.IFA_LOCAL)).toEqual(
      new Uint8Array([10, 0, 0, 1]),
    );
    expect(sent[0]!.body[abi.ifaddrmsg_.ifa_prefixlen]).toBe(24);
    expect(numberAt(sent[2]!.body, abi.ifinfomsg_.ifi_flags)).toBe(abi.IFF_UP);
    expect(numberAt(sent[2]!.body, abi.ifinfomsg_.ifi_change)).toBe(abi.IFF_UP);
    for (const { flags } of sent) expect(flags & abi.NLM_F_ACK).toBe(abi.NLM_F_ACK);
    const netlink = ops.filter(({ call }) => call === abi.BUNC_OP_NETLINK);
    expect(netlink.map(({ path }) => path)).toEqual([...new Array(3).fill(eth0.path), eth1.path]);
    expect(netlink[1]!.options.about).toBe('cannot give the network device "net0" its address 10.0.0.1/24');
    expect(netlink[3]!.options.about).toBe('cannot set the network device "e%d" up');
  });

  test("uses the index that the device got, also when it is known after compiling", () => {
    const c = context();
    const program = new NetDeviceProgram([eth0, eth1]);
    program.setIndex(eth1, 20);
    program.compileSetup(c);
    program.setIndex(eth0, 21);
    expect(requests(c.part.ops).map(({ index }) => index)).toEqual([21, 21, 21, 20]);
  });

  test("without devices is nothing", () => {
    const c = context();
    const program = new NetDeviceProgram([]);
    program.compileChecks(c);
    program.compileSetup(c);
    expect(c.part.ops).toEqual([]);
  });
});

describe("checks", () => {
  test("look for every name but templates", () => {
    const c = context();
    new NetDeviceProgram([eth0, eth1]).compileChecks(c);
    const ioctls = c.part.ops.filter(({ call }) => call === abi.SYS_ioctl);
    expect(ioctls.map(({ args }) => args[1])).toEqual([abi.SIOCGIFINDEX]);
    const request = ioctls[0]!.args[2] as { view: DataView };
    const bytes = new Uint8Array(request.view.buffer);
    expect(new TextDecoder().decode(bytes.subarray(0, 5))).toBe("net0\0");
  });

  test("fail when a name is taken, and only then", () => {
    const c = context();
    new NetDeviceProgram([eth0, { ...eth0, name: "net1", path: "linux.netDevices.b" }]).compileChecks(c);
    const taken = (names: readonly string[]) => (op: Op) => {
      if (op.call === abi.BUNC_OP_EXPECT) return abi.EEXIST;
      if (op.call !== abi.SYS_ioctl) return 0;
      const bytes = new Uint8Array((op.args[2] as { view: DataView }).view.buffer);
      const name = new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
      return names.includes(name) ? 0 : abi.ENODEV;
    };
    expect(simulate(c.part.ops, taken([])).failed).toBeUndefined();
    expect(simulate(c.part.ops, taken(["net1"])).failed).toMatchObject({ path: "linux.netDevices.b" });
    expect(simulate(c.part.ops, taken(["net0", "net1"])).failed).toMatchObject({ path: eth0.path });
    // The socket is closed when all is well.
    expect(simulate(c.part.ops, taken([])).executed.at(-1)!.call).toBe(abi.SYS_close);
  });
});
