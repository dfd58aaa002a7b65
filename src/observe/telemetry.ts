import type { TargetRef } from "../api/meta.ts";
import type { Hint } from "./hints.ts";
import type { LogCount, LogQuery } from "./logs.ts";
import type { PromqlAnswer, PromqlProblem, PromqlQuery } from "./promql.ts";
import type { CallPoint, ServiceGraph } from "./service-graph.ts";

/** One reading. */
export interface Sample {
  /** Milliseconds since the epoch, by the source's clock, never later than its arrival. */
  readonly t: number;
  readonly v: number;
}

/** What was asked of a workload over a span of time. */
export interface RequestStats {
  readonly total: number;
  /** Answered with a server error (5xx), cut off, or timed out. */
  readonly failed: number;
  /** 99th percentile in milliseconds, where the source has latencies. */
  readonly p99Ms?: number;
  /** Newest evidence (ms). */
  readonly seenAt: number;
}

/** What a replica says of the requests that it answered. */
export interface Answers {
  /** Up to when it has said so (ms). */
  readonly heardAt: number;
  /** When it said last that it had answered some (ms); undefined where it never did. */
  readonly answeredAt: number | undefined;
}

/** What the loop reads of everything that was observed: in memory, bounded, never waiting. */
export interface Telemetry {
  /**
   * Readings of a metric of one replica, ordered by time, each time once, from `since` (ms) on. `memory` is the working
   * set that the platform measures; any other name is an OTLP metric, summed over its attribute sets.
   * Empty when there is none: that is missing data, never a value. `startedAt`: when its process was started (ms), as what one
   * before it said last is no part of a sum from then on. Default: it does not count.
   */
  replicaSeries(replicaUid: string, metric: string, since: number, startedAt?: number): readonly Sample[];
  /** Requests to a workload from `since` (ms) on; undefined when nothing was heard of it since then. */
  requests(workload: TargetRef, since: number): RequestStats | undefined;
  /** The same in spans of `stepMs`, by time; spans in which nothing was heard are not there. */
  requestSeries(workload: TargetRef, since: number, stepMs: number): readonly CallPoint[];
  /** Who was seen to call whom; none where nothing of that kind is listened to. */
  readonly graph?: ServiceGraph;
  /** What Prometheus answers to a query; undefined where it was not answered yet. No such method where no Prometheus is configured. Never waits. */
  promql?(query: PromqlQuery): PromqlAnswer | PromqlProblem | undefined;
  /** What a replica asked for, the newest of each kind. No such method where nobody can ask. */
  hints?(replicaUid: string): readonly Hint[];
  /** Calls back with the uid of each replica that asked for something; returns what ends it. */
  onHint?(listener: (replicaUid: string) => void): () => void;
  /**
   * How many log records of a replica match, from `since` (ms) on: counted from the first time that it is asked. Undefined where
   * there are too many such questions; no such method where logs are not taken in.
   */
  logs?(replicaUid: string, query: LogQuery, since: number): LogCount | undefined;
  /** Traces that a replica gave as examples of a metric from `since` (ms) on, newest first; of `FAILED_REQUESTS` besides. */
  traces?(replicaUid: string, metric: string, since: number): readonly string[];
  /** What a replica itself said of the requests that it answered; undefined, or no such method, where nothing is known. */
  answers?(replicaUid: string): Answers | undefined;
}
