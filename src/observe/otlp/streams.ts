/** Buckets of a histogram, of either kind. */
export type Buckets =
  | { readonly kind: "explicit"; readonly bounds: readonly number[]; readonly counts: readonly number[] }
  | {
      readonly kind: "exponential";
      readonly scale: number;
      readonly offset: number;
      readonly counts: readonly number[];
      readonly zero: number;
    };

/** What was seen last of a stream whose points mean something only against the one before. Times in ms. */
export interface Stream {
  start: number;
  t: number;
  /** Value of a sum, count of a histogram. */
  value: number;
  buckets: Buckets | undefined;
  /** Times of the newest points of differences, by which one that comes twice is known. */
  readonly recent: number[];
  /** When it was written last, by our clock. */
  seen: number;
}

/** How often streams that have fallen silent are looked for (ms). */
const SWEEP_MS = 60_000;
/** The same while there is no place: what is refused may be waiting for just that. */
const SWEEP_FULL_MS = 5_000;

/**
 * Streams by what they count (their family: one metric of one process) and by their attributes. Bounded, and each forgotten once it was silent for
 * long enough. In two steps, as the text of a family is put together once for all points of its metric.
 */
export class Streams {
  readonly #max: number;
  readonly #ttl: number;
  readonly #families = new Map<string, Map<string, Stream>>();
  #size = 0;
  #sweptAt = -Infinity;

  /** @param ttlMs - a stream that was silent for longer is forgotten. */
  constructor(max: number, ttlMs: number) {
    this.#max = max;
    this.#ttl = ttlMs;
  }

  get(family: string, attributesKey: string, now: number): Stream | undefined {
    const stream = this.#families.get(family)?.get(attributesKey);
    return stream === undefined || stream.seen < now - this.#ttl ? undefined : stream;
  }

  /** Whether there is place for one more. */
  hasPlace(now: number): boolean {
    if (this.#size >= this.#max) this.sweep(now, SWEEP_FULL_MS);
    return this.#size < this.#max;
  }

  set(family: string, attributesKey: string, stream: Stream): void {
    let streams = this.#families.get(family);
    if (streams === undefined) this.#families.set(family, (streams = new Map()));
    if (!streams.has(attributesKey)) this.#size++;
    streams.set(attributesKey, stream);
  }

  /** Forgets what was silent for too long; looks for it only where that is due. */
  sweep(now: number, every = SWEEP_MS): void {
    // A clock that was set back must not put it off.
    if (Math.abs(now - this.#sweptAt) < every) return;
    this.#sweptAt = now;
    for (const [family, streams] of this.#families) {
      for (const [key, { seen }] of streams) if (seen < now - this.#ttl && streams.delete(key)) this.#size--;
      if (streams.size === 0) this.#families.delete(family);
    }
  }
}
