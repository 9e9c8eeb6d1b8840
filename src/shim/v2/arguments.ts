/** The command line of a v2 shim: flags of Go's package flag, then one word (containerd's pkg/shim). */
import { BuncError } from "../../errors.ts";

/** What containerd says on every command line. */
export interface Arguments {
  namespace: string;
  id: string;
  /** containerd's own socket, of gRPC. */
  address: string;
  /** containerd's executable: `publish` of it forwards an event. */
  publishBinary: string;
  bundle: string;
  /** Where to serve, instead of the address made from the id. */
  socket: string;
  debugSocket: string;
  /** The descriptor of a state that is to be continued (hibernate.ts); "" when there is none. */
  resume: string;
  /** The descriptor of a request that is to be worked on (apart.ts); "" when there is none. */
  apart: string;
  debug: boolean;
  info: boolean;
  version: boolean;
  /** "start", "delete", or "": serve. */
  action: string;
}

const TEXT: Readonly<Record<string, keyof Arguments>> = {
  namespace: "namespace",
  id: "id",
  address: "address",
  "publish-binary": "publishBinary",
  bundle: "bundle",
  socket: "socket",
  "debug-socket": "debugSocket",
  resume: "resume",
  apart: "apart",
};

const SWITCHES: Readonly<Record<string, keyof Arguments>> = {
  debug: "debug",
  info: "info",
  v: "version",
  version: "version",
};

/**
 * Reads the arguments after the program's name.
 * @throws BuncError for a flag that there is not, or one without its value
 */
export function parseArguments(args: readonly string[]): Arguments {
  const found: Record<string, string | boolean> = {
    namespace: "",
    id: "",
    address: "",
    publishBinary: "containerd",
    bundle: "",
    socket: "",
    debugSocket: "",
    resume: "",
    apart: "",
    debug: false,
    info: false,
    version: false,
    action: "",
  };
  let i = 0;
  for (; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("-") || arg === "-") break;
    if (arg === "--") {
      i++;
      break;
    }
    const body = arg.slice(arg.startsWith("--") ? 2 : 1);
    const equals = body.indexOf("=");
    const name = equals < 0 ? body : body.slice(0, equals);
    let value = equals < 0 ? undefined : body.slice(equals + 1);
    if (Object.hasOwn(SWITCHES, name)) {
      found[SWITCHES[name]!] = truth(name, value ?? "true");
      continue;
    }
    if (!Object.hasOwn(TEXT, name)) {
      throw new BuncError(`flag provided but not defined: -${name}`, { code: "usage" });
    }
    if (value === undefined) {
      value = args[++i];
      if (value === undefined) throw new BuncError(`flag needs an argument: -${name}`, { code: "usage" });
    }
    found[TEXT[name]!] = value;
  }
  found.action = args[i] ?? "";
  return found as unknown as Arguments;
}

/** The command line of the server that has these arguments, without an earlier state. */
export function serverArguments(given: Arguments): string[] {
  const { namespace, id, address, publishBinary, bundle, socket, debug } = given;
  const args = ["-namespace", namespace, "-id", id, "-address", address, "-publish-binary", publishBinary];
  if (bundle) args.push("-bundle", bundle);
  if (socket) args.push("-socket", socket);
  if (debug) args.push("-debug");
  return args;
}

/** The values of Go's strconv.ParseBool. */
function truth(name: string, value: string): boolean {
  if (["1", "t", "T", "true", "TRUE", "True"].includes(value)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(value)) return false;
  throw new BuncError(`invalid boolean value "${value}" for -${name}`, { code: "usage" });
}
