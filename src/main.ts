/** The executable's entry: the name it was started by decides what it is. */
import { main } from "./cli/main.ts";
import { abi } from "./linux/abi.gen.ts";
import { sys } from "./linux/lib.ts";

/** Ends the process at once: what Bun and libc would do on the way out is not needed, and costs half a millisecond. */
function exit(code: number): void {
  sys(abi.SYS_exit_group, code);
}

const code = main(process.argv0, process.argv.slice(2));
if (typeof code === "number") exit(code);
else code.then(exit);
