import type { OtlpLimits } from "./model.ts";
import { PeerAttributes, type RawSpan, SPAN_KINDS, type TracesRequest } from "./traces-model.ts";
import { decoding, Wire } from "./wire.ts";

const ERROR = 2;

/**
 * Decodes an ExportTraceServiceRequest from protobuf by hand: the fields of spans that a service graph needs, and of spans
 * within a process nothing. Field numbers are those of opentelemetry-proto 1.x.
 *
 * @throws NightshiftError `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeTracesProtobuf(body: Uint8Array, limits: OtlpLimits): TracesRequest {
  return decoding(() => new Decoder(body, limits).request());
}

class Decoder extends Wire {
  /** Where the attributes of the span at hand begin and end, in turn; used anew for each. */
  readonly #attributes: number[] = [];

  request(): TracesRequest {
    let internal = 0;
    const resources = this.itemsByResource((end) => {
      const span = this.#span(end);
      if (span === undefined) internal++;
      return span;
    });
    return { resources: resources.map(({ identity, items }) => ({ identity, spans: items })), internal, overLimit: this.tally.overLimit };
  }

  /** Undefined for a span within a process. */
  #span(end: number): RawSpan | undefined {
    const attributes = this.#attributes;
    attributes.length = 0;
    let traceId = "";
    let spanId = "";
    let parentSpanId = "";
    let kindNumber = 0;
    let start = 0;
    let stop = 0;
    let failed = false;
    this.fields(end, (field) => {
      switch (field) {
        case 1:
          traceId = this.hex();
          return true;
        case 2:
          spanId = this.hex();
          return true;
        case 4:
          parentSpanId = this.hex();
          return true;
        case 6:
          kindNumber = this.varint();
          return true;
        case 7:
          start = this.unsigned64() / 1e6;
          return true;
        case 8:
          stop = this.unsigned64() / 1e6;
          return true;
        case 9: {
          // The kind may come after them: they are read once it is known to be wanted.
          const to = this.end();
          if (attributes.length < 2 * this.limits.maxAttributes) attributes.push(this.reader.pos, to);
          this.reader.pos = to;
          return true;
        }
        case 15:
          this.fields(this.end(), (inner) => {
            if (inner !== 3) return false;
            failed = this.varint() === ERROR;
            return true;
          });
          return true;
        default:
          return false;
      }
    });
    const kind = SPAN_KINDS[kindNumber];
    if (kind === undefined) return undefined;
    const peer = new PeerAttributes(this.limits);
    for (let i = 0; i < attributes.length; i += 2) {
      this.reader.pos = attributes[i] ?? end;
      this.keyValue(attributes[i + 1] ?? end, (key, value) => peer.add(key, value), PeerAttributes.wants);
    }
    this.reader.pos = end;
    return { traceId, spanId, parentSpanId, kind, start, stop, failed, peer: peer.finish() };
  }
}
