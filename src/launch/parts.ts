/** How a program is compiled part by part, so that init works on one while the next is compiled. */
import type { SentPart } from "./context.ts";

/** Compiles some of a program, and gives the parts that ended on the way. */
export type Step = () => SentPart | readonly SentPart[] | undefined;

/**
 * The parts of a program, each compiled when it is asked for. These are steps and no generator, because the first
 * generator of a process costs 0.1 ms, and its code runs once.
 */
export class Parts implements Iterable<SentPart> {
  private at = 0;
  private ended: readonly SentPart[] = [];
  private given = 0;

  constructor(private readonly steps: readonly Step[]) {}

  /** The next part; undefined after the last. */
  next(): SentPart | undefined {
    for (;;) {
      if (this.given < this.ended.length) return this.ended[this.given++];
      if (this.at === this.steps.length) return undefined;
      const ended = this.steps[this.at++]!();
      if (ended === undefined) continue;
      if (!Array.isArray(ended)) return ended as SentPart;
      this.ended = ended;
      this.given = 0;
    }
  }

  *[Symbol.iterator](): Iterator<SentPart> {
    for (let sent = this.next(); sent; sent = this.next()) yield sent;
  }
}
