// `make soak-test`: very many processes of exec through one shim, which must not grow by them.
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { eventually } from "../rig/client.ts";
import { useRig } from "../rig/rig.ts";
import { output } from "../rig/rootfs.ts";
import { buncDescribe } from "../rig/runtime.ts";
import { type Shim, shimOf } from "../shim/rig.ts";

const rig = useRig();
setDefaultTimeout(3_600_000);

const EXECS = Number(process.env.SOAK_EXECS ?? 10_000);
/** How many run at a time. */
const CROWD = 4;
/** As many first, so that all code that is needed is there, and compiled. */
const WARM_UP = 500;
/**
 * What there may be more after them: what the issue allows, for one that sleeps at the end; for one that is never let
 * sleep the garbage that JavaScriptCore puts up with, and what its threads come and go with.
 */
const GROWTH = {
  asleep: { dirty: 1024, threads: 0, maps: 0 },
  awake: { dirty: 32 << 10, threads: 2, maps: 4 },
};

interface Weight {
  /** Private dirty memory, kB. */
  dirty: number;
  fds: string[];
  threads: number;
  maps: number;
}

function weigh(pid: number): Weight {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return {
    dirty: Number(/^Private_Dirty:\s+(\d+)/m.exec(rollup)![1]),
    fds: readdirSync(`/proc/${pid}/fd`).sort(),
    threads: Number(/^Threads:\s+(\d+)/m.exec(status)![1]),
    maps: readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").length,
  };
}

const shown = ({ dirty, fds, threads, maps }: Weight) =>
  `${dirty} kB, ${fds.length} descriptors, ${threads} threads, ${maps} maps`;

/** Runs processes numbered from..to: without streams, with fifos, and on terminals, in turn. */
async function execs(shim: Shim, from: number, to: number, fifo: string): Promise<void> {
  let next = from;
  const one = async (): Promise<void> => {
    while (next < to) {
      const n = next++;
      const more = [{}, { stdout: fifo, stderr: fifo }, { stdout: fifo, terminal: true }][n % 3]!;
      await shim.exec(`e${n}`, ["sh", "-c", `echo out; exit ${n % 50}`], more);
      await shim.begin(`e${n}`);
      expect((await shim.wait(`e${n}`)).exit_status).toBe(n % 50);
      await shim.delete(`e${n}`);
      // What has been told is not to weigh on this process.
      if (n % 1000 === 0) shim.events.all.length = 0;
    }
  };
  await Promise.all(Array.from({ length: CROWD }, one));
}

buncDescribe(`${EXECS} execs`, () => {
  for (const [name, idle, growth] of [
    ["that never sleeps", "0", GROWTH.awake],
    ["that falls asleep", "500", GROWTH.asleep],
  ] as const) {
    test(`leave a shim ${name} as they found it`, async () => {
      const shim = await shimOf(rig, ["sleep", "100000"], { BUNC_SHIM_IDLE: idle });
      await shim.create();
      await shim.begin();
      const pid = await shim.pid();
      const fifo = `${rig.directory()}/out`;
      output(["mkfifo", fifo]);
      await rig.background(["sh", "-c", `echo reading; exec cat <>${fifo} >/dev/null`]);
      const settled = async (): Promise<Weight> => {
        // Asleep it is another program.
        const asleep = () => readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").length < 30;
        if (idle === "0") await Bun.sleep(500);
        else await eventually("the shim sleeps", asleep);
        return weigh(pid);
      };
      await execs(shim, 0, WARM_UP, fifo);
      const before = await settled();
      console.log(`after ${WARM_UP}: ${shown(before)}`);
      const step = Math.ceil(EXECS / 5);
      for (let done = 0; done < EXECS; done += step) {
        await execs(shim, WARM_UP + done, WARM_UP + Math.min(done + step, EXECS), fifo);
        console.log(`and ${Math.min(done + step, EXECS)}: ${shown(await settled())}`);
      }
      const after = await settled();
      // Their numbers depend on when it slept.
      expect(after.fds.length).toBeLessThanOrEqual(before.fds.length);
      expect(after.threads).toBeLessThanOrEqual(before.threads + growth.threads);
      expect(after.maps).toBeLessThanOrEqual(before.maps + growth.maps);
      expect(after.dirty - before.dirty).toBeLessThanOrEqual(growth.dirty);
      await shim.kill(9);
      await shim.wait();
      await shim.delete();
    });
  }
});
