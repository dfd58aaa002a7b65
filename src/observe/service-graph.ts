import type { Clock } from "../ports/clock.ts";

/** A service as telemetry names it. Without a namespace, its name alone is known. */
export interface ServiceName {
  readonly name: string;
  readonly namespace?: string;
}

/**
 * What a call is: `Request` is waited for; `Queue` hands a message to whoever consumes it, later; `External` goes to something
 * that sends no telemetry itself, such as a database, and is measured by its caller.
 */
export type CallKind = "Request" | "Queue" | "External";

/** Where calls were seen. */
export type CallSource = "Otlp" | "Prometheus" | "Spans";

/** Calls of one service by another that ended at about the time `t`. What a source does not tell is left out. */
export interface CallReading {
  readonly client: ServiceName;
  readonly server: ServiceName;
  readonly kind: CallKind;
  /** Milliseconds since the epoch. */
  readonly t: number;
  readonly requests?: number;
  readonly failed?: number;
  /** How long how many of them took, in all (ms). */
  readonly latency?: { readonly sumMs: number; readonly count: number };
}

/** Calls of a span of time. */
export interface CallPoint {
  /** Beginning of the span (ms). */
  readonly t: number;
  readonly requests: number;
  readonly failed: number;
  /** Their mean (ms); undefined where none was timed. */
  readonly latencyMs: number | undefined;
}

/** One service that calls another. */
export interface ObservedCall {
  readonly client: ServiceName;
  readonly server: ServiceName;
  readonly kind: CallKind;
  readonly source: CallSource;
  /** When it was heard of last (ms). */
  readonly seenAt: number;
  /** What was called from `since` (ms) on, by time; spans in which nothing was heard are not there. */
  points(since: number): readonly CallPoint[];
}

/** What is read of the calls that were seen: in memory, bounded, never waiting. */
export interface ServiceGraph {
  /** Another number once services or calls came or went: what was made of them is to be made anew. */
  readonly version: number;
  /** Every call that is not too old, each once. */
  calls(): readonly ObservedCall[];
}

/** Why a reading of calls is not kept. */
export type CallRefusal = "not-finite" | "invalid" | "future" | "too-old" | "edge-limit";

/** Where calls are written to. It says why it refused something; undefined when it did not. */
export interface CallSink {
  recordCalls(source: CallSource, reading: CallReading): CallRefusal | undefined;
}

/** The bounds of the graph. */
export interface ServiceGraphLimits {
  /** Most calls (pairs of services, by kind and source). Each takes 6 KB. Default 2,000. */
  readonly maxEdges: number;
  /** A call that was not heard of for this long is no edge any more (ms). Default one hour. */
  readonly edgeTtlMs: number;
  /** How far ahead of ours a source's clock may be (ms). Default one minute. */
  readonly maxFutureMs: number;
}

export const DEFAULT_SERVICE_GRAPH_LIMITS: ServiceGraphLimits = { maxEdges: 2_000, edgeTtlMs: 3_600_000, maxFutureMs: 60_000 };

/** Calls are kept in spans of this many ms. */
export const CALL_RESOLUTION_MS = 10_000;
/** How many spans are kept: an hour. */
const SPANS = 360;
/** How often calls that are too old are looked for (ms). */
const SWEEP_MS = 10_000;

/** Whether a reading tells of any call: zero is evidence, but no edge. */
const isCall = ({ requests = 0, failed = 0, latency }: CallReading): boolean => requests > 0 || failed > 0 || (latency?.count ?? 0) > 0;

/** The calls of one pair of services by one source: a ring of spans, by their number since the epoch. */
class Edge {
  readonly client: ServiceName;
  readonly server: ServiceName;
  readonly kind: CallKind;
  readonly source: CallSource;
  seenAt = -Infinity;
  /** The newest span; all that are older by `SPANS` or more are gone. */
  #newest = -1;
  readonly #heard = new Uint8Array(SPANS);
  readonly #requests = new Float32Array(SPANS);
  readonly #failed = new Float32Array(SPANS);
  readonly #latencyMs = new Float32Array(SPANS);
  readonly #timed = new Float32Array(SPANS);

  constructor({ client, server, kind }: CallReading, source: CallSource) {
    this.client = client;
    this.server = server;
    this.kind = kind;
    this.source = source;
  }

  /** How many spans something was heard of in. */
  get length(): number {
    return this.#heard.reduce((sum, heard) => sum + heard, 0);
  }

  /** Beginning of the newest span (ms). */
  get newestAt(): number {
    return this.#newest * CALL_RESOLUTION_MS;
  }

  add(reading: CallReading): void {
    const { t, requests = 0, failed = 0, latency } = reading;
    const span = Math.floor(t / CALL_RESOLUTION_MS);
    if (span > this.#newest) {
      const fresh = Math.min(SPANS, span - this.#newest);
      for (let i = 0; i < fresh; i++) this.#clear((span - i) % SPANS);
      this.#newest = span;
    } else if (span <= this.#newest - SPANS) return;
    const slot = span % SPANS;
    this.#heard[slot] = 1;
    this.#requests[slot] = (this.#requests[slot] ?? 0) + requests;
    this.#failed[slot] = (this.#failed[slot] ?? 0) + failed;
    this.#latencyMs[slot] = (this.#latencyMs[slot] ?? 0) + (latency?.sumMs ?? 0);
    this.#timed[slot] = (this.#timed[slot] ?? 0) + (latency?.count ?? 0);
    // Counters are told of for as long as their sender lives, long after the last call.
    if (isCall(reading)) this.seenAt = Math.max(this.seenAt, t);
  }

  /** Forgets everything: our own clock was set back, and what it has is of the future. */
  reset(): void {
    this.#heard.fill(0);
    this.#newest = -1;
    this.seenAt = -Infinity;
  }

  points(since: number): CallPoint[] {
    const points: CallPoint[] = [];
    const first = Math.max(this.#newest - SPANS + 1, Math.floor(since / CALL_RESOLUTION_MS), 0);
    for (let span = first; span <= this.#newest; span++) {
      const slot = span % SPANS;
      if (this.#heard[slot] !== 1) continue;
      const timed = this.#timed[slot] ?? 0;
      const requests = this.#requests[slot] ?? 0;
      points.push({
        t: span * CALL_RESOLUTION_MS,
        requests,
        // Sources tell of requests and failures apart, and one may be ahead by a reading.
        failed: Math.min(requests, this.#failed[slot] ?? 0),
        latencyMs: timed > 0 ? (this.#latencyMs[slot] ?? 0) / timed : undefined,
      });
    }
    return points;
  }

  #clear(slot: number): void {
    this.#heard[slot] = 0;
    this.#requests[slot] = 0;
    this.#failed[slot] = 0;
    this.#latencyMs[slot] = 0;
    this.#timed[slot] = 0;
  }
}

/**
 * Who calls whom, and how that went, over the last hour: in memory and bounded. A pair of services that several sources tell
 * of is taken from the one that knows it for longest. When there are too many, new ones are refused, never those
 * that are known: what is known must not be pushed out by names that somebody makes up.
 */
export class ServiceGraphStore implements ServiceGraph, CallSink {
  readonly limits: ServiceGraphLimits;
  readonly #clock: Clock;
  readonly #edges = new Map<string, Edge>();
  readonly #refused = new Map<CallRefusal, number>();
  #version = 0;
  #sweptAt = -Infinity;

  constructor(clock: Clock, limits: Partial<ServiceGraphLimits> = {}) {
    this.#clock = clock;
    this.limits = { ...DEFAULT_SERVICE_GRAPH_LIMITS, ...limits };
  }

  get version(): number {
    this.#sweep();
    return this.#version;
  }

  /** How many calls are kept, each source apart. */
  get size(): number {
    return this.#edges.size;
  }

  /** How much was refused since the start, by reason. */
  refused(): Readonly<Partial<Record<CallRefusal, number>>> {
    return Object.fromEntries(this.#refused);
  }

  recordCalls(source: CallSource, reading: CallReading): CallRefusal | undefined {
    const now = this.#clock.now();
    const { client, server, kind, t, requests = 0, failed = 0, latency } = reading;
    const numbers = [requests, failed, latency?.sumMs ?? 0, latency?.count ?? 0];
    if (!Number.isFinite(t) || !numbers.every(Number.isFinite)) return this.#refuse("not-finite");
    if (numbers.some((n) => n < 0) || client.name === "" || server.name === "") return this.#refuse("invalid");
    if (t > now + this.limits.maxFutureMs) return this.#refuse("future");
    if (t < now - this.limits.edgeTtlMs) return this.#refuse("too-old");
    const key = JSON.stringify([source, kind, client.namespace, client.name, server.namespace, server.name]);
    let edge = this.#edges.get(key);
    if (edge === undefined) {
      if (!isCall(reading)) return undefined;
      if (this.#edges.size >= this.limits.maxEdges) this.#sweep();
      if (this.#edges.size >= this.limits.maxEdges) return this.#refuse("edge-limit");
      edge = new Edge(reading, source);
      this.#edges.set(key, edge);
      this.#version++;
    }
    if (edge.newestAt > now + this.limits.maxFutureMs) edge.reset();
    edge.add({ ...reading, t: Math.min(t, now) });
    return undefined;
  }

  calls(): readonly ObservedCall[] {
    this.#sweep();
    const best = new Map<string, Edge>();
    for (const edge of this.#edges.values()) {
      const { kind, client, server } = edge;
      const key = JSON.stringify([kind, client.namespace, client.name, server.namespace, server.name]);
      const other = best.get(key);
      if (other === undefined || edge.length > other.length) best.set(key, edge);
    }
    return [...best.values()];
  }

  #sweep(): void {
    const now = this.#clock.now();
    if (Math.abs(now - this.#sweptAt) < SWEEP_MS) return;
    this.#sweptAt = now;
    for (const [key, { seenAt }] of this.#edges) {
      if (seenAt >= now - this.limits.edgeTtlMs && seenAt <= now + this.limits.maxFutureMs) continue;
      this.#edges.delete(key);
      this.#version++;
    }
  }

  #refuse(reason: CallRefusal): CallRefusal {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
    return reason;
  }
}
