/** An event loop for tests in which both sides of a wait are in this process. */
import { afterEach } from "bun:test";
import { poll, waitBy } from "./wait.ts";

/** Bun's own loop goes on while something is waited for, until the end of the test. */
export function waitInBackground(): void {
  waitBy(async (fds, milliseconds) => {
    const end = performance.now() + milliseconds;
    for (;;) {
      const ready = poll(fds, 0);
      if (ready.includes(true) || performance.now() >= end) return ready;
      await Bun.sleep(1);
    }
  });
}

/** To be called once by a file whose tests do so. */
export function restoreWaiting(): void {
  afterEach(() => waitBy(undefined));
}
