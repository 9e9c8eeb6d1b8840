/** linux.netDevices in the parent: looks for the devices, and moves them into the container's network namespace. */
import { BuncError } from "../errors.ts";
import {
  type DeviceAddress,
  type NetDevice,
  NetDeviceProgram,
  wantedNetDevices,
} from "../launch/net-devices.ts";
import { type Arg, Part } from "../launch/program.ts";
import { abi, ifaddrmsg_, ifinfomsg_, sizeof_ } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { pathError } from "../linux/file.ts";
import { sys, text } from "../linux/lib.ts";
import {
  type Answer,
  type Attribute,
  addressHeader,
  decodeAttributes,
  encodeRequest,
  linkHeader,
  type NetlinkMessage,
  NetlinkSocket,
  numberAt,
} from "../linux/netlink.ts";
import { closeFd } from "../linux/process.ts";
import { runPart } from "../linux/run-part.ts";
import type { Spec } from "../oci/config.ts";

/** What of an address stays true in another namespace; the other flags tell what the kernel did with it. */
const KEPT_FLAGS =
  abi.IFA_F_NODAD |
  abi.IFA_F_HOMEADDRESS |
  abi.IFA_F_MANAGETEMPADDR |
  abi.IFA_F_NOPREFIXROUTE |
  abi.IFA_F_MCAUTOJOIN;

/** Attributes that are passed on as they are; the label and the flags are not among them. */
const KEPT_ATTRIBUTES = [
  abi.IFA_LOCAL,
  abi.IFA_ADDRESS,
  abi.IFA_BROADCAST,
  abi.IFA_RT_PRIORITY,
  abi.IFA_CACHEINFO,
];

/**
 * Looks for the devices that config.json names, in this process's network namespace.
 * @throws BuncError naming the field of the first that is not there
 */
export function findNetDevices(spec: Spec): NetDeviceProgram {
  const devices = wantedNetDevices(spec);
  const socket = new NetlinkSocket();
  try {
    for (const device of devices) device.index = linkIndex(socket, device);
    const addresses = messagesOf(
      socket.ask(abi.RTM_GETADDR, abi.NLM_F_DUMP, addressHeader(0, 0, 0, 0)),
      "cannot list the host's network addresses",
      "linux.netDevices",
    );
    for (const device of devices) device.addresses = addressesOf(device, addresses);
  } finally {
    socket.close();
  }
  return new NetDeviceProgram(devices);
}

function linkIndex(socket: NetlinkSocket, { host, path }: NetDevice): number {
  const answer = socket.ask(abi.RTM_GETLINK, 0, linkHeader(0), [[abi.IFLA_IFNAME, host]]);
  if ("errno" in answer && answer.errno === abi.ENODEV) {
    throw new BuncError(`network device ${JSON.stringify(host)} not found`, {
      code: "host",
      phase: "network",
      path,
      errno: "ENODEV",
      hint: "it must exist in the network namespace that bunc runs in; `ip link` lists what is there",
    });
  }
  const about = `cannot look for the network device ${JSON.stringify(host)}`;
  for (const { type, body } of messagesOf(answer, about, path)) {
    const index = numberAt(body, ifinfomsg_.ifi_index);
    if (type === abi.RTM_NEWLINK && index) return index;
  }
  throw new BuncError(`${about}: the kernel's answer has no index`, {
    code: "internal",
    phase: "network",
    path,
  });
}

function messagesOf(answer: Answer, about: string, path: string): NetlinkMessage[] {
  if ("messages" in answer) return answer.messages;
  const words = [about, errnoText(answer.errno), answer.text].filter(Boolean).join(": ");
  throw new BuncError(words, { code: "host", phase: "network", path, errno: errnoName(answer.errno) });
}

/**
 * The device's addresses that go with it: those that are permanent and of global scope. Others depend on the namespace
 * they were learnt in.
 */
function addressesOf(device: NetDevice, messages: readonly NetlinkMessage[]): DeviceAddress[] {
  const found: DeviceAddress[] = [];
  for (const { type, body } of messages) {
    if (type !== abi.RTM_NEWADDR || numberAt(body, ifaddrmsg_.ifa_index) !== device.index) continue;
    if (body[ifaddrmsg_.ifa_scope] !== abi.RT_SCOPE_UNIVERSE) continue;
    const values = decodeAttributes(body, sizeof_.ifaddrmsg);
    // The structure has room for the first eight flags only.
    const flags = numberAt(values.get(abi.IFA_FLAGS)) ?? body[ifaddrmsg_.ifa_flags]!;
    if (flags & abi.IFA_F_PERMANENT) found.push(addressOf(device, body, values, flags & KEPT_FLAGS));
  }
  return found;
}

function addressOf(
  device: NetDevice,
  body: Uint8Array,
  values: Map<number, Uint8Array>,
  flags: number,
): DeviceAddress {
  const prefix = body[ifaddrmsg_.ifa_prefixlen]!;
  const attributes: Attribute[] = [];
  for (const type of KEPT_ATTRIBUTES) {
    const value = values.get(type);
    // The answers share a buffer that the program would keep alive.
    if (value) attributes.push([type, value.slice()]);
  }
  if (flags) attributes.push([abi.IFA_FLAGS, flags]);
  const label = newLabel(device, values.get(abi.IFA_LABEL));
  if (label) attributes.push([abi.IFA_LABEL, label]);
  const address = values.get(abi.IFA_LOCAL) ?? values.get(abi.IFA_ADDRESS) ?? new Uint8Array(0);
  return { family: body[0]!, prefix, attributes, text: `${addressText(address)}/${prefix}` };
}

/** The label of an IPv4 address has to begin with the device's name: "eth0:1" becomes "net0:1". */
function newLabel({ host, name }: NetDevice, value: Uint8Array | undefined): string | undefined {
  const end = value?.indexOf(0) ?? 0;
  const label = value ? text(value.subarray(0, end < 0 ? value.length : end)) : "";
  if (!label.startsWith(`${host}:`) || name.includes("%")) return undefined;
  const renamed = name + label.slice(host.length);
  return new TextEncoder().encode(renamed).length < abi.IFNAMSIZ ? renamed : undefined;
}

/** An address in the usual notation; that of IPv6 without "::". */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length !== 16) return bytes.join(".");
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i]! << 8) | bytes[i + 1]!).toString(16));
  return groups.join(":");
}

/**
 * Moves the devices to the network namespace of a process, each with its new name in one step, and tells the program
 * their indexes there. When one cannot be moved, those before it are gone from here already: they share the fate of the
 * namespace (see launch/net-devices.ts).
 * @throws BuncError naming the device's field
 */
export function moveNetDevices(program: NetDeviceProgram, pid: number): void {
  const path = `/proc/${pid}/ns/net`;
  const namespace = sys(abi.SYS_openat, abi.AT_FDCWD, path, abi.O_RDONLY | abi.O_CLOEXEC, 0);
  if (namespace < 0) throw pathError("open", path, namespace);
  let requests: NetlinkSocket | undefined;
  let notifications: NetlinkSocket | undefined;
  try {
    requests = new NetlinkSocket();
    notifications = new NetlinkSocket(abi.RTMGRP_LINK);
    runPart(movePart(program.devices, requests.fd, namespace));
    applyIndexes(program, notifications.events());
  } finally {
    notifications?.close();
    requests?.close();
    closeFd(namespace);
  }
}

/** The requests that move devices; pure. */
export function movePart(devices: readonly NetDevice[], socket: Arg, namespace: number): Part {
  const part = new Part();
  let seq = 0;
  for (const { path, host, name, index } of devices) {
    // The kernel takes the device down by itself, and only when it is sure that the move will be.
    const request = encodeRequest(abi.RTM_SETLINK, abi.NLM_F_ACK, ++seq, linkHeader(index), [
      [abi.IFLA_NET_NS_FD, namespace],
      [abi.IFLA_IFNAME, name],
    ]);
    part.at("network", path).op(abi.BUNC_OP_NETLINK, [socket, request, request.length], {
      about: `cannot move the network device ${JSON.stringify(host)} into the container`,
      hint: "this needs CAP_NET_ADMIN here and there, and some devices (lo) cannot leave their namespace",
    });
  }
  return part;
}

/** The notification of a device's departure tells the index it has where it went. */
function applyIndexes(program: NetDeviceProgram, messages: readonly NetlinkMessage[]): void {
  for (const { type, body } of messages) {
    if (type !== abi.RTM_DELLINK) continue;
    const left = numberAt(body, ifinfomsg_.ifi_index);
    const device = program.devices.find(({ index }) => index === left);
    const index = numberAt(decodeAttributes(body, sizeof_.ifinfomsg).get(abi.IFLA_NEW_IFINDEX));
    if (device && index) program.setIndex(device, index);
  }
}
