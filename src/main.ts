/** The executable's entry: the name it was started by decides what it is. */
import { main } from "./cli/main.ts";
import { abi } from "./linux/abi.gen.ts";
import { sys } from "./linux/lib.ts";

/** Ends the process at once: what Bun and libc would do on the way out is not needed, and costs half a millisecond. */
function exit(code: number): void {
  sys(abi.SYS_exit_group, code);
}

/** containerd-shim-NAME-v2 */
function isShim(name: string): boolean {
  const base = name.slice(name.lastIndexOf("/") + 1);
  return base.startsWith("containerd-shim-") && base.endsWith("-v2");
}

const name = process.argv0;
const args = process.argv.slice(2);
const code = isShim(name)
  ? import("./shim/v2/main.ts").then((shim) => shim.main(name, args))
  : main(name, args);
if (typeof code === "number") exit(code);
else code.then(exit);
