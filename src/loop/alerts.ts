import type { Alert } from "../api/signal.ts";
import type { Workload } from "../ports/platform.ts";

/**
 * Alerts by the values of their labels. Of ten thousand alerts only those that name a workload or one of its replicas
 * are looked at for it: an alert names its target by a label whose value is the target's name or uid.
 */
export class AlertIndex {
  readonly #byValue = new Map<string, Map<string, Alert>>();
  readonly #known = new Map<string, Alert>();

  /** Takes in new and changed alerts. */
  put(alerts: readonly Alert[]): void {
    for (const alert of alerts) {
      this.#remove(alert.fingerprint);
      this.#known.set(alert.fingerprint, alert);
      for (const value of new Set(Object.values(alert.labels))) {
        let entry = this.#byValue.get(value);
        if (entry === undefined) this.#byValue.set(value, (entry = new Map()));
        entry.set(alert.fingerprint, alert);
      }
    }
  }

  /** Has what `known` has, and nothing else: repeated alerts are seen again, old ones forgotten. */
  sync(known: readonly Alert[]): void {
    const keep = new Set(known.map((alert) => alert.fingerprint));
    for (const fingerprint of this.#known.keys()) if (!keep.has(fingerprint)) this.#remove(fingerprint);
    this.put(known.filter((alert) => this.#known.get(alert.fingerprint) !== alert));
  }

  /** Alerts that may be about a workload or one of its replicas. */
  about(workload: Workload): readonly Alert[] {
    // As it is nearly always, and this is asked for every workload every second.
    if (this.#known.size === 0) return [];
    const found = new Map<string, Alert>();
    const collect = (value: string | undefined): void => {
      if (value === undefined) return;
      for (const [fingerprint, alert] of this.#byValue.get(value) ?? []) found.set(fingerprint, alert);
    };
    collect(workload.ref.name);
    for (const replica of workload.replicas) {
      collect(replica.ref.name);
      collect(replica.ref.uid);
    }
    return [...found.values()];
  }

  #remove(fingerprint: string): void {
    const alert = this.#known.get(fingerprint);
    if (alert === undefined) return;
    this.#known.delete(fingerprint);
    for (const value of new Set(Object.values(alert.labels))) {
      const entry = this.#byValue.get(value);
      entry?.delete(fingerprint);
      if (entry?.size === 0) this.#byValue.delete(value);
    }
  }
}
