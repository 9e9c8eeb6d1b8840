import { afterEach, describe, expect, test } from "bun:test";
import { abi } from "../linux/abi.gen.ts";
import { bytesOf, sys, text } from "../linux/lib.ts";
import { closeFd } from "../linux/process.ts";
import { socketPair } from "../linux/socket.ts";
import { Loop } from "./loop.ts";

const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) closeFd(fd);
});

function pair(): [number, number] {
  const ends = socketPair();
  open.push(...ends);
  return ends;
}

const send = (fd: number, words: string) => sys(abi.SYS_write, fd, bytesOf(words), words.length);

function receive(fd: number): string {
  const buffer = new Uint8Array(64);
  return text(buffer.subarray(0, Math.max(sys(abi.SYS_read, fd, buffer, buffer.length), 0)));
}

function fresh(): { loop: Loop; errors: unknown[] } {
  const errors: unknown[] = [];
  return { loop: new Loop((error) => errors.push(error)), errors };
}

describe("watching", () => {
  test("calls the handler while there is something to read, and no more after cancel", () => {
    const { loop, errors } = fresh();
    const [mine, theirs] = pair();
    const seen: string[] = [];
    const watch = loop.watch(mine, abi.POLLIN, () => {
      seen.push(receive(mine));
      if (seen.length === 1) send(theirs, "second");
      else watch.cancel();
    });
    send(theirs, "first");
    loop.after(30, () => send(theirs, "unheard"));
    loop.after(60, () => loop.stop());
    loop.run();
    expect(seen).toEqual(["first", "second"]);
    expect(errors).toEqual([]);
  });

  test("who wants to catch up waits for what came while a handler was busy", async () => {
    const { loop } = fresh();
    const [mine, theirs] = pair();
    const seen: string[] = [];
    loop.watch(mine, abi.POLLIN, () => seen.push(receive(mine)));
    loop.after(0, async () => {
      send(theirs, "meanwhile");
      expect(loop.timeless).toBe(true);
      const caughtUp = loop.caughtUp();
      expect(loop.timeless).toBe(false);
      await caughtUp;
      seen.push("caught up");
      // With nothing to handle, too.
      await loop.caughtUp();
      loop.stop();
    });
    loop.run();
    expect(seen).toEqual(["meanwhile", "caught up"]);
  });

  test("several may watch one descriptor, each for its own events", () => {
    const { loop } = fresh();
    const [mine, theirs] = pair();
    const seen: string[] = [];
    const write = loop.watch(mine, abi.POLLOUT, () => {
      seen.push("out");
      write.cancel();
      send(theirs, "x");
    });
    const read = loop.watch(mine, abi.POLLIN, () => {
      seen.push("in");
      receive(mine);
      read.want(0);
      send(theirs, "nobody wants it");
      loop.after(20, () => loop.stop());
    });
    loop.run();
    expect(seen).toEqual(["out", "in"]);
  });

  test("a hang-up comes unasked", () => {
    const { loop } = fresh();
    const [mine, theirs] = pair();
    let events = 0;
    loop.watch(mine, 0, (bits) => {
      events = bits;
      loop.stop();
    });
    closeFd(theirs);
    loop.run();
    expect(events & abi.POLLHUP).toBe(abi.POLLHUP);
  });

  test("events of a closed descriptor do not reach one that got its number", () => {
    const { loop } = fresh();
    const [a, aPeer] = pair();
    const [b, bPeer] = pair();
    const seen: string[] = [];
    const watches = [a, b].map((fd, i) =>
      loop.watch(fd, abi.POLLIN, () => {
        seen.push(`handler ${i}`);
        // Whichever comes first closes the other's descriptor and opens another with that number.
        const other = i === 0 ? b : a;
        watches[1 - i]!.cancel();
        closeFd(other);
        expect(sys(abi.SYS_fcntl, aPeer, abi.F_DUPFD_CLOEXEC, other)).toBe(other);
        loop.watch(other, abi.POLLOUT, () => {
          seen.push("new");
          loop.stop();
        });
        watches[i]!.cancel();
      }),
    );
    send(aPeer, "x");
    send(bPeer, "x");
    loop.run();
    expect(seen).toHaveLength(2);
    expect(seen[1]).toBe("new");
  });

  test("what cannot be watched is an error", () => {
    const { loop } = fresh();
    expect(() => loop.watch(9999, abi.POLLIN, () => {})).toThrow("bad file descriptor");
  });
});

describe("time", () => {
  test("timers go off in order, and not when cancelled", () => {
    const { loop } = fresh();
    const seen: number[] = [];
    for (const time of [20, 5, 10]) loop.after(time, () => seen.push(time));
    loop.after(7, () => seen.push(7)).cancel();
    loop.after(30, () => loop.stop());
    loop.run();
    expect(seen).toEqual([5, 10, 20]);
  });

  test("promises go on between events, and what throws does not end the loop", async () => {
    const { loop, errors } = fresh();
    const seen: string[] = [];
    const work = async () => {
      await null;
      seen.push("microtask");
      expect(await loop.ready([], 5)).toEqual([]);
      seen.push("time");
      const [mine, theirs] = pair();
      expect(await loop.ready([mine], 5)).toEqual([false]);
      send(theirs, "x");
      expect(await loop.ready([theirs, mine], Number.POSITIVE_INFINITY)).toEqual([false, true]);
      seen.push("descriptor");
      loop.stop();
    };
    loop.after(0, () => {
      throw new Error("a bug");
    });
    const done = work();
    loop.run();
    await done;
    expect(seen).toEqual(["microtask", "time", "descriptor"]);
    expect(errors).toHaveLength(1);
  });
});

describe("rest", () => {
  test("comes after the time that was asked for, once, and sooner after much work", () => {
    const { loop } = fresh();
    const [mine, theirs] = pair();
    const rests: number[] = [];
    let begin = performance.now();
    loop.onIdle(300, () => {
      rests.push(performance.now() - begin);
      begin = performance.now();
      if (rests.length === 1) send(theirs, "x");
      else loop.stop();
    });
    let events = 0;
    loop.watch(mine, abi.POLLIN, () => {
      receive(mine);
      if (++events < 2100) send(theirs, "x");
      else begin = performance.now();
    });
    loop.run();
    expect(rests[0]).toBeGreaterThanOrEqual(299);
    expect(rests[1]).toBeLessThan(250);
    expect(events).toBe(2100);
  });
});
