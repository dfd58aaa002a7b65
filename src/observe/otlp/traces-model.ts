import type { SpanKind, SpanPeer } from "../spans.ts";
import type { AttributeValue, Identity, OtlpLimits } from "./model.ts";

/** By their numbers in OTLP; the others are not of calls between services. */
export const SPAN_KINDS: readonly (SpanKind | undefined)[] = [undefined, undefined, "Server", "Client", "Producer", "Consumer"];

/** A span as it was decoded, before anything of it is believed. */
export interface RawSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty where there is none. */
  readonly parentSpanId: string;
  readonly kind: SpanKind;
  /** Milliseconds since the epoch. */
  readonly start: number;
  readonly stop: number;
  readonly failed: boolean;
  readonly peer: SpanPeer;
}

/** An ExportTraceServiceRequest, cut down to what is read here. */
export interface TracesRequest {
  readonly resources: readonly { readonly identity: Identity; readonly spans: readonly RawSpan[] }[];
  /** Spans within a process: not decoded. */
  readonly internal: number;
  /** Spans over the limit of a request: not decoded. */
  readonly overLimit: number;
}

/** Attributes that name the other side, each with its field and its rank: OpenTelemetry's present name goes before the older. */
const PEER: ReadonlyMap<string, readonly [keyof SpanPeer, number]> = new Map([
  ["service.peer.name", ["service", 1]],
  ["peer.service", ["service", 0]],
  ["server.address", ["address", 1]],
  ["net.peer.name", ["address", 0]],
  ["db.system.name", ["dbSystem", 1]],
  ["db.system", ["dbSystem", 0]],
  ["db.namespace", ["dbName", 1]],
  ["db.name", ["dbName", 0]],
  ["messaging.system", ["messagingSystem", 0]],
  ["messaging.destination.name", ["destination", 0]],
]);
const NO_PEER: SpanPeer = {};

/** Gathers of a span's attributes those that name the other side. Empty and overlong ones name nobody. */
export class PeerAttributes {
  readonly #limits: OtlpLimits;
  #peer: { -readonly [K in keyof SpanPeer]: string } | undefined;
  #ranks: Partial<Record<keyof SpanPeer, number>> = {};

  constructor(limits: OtlpLimits) {
    this.#limits = limits;
  }

  /** Whether this key is one of them. */
  static readonly wants = (key: string): boolean => PEER.has(key);

  add(key: string, value: AttributeValue): void {
    const known = PEER.get(key);
    if (known === undefined || typeof value !== "string" || value === "" || value.length > this.#limits.maxTextLength) return;
    const [field, rank] = known;
    if ((this.#ranks[field] ?? -1) > rank) return;
    this.#ranks[field] = rank;
    this.#peer ??= {};
    this.#peer[field] = value;
  }

  finish(): SpanPeer {
    return this.#peer ?? NO_PEER;
  }
}
