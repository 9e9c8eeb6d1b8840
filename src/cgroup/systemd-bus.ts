/**
 * Talking to systemd's manager over D-Bus: sd-bus of libsystemd, which is loaded when the systemd driver is asked for and
 * never else. Only functions without variable arguments are used, as a foreign function call cannot make others.
 */
import { CString, dlopen, type Pointer } from "bun:ffi";
import { BuncError } from "../errors.ts";
import { abi } from "../linux/abi.gen.ts";
import { errnoName, errnoText } from "../linux/errno.ts";
import { cstring } from "../linux/lib.ts";
import { exists } from "./tree.ts";

/** A value with its D-Bus signature: text for s, o and g; numbers or bigints for integers; lists for a and (). */
export interface BusValue {
  readonly type: string;
  readonly value: unknown;
}

/** A property of a unit, by its name on the bus (org.freedesktop.systemd1(5)). */
export interface Property extends BusValue {
  readonly name: string;
}

const DESTINATION = "org.freedesktop.systemd1";
const OBJECT = "/org/freedesktop/systemd1";
const MANAGER = "org.freedesktop.systemd1.Manager";
/** How long a call or a job may take, in microseconds; runc waits as long. */
const PATIENCE = 30_000_000;
/** How often a bus that is too busy for another connection is tried. */
const ATTEMPTS = 7;

const P = "ptr" as const;
const I = "i32" as const;
const SYMBOLS = {
  sd_bus_new: { args: [P], returns: I },
  sd_bus_set_address: { args: [P, P], returns: I },
  sd_bus_set_bus_client: { args: [P, I], returns: I },
  sd_bus_start: { args: [P], returns: I },
  sd_bus_flush_close_unref: { args: [P], returns: P },
  sd_bus_message_new_method_call: { args: [P, P, P, P, P, P], returns: I },
  sd_bus_message_set_expect_reply: { args: [P, I], returns: I },
  sd_bus_message_append_basic: { args: [P, "i8", P], returns: I },
  sd_bus_message_open_container: { args: [P, "i8", P], returns: I },
  sd_bus_message_close_container: { args: [P], returns: I },
  sd_bus_message_enter_container: { args: [P, "i8", P], returns: I },
  sd_bus_message_read_basic: { args: [P, "i8", P], returns: I },
  sd_bus_message_is_signal: { args: [P, P, P], returns: I },
  sd_bus_message_unref: { args: [P], returns: P },
  sd_bus_send: { args: [P, P, P], returns: I },
  sd_bus_call: { args: [P, P, "u64", P, P], returns: I },
  sd_bus_error_free: { args: [P], returns: "void" },
  sd_bus_process: { args: [P, P], returns: I },
  sd_bus_wait: { args: [P, "u64"], returns: I },
} as const;

type Library = ReturnType<typeof dlopen<typeof SYMBOLS>>["symbols"];

let library: Library | undefined;

function load(): Library {
  try {
    library ??= dlopen("libsystemd.so.0", SYMBOLS).symbols;
  } catch (error) {
    throw hostError(`cannot load libsystemd.so.0: ${error instanceof Error ? error.message : error}`, {
      hint: "install it (Debian: libsystemd0), or leave --systemd-cgroup out",
    });
  }
  return library;
}

function hostError(message: string, fields: { hint?: string; errno?: string } = {}): BuncError {
  return new BuncError(message, { code: "host", phase: "cgroup", ...fields });
}

/** What a method call was answered with by systemd or the bus. */
export class BusError extends BuncError {
  constructor(
    message: string,
    /** "org.freedesktop.systemd1.NoSuchUnit" and the like. */
    readonly busName: string,
    errno: number,
  ) {
    super(message, { code: "host", phase: "cgroup", errno: errnoName(errno) });
  }
}

/** A place for an answer of pointer size. */
function place(): BigUint64Array {
  return new BigUint64Array(1);
}

function pointerIn(at: BigUint64Array): Pointer | null {
  return at[0] ? (Number(at[0]) as Pointer) : null;
}

function textAt(pointer: Pointer | null): string {
  return pointer === null ? "" : new CString(pointer).toString();
}

const code = (letter: string): number => letter.charCodeAt(0);

/** A connection to systemd: the system's manager, or a user's. */
export class SystemdBus {
  private readonly lib: Library;
  private bus: Pointer | null = null;
  /** A bus daemon is between; the manager's own socket has none. */
  private viaDaemon = true;

  /**
   * @param user the caller's own manager instead of the system's
   * @throws BuncError where there is no systemd, no libsystemd or no bus, with what to do about it
   */
  constructor(readonly user: boolean) {
    requireSystemd();
    this.lib = load();
    if (user) {
      const result = this.connect(userAddress(), true);
      if (result < 0) throw refused("the user's bus", result, USER_HINT);
      return;
    }
    const address = process.env.DBUS_SYSTEM_BUS_ADDRESS || "unix:path=/run/dbus/system_bus_socket";
    const result = this.connect(address, true);
    // Early in the boot, and on hosts without D-Bus, systemd itself listens, for root alone.
    if (result < 0 && this.connect("unix:path=/run/systemd/private", false) < 0) {
      throw refused("the system bus", result, "install and start dbus, or leave --systemd-cgroup out");
    }
  }

  private connect(address: string, viaDaemon: boolean): number {
    const { lib } = this;
    let result = 0;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) Bun.sleepSync(100 << (attempt - 1));
      const at = place();
      result = lib.sd_bus_new(at);
      if (result < 0) return result;
      this.bus = pointerIn(at);
      result = lib.sd_bus_set_address(this.bus, cstring(address));
      if (result >= 0) result = lib.sd_bus_set_bus_client(this.bus, viaDaemon ? 1 : 0);
      if (result >= 0) result = lib.sd_bus_start(this.bus);
      this.viaDaemon = viaDaemon;
      if (result >= 0) return result;
      this.close();
      if (result !== -abi.EAGAIN) break;
    }
    return result;
  }

  close(): void {
    if (this.bus !== null) this.lib.sd_bus_flush_close_unref(this.bus);
    this.bus = null;
  }

  /** Calls a method of the manager; `read` is given the answer. */
  private call<T>(message: Pointer, what: string, read: (reply: Pointer) => T): T {
    const { lib } = this;
    const error = new BigUint64Array(3);
    const at = place();
    const result = lib.sd_bus_call(this.bus, message, PATIENCE, error, at);
    lib.sd_bus_message_unref(message);
    if (result < 0) {
      const name = textAt(error[0] ? (Number(error[0]) as Pointer) : null);
      const text = textAt(error[1] ? (Number(error[1]) as Pointer) : null) || errnoText(-result);
      lib.sd_bus_error_free(error);
      throw new BusError(`${what}: ${text}`, name, -result);
    }
    const reply = pointerIn(at)!;
    try {
      return read(reply);
    } finally {
      lib.sd_bus_message_unref(reply);
    }
  }

  private message(
    member: string,
    args: readonly BusValue[],
    to: { destination: string; object: string; iface: string } = {
      destination: DESTINATION,
      object: OBJECT,
      iface: MANAGER,
    },
  ): Pointer {
    const at = place();
    const { destination, object, iface } = to;
    const name = this.viaDaemon ? cstring(destination) : null;
    check(
      this.lib.sd_bus_message_new_method_call(
        this.bus,
        at,
        name,
        cstring(object),
        cstring(iface),
        cstring(member),
      ),
      member,
    );
    const message = pointerIn(at)!;
    for (const { type, value } of args) this.append(message, type, value);
    return message;
  }

  /** Appends one value of one complete type. */
  private append(message: Pointer, type: string, value: unknown): void {
    const { lib } = this;
    const open = (kind: string, contents: string) =>
      check(lib.sd_bus_message_open_container(message, code(kind), cstring(contents)), type);
    const first = type[0]!;
    if (first === "a") {
      const element = type.slice(1);
      open("a", element);
      for (const one of value as Iterable<unknown>) this.append(message, element, one);
    } else if (first === "(" || first === "{") {
      const inner = type.slice(1, -1);
      open(first === "(" ? "r" : "e", inner);
      const types = splitTypes(inner);
      const fields = value as unknown[];
      for (let i = 0; i < types.length; i++) this.append(message, types[i]!, fields[i]);
    } else if (first === "v") {
      const variant = value as BusValue;
      open("v", variant.type);
      this.append(message, variant.type, variant.value);
    } else {
      check(lib.sd_bus_message_append_basic(message, code(first), basicBytes(first, value)), type);
      return;
    }
    check(lib.sd_bus_message_close_container(message), type);
  }

  private readText(message: Pointer, type: "s" | "o"): string {
    const at = place();
    check(this.lib.sd_bus_message_read_basic(message, code(type), at), type);
    return textAt(pointerIn(at));
  }

  /** A property of the manager that is text, e.g. "Version". */
  managerText(name: string): string {
    const to = { destination: DESTINATION, object: OBJECT, iface: "org.freedesktop.DBus.Properties" };
    const args = [
      { type: "s", value: MANAGER },
      { type: "s", value: name },
    ];
    return this.call(this.message("Get", args, to), `unable to read systemd's ${name}`, (reply) => {
      check(this.lib.sd_bus_message_enter_container(reply, code("v"), cstring("s")), name);
      return this.readText(reply, "s");
    });
  }

  /** Calls a method that has no answer worth reading. */
  run(member: string, args: readonly BusValue[], what: string): void {
    this.call(this.message(member, args), what, () => {});
  }

  /**
   * Calls a method that queues a job, and waits for the job's end.
   *
   * @returns its result: "done", "failed", "canceled", ... ; "timeout" after 30 seconds
   */
  job(member: string, args: readonly BusValue[], what: string): string {
    const { lib } = this;
    // systemd tells the caller of its job's end by itself; the rule is for versions that told everybody.
    if (this.viaDaemon) this.addMatch();
    const job = this.call(this.message(member, args), what, (reply) => this.readText(reply, "o"));
    const deadline = Date.now() + PATIENCE / 1000;
    for (;;) {
      const at = place();
      const processed = check(lib.sd_bus_process(this.bus, at), what);
      const message = pointerIn(at);
      if (message !== null) {
        const result = this.removedJob(message, job);
        lib.sd_bus_message_unref(message);
        if (result !== undefined) return result;
      }
      if (processed > 0) continue;
      const left = deadline - Date.now();
      if (left <= 0) return "timeout";
      check(lib.sd_bus_wait(this.bus, left * 1000), what);
    }
  }

  private addMatch(): void {
    const rule = `type='signal',sender='${DESTINATION}',path='${OBJECT}',interface='${MANAGER}',member='JobRemoved'`;
    const bus = "org.freedesktop.DBus";
    const to = { destination: bus, object: "/org/freedesktop/DBus", iface: bus };
    const message = this.message("AddMatch", [{ type: "s", value: rule }], to);
    this.lib.sd_bus_message_set_expect_reply(message, 0);
    check(this.lib.sd_bus_send(this.bus, message, null), "AddMatch");
    this.lib.sd_bus_message_unref(message);
  }

  /** The result in a JobRemoved signal (u id, o job, s unit, s result) of this job. */
  private removedJob(message: Pointer, job: string): string | undefined {
    if (this.lib.sd_bus_message_is_signal(message, cstring(MANAGER), cstring("JobRemoved")) <= 0)
      return undefined;
    check(this.lib.sd_bus_message_read_basic(message, code("u"), new Uint32Array(1)), "JobRemoved");
    if (this.readText(message, "o") !== job) return undefined;
    this.readText(message, "s");
    return this.readText(message, "s");
  }
}

function check(result: number, what: string): number {
  if (result >= 0) return result;
  throw hostError(`D-Bus: ${what}: ${errnoText(-result)}`, { errno: errnoName(-result) });
}

function requireSystemd(): void {
  // As sd_booted(3).
  if (exists("/run/systemd/system")) return;
  throw hostError("systemd not running on this host, cannot use systemd cgroups manager", {
    hint: "leave --systemd-cgroup out (containerd: SystemdCgroup = false; podman: --cgroup-manager cgroupfs)",
  });
}

const USER_HINT =
  "rootless containers need a session with D-Bus: install dbus-user-session and log in again, or loginctl enable-linger";

/** The bus of the caller's own systemd, as other D-Bus clients find it. */
function userAddress(): string {
  const { DBUS_SESSION_BUS_ADDRESS: given, XDG_RUNTIME_DIR: dir } = process.env;
  if (given) return given;
  if (dir && exists(`${dir}/bus`)) return `unix:path=${escapeAddress(`${dir}/bus`)}`;
  throw hostError("could not detect DBUS_SESSION_BUS_ADDRESS from the environment", { hint: USER_HINT });
}

/** A value in a D-Bus address: what is not one of these characters is written as %xx. */
function escapeAddress(value: string): string {
  let out = "";
  for (const byte of cstring(value).subarray(0, -1)) {
    const letter = String.fromCharCode(byte);
    out += /[-0-9A-Za-z_/.\\*]/.test(letter) ? letter : `%${byte.toString(16).padStart(2, "0")}`;
  }
  return out;
}

function refused(bus: string, result: number, hint: string): BuncError {
  return hostError(`failed to connect to dbus: ${bus}: ${errnoText(-result)}`, {
    errno: errnoName(-result),
    hint,
  });
}

/** The complete types of a signature: "sa(ss)v" is s, a(ss) and v. */
export function splitTypes(signature: string): string[] {
  const types: string[] = [];
  for (let at = 0; at < signature.length; ) {
    const end = typeEnd(signature, at);
    types.push(signature.slice(at, end));
    at = end;
  }
  return types;
}

function typeEnd(signature: string, start: number): number {
  let at = start;
  while (signature[at] === "a") at++;
  const open = signature[at];
  if (open !== "(" && open !== "{") return at + 1;
  let depth = 0;
  for (; at < signature.length; at++) {
    if (signature[at] === "(" || signature[at] === "{") depth++;
    else if (signature[at] === ")" || signature[at] === "}") depth--;
    if (depth === 0) break;
  }
  return at + 1;
}

/** Sizes of the integers in bits; negative for signed ones. A boolean is a C int. */
const INTEGERS: Readonly<Record<string, number>> = {
  y: 8,
  b: 32,
  n: -16,
  q: 16,
  i: -32,
  u: 32,
  h: -32,
  x: -64,
  t: 64,
};

/** A basic value as sd_bus_message_append_basic(3) reads it. */
function basicBytes(type: string, value: unknown): Uint8Array {
  if (type === "s" || type === "o" || type === "g") return cstring(String(value));
  const view = new DataView(new ArrayBuffer(8));
  if (type === "d") view.setFloat64(0, Number(value), true);
  else if (INTEGERS[type] === undefined) throw hostError(`D-Bus: no type ${JSON.stringify(type)}`);
  else view.setBigInt64(0, BigInt.asIntN(64, BigInt(value as number)), true);
  return new Uint8Array(view.buffer);
}
