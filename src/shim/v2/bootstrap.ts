/** What containerd says on stdin of `start`, and the three forms of the answer on stdout, by its version. */
import { BuncError } from "../../errors.ts";
import { bytesOf } from "../../linux/lib.ts";
import { type Any, readAny, readBootstrapParams, writeBootstrapResult } from "../proto/bootstrap.gen.ts";
import { decode, encode } from "../proto/codec.ts";

/** What `start` was told. */
export interface Bootstrap {
  /** The form of the answer: protobuf of containerd 2.3, JSON of 1.7 to 2.2, the plain address of 1.6. */
  form: "protobuf" | "json" | "plain";
  /** Of the task service: 2 or 3; the messages are the same. */
  version: number;
  /** Where sockets are to be; "" is the default. */
  socketDir: string;
  /** Overrides what the environment says; "" is absent. */
  ttrpcAddress: string;
  /** Of a type that readShimOptions() knows, when there are any. */
  options: Any | undefined;
  debug: boolean;
}

/** The enumeration of log levels: anything below INFO. */
const INFO = 0;

/**
 * Understands stdin.
 * @param id of the command line: BootstrapParams repeats it, and an Any has a type there
 * @param maxVersion $MAX_SHIM_VERSION, "" where it is not set
 * @throws BuncError for bytes that are neither
 */
export function readBootstrap(stdin: Uint8Array, id: string, maxVersion: string): Bootstrap {
  const plain: Bootstrap = {
    form: maxVersion === "" ? "plain" : "json",
    version: Number(maxVersion) >= 3 ? 3 : 2,
    socketDir: "",
    ttrpcAddress: "",
    options: undefined,
    debug: false,
  };
  if (stdin.length === 0) return plain;
  const params = attempt(() => decode(readBootstrapParams, stdin));
  if (params && params.instance_id === id) {
    return {
      form: "protobuf",
      version: 3,
      socketDir: params.socket_dir,
      ttrpcAddress: params.containerd_ttrpc_address,
      options: params.extensions.map(({ value }) => value).find(isOptions),
      debug: params.log_level < INFO,
    };
  }
  const options = attempt(() => decode(readAny, stdin));
  if (!options) {
    throw new BuncError(
      `stdin has ${stdin.length} bytes that are neither BootstrapParams nor an Any of protobuf`,
      {
        code: "usage",
      },
    );
  }
  return { ...plain, options: isOptions(options) ? options : undefined };
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Whether these are options for a shim: readShimOptions() reads them. */
export function isOptions(any: Any | undefined): boolean {
  return any !== undefined && (isRuncs(any) || isTable(any));
}

/** containerd 1.x has "containerd.runc.v1.Options", with or without the prefix of type URLs. */
export function isRuncs({ type_url }: Any): boolean {
  return type_url.endsWith("containerd.runc.v1.Options");
}

/** A table of options as text or in a file, which is what CRI has for every runtime but runc's own shim. */
export function isTable({ type_url }: Any): boolean {
  return type_url.endsWith("runtimeoptions.v1.Options");
}

/** The answer, in the form asked for. */
export function answer({ form, version }: Bootstrap, address: string): Uint8Array {
  const protocol = "ttrpc";
  if (form === "protobuf") return encode(writeBootstrapResult, { version, address, protocol });
  if (form === "json") return bytesOf(JSON.stringify({ version, address, protocol }));
  return bytesOf(address);
}
