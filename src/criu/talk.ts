/** One request to criu from its start to its end, with the notifications in between; and what criu must be able to do. */
import { BuncError } from "../errors.ts";
import { closeFd } from "../linux/process.ts";
import { lastErrors, printable } from "./log.ts";
import { type Features, type Request, type Response, Type } from "./rpc.gen.ts";
import { Swrk, type SwrkOptions } from "./swrk.ts";

/** A point of its work at which criu waits for our answer. */
export interface Notification {
  /** "post-dump", "setup-namespaces", "orphan-pts-master", ... */
  script: string;
  /** Of the container's init, where it is known; else 0. */
  pid: number;
  /** The descriptor that came with it, or -1; it is closed afterwards. */
  fd: number;
}

/**
 * Sends a request and answers notifications until criu has done it.
 * @param notified what a notification asks for; when it throws, criu is told to give up, and what it has done is undone
 * @throws BuncError of `notified`, or "criu failed: type DUMP errno 22"
 */
export async function perform(
  swrk: Swrk,
  request: Partial<Request>,
  notified: (notification: Notification) => unknown = () => {},
): Promise<Response> {
  swrk.send(request);
  let failure: unknown;
  for (;;) {
    const { response, fd } = await swrk.receive().catch((error: unknown) => {
      throw failure ?? error;
    });
    try {
      if (!response.success) throw failure ?? failed(response);
      if (response.type !== Type.NOTIFY) {
        if (failure) throw failure;
        if (response.type === request.type) return response;
        throw new BuncError(
          `criu failed: it answers ${typeName(response.type)}, not ${typeName(request.type)}`,
          {
            code: "host",
          },
        );
      }
      const { script = "", pid = 0 } = response.notify ?? {};
      if (failure === undefined) await notified({ script, pid, fd });
    } catch (error) {
      if (response.type !== Type.NOTIFY || !response.success) throw error;
      failure = error;
    } finally {
      closeFd(fd);
    }
    swrk.send({ type: Type.NOTIFY, notify_success: failure === undefined });
  }
}

function failed({ type, cr_errno, cr_errmsg }: Response): BuncError {
  const errors = cr_errmsg ? lastErrors(cr_errmsg) : [];
  const said = errors.length > 0 ? errors.join("; ") : printable(cr_errmsg).trim();
  const message = `criu failed: type ${typeName(type)} errno ${cr_errno}`;
  return new BuncError(said ? `${message}: ${said}` : message, { code: "host" });
}

function typeName(type: number | undefined): string {
  for (const name in Type) if (Type[name as keyof typeof Type] === type) return name;
  return String(type);
}

/** A request whose answer is all that is wanted. */
async function ask(request: Partial<Request>, env: readonly string[]): Promise<Response> {
  const swrk = await Swrk.start({ env, quiet: true } satisfies SwrkOptions);
  try {
    return await perform(swrk, request);
  } finally {
    swrk.kill();
  }
}

/**
 * The version as criu counts: 41101 for 4.11.1.
 * @throws BuncError "CRIU version check failed: ..." when there is none
 */
export async function criuVersion(env: readonly string[]): Promise<number> {
  let response: Response;
  try {
    response = await ask({ type: Type.VERSION }, env);
  } catch (error) {
    throw prefixed("CRIU version check failed: ", error);
  }
  const { major_number = 0, minor_number = 0, sublevel = 0, gitid } = response.version ?? {};
  // One that is built between two releases counts as the next, as in runc.
  return gitid
    ? major_number * 10000 + (minor_number + 1) * 100
    : major_number * 10000 + minor_number * 100 + sublevel;
}

/** @throws BuncError "CRIU version 20000 must be 30000 or higher" */
export function requireVersion(version: number, least: number): void {
  if (version >= least) return;
  throw new BuncError(`CRIU version ${version} must be ${least} or higher`, {
    code: "host",
    hint: "install a newer criu",
  });
}

/**
 * Asks whether this criu can do something on this kernel.
 * @throws BuncError "criu is missing features: [MemTrack]"
 */
export async function requireFeature(feature: keyof Features, env: readonly string[]): Promise<void> {
  let response: Response;
  try {
    response = await ask({ type: Type.FEATURE_CHECK, features: { ...NONE, [feature]: true } }, env);
  } catch (error) {
    throw prefixed("CRIU feature check failed: ", error);
  }
  if (response.features?.[feature]) return;
  throw new BuncError(`criu is missing features: [${FEATURES[feature]}]`, {
    code: "host",
    hint: `see criu check --feature ${feature === "mem_track" ? "mem_dirty_track" : "uffd-noncoop"}`,
  });
}

const NONE: Features = { mem_track: false, lazy_pages: false };
/** Their names in runc's message. */
const FEATURES: Readonly<Record<keyof Features, string>> = { mem_track: "MemTrack", lazy_pages: "LazyPages" };

function prefixed(prefix: string, error: unknown): unknown {
  return error instanceof BuncError ? new BuncError(prefix + error.message, error.fields) : error;
}
