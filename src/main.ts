/** The executable's entry: the name it was started by decides what it is. */
import { main } from "./cli/main.ts";
import { abi } from "./linux/abi.gen.ts";
import { sys } from "./linux/lib.ts";

/** Ends the process at once: what Bun and libc would do on the way out is not needed, and costs half a millisecond. */
function exit(code: number): void {
  sys(abi.SYS_exit_group, code);
}

/** What the process was started as: containerd-shim-NAME-v2, the shim of containerd 0.2 (also Docker's), or a runtime. */
function run(name: string, args: string[]): number | Promise<number> {
  const base = name.slice(name.lastIndexOf("/") + 1);
  if (base.startsWith("containerd-shim-") && base.endsWith("-v2")) {
    return import("./shim/v2/main.ts").then((shim) => shim.main(name, args));
  }
  if (base === "containerd-shim" || base === "docker-containerd-shim") {
    return import("./shim/v1/main.ts").then((shim) => shim.main(args));
  }
  return main(name, args);
}

const code = run(process.argv0, process.argv.slice(2));
if (typeof code === "number") exit(code);
else code.then(exit);
