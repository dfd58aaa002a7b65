import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import * as fc from "fast-check";
import { NightshiftError } from "../../api/errors.ts";
import type { TargetRef } from "../../api/meta.ts";
import type { Clock } from "../../ports/clock.ts";
import { FAILED_REQUESTS } from "../exemplars.ts";
import { LATENCY_RELATIVE_ERROR } from "../latency.ts";
import { TelemetryStore } from "../store.ts";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "./model.ts";
import { decodeMetrics, OtlpReceiver, type IngestResult, type OtlpEncoding } from "./receiver.ts";

const START = 1_800_000_000_000;
const payments: TargetRef = { kind: "Workload", namespace: "shop", name: "payments" };

interface Attribute {
  readonly key: string;
  readonly value: { stringValue?: string; intValue?: string; boolValue?: boolean; doubleValue?: number };
}
interface ExemplarJson {
  timeUnixNano: string;
  asDouble?: number;
  asInt?: string;
  traceId?: string;
}
interface NumberPointJson {
  exemplars?: ExemplarJson[];
  attributes?: Attribute[];
  startTimeUnixNano?: string;
  timeUnixNano: string;
  asDouble?: number | string;
  asInt?: string | number;
  flags?: number;
}
interface HistogramPointJson {
  sum?: number;
  exemplars?: ExemplarJson[];
  attributes?: Attribute[];
  startTimeUnixNano?: string;
  timeUnixNano: string;
  count: string;
  bucketCounts?: string[];
  explicitBounds?: number[];
  max?: number;
}
interface ExponentialPointJson {
  sum?: number;
  exemplars?: ExemplarJson[];
  attributes?: Attribute[];
  startTimeUnixNano?: string;
  timeUnixNano: string;
  count: string;
  scale: number;
  zeroCount?: string;
  positive?: { offset: number; bucketCounts: string[] };
}
interface SummaryPointJson {
  attributes?: Attribute[];
  startTimeUnixNano?: string;
  timeUnixNano: string;
  count: string;
  sum: number;
  quantileValues?: { quantile: number; value: number }[];
}
interface MetricJson {
  name: string;
  unit?: string;
  gauge?: { dataPoints: NumberPointJson[] };
  sum?: { dataPoints: NumberPointJson[]; aggregationTemporality: number | string; isMonotonic?: boolean };
  histogram?: { dataPoints: HistogramPointJson[]; aggregationTemporality: number | string };
  exponentialHistogram?: { dataPoints: ExponentialPointJson[]; aggregationTemporality: number | string };
  summary?: { dataPoints: SummaryPointJson[] };
}

const nano = (ms: number): string => `${ms}000000`;
const text = (key: string, stringValue: string): Attribute => ({ key, value: { stringValue } });
const int = (key: string, intValue: number): Attribute => ({ key, value: { intValue: String(intValue) } });

function requestJson(metrics: MetricJson[], uid = "uid-1", scope = "test"): object {
  const identity = [text("service.name", "payments"), text("service.namespace", "shop"), text("host.name", "h")];
  return {
    resourceMetrics: [
      {
        resource: { attributes: [...identity, ...(uid === "" ? [] : [text("service.instance.id", uid)])] },
        scopeMetrics: [{ scope: { name: scope }, metrics }],
      },
    ],
  };
}

/** The same message in protobuf, written from the field numbers of opentelemetry-proto, not from the decoder. */
function toProtobuf(request: object): Uint8Array {
  const w = new BinaryWriter();
  const attributes = (field: number, list: Attribute[] = []): void => {
    for (const { key, value } of list) {
      w.uint32((field << 3) | 2).fork();
      w.uint32(10).string(key).uint32(18).fork();
      if (value.stringValue !== undefined) w.uint32(10).string(value.stringValue);
      if (value.boolValue !== undefined) w.uint32(16).bool(value.boolValue);
      if (value.intValue !== undefined) w.uint32(24).int64(value.intValue);
      if (value.doubleValue !== undefined) w.uint32(33).double(value.doubleValue);
      w.join().join();
    }
  };
  const times = (start: number, time: number, p: { startTimeUnixNano?: string; timeUnixNano: string }): void => {
    if (p.startTimeUnixNano !== undefined) w.uint32((start << 3) | 1).fixed64(p.startTimeUnixNano);
    w.uint32((time << 3) | 1).fixed64(p.timeUnixNano);
  };
  const exemplars = (field: number, list: ExemplarJson[] = []): void => {
    for (const { timeUnixNano, asDouble, asInt, traceId } of list) {
      w.uint32((field << 3) | 2).fork();
      w.uint32(17).fixed64(timeUnixNano);
      if (asDouble !== undefined) w.uint32(25).double(asDouble);
      if (asInt !== undefined) w.uint32(49).sfixed64(asInt);
      if (traceId !== undefined) w.uint32(34).bytes(Buffer.alloc(8)).uint32(42).bytes(Buffer.from(traceId, "hex"));
      attributes(7, [text("filtered", "x")]);
      w.join();
    }
  };
  const root = request as {
    resourceMetrics: { resource: { attributes: Attribute[] }; scopeMetrics: { scope: { name: string }; metrics: MetricJson[] }[] }[];
  };
  for (const resource of root.resourceMetrics) {
    w.uint32(10).fork();
    w.uint32(10).fork();
    attributes(1, resource.resource.attributes);
    w.join();
    for (const scope of resource.scopeMetrics) {
      w.uint32(18).fork();
      w.uint32(10).fork().uint32(10).string(scope.scope.name).join();
      for (const metric of scope.metrics) {
        w.uint32(18).fork();
        w.uint32(10).string(metric.name).uint32(18).string("a description that is skipped");
        if (metric.unit !== undefined) w.uint32(26).string(metric.unit);
        const numbers = metric.gauge ?? metric.sum;
        if (numbers) {
          w.uint32(((metric.gauge ? 5 : 7) << 3) | 2).fork();
          for (const p of numbers.dataPoints) {
            w.uint32(10).fork();
            times(2, 3, p);
            if (p.asDouble !== undefined) w.uint32(33).double(Number(p.asDouble));
            if (p.asInt !== undefined) w.uint32(49).sfixed64(p.asInt);
            attributes(7, p.attributes);
            exemplars(5, p.exemplars);
            if (p.flags !== undefined) w.uint32(64).uint32(p.flags);
            w.join();
          }
          if (metric.sum) {
            w.uint32(16).int32(Number(metric.sum.aggregationTemporality));
            w.uint32(24).bool(metric.sum.isMonotonic ?? false);
          }
          w.join();
        }
        if (metric.histogram) {
          w.uint32((9 << 3) | 2).fork();
          for (const p of metric.histogram.dataPoints) {
            w.uint32(10).fork();
            times(2, 3, p);
            w.uint32(33)
              .fixed64(p.count)
              .uint32(41)
              .double(p.sum ?? 1);
            w.uint32(50).fork();
            for (const count of p.bucketCounts ?? []) w.fixed64(count);
            w.join().uint32(58).fork();
            for (const bound of p.explicitBounds ?? []) w.double(bound);
            w.join();
            attributes(9, p.attributes);
            exemplars(8, p.exemplars);
            if (p.max !== undefined) w.uint32((12 << 3) | 1).double(p.max);
            w.join();
          }
          w.uint32(16).int32(Number(metric.histogram.aggregationTemporality)).join();
        }
        if (metric.summary) {
          w.uint32((11 << 3) | 2).fork();
          for (const p of metric.summary.dataPoints) {
            w.uint32(10).fork();
            times(2, 3, p);
            w.uint32(33).fixed64(p.count).uint32(41).double(p.sum);
            for (const q of p.quantileValues ?? []) w.uint32(50).fork().uint32(9).double(q.quantile).uint32(17).double(q.value).join();
            attributes(7, p.attributes);
            w.join();
          }
          w.join();
        }
        if (metric.exponentialHistogram) {
          w.uint32((10 << 3) | 2).fork();
          for (const p of metric.exponentialHistogram.dataPoints) {
            w.uint32(10).fork();
            attributes(1, p.attributes);
            exemplars(11, p.exemplars);
            times(2, 3, p);
            w.uint32(33).fixed64(p.count).uint32(48).sint32(p.scale);
            if (p.sum !== undefined) w.uint32(41).double(p.sum);
            if (p.zeroCount !== undefined) w.uint32(57).fixed64(p.zeroCount);
            if (p.positive) {
              w.uint32(66).fork().uint32(8).sint32(p.positive.offset).uint32(18).fork();
              for (const count of p.positive.bucketCounts) w.uint64(count);
              w.join().join();
            }
            w.join();
          }
          w.uint32(16).int32(Number(metric.exponentialHistogram.aggregationTemporality)).join();
        }
        w.join();
      }
      w.join();
    }
    w.join();
  }
  return w.finish();
}

function encode(request: object, encoding: OtlpEncoding): Uint8Array {
  return encoding === "protobuf" ? toProtobuf(request) : Buffer.from(JSON.stringify(request));
}

function setup(encoding: OtlpEncoding, limits: Partial<OtlpLimits> = {}, maxStreams?: number) {
  const time = { now: START };
  const clock: Clock = { now: () => time.now, monotonic: () => time.now, after: () => () => {} };
  const store = new TelemetryStore(clock);
  const receiver = new OtlpReceiver({ sink: store, clock, limits, ...(maxStreams === undefined ? {} : { maxStreams }) });
  const send = (metrics: MetricJson[], uid?: string, scope?: string): IngestResult =>
    receiver.receive(encode(requestJson(metrics, uid, scope), encoding), encoding);
  return { time, store, receiver, send };
}

const duration = (points: HistogramPointJson[], temporality: 1 | 2 = 2): MetricJson => ({
  name: "http.server.request.duration",
  unit: "s",
  histogram: { dataPoints: points, aggregationTemporality: temporality },
});
/** A point at `s` seconds whose requests all took 10 to 20 ms. */
const requests = (s: number, count: number, status = 200, start = START - 1_000_000): HistogramPointJson => ({
  attributes: [text("http.request.method", "GET"), int("http.response.status_code", status)],
  startTimeUnixNano: nano(start),
  timeUnixNano: nano(START + s * 1_000),
  count: String(count),
  bucketCounts: ["0", String(count), "0"],
  explicitBounds: [0.01, 0.02],
});

for (const encoding of ["protobuf", "json"] as const)
  describe(`OTLP metrics in ${encoding}`, () => {
    it("a gauge is a reading of the replica, doubles and 64-bit integers, negative and large", () => {
      const { store, send } = setup(encoding);
      const at = (name: string, point: Partial<NumberPointJson>): MetricJson => ({
        name,
        gauge: { dataPoints: [{ timeUnixNano: nano(START), ...point }] },
      });
      const result = send([
        at("d", { asDouble: 1.5 }),
        at("big", { asInt: "9007199254740991" }),
        at("neg", { asInt: "-5" }),
        at("large", { asInt: String(5 * 2 ** 32 + 7) }),
        at("negative-large", { asInt: String(-5 * 2 ** 32 - 7) }),
        at("zero", { asInt: "0" }),
      ]);
      assert.deepEqual(result, { accepted: 6, rejected: 0, message: "" });
      const value = (metric: string) => store.replicaSeries("uid-1", metric, 0)[0]?.v;
      assert.deepEqual(["d", "big", "neg", "large", "negative-large", "zero"].map(value), [
        1.5,
        9007199254740991,
        -5,
        5 * 2 ** 32 + 7,
        -5 * 2 ** 32 - 7,
        0,
      ]);
      assert.deepEqual(store.replicaSeries("uid-1", "d", 0), [{ t: START, v: 1.5 }]);
    });

    it("attribute sets are one series each, whatever the order of their attributes, and are summed", () => {
      const { store, send } = setup(encoding);
      const point = (attributes: Attribute[], v: number, s: number): NumberPointJson => ({
        attributes,
        timeUnixNano: nano(START + s * 1_000),
        asDouble: v,
      });
      const a = text("a", "1");
      const b = int("b", 2);
      send([{ name: "m", gauge: { dataPoints: [point([a, b], 1, -10), point([a], 10, -10), point([], 100, -10)] } }]);
      send([{ name: "m", gauge: { dataPoints: [point([b, a], 2, 0), point([a], 20, 0), point([], 200, 0)] } }]);
      assert.equal(store.seriesCount, 3);
      assert.deepEqual(
        store.replicaSeries("uid-1", "m", 0).map(({ v }) => v),
        [111, 222],
      );
    });

    it("values of different types are different attributes", () => {
      const { store, send } = setup(encoding);
      const values = [{ stringValue: "1" }, { intValue: "1" }, { boolValue: true }, { stringValue: "true" }];
      send([
        {
          name: "m",
          gauge: { dataPoints: values.map((value) => ({ attributes: [{ key: "k", value }], timeUnixNano: nano(START), asInt: "1" })) },
        },
      ]);
      assert.equal(store.seriesCount, 4);
    });

    it("a non-monotonic cumulative sum is a level; of differences it has none and is refused", () => {
      const { store, send } = setup(encoding);
      const sum = (aggregationTemporality: number): MetricJson => ({
        name: `m${aggregationTemporality}`,
        sum: { aggregationTemporality, dataPoints: [{ timeUnixNano: nano(START), asInt: "7" }] },
      });
      assert.equal(send([sum(2)]).rejected, 0);
      assert.equal(store.replicaSeries("uid-1", "m2", 0)[0]?.v, 7);
      assert.match(send([sum(1)]).message, /1 unsupported/);
      assert.match(send([sum(0)]).message, /1 unsupported/);
    });

    it("a rate of differences counts in a sum until the next collection: an SDK says nothing of what was not added to", () => {
      const { store, send, time } = setup(encoding);
      const at = (s: number, ...points: [string, number][]): void => {
        time.now = START + s * 1_000;
        const dataPoints = points.map(([kind, value]) => ({
          attributes: [text("kind", kind)],
          startTimeUnixNano: nano(time.now - 10_000),
          timeUnixNano: nano(time.now),
          asInt: String(value),
        }));
        assert.equal(send([{ name: "c", sum: { aggregationTemporality: 1, isMonotonic: true, dataPoints } }]).rejected, 0);
      };
      at(0, ["ok", 100], ["failed", 500]);
      at(10, ["ok", 100]);
      at(20, ["ok", 100]);
      assert.deepEqual(
        store.replicaSeries("uid-1", "c", 0).map(({ v }) => v),
        [60, 10, 10],
      );
    });

    it("workers of one container are told apart by their process ids, which are numbers", () => {
      const resource = (pid: number) => ({ attributes: [text("k8s.pod.uid", "u"), int("process.pid", pid)] });
      const point = { timeUnixNano: nano(START), asInt: "1" };
      const scopeMetrics = [{ scope: { name: "s" }, metrics: [{ name: "m", gauge: { dataPoints: [point] } }] }];
      const request = { resourceMetrics: [7, 8, 7].map((pid) => ({ resource: resource(pid), scopeMetrics })) };
      const { resources } = decodeMetrics(encode(request, encoding), encoding);
      const [first, second, third] = resources.map(({ process }) => process);
      assert.notEqual(first, second);
      assert.equal(first, third);
    });

    it("a counter is kept as its rate, through resets by start time and by a drop", () => {
      const { store, send, time } = setup(encoding);
      const at = (s: number, value: number, start: number): void => {
        time.now = START + s * 1_000;
        const point = { startTimeUnixNano: nano(start), timeUnixNano: nano(time.now), asInt: String(value) };
        assert.equal(send([{ name: "c", sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: [point] } }]).rejected, 0);
      };
      at(0, 1_000, START - 100_000); // the baseline: of unknown age
      at(10, 1_050, START - 100_000); // 5/s
      at(20, 1_250, START + 15_000); // another life, of 5 s: 250/s, though its count is larger
      at(30, 20, START + 15_000); // a drop without another start: all 20 are new since the start, 15 s ago
      assert.deepEqual(
        store.replicaSeries("uid-1", "c", 0).map(({ t, v }) => [(t - START) / 1_000, v]),
        [
          [10, 5],
          [20, 250],
          [30, 20 / 15],
        ],
      );
    });

    it("requests are the differences of a cumulative histogram; the first point of unknown age is a baseline", () => {
      const { store, send, time } = setup(encoding);
      send([duration([requests(0, 1_000), requests(0, 70, 500)])]);
      assert.equal(store.requests(payments, 0), undefined);
      time.now += 10_000;
      send([duration([requests(10, 1_100), requests(10, 75, 503)])]);
      const stats = store.requests(payments, 0);
      // 503 is another attribute set, first seen in a later collection of a replica that is known: all 75 are new.
      assert.deepEqual([stats?.total, stats?.failed, stats?.seenAt], [175, 75, START + 10_000]);
      assert.ok(Math.abs((stats?.p99Ms ?? 0) - 19.9) / 19.9 < 2 * LATENCY_RELATIVE_ERROR, String(stats?.p99Ms));
      assert.deepEqual(store.answers("uid-1"), { heardAt: START + 10_000, answeredAt: START + 10_000 });
      time.now += 10_000;
      send([duration([requests(20, 1_100), requests(20, 75, 503)])]);
      assert.deepEqual(store.answers("uid-1"), { heardAt: START + 20_000, answeredAt: START + 10_000 });
    });

    it("the first point counts in full when the process began after the receiver did", () => {
      const { store, send, time } = setup(encoding);
      time.now += 10_000;
      send([duration([requests(10, 40, 200, START + 1_000)])]);
      assert.equal(store.requests(payments, 0)?.total, 40);
    });

    it("a set first seen in the same collection as its replica is a baseline, also in a later batch", () => {
      const { store, send } = setup(encoding);
      send([duration([requests(0, 1_000)])]);
      send([duration([requests(0, 50, 500)])]);
      assert.equal(store.requests(payments, 0), undefined);
    });

    it("observations of any histogram and summary, and their sum, are rates while somebody looks at them; resets count in full", () => {
      const { store, send, time } = setup(encoding);
      const names = ["h", "e", "s"].flatMap((name) => [`${name}.count`, `${name}.sum`]);
      const at = (s: number, count: number, start = -1_000): void => {
        time.now = START + s * 1_000;
        const point = {
          startTimeUnixNano: nano(START + start * 1_000),
          timeUnixNano: nano(time.now),
          count: String(count),
          sum: count / 2,
        };
        const result = send([
          { name: "h", histogram: { aggregationTemporality: 2, dataPoints: [point] } },
          {
            name: "e",
            exponentialHistogram: { aggregationTemporality: 2, dataPoints: [{ ...point, scale: 0, zeroCount: String(count) }] },
          },
          { name: "s", summary: { dataPoints: [{ ...point, quantileValues: [{ quantile: 0.5, value: 1 }] }] } },
        ]);
        assert.deepEqual([result.accepted, result.rejected], [3, 0]);
      };
      const look = () => names.map((name) => store.replicaSeries("uid-1", name, 0).map(({ t, v }) => [(t - START) / 1_000, v]));
      at(0, 100);
      assert.equal(store.seriesCount, 0, "nobody looks");
      assert.deepEqual(look().flat(), []);
      at(10, 150);
      at(20, 170);
      at(30, 40, 25);
      for (const [i, series] of look().entries())
        assert.deepEqual(
          series,
          (i % 2 === 0 ? [2, 8] : [1, 4]).map((v, n) => [20 + n * 10, v]),
          names[i],
        );
    });

    it("the newest traces of exemplars are kept as evidence: of readings, of rates, and of failed requests of either kind", () => {
      const { store, send, time } = setup(encoding);
      const id = (n: number): string => n.toString(16).padStart(32, "0");
      const example = (n: number, s: number): ExemplarJson => ({ timeUnixNano: nano(START + s * 1_000), asDouble: 0.5, traceId: id(n) });
      const gauge = (s: number, exemplars: ExemplarJson[]): MetricJson => ({
        name: "g",
        gauge: { dataPoints: [{ timeUnixNano: nano(START + s * 1_000), asDouble: 1, exemplars }] },
      });
      send([gauge(0, [example(1, -2), example(2, -1), { timeUnixNano: nano(START), asInt: "1" }])]);
      const exponential = (s: number, count: number, attributes: Attribute[], exemplars: ExemplarJson[]): MetricJson => ({
        name: "http.server.request.duration",
        unit: "s",
        exponentialHistogram: {
          aggregationTemporality: 1,
          dataPoints: [
            { attributes, timeUnixNano: nano(START + s * 1_000), count: String(count), scale: 0, zeroCount: String(count), exemplars },
          ],
        },
      });
      time.now += 10_000;
      assert.equal(
        send([
          gauge(10, [example(3, 9), example(4, 10)]),
          duration(
            [
              { ...requests(10, 5, 200), exemplars: [example(5, 9)] },
              { ...requests(10, 5, 500), exemplars: [example(6, 9)] },
            ],
            1,
          ),
          exponential(11, 2, [text("error.type", "timeout")], [example(7, 10)]),
          exponential(11, 2, [], [example(8, 10)]),
        ]).rejected,
        0,
      );
      assert.deepEqual(store.traces("uid-1", "g", 0), [id(4), id(3), id(2)]);
      assert.deepEqual(store.traces("uid-1", "g", START + 1), [id(4), id(3)]);
      assert.deepEqual(store.traces("uid-1", FAILED_REQUESTS, 0), [id(7), id(6)]);
      assert.deepEqual(store.traces("uid-2", "g", 0), []);
    });

    it("duplicates and reordered points of a cumulative histogram count once; a reset counts in full", () => {
      const { store, send, time } = setup(encoding);
      time.now = START + 60_000;
      send([duration([requests(0, 100)])]);
      send([duration([requests(10, 150)])]);
      send([duration([requests(10, 150)])]);
      send([duration([requests(5, 120)])]);
      assert.equal(store.requests(payments, 0)?.total, 50);
      send([duration([requests(20, 155)])]);
      assert.equal(store.requests(payments, 0)?.total, 55);
      send([duration([requests(30, 160, 200, START + 25_000)])]);
      assert.equal(store.requests(payments, 0)?.total, 215, "the start time moved: all 160 are of the new life");
      send([duration([requests(40, 5, 200, START + 25_000)])]);
      assert.equal(store.requests(payments, 0)?.total, 220, "the count fell: all 5 are new");
    });

    it("goes on counting after our clock was set back", () => {
      const { store, send, time } = setup(encoding);
      time.now = START + 7_200_000;
      send([duration([requests(7_200, 100)])]);
      time.now = START + 20_000;
      send([duration([requests(10, 150)])]);
      send([duration([requests(20, 157)])]);
      assert.equal(store.requests(payments, 0)?.total, 7);
    });

    it("what the platform measures itself cannot be written by others", () => {
      const clock: Clock = { now: () => START, monotonic: () => START, after: () => () => {} };
      const store = new TelemetryStore(clock);
      const receiver = new OtlpReceiver({ sink: store, clock, reserved: ["memory"] });
      const gauge = (name: string): MetricJson => ({ name, gauge: { dataPoints: [{ timeUnixNano: nano(START), asInt: "7" }] } });
      const result = receiver.receive(encode(requestJson([gauge("memory"), gauge("memory.used")]), encoding), encoding);
      assert.deepEqual([result.accepted, result.rejected, receiver.refused()], [1, 1, { reserved: 1 }]);
      assert.deepEqual(store.replicaSeries("uid-1", "memory", 0), []);
    });

    it("two instrumentations that count under the same name are two streams", () => {
      const { store, send, time } = setup(encoding);
      for (const s of [0, 10]) {
        time.now = START + s * 1_000;
        send([duration([requests(s, 1_000 + s)])], "uid-1", "http");
        send([duration([requests(s, 10 + s)])], "uid-1", "undici");
      }
      assert.equal(store.requests(payments, 0)?.total, 20);
    });

    it("differences are added up, each once, also out of order", () => {
      const { store, send, time } = setup(encoding);
      time.now = START + 60_000;
      for (const s of [10, 30, 20, 20, 10]) send([duration([requests(s, s)], 1)]);
      assert.equal(store.requests(payments, 0)?.total, 60);
    });

    it("replicas of a workload are added up", () => {
      const { store, send, time } = setup(encoding);
      for (const uid of ["a", "b"]) send([duration([requests(0, 10)])], uid);
      time.now += 10_000;
      for (const uid of ["a", "b"]) send([duration([requests(10, 15)])], uid);
      assert.equal(store.requests(payments, 0)?.total, 10);
    });

    it("error.type is a failure too", () => {
      const { store, send } = setup(encoding);
      send([duration([{ ...requests(0, 3), attributes: [text("error.type", "ECONNRESET")] }], 1)]);
      assert.deepEqual([store.requests(payments, 0)?.total, store.requests(payments, 0)?.failed], [3, 3]);
    });

    it("exponential histograms, also across a change of scale", () => {
      const { store, send, time } = setup(encoding);
      const at = (s: number, count: number, scale: number, offset: number, bucketCounts: string[]): MetricJson => ({
        name: "http.server.request.duration",
        unit: "s",
        exponentialHistogram: {
          aggregationTemporality: 2,
          dataPoints: [
            {
              startTimeUnixNano: nano(START - 1_000_000),
              timeUnixNano: nano(START + s * 1_000),
              count: String(count),
              scale,
              positive: { offset, bucketCounts },
            },
          ],
        },
      });
      // Scale 1: base √2. Index -4 is (0.25 s, 0.354 s], index -3 (0.354, 0.5]; at scale 0 both are index -2.
      send([at(0, 30, 1, -4, ["10", "20"])]);
      time.now += 10_000;
      send([at(10, 90, 0, -2, ["90"])]);
      const stats = store.requests(payments, 0);
      assert.equal(stats?.total, 60);
      assert.ok((stats?.p99Ms ?? 0) > 480 && (stats?.p99Ms ?? 0) < 520, String(stats?.p99Ms));
    });

    it("NaN, infinities, the future and 1970 are refused by the point, the rest is kept", () => {
      const { store, send } = setup(encoding);
      const point = (s: number, asDouble: number | string): NumberPointJson => ({ timeUnixNano: nano(START + s * 1_000), asDouble });
      const result = send([
        {
          name: "m",
          gauge: {
            dataPoints: [
              point(0, 1),
              point(-1, "NaN"),
              point(-2, "Infinity"),
              point(-3, "-Infinity"),
              point(3_600, 1),
              { timeUnixNano: "1000000", asDouble: 1 },
              { timeUnixNano: nano(START - 4_000) },
            ],
          },
        },
      ]);
      assert.equal(result.accepted, 1);
      assert.equal(result.rejected, 6);
      for (const reason of [/3 not-finite/, /1 future/, /1 too-old/, /1 invalid/]) assert.match(result.message, reason);
      assert.deepEqual(store.replicaSeries("uid-1", "m", 0), [{ t: START, v: 1 }]);
    });

    it("a point from the future does not stop its stream", () => {
      const { store, send, time } = setup(encoding);
      send([duration([requests(0, 100)])]);
      assert.match(send([duration([requests(3_000, 500)])]).message, /future/);
      time.now += 10_000;
      send([duration([requests(10, 110)])]);
      assert.equal(store.requests(payments, 0)?.total, 10);
    });

    it("a histogram whose numbers contradict each other is refused", () => {
      const { store, send } = setup(encoding);
      const bad: Partial<HistogramPointJson>[] = [
        { bucketCounts: ["1"] },
        { bucketCounts: ["1", "0", "0"] },
        { explicitBounds: [0.02, 0.01] },
        { explicitBounds: [0.01, 0.02, 0.03] },
      ];
      for (const fault of bad)
        assert.match(send([duration([{ ...requests(0, 5), ...fault }], 1)]).message, /1 invalid/, JSON.stringify(fault));
      assert.equal(store.requests(payments, 0), undefined);
    });

    it("a mark that there is no value is accepted and changes nothing", () => {
      const { store, send } = setup(encoding);
      assert.equal(send([{ name: "m", gauge: { dataPoints: [{ timeUnixNano: nano(START), asDouble: 0, flags: 1 }] } }]).rejected, 0);
      assert.deepEqual(store.replicaSeries("uid-1", "m", 0), []);
    });

    it("what Kubernetes calls a process stands above what the process calls itself", () => {
      const { store, receiver } = setup(encoding);
      const own = requestJson([
        { name: "m", gauge: { dataPoints: [{ timeUnixNano: nano(START), asDouble: 7 }] } },
        duration([requests(0, 3)], 1),
      ]) as { resourceMetrics: { resource: { attributes: Attribute[] } }[] };
      own.resourceMetrics[0]?.resource.attributes.push(
        text("k8s.pod.uid", "pod-uid"),
        text("k8s.namespace.name", "prod"),
        text("k8s.deployment.name", "pay"),
      );
      assert.equal(receiver.receive(encode(own, encoding), encoding).rejected, 0);
      assert.deepEqual(store.replicaSeries("uid-1", "m", 0), []);
      assert.deepEqual(
        store.replicaSeries("pod-uid", "m", 0).map(({ v }) => v),
        [7],
      );
      assert.equal(store.requests(payments, 0), undefined);
      assert.equal(store.requests({ kind: "Deployment", namespace: "prod", name: "pay" }, 0)?.total, 3);
    });

    it("points without service.instance.id are refused", () => {
      const { send } = setup(encoding);
      assert.match(
        send([{ name: "m", gauge: { dataPoints: [{ timeUnixNano: nano(START), asDouble: 0 }] } }], "").message,
        /1 no-instance-id/,
      );
    });

    it("points, attributes and streams over the limits are refused, not the rest", () => {
      const point = (attributes: Attribute[] = []): NumberPointJson => ({ attributes, timeUnixNano: nano(START), asDouble: 1 });
      const many = setup(encoding, { maxPoints: 2 });
      assert.match(many.send([{ name: "m", gauge: { dataPoints: [point(), point(), point(), point()] } }]).message, /2 point-limit/);
      const wide = setup(encoding, { maxAttributes: 2, maxTextLength: 40 });
      const result = wide.send([
        { name: "m", gauge: { dataPoints: [point([1, 2, 3].map((i) => int(`k${i}`, i))), point([text("a", "x".repeat(41))]), point()] } },
        { name: "n".repeat(41), gauge: { dataPoints: [point()] } },
      ]);
      assert.deepEqual([result.accepted, result.rejected], [1, 3]);
      const streams = setup(encoding, {}, 1);
      assert.match(streams.send([duration([requests(0, 1), requests(0, 1, 500)])]).message, /1 stream-limit/);
      const items = setup(encoding, { maxItems: 5 });
      const metrics = Array.from({ length: 10 }, (_, i) => ({ name: `m${i}`, gauge: { dataPoints: [point()] } }));
      assert.throws(() => items.send(metrics), { code: "TOO_MANY_ITEMS" });
    });

    it("metrics that are not wanted are not decoded", () => {
      const body = encode(
        requestJson([
          { name: "a", gauge: { dataPoints: [] } },
          { name: "b", gauge: { dataPoints: [] } },
        ]),
        encoding,
      );
      const decoded = decodeMetrics(body, encoding, DEFAULT_OTLP_LIMITS, (name) => name === "b");
      assert.deepEqual(
        decoded.resources[0]?.metrics.map(({ name }) => name),
        ["b"],
      );
    });
  });

describe("OTLP/JSON", () => {
  it("takes integers as numbers, enumerations as names, null as absent, and ignores what it does not know", () => {
    const { store, receiver } = setup("json");
    const body = {
      resourceMetrics: [
        {
          resource: { attributes: [text("service.instance.id", "u"), { key: "x", value: { newValue: 1 } }], droppedAttributesCount: 3 },
          scopeMetrics: [
            {
              scope: null,
              metrics: [
                {
                  name: "m",
                  unit: null,
                  sum: {
                    aggregationTemporality: "AGGREGATION_TEMPORALITY_CUMULATIVE",
                    isMonotonic: null,
                    dataPoints: [{ timeUnixNano: START * 1e6, asInt: 12, somethingNew: [{}], attributes: null }],
                  },
                  gauge: null,
                },
              ],
            },
          ],
          schemaUrl: 5,
        },
      ],
    };
    assert.deepEqual(receiver.receive(Buffer.from(JSON.stringify(body)), "json"), { accepted: 1, rejected: 0, message: "" });
    assert.deepEqual(store.replicaSeries("u", "m", 0), [{ t: START, v: 12 }]);
  });

  it("nested attribute values are canonical, and too deep ones are refused", () => {
    const { store, receiver } = setup("json");
    const value = (values: object[]): object => ({ kvlistValue: { values } });
    const send = (attribute: object): IngestResult =>
      receiver.receive(
        Buffer.from(
          JSON.stringify(
            requestJson([
              {
                name: "m",
                gauge: {
                  dataPoints: [{ timeUnixNano: nano(START), asInt: 1, attributes: [{ key: "k", value: attribute }] as Attribute[] }],
                },
              },
            ]),
          ),
        ),
        "json",
      );
    send(value([text("a", "1"), text("b", "2")]));
    send(value([text("b", "2"), text("a", "1")]));
    assert.equal(store.seriesCount, 1);
    let deep: object = { stringValue: "x" };
    for (let i = 0; i < 12; i++) deep = { arrayValue: { values: [deep] } };
    assert.throws(() => send(deep), { code: "TOO_DEEP" });
  });

  it("what is no request is refused as a whole, with a code", () => {
    const { receiver } = setup("json");
    const cases: [string | Uint8Array, string][] = [
      ["", "MALFORMED_JSON"],
      ["{", "MALFORMED_JSON"],
      ["[]", "MALFORMED_OTLP"],
      ["null", "MALFORMED_OTLP"],
      ["1", "MALFORMED_OTLP"],
      ['{"resourceMetrics":{}}', "MALFORMED_OTLP"],
      ['{"resourceMetrics":[null]}', "MALFORMED_OTLP"],
      ['{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":5}]}]}]}', "MALFORMED_OTLP"],
      ['{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":"1e5"}]}}]}]}]}', "MALFORMED_OTLP"],
      ['{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":1.5}]}}]}]}]}', "MALFORMED_OTLP"],
      ['{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"count":"-1"}]}}]}]}]}', "MALFORMED_OTLP"],
      ["[".repeat(100_000), "TOO_DEEP"],
      ['{"a":'.repeat(100_000), "TOO_DEEP"],
      [Uint8Array.of(0x22, 0xff, 0x22), "MALFORMED_JSON"],
    ];
    for (const [body, code] of cases)
      assert.throws(() => receiver.receive(Buffer.from(body as string), "json"), { code }, String(body).slice(0, 60));
  });

  it("brackets inside of texts do not count as depth", () => {
    const { receiver } = setup("json");
    const body = JSON.stringify({ resourceMetrics: [], note: `${"[".repeat(1_000)}"\\${"{".repeat(1_000)}` });
    assert.equal(receiver.receive(Buffer.from(body), "json").rejected, 0);
  });
});

describe("OTLP/protobuf", () => {
  it("what is no request is refused as a whole", () => {
    const { receiver } = setup("protobuf");
    const bad: number[][] = [
      [0x0a], // a length is missing
      [0x0a, 0x05, 0x00], // shorter than it says
      [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], // 4 GiB
      [0x08, 0x01], // resource_metrics as a number
      [0x00], // field 0
      [0x0e], // wire type 6
      [0x0c], // the end of no group
      [0x0a, 0x02, 0x12, 0x05], // an inner message longer than the outer one
      Array.from({ length: 1_000 }, () => 0x80), // a number without an end
      Array.from({ length: 100_000 }, () => 0x23), // 100,000 groups in each other
    ];
    for (const body of bad)
      assert.throws(() => receiver.receive(Uint8Array.from(body), "protobuf"), { code: "MALFORMED_OTLP" }, String(body.slice(0, 8)));
  });

  it("attribute values nested in each other 10,000 deep do not exhaust the stack", () => {
    const w = new BinaryWriter();
    const depth = 10_000;
    for (let i = 0; i < 3; i++) w.uint32(i === 0 ? 10 : 18).fork();
    w.uint32(10).string("m").uint32(42).fork().uint32(10).fork().uint32(58).fork().uint32(10).string("k").uint32(18).fork();
    for (let i = 0; i < depth; i++) w.uint32(42).fork().uint32(10).fork();
    for (let i = 0; i < depth * 2; i++) w.join();
    for (let i = 0; i < 7; i++) w.join();
    const { receiver } = setup("protobuf");
    assert.throws(() => receiver.receive(w.finish(), "protobuf"), { code: "TOO_DEEP" });
  });

  it("unknown fields are skipped, and an empty request is one", () => {
    const { receiver } = setup("protobuf");
    assert.equal(receiver.receive(new Uint8Array(0), "protobuf").accepted, 0);
    const w = new BinaryWriter();
    w.raw(toProtobuf(requestJson([{ name: "m", gauge: { dataPoints: [{ timeUnixNano: nano(START), asInt: 1 }] } }])));
    w.uint32((99 << 3) | 2)
      .string("unknown")
      .uint32((98 << 3) | 0)
      .uint32(5)
      .uint32((97 << 3) | 5)
      .fixed32(1)
      .uint32((96 << 3) | 1)
      .fixed64(1);
    assert.equal(receiver.receive(w.finish(), "protobuf").accepted, 1);
  });

  it("unpacked buckets are read like packed ones", () => {
    const w = new BinaryWriter();
    for (const tag of [10, 18, 18]) w.uint32(tag).fork();
    w.uint32(10).string("h").uint32(74).fork().uint32(10).fork();
    w.uint32(33).fixed64(3).uint32(49).fixed64(1).uint32(49).fixed64(2).uint32(57).double(0.5);
    w.join().uint32(16).int32(1).join().join().join().join();
    const [metric] = decodeMetrics(w.finish(), "protobuf").resources[0]?.metrics ?? [];
    assert.ok(metric?.kind === "Histogram");
    assert.deepEqual([metric.points[0]?.counts, metric.points[0]?.bounds, metric.temporality], [[1, 2], [0.5], "Delta"]);
  });
});

describe("fuzzing the decoders", () => {
  const sample = requestJson([
    { name: "m", gauge: { dataPoints: [{ attributes: [text("a", "b"), int("c", -1)], timeUnixNano: nano(START), asInt: "-7" }] } },
    { name: "c", sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: [{ timeUnixNano: nano(START), asDouble: 1.5 }] } },
    duration([requests(0, 10), requests(0, 5, 500)]),
    {
      name: "http.server.request.duration",
      exponentialHistogram: {
        aggregationTemporality: 1,
        dataPoints: [{ timeUnixNano: nano(START), count: "3", scale: 2, positive: { offset: -3, bucketCounts: ["1", "2"] } }],
      },
    },
  ]);

  /** Either it is taken, or it is refused by a NightshiftError; anything else is a fault. */
  function survives(body: Uint8Array, encoding: OtlpEncoding): void {
    const { receiver } = setup(encoding);
    try {
      const result = receiver.receive(body, encoding);
      assert.ok(result.accepted >= 0 && result.rejected >= 0 && (result.rejected === 0) === (result.message === ""));
    } catch (error) {
      if (!(error instanceof NightshiftError)) throw error;
    }
  }

  for (const encoding of ["protobuf", "json"] as const) {
    it(`any bytes as ${encoding}`, () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 400 }), (body) => survives(body, encoding)),
        { numRuns: 2_000 },
      );
    });

    it(`a valid message with mutations as ${encoding}`, () => {
      const valid = encode(sample, encoding);
      assert.ok(setup(encoding).receiver.receive(valid, encoding).accepted > 0);
      const mutation = fc.oneof(
        fc.record({ op: fc.constant("set" as const), at: fc.nat(valid.length - 1), byte: fc.nat(255) }),
        fc.record({ op: fc.constant("cut" as const), at: fc.nat(valid.length - 1), byte: fc.nat(40) }),
        fc.record({ op: fc.constant("insert" as const), at: fc.nat(valid.length - 1), byte: fc.nat(255) }),
      );
      fc.assert(
        fc.property(fc.array(mutation, { minLength: 1, maxLength: 6 }), (mutations) => {
          const body = [...valid];
          for (const { op, at, byte } of mutations) {
            if (op === "set") body[at % Math.max(1, body.length)] = byte;
            else if (op === "cut") body.splice(at, byte);
            else body.splice(at, 0, byte);
          }
          survives(Uint8Array.from(body), encoding);
        }),
        { numRuns: 3_000 },
      );
    });
  }

  it("any JSON in the place of any part", () => {
    fc.assert(
      fc.property(fc.nat(60), fc.jsonValue({ maxDepth: 4 }), (at, value) => {
        let n = 0;
        const body = JSON.stringify(sample, (_, part: unknown) => (n++ === at ? value : part));
        survives(Buffer.from(body), "json");
      }),
      { numRuns: 2_000 },
    );
  });
});
