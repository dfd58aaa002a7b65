import assert from "node:assert/strict";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "../../../src/observe/otlp/model.ts";
import { decodeTracesJson } from "../../../src/observe/otlp/traces-json.ts";
import type { TracesRequest } from "../../../src/observe/otlp/traces-model.ts";
import { decodeTracesProtobuf } from "../../../src/observe/otlp/traces-protobuf.ts";
import { TraceReceiver } from "../../../src/observe/otlp/traces.ts";
import type { Span } from "../../../src/observe/spans.ts";
import { fuzzedJson } from "../json.ts";
import { fuzzedProtobuf } from "../protobuf.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const NOW = 1_800_000_000_000;
const LIMITS: OtlpLimits = { ...DEFAULT_OTLP_LIMITS, maxPoints: 40, maxItems: 40, maxAttributes: 16, maxTextLength: 64, maxValueDepth: 4 };
const CODES = new Set(["MALFORMED_OTLP", "TOO_DEEP", "TOO_MANY_ITEMS"]);
const clock = { now: () => NOW, monotonic: () => 0, after: () => () => {} };

function holds(request: TracesRequest): void {
  const spans = request.resources.flatMap((resource) => resource.spans);
  assert.ok(request.resources.length <= LIMITS.maxItems);
  assert.ok(spans.length + request.internal <= LIMITS.maxPoints);
  for (const { start, stop, peer } of spans) {
    assert.ok(Number.isFinite(start) && start >= 0 && Number.isFinite(stop) && stop >= 0, `from ${start} to ${stop}`);
    for (const text of Object.values(peer)) assert.ok(typeof text === "string" && text.length <= LIMITS.maxTextLength);
  }
}

function receive(input: Uint8Array, encoding: "protobuf" | "json", request: TracesRequest): void {
  const spans: Span[] = [];
  const receiver = new TraceReceiver({ sink: { recordSpans: (more) => void spans.push(...more) }, clock, limits: LIMITS });
  const { accepted, rejected, message } = receiver.receive(input, encoding);
  const all = request.resources.reduce((sum, resource) => sum + resource.spans.length, request.internal + request.overLimit);
  assert.equal(accepted + rejected, all);
  assert.equal(rejected > 0, message !== "");
  assert.ok(spans.length <= accepted);
}

const protobufSeeds = seedsOf("otlp-traces-protobuf");
export const otlpTracesProtobuf: FuzzTarget = {
  name: "otlp-traces-protobuf",
  seeds: protobufSeeds,
  inputs: fuzzedProtobuf(protobufSeeds),
  check: (input) =>
    decoded(
      CODES,
      () => decodeTracesProtobuf(input, LIMITS),
      (request) => {
        holds(request);
        receive(input, "protobuf", request);
      },
    ),
};

const jsonSeeds = seedsOf("otlp-traces-json");
export const otlpTracesJson: FuzzTarget = {
  name: "otlp-traces-json",
  seeds: jsonSeeds,
  inputs: fuzzedJson(jsonSeeds, ["SPAN_KIND_CLIENT", "STATUS_CODE_ERROR", "parentSpanId"]),
  check: (input) =>
    decoded(
      new Set([...CODES, "MALFORMED_JSON"]),
      () => decodeTracesJson(input, LIMITS),
      (request) => {
        holds(request);
        receive(input, "json", request);
      },
    ),
};
