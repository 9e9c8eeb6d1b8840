/** The state of a container as its hooks read it. */
import { OCI_VERSION } from "./state.ts";

/** What a hook is told on stdin: the State of the runtime-spec (runtime.md "State"). */
export interface HookState {
  id: string;
  /** "creating", "created", "running" or "stopped". */
  status: string;
  /** As the hook's own pid namespace sees it; 0 or absent when there is none. */
  pid?: number;
  bundle: string;
  annotations?: Readonly<Record<string, string>> | undefined;
}

/** The JSON of a state for hooks, in the order of specs-go. */
export function hookStateJson({ id, status, pid, bundle, annotations }: HookState): string {
  const keys = annotations ? Object.keys(annotations).sort() : [];
  return JSON.stringify({
    ociVersion: OCI_VERSION,
    id,
    status,
    pid: pid || undefined,
    bundle,
    annotations:
      keys.length > 0 ? Object.fromEntries(keys.map((key) => [key, annotations?.[key]])) : undefined,
  });
}
