import type { OwnerRecord } from "./records.ts";

/** A revision counts as healthy once all of its replicas have been available for this long (ms). */
export const HEALTHY_FOR_MS = 60_000;

/**
 * Which revisions were healthy, as seen by this process: a ReplicaSet that was scaled down does not tell any more. What it
 * saw ends with it, so the leader also marks them (`nightshift.dev/healthy-since`).
 */
export class HealthHistory {
  /** Since when a revision has been wholly available, by its key. */
  readonly #availableSince = new Map<string, number>();
  /** When a revision that is no longer wholly available was so for long enough. */
  readonly #healthy = new Map<string, number>();

  /** Notes how a revision stands; `key` is the uid of what it belongs to and its name. */
  note(key: string, owner: Pick<OwnerRecord, "desired" | "available">, now: number): void {
    if (owner.desired > 0 && owner.available >= owner.desired) {
      if (!this.#availableSince.has(key)) this.#availableSince.set(key, now);
      return;
    }
    const since = this.since(key, now);
    if (since !== undefined) this.#healthy.set(key, since);
    this.#availableSince.delete(key);
  }

  /** Since when the revision was healthy (ms); undefined where that was never seen. */
  since(key: string, now: number): number | undefined {
    const available = this.#availableSince.get(key);
    if (available !== undefined && now - available >= HEALTHY_FOR_MS) return available;
    return this.#healthy.get(key);
  }

  forget(key: string): void {
    this.#availableSince.delete(key);
    this.#healthy.delete(key);
  }
}
