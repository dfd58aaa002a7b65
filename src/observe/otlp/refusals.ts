/** Counts what of requests was refused, by reason, and tells the sender. */
export class Refusals<Reason extends string> {
  readonly #what: string;
  readonly #total = new Map<Reason, number>();

  /** `what` is refused, such as `points`. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Adds what one request had; returns what its sender is told. */
  count(reasons: ReadonlyMap<Reason, number>): { readonly rejected: number; readonly message: string } {
    let rejected = 0;
    for (const [reason, count] of reasons) {
      rejected += count;
      this.#total.set(reason, (this.#total.get(reason) ?? 0) + count);
    }
    const why = [...reasons].map(([reason, count]) => `${count} ${reason}`).join(", ");
    return { rejected, message: rejected === 0 ? "" : `${this.#what} refused: ${why}` };
  }

  /** Since the start, by reason. */
  total(): Readonly<Partial<Record<Reason, number>>> {
    const total: Partial<Record<Reason, number>> = {};
    for (const [reason, count] of this.#total) total[reason] = count;
    return total;
  }
}
