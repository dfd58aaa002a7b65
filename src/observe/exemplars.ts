/** The name under which traces of a replica's failed requests are kept: none of OpenTelemetry's, which have no blanks. */
export const FAILED_REQUESTS = "failed requests";

/** Traces kept of one metric of one replica. */
const KEPT = 3;
/** Metrics of replicas that traces are kept of; who has not been heard of for longest goes first. */
const MAX_METRICS = 20_000;

/** A trace that a sender gave as an example of what a metric measured. */
interface ExampleTrace {
  readonly traceId: string;
  /** Milliseconds since the epoch. */
  readonly t: number;
}

/** The newest example traces of each metric of each replica, in memory and bounded: evidence for people, never for a decision. */
export class ExampleTraces {
  readonly #traces = new Map<string, readonly ExampleTrace[]>();

  /** Adds traces of a metric of a replica, seen at about `t` (ms). */
  add(replicaUid: string, metric: string, traceIds: readonly string[], t: number): void {
    if (traceIds.length === 0) return;
    const key = JSON.stringify([replicaUid, metric]);
    const known = (this.#traces.get(key) ?? []).filter(({ traceId }) => !traceIds.includes(traceId));
    this.#traces.delete(key);
    this.#traces.set(key, [...traceIds.map((traceId) => ({ traceId, t })), ...known].sort((a, b) => b.t - a.t).slice(0, KEPT));
    const [oldest] = this.#traces.keys();
    if (this.#traces.size > MAX_METRICS && oldest !== undefined) this.#traces.delete(oldest);
  }

  /** Those from `since` (ms) on, newest first. */
  of(replicaUid: string, metric: string, since: number): readonly string[] {
    const traces = this.#traces.get(JSON.stringify([replicaUid, metric])) ?? [];
    return traces.filter(({ t }) => t >= since).map(({ traceId }) => traceId);
  }
}
