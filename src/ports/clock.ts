/** Time, as the loop may know it. The simulator implements it in virtual time. */
export interface Clock {
  /** Milliseconds since the epoch. May jump. */
  now(): number;
  /** Milliseconds from an arbitrary start; never goes back. For durations. */
  monotonic(): number;
  /**
   * Calls `fn` once after `ms`; returns what cancels it. With `background`, the wait alone does not keep the process
   * alive, where there is one.
   */
  after(ms: number, fn: () => void, options?: { readonly background?: boolean }): () => void;
}

/** Waits; ends early, without an error, when `signal` aborts. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = (): void => {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(ms, done);
    signal?.addEventListener("abort", done, { once: true });
  });
}
