import assert from "node:assert/strict";
import { decodeJson } from "../../../src/observe/otlp/json.ts";
import { DEFAULT_OTLP_LIMITS, type MetricsRequest, type OtlpLimits } from "../../../src/observe/otlp/model.ts";
import { decodeProtobuf, MetricCaches } from "../../../src/observe/otlp/protobuf.ts";
import { OtlpReceiver } from "../../../src/observe/otlp/receiver.ts";
import { TelemetryStore } from "../../../src/observe/store.ts";
import { fuzzedJson } from "../json.ts";
import { fuzzedProtobuf } from "../protobuf.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const NOW = 1_800_000_000_000;
/** Small ones, so that inputs of some kilobytes reach them. */
const LIMITS: OtlpLimits = {
  ...DEFAULT_OTLP_LIMITS,
  maxPoints: 60,
  maxItems: 40,
  maxAttributes: 16,
  maxTextLength: 64,
  maxBuckets: 32,
  maxValueDepth: 4,
};
const CODES = new Set(["MALFORMED_OTLP", "TOO_DEEP", "TOO_MANY_ITEMS"]);
/** Of all inputs, as in a listener. */
const CACHES = new MetricCaches();
const clock = { now: () => NOW, monotonic: () => 0, after: () => () => {} };

const isTime = (t: number): boolean => Number.isSafeInteger(t) && t >= 0 && t <= 2 ** 64 / 1e6;
const isCount = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= 2 ** 64;

function holds({ resources, overLimit }: MetricsRequest): void {
  const metrics = resources.flatMap((resource) => resource.metrics);
  const points = metrics.flatMap(
    (metric): readonly MetricsRequest["resources"][number]["metrics"][number]["points"][number][] => metric.points,
  );
  assert.ok(resources.length + metrics.length <= LIMITS.maxItems);
  assert.ok(points.length <= LIMITS.maxPoints && isCount(overLimit));
  for (const point of points) {
    assert.ok(isTime(point.t) && isTime(point.start), `times ${point.start} to ${point.t}`);
    assert.ok(
      point.oversized || point.attributesKey.length <= 8 * LIMITS.maxTextLength,
      `attributes of ${point.attributesKey.length} characters`,
    );
    if (!("count" in point)) continue;
    assert.ok(isCount(point.count), "a count that is none");
    if (!("counts" in point)) continue;
    assert.ok(point.counts.every(isCount), "a count that is none");
    assert.ok(point.counts.length <= LIMITS.maxBuckets);
    if ("bounds" in point) assert.ok(point.bounds.length <= LIMITS.maxBuckets);
    else assert.ok(Number.isInteger(point.scale) && Math.abs(point.scale) < 2 ** 32 && Number.isInteger(point.offset));
  }
}

/** A whole request, as a listener hands it over: every point is kept, or refused for a reason. */
function receive(input: Uint8Array, encoding: "protobuf" | "json", points: number): void {
  const store = new TelemetryStore(clock);
  const receiver = new OtlpReceiver({ sink: store, clock, limits: LIMITS });
  const { accepted, rejected, message } = receiver.receive(input, encoding);
  assert.equal(accepted + rejected, points);
  assert.equal(rejected > 0, message !== "");
  // The same once more: nothing that it left behind is in its way.
  assert.equal(((again) => again.accepted + again.rejected)(receiver.receive(input, encoding)), points);
}

const pointsOf = ({ resources, overLimit }: MetricsRequest): number =>
  resources.flatMap(({ metrics }) => metrics).reduce((sum, metric) => sum + metric.points.length, overLimit);

const protobufSeeds = seedsOf("otlp-metrics-protobuf");
export const otlpMetricsProtobuf: FuzzTarget = {
  name: "otlp-metrics-protobuf",
  seeds: protobufSeeds,
  inputs: fuzzedProtobuf(protobufSeeds),
  check: (input) =>
    decoded(
      CODES,
      () => decodeProtobuf(input, LIMITS, () => true),
      (request) => {
        holds(request);
        // Whatever else was decoded before, and also where all of it was.
        for (let i = 0; i < 2; i++)
          assert.deepEqual(
            decodeProtobuf(input, LIMITS, () => true, CACHES),
            request,
          );
        receive(input, "protobuf", pointsOf(request));
      },
    ),
};

const jsonSeeds = seedsOf("otlp-metrics-json");
export const otlpMetricsJson: FuzzTarget = {
  name: "otlp-metrics-json",
  seeds: jsonSeeds,
  inputs: fuzzedJson(jsonSeeds, ["AGGREGATION_TEMPORALITY_DELTA", "bytesValue", "kvlistValue", "arrayValue", "zeroCount"]),
  check: (input) =>
    decoded(
      new Set([...CODES, "MALFORMED_JSON"]),
      () => decodeJson(input, LIMITS, () => true),
      (request) => {
        holds(request);
        receive(input, "json", pointsOf(request));
      },
    ),
};
