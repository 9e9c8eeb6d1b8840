/**
 * linux.netDevices in the launch program (runtime-spec config-linux.md "Network Devices"). The parent moves a device,
 * which the kernel takes down and strips of its addresses by that; init gives it back its addresses and sets it up.
 *
 * Nobody moves a device back: with the network namespace's end physical devices return to the host's by themselves and
 * virtual ones vanish (network_namespaces(7)), and the specification forbids a runtime to interfere.
 */
import { abi, sizeof_ } from "../linux/abi.gen.ts";
import {
  type Attribute,
  addressHeader,
  encodeRequest,
  linkHeader,
  setRequestIndex,
} from "../linux/netlink.ts";
import type { Spec } from "../oci/config.ts";
import { joinPath } from "../oci/path.ts";
import type { Context } from "./context.ts";
import { Struct } from "./program.ts";

/** An address that the device keeps: permanent, of global scope. */
export interface DeviceAddress {
  /** AF_INET or AF_INET6. */
  family: number;
  prefix: number;
  attributes: readonly Attribute[];
  /** For messages: "10.0.0.1/24". */
  text: string;
}

/** A device on its way. */
export interface NetDevice {
  /** Its place in config.json. */
  path: string;
  /** Its name on the host, and the one it gets: a name, or a template with "%d" for the kernel to complete. */
  host: string;
  name: string;
  /** Its index on the host; 0 when it was not looked for. */
  index: number;
  addresses: readonly DeviceAddress[];
}

/**
 * The devices as config.json has them, without what only the host knows: enough for `explain` on another machine.
 */
export function wantedNetDevices(spec: Spec): NetDevice[] {
  const devices = spec.linux?.netDevices ?? {};
  return Object.keys(devices).map((host) => ({
    path: joinPath("linux.netDevices", host),
    host,
    name: devices[host]!.name || host,
    index: 0,
    addresses: [],
  }));
}

/** What init does for the devices. Made before the program is compiled; indexes may be set until it is sent. */
export class NetDeviceProgram {
  private readonly requests: readonly (readonly Uint8Array[])[];

  constructor(readonly devices: readonly NetDevice[]) {
    let seq = 0;
    this.requests = devices.map((device) => [
      ...device.addresses.map((address) => addressRequest(device.index, ++seq, address)),
      encodeRequest(abi.RTM_SETLINK, abi.NLM_F_ACK, ++seq, linkHeader(device.index, abi.IFF_UP, abi.IFF_UP)),
    ]);
  }

  /** Says which index a device got in the container: another one than on the host if that was taken. */
  setIndex(device: NetDevice, index: number): void {
    for (const request of this.requests[this.devices.indexOf(device)]!) setRequestIndex(request, index);
  }

  /**
   * In the container's network namespace before anything is moved: no name may be taken. The kernel would notice only
   * when the device has left the host, and a virtual device would then be lost with the failed container.
   */
  compileChecks(c: Context): void {
    const named = this.devices.filter(({ name }) => !name.includes("%"));
    if (!named.length) return;
    const sock = c.slots.take("socket");
    c.part.at("network", "linux.netDevices");
    c.part.op(abi.SYS_socket, [abi.AF_INET, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0], { slot: sock });
    for (const { path, name } of named) {
      const request = new Struct(sizeof_.ifreq, "ifreq");
      new TextEncoder().encodeInto(name, new Uint8Array(request.view.buffer, 0, abi.IFNAMSIZ - 1));
      c.part.at("network", path);
      c.part.op(abi.SYS_ioctl, [sock, abi.SIOCGIFINDEX, request], { tolerate: [[abi.ENODEV, 1]] });
      // Reached only when there is a device: fails.
      c.part.op(abi.BUNC_OP_EXPECT, [0, 1, 1, abi.EEXIST], {
        about: `the container's network namespace has a device ${JSON.stringify(name)} already`,
        hint: 'give it another name, or one with "%d", which the kernel replaces by a free number',
      });
    }
    c.part.op(abi.SYS_close, [sock]);
    c.slots.give(sock);
  }

  /** After the parent has moved the devices. */
  compileSetup(c: Context): void {
    if (!this.devices.length) return;
    const sock = c.slots.take("netlink socket");
    const type = abi.SOCK_RAW | abi.SOCK_CLOEXEC;
    const on = new Uint8Array([1, 0, 0, 0]);
    c.part.at("network", "linux.netDevices");
    c.part.op(abi.SYS_socket, [abi.AF_NETLINK, type, abi.NETLINK_ROUTE], { slot: sock });
    // So that a refusal comes with the kernel's words.
    c.part.op(abi.SYS_setsockopt, [sock, abi.SOL_NETLINK, abi.NETLINK_EXT_ACK, on, on.length]);
    for (let i = 0; i < this.devices.length; i++) {
      const { path, name, addresses } = this.devices[i]!;
      const requests = this.requests[i]!;
      c.part.at("network", path);
      for (let k = 0; k < requests.length; k++) {
        const device = `the network device ${JSON.stringify(name)}`;
        const address = addresses[k];
        c.part.op(abi.BUNC_OP_NETLINK, [sock, requests[k]!, requests[k]!.length], {
          about: address ? `cannot give ${device} its address ${address.text}` : `cannot set ${device} up`,
        });
      }
    }
    c.part.at("network", "linux.netDevices").op(abi.SYS_close, [sock]);
    c.slots.give(sock);
  }
}

function addressRequest(
  index: number,
  seq: number,
  { family, prefix, attributes }: DeviceAddress,
): Uint8Array {
  const header = addressHeader(family, prefix, abi.RT_SCOPE_UNIVERSE, index);
  const flags = abi.NLM_F_ACK | abi.NLM_F_CREATE | abi.NLM_F_EXCL;
  return encodeRequest(abi.RTM_NEWADDR, flags, seq, header, attributes);
}
