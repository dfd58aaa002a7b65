import { parseJson } from "../json.ts";
import { identityIn, int32, keyValues, list, object, optional, text, unsigned } from "./json-values.ts";
import { type OtlpLimits, Tally } from "./model.ts";
import { PeerAttributes, type RawSpan, SPAN_KINDS, type TracesRequest } from "./traces-model.ts";

/** Of the names that the kinds have in OTLP's proto. */
const KIND_NUMBERS: Readonly<Record<string, number>> = {
  SPAN_KIND_SERVER: 2,
  SPAN_KIND_CLIENT: 3,
  SPAN_KIND_PRODUCER: 4,
  SPAN_KIND_CONSUMER: 5,
};

/**
 * Decodes an ExportTraceServiceRequest from OTLP/JSON, as `decodeJson` does metrics; ids are hexadecimal there, not base64.
 *
 * @throws NightshiftError `MALFORMED_JSON`, `MALFORMED_OTLP`, `TOO_DEEP` or `TOO_MANY_ITEMS`.
 */
export function decodeTracesJson(body: Uint8Array, limits: OtlpLimits): TracesRequest {
  const tally = new Tally(limits);
  const root = object(parseJson(body, limits.maxJsonDepth), "the body");
  let internal = 0;
  const resources = list(root["resourceSpans"], "resourceSpans").map((item) => {
    tally.item();
    const resourceSpans = object(item, "resourceSpans[]");
    const spans: RawSpan[] = [];
    for (const scope of list(resourceSpans["scopeSpans"], "scopeSpans")) {
      tally.item();
      for (const entry of list(object(scope, "scopeSpans[]")["spans"], "spans")) {
        if (!tally.point()) continue;
        const span = spanOf(object(entry, "spans[]"), limits);
        if (span === undefined) internal++;
        else spans.push(span);
      }
    }
    return { identity: identityIn(resourceSpans["resource"], limits), spans };
  });
  return { resources, internal, overLimit: tally.overLimit };
}

function spanOf(span: Readonly<Record<string, unknown>>, limits: OtlpLimits): RawSpan | undefined {
  const kind = SPAN_KINDS[enumerated(span["kind"], "kind", KIND_NUMBERS)];
  if (kind === undefined) return undefined;
  const peer = new PeerAttributes(limits);
  for (const [key, value] of keyValues(span["attributes"], limits, 1)) peer.add(key, value);
  const status = object(optional(span["status"]) ?? {}, "status");
  return {
    traceId: text(span["traceId"], "traceId").toLowerCase(),
    spanId: text(span["spanId"], "spanId").toLowerCase(),
    parentSpanId: text(span["parentSpanId"], "parentSpanId").toLowerCase(),
    kind,
    start: unsigned(span["startTimeUnixNano"], "startTimeUnixNano") / 1e6,
    stop: unsigned(span["endTimeUnixNano"], "endTimeUnixNano") / 1e6,
    failed: enumerated(status["code"], "status.code", { STATUS_CODE_ERROR: 2 }) === 2,
    peer: peer.finish(),
  };
}

/** An enumeration's number, or the number of its name; 0 for a name that nothing here asks for. */
function enumerated(value: unknown, what: string, numbers: Readonly<Record<string, number>>): number {
  if (typeof value === "string" && !/^-?\d+$/.test(value)) return (Object.hasOwn(numbers, value) ? numbers[value] : undefined) ?? 0;
  return int32(value, what);
}
