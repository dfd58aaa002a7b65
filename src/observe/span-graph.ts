import type { Clock } from "../ports/clock.ts";
import type { CallKind, CallSink, ServiceName } from "./service-graph.ts";
import type { Span, SpanPeer, SpanSink } from "./spans.ts";

/** How long a span waits for the one of its other side (ms): senders batch, and not at the same moment. */
const WAIT_MS = 10_000;
/** Most spans that wait. Beyond, whoever has waited longest waits no more. */
const MAX_WAITING = 20_000;
/** How long a call is remembered that was counted (ms), and most of them: whoever has had no answer sends its spans again, for five minutes at most in the Collector. */
const REPEATED_MS = 300_000;
const MAX_COUNTED = 50_000;

interface Waiting {
  readonly span: Span;
  /** Monotonic ms. */
  readonly since: number;
}

/**
 * Makes calls of spans, as the Collector's servicegraph connector does: a client's span and the server's that has it as its parent
 * are one call, in whichever order they come; in the same way a producer's and a consumer's. What is called and sends no spans
 * itself is known by what its caller says of it: databases and brokers at once, others when nobody has answered
 * for the other side in ten seconds. A call counts once, however often its spans are delivered. Sampled traces count as what they are: shares and latencies hold, numbers of requests are of the sample.
 */
export class SpanGraph implements SpanSink {
  readonly #graph: CallSink;
  readonly #clock: Clock;
  /** By trace and the caller's span; whoever has waited longest is first. */
  readonly #waiting = new Map<string, Waiting>();
  /** Calls that were counted, by the same key, and when (monotonic ms); the oldest is first. */
  readonly #counted = new Map<string, number>();

  constructor(graph: CallSink, clock: Clock) {
    this.#graph = graph;
    this.#clock = clock;
  }

  /** How many spans wait for their other side. */
  get waiting(): number {
    return this.#waiting.size;
  }

  recordSpans(spans: readonly Span[]): void {
    const now = this.#clock.monotonic();
    for (const span of spans) this.#take(span, now);
    for (const [key, { span, since }] of this.#waiting) {
      if (now - since < WAIT_MS && this.#waiting.size <= MAX_WAITING) break;
      this.#waiting.delete(key);
      this.#alone(key, span, now);
    }
    for (const [key, at] of this.#counted) {
      if (now - at < REPEATED_MS && this.#counted.size <= MAX_COUNTED) break;
      this.#counted.delete(key);
    }
  }

  #take(span: Span, now: number): void {
    const calls = span.kind === "Client" || span.kind === "Producer";
    const caller = calls ? span.spanId : span.parentSpanId;
    if (caller === undefined) return;
    const external = calls ? externalOf(span.peer) : undefined;
    const key = `${span.traceId}/${caller}`;
    const queue = span.kind === "Producer" || span.kind === "Consumer";
    // A producer calls two: its broker, and whoever consumes.
    if (external !== undefined && this.#isFirst(queue ? `${key}/broker` : key, now)) this.#record(span, external, "External", span);
    // A database answers no trace, and so nobody is waited for.
    if (external !== undefined && span.kind === "Client") return;
    if (this.#counted.has(key)) return;
    const other = this.#waiting.get(key)?.span;
    const fits = other !== undefined && other.kind === (queue ? (calls ? "Consumer" : "Producer") : calls ? "Server" : "Client");
    if (!fits) {
      // The same span once more, or a second server behind one client's span: the first waits on.
      if (other === undefined) this.#waiting.set(key, { span, since: now });
      return;
    }
    this.#waiting.delete(key);
    this.#counted.set(key, now);
    const [client, server] = calls ? [span, other] : [other, span];
    this.#record(client, { name: server.service, namespace: server.namespace }, queue ? "Queue" : "Request", server);
  }

  /** Nobody has answered for the other side of a span: a client may have said whom it called. */
  #alone(key: string, span: Span, now: number): void {
    if (span.kind !== "Client") return;
    const { service, address } = span.peer;
    const server = service === undefined ? (address === undefined ? undefined : serviceAt(address)) : { name: service };
    if (server !== undefined && this.#isFirst(key, now)) this.#record(span, server, "External", span);
  }

  /** Whether a call has not been counted yet; it has from now on. */
  #isFirst(key: string, now: number): boolean {
    if (this.#counted.has(key)) return false;
    this.#counted.set(key, now);
    return true;
  }

  /** @param timed whose duration is the call's. */
  #record(client: Span, server: ServiceName, kind: CallKind, timed: Span): void {
    if (client.service === "" || (client.service === server.name && (server.namespace ?? client.namespace) === client.namespace)) return;
    this.#graph.recordCalls("Spans", {
      client: { name: client.service, namespace: client.namespace },
      server,
      kind,
      t: timed.start + timed.durationMs,
      requests: 1,
      failed: client.failed || timed.failed ? 1 : 0,
      latency: { sumMs: timed.durationMs, count: 1 },
    });
  }
}

/** What sends no spans by its kind: a database, or the queue of a broker. */
function externalOf({ service, address, dbSystem, dbName, messagingSystem, destination }: SpanPeer): ServiceName | undefined {
  if (dbSystem !== undefined) {
    if (service !== undefined) return { name: service };
    return address === undefined ? { name: dbName === undefined ? dbSystem : `${dbSystem}/${dbName}` } : serviceAt(address);
  }
  if (messagingSystem === undefined) return undefined;
  return { name: destination === undefined ? messagingSystem : `${messagingSystem}/${destination}` };
}

/** A Service of Kubernetes by its DNS name (`db.shop.svc`, with the cluster's domain or without); anything else stands for itself. */
function serviceAt(address: string): ServiceName {
  const [, name, namespace] = /^([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.|$)/.exec(address) ?? [];
  return name === undefined || namespace === undefined ? { name: address } : { name, namespace };
}
