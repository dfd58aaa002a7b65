import type { TargetRef } from "../../api/meta.ts";
import { LOG_SEVERITIES } from "../../api/policy.ts";
import { type Hint, HintBook } from "../../observe/hints.ts";
import { LogBook, type LogCount, type LogQuery } from "../../observe/logs.ts";
import type { RequestStats, Sample, Telemetry } from "../../observe/telemetry.ts";
import { type PromqlAnswer, type PromqlQuery, stepsOf } from "../../observe/promql.ts";
import { type CallPoint, ServiceGraphStore } from "../../observe/service-graph.ts";
import type { SimProcess } from "./process.ts";
import { HINT, type Measurement } from "./traffic.ts";

/** How long readings are kept (ms). */
const KEEP_MS = 3_600_000;
const KEEP_REQUESTS_MS = 900_000;
/** How far back an instant of a query looks for a value (ms): the interval at which Prometheus scrapes, and some more. */
const LOOKBACK_MS = 20_000;

/** What one operator has heard by OTLP since it leads. It dies with its process. */
export class SimTelemetry implements Telemetry {
  readonly #process: SimProcess;
  readonly #series = new Map<string, Sample[]>();
  readonly #requests = new Map<string, { readonly t: number; readonly total: number; readonly failed: number }[]>();
  /** Rows of queries, by query and labels. */
  readonly #rows = new Map<string, Map<string, { readonly labels: Readonly<Record<string, string>>; readonly samples: Sample[] }>>();
  readonly graph: ServiceGraphStore;
  readonly #hints: HintBook;
  readonly #logs: LogBook;
  /** When it was last heard of (ms, by the process's clock). */
  heardAt = -Infinity;

  constructor(process: SimProcess) {
    this.#process = process;
    this.graph = new ServiceGraphStore(process);
    this.#hints = new HintBook(process);
    this.#logs = new LogBook(process);
  }

  /** Takes a measurement in, with its times by the clock of this process. */
  take(measurement: Measurement, skewMs: number): void {
    const now = this.#process.now();
    this.heardAt = now;
    const t = Math.floor(measurement.at + skewMs);
    for (const [uid, { v }] of measurement.memory) {
      const series = this.#series.get(uid) ?? [];
      if ((series.at(-1)?.t ?? -Infinity) < t) series.push({ t, v });
      while ((series[0]?.t ?? now) < now - KEEP_MS) series.shift();
      this.#series.set(uid, series);
    }
    for (const [key, sample] of measurement.metrics) {
      const series = this.#series.get(key) ?? [];
      if ((series.at(-1)?.t ?? -Infinity) < sample.t) series.push(sample);
      while ((series[0]?.t ?? now) < now - KEEP_MS) series.shift();
      this.#series.set(key, series);
    }
    for (const { query, labels, v } of measurement.rows) {
      const rows = this.#rows.get(query) ?? new Map<string, { labels: Readonly<Record<string, string>>; samples: Sample[] }>();
      this.#rows.set(query, rows);
      const key = JSON.stringify(labels);
      const row = rows.get(key) ?? { labels, samples: [] };
      rows.set(key, row);
      row.samples.push({ t, v });
      while ((row.samples[0]?.t ?? now) < now - KEEP_REQUESTS_MS) row.samples.shift();
    }
    for (const uid of this.#series.keys()) if ((this.#series.get(uid)?.at(-1)?.t ?? now) < now - KEEP_MS) this.#series.delete(uid);
    for (const [name, { total, failed }] of measurement.requests) {
      const all = this.#requests.get(name) ?? [];
      all.push({ t, total, failed });
      while ((all[0]?.t ?? now) < now - KEEP_REQUESTS_MS) all.shift();
      this.#requests.set(name, all);
    }
    // As the receiver has it: nothing is later than its arrival.
    const told = Math.min(t, now);
    for (const { uid, severity, body } of measurement.logs)
      this.#logs.record(uid, { t: told, severity: LOG_SEVERITIES[severity], body, attributes: new Map(), traceId: "" });
    for (const [uid, { added, isNamed }] of measurement.hints)
      this.#hints.record(uid, {
        action: isNamed ? HINT.action : undefined,
        saturationType: HINT.saturationType,
        added,
        // What grew between two exports of a sum may be several additions.
        delta: isNamed,
        single: false,
        since: told - measurement.spanMs,
        t: told,
        receivedAt: now,
        traceIds: [],
      });
    for (const call of measurement.calls) this.graph.recordCalls("Spans", { ...call, kind: "Request", t });
  }

  replicaSeries(replicaUid: string, metric: string, since: number): readonly Sample[] {
    const series = this.#series.get(metric === "memory" ? replicaUid : `${replicaUid}/${metric}`) ?? [];
    let first = series.length;
    while (first > 0 && (series[first - 1]?.t ?? 0) >= since) first -= 1;
    return first === 0 ? series : series.slice(first);
  }

  hints(replicaUid: string): readonly Hint[] {
    return this.#hints.of(replicaUid);
  }

  onHint(listener: (replicaUid: string) => void): () => void {
    return this.#hints.onHint(listener);
  }

  logs(replicaUid: string, query: LogQuery, since: number): LogCount | undefined {
    return this.#logs.count(replicaUid, query, since);
  }

  promql({ query, rangeMs }: PromqlQuery): PromqlAnswer | undefined {
    const rows = this.#rows.get(query);
    if (rows === undefined) return undefined;
    const steps = stepsOf(rangeMs, this.#process.now());
    const at = (samples: readonly Sample[], step: number): Sample[] => {
      const last = samples.findLast(({ t }) => t <= step);
      return last === undefined || last.t < step - LOOKBACK_MS ? [] : [{ t: step, v: last.v }];
    };
    return {
      steps,
      rows: [...rows.values()].map(({ labels, samples }) => ({ labels, samples: steps.flatMap((step) => at(samples, step)) })),
    };
  }

  requests(workload: TargetRef, since: number): RequestStats | undefined {
    let total = 0;
    let failed = 0;
    let seenAt: number | undefined;
    const all = this.#requests.get(`${workload.namespace}/${workload.name}`) ?? [];
    for (let i = all.length - 1; i >= 0; i--) {
      const each = all[i];
      if (each === undefined || each.t < since) break;
      total += each.total;
      failed += each.failed;
      seenAt ??= each.t;
    }
    return seenAt === undefined ? undefined : { total, failed, seenAt };
  }

  requestSeries(workload: TargetRef, since: number, stepMs: number): readonly CallPoint[] {
    const all = this.#requests.get(`${workload.namespace}/${workload.name}`) ?? [];
    const points: { t: number; requests: number; failed: number; latencyMs: undefined }[] = [];
    for (const { t, total, failed } of all) {
      if (t < since) continue;
      const span = Math.floor(t / stepMs) * stepMs;
      const last = points.at(-1);
      if (last?.t !== span) points.push({ t: span, requests: total, failed, latencyMs: undefined });
      else {
        last.requests += total;
        last.failed += failed;
      }
    }
    return points;
  }
}
