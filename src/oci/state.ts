/** The state of a container as the runtime-spec defines it (runtime.md "State"): what hooks read on their stdin. */

/** The status words of the specification. `paused` is runc's own, allowed as an additional one. */
export type Status = "creating" | "created" | "running" | "stopped" | "paused";

/** The state of a container. */
export interface State {
  /** The version of the specification this state complies with. */
  ociVersion: string;
  id: string;
  status: Status;
  /** The container's init as its reader sees it: in the host's pid namespace, or in the container's. 0 when stopped. */
  pid?: number;
  /** The absolute path of the bundle directory. */
  bundle: string;
  annotations?: Record<string, string> | undefined;
}

/** What a seccomp agent gets, with the descriptor, on linux.seccomp.listenerPath (config-linux.md). */
export interface ContainerProcessState {
  ociVersion: string;
  /** The names of the descriptors passed, in their order. */
  fds: string[];
  /** The process in the host's pid namespace. */
  pid: number;
  metadata?: string | undefined;
  state: State;
}

/** A state as one line of JSON with its fields in the order of the specification. */
export function formatState(state: State): string {
  const { ociVersion, id, status, pid, bundle, annotations } = state;
  return JSON.stringify({ ociVersion, id, status, pid, bundle, annotations });
}
