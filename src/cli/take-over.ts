import { messageOf, NightshiftError } from "../api/errors.ts";
import { Backoff } from "../platform/kubernetes/backoff.ts";
import { sleep, type Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";

/** Longest wait before jitter between two tries (ms): alerts wait for it. */
const MAX_PAUSE_MS = 5_000;

/**
 * Lets a store take over, again and again while it cannot be reached: to end the process because the API server is busy, or a
 * connection was lost, would only be to begin anew. Rejects with what the store rejects with, once that will not pass by
 * itself, another leads, or `signal` aborts.
 */
export async function takeOver(options: {
  readonly takeover: () => Promise<void>;
  readonly leads: () => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly onError: (message: string) => void;
}): Promise<void> {
  const { takeover, leads, clock, random, signal, onError } = options;
  for (const backoff = new Backoff(random, { maxMs: MAX_PAUSE_MS }); ; await sleep(clock, backoff.next(), signal)) {
    try {
      return await takeover();
    } catch (error) {
      const mayPass = error instanceof NightshiftError && error.code === "STORE_UNAVAILABLE" && leads();
      if (!mayPass || signal.aborted) throw error;
      onError(`cannot take over yet: ${messageOf(error)}`);
    }
  }
}
