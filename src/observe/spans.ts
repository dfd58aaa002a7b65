/** What a call's span says of the side that it was recorded on. `Producer` and `Consumer` are the sides of a queue. */
export type SpanKind = "Server" | "Client" | "Producer" | "Consumer";

/** Whom a span names as its other side; each as the sender wrote it. */
export interface SpanPeer {
  /** `service.peer.name`, or the older `peer.service`: the other side's `service.name`. */
  readonly service?: string;
  /** `server.address`, or the older `net.peer.name`: name or address that was called. */
  readonly address?: string;
  /** `db.system.name`, or the older `db.system`: what kind of database was called. */
  readonly dbSystem?: string;
  /** `db.namespace`, or the older `db.name`. */
  readonly dbName?: string;
  /** `messaging.system`. */
  readonly messagingSystem?: string;
  /** `messaging.destination.name`: the queue or topic. */
  readonly destination?: string;
}

/**
 * One span of a call, cut down to what a service graph needs. The client's span of a call is the parent of the server's: the
 * server's `parentSpanId` is the client's `spanId` in the same trace. In the same way a consumer's parent is its producer's.
 */
export interface Span {
  /** 32 hexadecimal digits, in lower case. */
  readonly traceId: string;
  /** 16 hexadecimal digits, in lower case. */
  readonly spanId: string;
  /** Undefined for the first span of a trace. */
  readonly parentSpanId: string | undefined;
  readonly kind: SpanKind;
  /** The workload that recorded it, as Kubernetes or else the sender itself calls it. */
  readonly service: string;
  /** Its namespace; `default` where the sender names none. */
  readonly namespace: string;
  /** The replica's uid, where the sender names it. */
  readonly instanceId: string | undefined;
  /** Milliseconds since the epoch, by the sender's clock; at most a minute ahead of ours. */
  readonly start: number;
  /** Milliseconds, at least 0. */
  readonly durationMs: number;
  /** Its status is `ERROR`. */
  readonly failed: boolean;
  readonly peer: SpanPeer;
}

/** Where spans of calls go. Each request's are handed over at once, as it is decoded; whoever keeps them bounds them. */
export interface SpanSink {
  recordSpans(spans: readonly Span[]): void;
}
