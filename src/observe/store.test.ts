import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import type { TargetRef } from "../api/meta.ts";
import type { Clock } from "../ports/clock.ts";
import { LATENCY_RELATIVE_ERROR, LatencyHistogram } from "./latency.ts";
import { REQUEST_RESOLUTION_MS, TelemetryStore, type TelemetryLimits } from "./store.ts";

const START = 1_800_000_000_000;
const MINUTE = 60_000;

function setup(limits: Partial<TelemetryLimits> = {}): { store: TelemetryStore; time: { now: number }; clock: Clock } {
  const time = { now: START };
  const clock: Clock = { now: () => time.now, monotonic: () => time.now - START, after: () => () => {} };
  return { store: new TelemetryStore(clock, limits), time, clock };
}

const payments: TargetRef = { kind: "Workload", namespace: "default", name: "payments" };

describe("readings of a replica", () => {
  it("come back ordered by time, each time once, from `since` on", () => {
    const { store } = setup();
    for (const [t, v] of [
      [-30_000, 3],
      [-10_000, 1],
      [-20_000, 2],
      [-10_000, 7],
    ] as const)
      assert.equal(store.recordReplica("r", "memory", "", { t: START + t, v }), undefined);
    assert.deepEqual(store.replicaSeries("r", "memory", 0), [
      { t: START - 30_000, v: 3 },
      { t: START - 20_000, v: 2 },
      { t: START - 10_000, v: 7 },
    ]);
    assert.deepEqual(store.replicaSeries("r", "memory", START - 20_000), [
      { t: START - 20_000, v: 2 },
      { t: START - 10_000, v: 7 },
    ]);
  });

  it("are empty for what nobody reported", () => {
    const { store } = setup();
    store.recordReplica("r", "memory", "", { t: START, v: 1 });
    assert.deepEqual(store.replicaSeries("other", "memory", 0), []);
    assert.deepEqual(store.replicaSeries("r", "other", 0), []);
  });

  it("that are no numbers, from 1970 or from the future are refused and counted", () => {
    const { store } = setup();
    const at = (t: number, v: number) => store.recordReplica("r", "m", "", { t, v });
    assert.equal(at(START, Number.NaN), "not-finite");
    assert.equal(at(START, Number.POSITIVE_INFINITY), "not-finite");
    assert.equal(at(Number.NaN, 1), "not-finite");
    assert.equal(at(0, 1), "too-old");
    assert.equal(at(START + MINUTE + 1, 1), "future");
    assert.equal(store.seriesCount, 0, "what is refused makes no series");
    const refused = store.refused();
    assert.deepEqual([refused["not-finite"], refused["too-old"], refused.future], [3, 1, 1]);
  });

  it("of a clock that is a little ahead get the time of their arrival", () => {
    const { store } = setup();
    assert.equal(store.recordReplica("r", "m", "", { t: START + 30_000, v: 1 }), undefined);
    assert.deepEqual(store.replicaSeries("r", "m", 0), [{ t: START, v: 1 }]);
  });

  it("that come too late are refused", () => {
    const { store } = setup();
    store.recordReplica("r", "m", "", { t: START, v: 1 });
    assert.equal(store.recordReplica("r", "m", "", { t: START - 6 * MINUTE, v: 1 }), "late");
    assert.equal(store.replicaSeries("r", "m", 0).length, 1);
  });

  it("older than the retention are not shown", () => {
    const { store, time } = setup();
    store.recordReplica("r", "m", "", { t: START, v: 1 });
    time.now += 61 * MINUTE;
    assert.deepEqual(store.replicaSeries("r", "m", 0), []);
  });

  it("of several attribute sets are summed, a set that fell silent counts until the look-back ends", () => {
    const { store, time } = setup();
    const at = (s: number, key: string, v: number) => store.recordReplica("r", "m", key, { t: START + s * 1_000, v });
    time.now = START + 20 * MINUTE;
    at(0, "a", 1);
    at(0, "b", 10);
    at(10, "a", 2);
    at(10, "b", 20);
    at(20, "a", 3);
    at(400, "a", 4);
    const sums = [
      { t: START, v: 11 },
      { t: START + 10_000, v: 22 },
      { t: START + 20_000, v: 23 },
      { t: START + 400_000, v: 4 },
    ];
    assert.deepEqual(store.replicaSeries("r", "m", 0), sums);
    assert.deepEqual(store.replicaSeries("r", "m", START + 15_000), sums.slice(2), "a value from before `since` still holds");
  });

  it("beyond the ring push out the oldest, and a full ring refuses what is older than all of it", () => {
    const { store, time } = setup({ maxPointsPerSeries: 20 });
    for (let i = 0; i < 50; i++) {
      time.now += 1_000;
      store.recordReplica("r", "m", "", { t: time.now, v: i });
    }
    const series = store.replicaSeries("r", "m", 0);
    assert.deepEqual(
      series.map((s) => s.v),
      Array.from({ length: 20 }, (_, i) => 30 + i),
    );
    assert.equal(store.recordReplica("r", "m", "", { t: time.now - 25_000, v: 1 }), "late");
    assert.equal(store.recordReplica("r", "m", "", { t: time.now - 4_500, v: 99 }), undefined);
    assert.deepEqual(
      store.replicaSeries("r", "m", 0).map((s) => s.v),
      [31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 99, 45, 46, 47, 48, 49],
    );
  });

  it("are the same as a sorted map keeps, in whatever order they arrive", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer()), { maxLength: 120 }),
        fc.integer({ min: 3, max: 150 }),
        (points, capacity) => {
          const { store } = setup({ maxPointsPerSeries: capacity });
          const model = new Map<number, number>();
          for (const [s, v] of points) {
            const t = START - s * 1_000;
            const kept = store.recordReplica("r", "m", "", { t, v }) === undefined;
            const oldest = Math.min(...model.keys());
            assert.equal(kept, model.has(t) || model.size < capacity || t > oldest);
            if (!kept) continue;
            if (!model.has(t) && model.size === capacity) model.delete(oldest);
            model.set(t, v);
          }
          const expected = [...model].sort(([a], [b]) => a - b).map(([t, v]) => ({ t, v }));
          assert.deepEqual(store.replicaSeries("r", "m", 0), expected);
        },
      ),
    );
  });
});

describe("a clock that is set back", () => {
  const HOUR = 60 * MINUTE;
  it("makes neither old readings the newest nor new ones late", () => {
    const { store, time } = setup();
    for (let i = 0; i < 60; i++) store.recordReplica("r", "memory", "", { t: START - (60 - i) * 1000, v: 100 });
    time.now = START - 2 * HOUR;
    assert.deepEqual(store.replicaSeries("r", "memory", 0), [], "from a time that is yet to come");
    assert.equal(store.recordReplica("r", "memory", "", { t: time.now, v: 1 }), undefined);
    assert.equal(store.recordReplica("r", "memory", "", { t: time.now - 1000, v: 2 }), undefined);
    assert.deepEqual(
      store.replicaSeries("r", "memory", 0).map(({ v }) => v),
      [2, 1],
    );
  });
  it("a little, as NTP does, loses nothing", () => {
    const { store, time } = setup();
    store.recordReplica("r", "memory", "", { t: START, v: 1 });
    time.now = START - 5_000;
    assert.equal(store.recordReplica("r", "memory", "", { t: time.now, v: 2 }), undefined);
    assert.equal(store.replicaSeries("r", "memory", 0).length, 2);
  });
  it("neither stops the counting of requests nor keeps what is yet to come", () => {
    const { store, time } = setup();
    store.recordRequests(payments, "Router", { t: START, total: 100, failed: 100 });
    time.now = START - 2 * HOUR;
    assert.equal(store.requests(payments, time.now - MINUTE), undefined);
    assert.equal(store.recordRequests(payments, "Router", { t: time.now, total: 5, failed: 0 }), undefined);
    assert.deepEqual(store.requests(payments, time.now - MINUTE), { total: 5, failed: 0, seenAt: time.now });
  });
});

describe("bounds", () => {
  it("no more series than allowed; a replica that is forgotten makes place", () => {
    const { store } = setup({ maxSeries: 3 });
    for (const key of ["a", "b", "c"]) assert.equal(store.recordReplica("r1", "m", key, { t: START, v: 1 }), undefined);
    assert.equal(store.recordReplica("r2", "m", "", { t: START, v: 1 }), "series-limit");
    assert.equal(store.recordReplica("r1", "m", "a", { t: START, v: 2 }), undefined, "a series that exists goes on");
    assert.equal(store.refused()["series-limit"], 1);
    store.forgetReplica("r1");
    assert.equal(store.seriesCount, 0);
    assert.equal(store.pointCapacity, 0);
    assert.equal(store.recordReplica("r2", "m", "", { t: START, v: 1 }), undefined);
  });

  it("series that fell silent make place by themselves", () => {
    const { store, time } = setup({ maxSeries: 2 });
    store.recordReplica("r1", "m", "", { t: START, v: 1 });
    store.recordReplica("r2", "m", "", { t: START, v: 1 });
    time.now += 61 * MINUTE;
    assert.equal(store.recordReplica("r3", "m", "", { t: time.now, v: 1 }), undefined);
    assert.equal(store.seriesCount, 1);
  });

  it("when memory is used up series keep their newest, and new ones are refused", () => {
    const { store, time } = setup({ maxPoints: 40 });
    for (let i = 0; i < 100; i++) {
      time.now += 1_000;
      store.recordReplica("r", "m", "", { t: time.now, v: i });
    }
    assert.ok(store.pointCapacity <= 40);
    const series = store.replicaSeries("r", "m", 0);
    assert.equal(series.at(-1)?.v, 99);
    assert.ok(series.length >= 16);
    assert.equal(store.recordReplica("r2", "m", "", { t: time.now, v: 1 }), "memory-limit");
  });

  it("no more workloads than allowed", () => {
    const { store } = setup({ maxWorkloads: 1 });
    assert.equal(store.recordRequests(payments, "Router", { t: START, total: 1, failed: 0 }), undefined);
    assert.equal(store.recordRequests({ ...payments, name: "b" }, "Router", { t: START, total: 1, failed: 0 }), "workload-limit");
  });

  it("10,000 series of 240 readings stay small", () => {
    const { store, time } = setup();
    for (let i = 0; i < 240; i++) {
      time.now += 15_000;
      for (let s = 0; s < 10_000; s++) store.recordReplica(`replica-${s}`, "memory", "", { t: time.now, v: i });
    }
    assert.equal(store.seriesCount, 10_000);
    assert.equal(store.replicaSeries("replica-4711", "memory", 0).length, 240);
    assert.ok(store.pointCapacity * 16 < 48_000_000, `${store.pointCapacity * 16} bytes`);
  });
});

function add(store: TelemetryStore, source: "Router" | "Otlp", t: number, total: number, failed = 0, ms?: number): void {
  let latency: LatencyHistogram | undefined;
  if (ms !== undefined) {
    latency = new LatencyHistogram();
    latency.add(ms, total);
  }
  assert.equal(store.recordRequests(payments, source, { t, total, failed, ...(latency ? { latency } : {}) }), undefined);
}

describe("requests to a workload", () => {
  it("are undefined when nothing was heard, and zero when the source says zero", () => {
    const { store } = setup();
    assert.equal(store.requests(payments, 0), undefined);
    add(store, "Router", START - 10_000, 0);
    assert.deepEqual(store.requests(payments, START - 20_000), { total: 0, failed: 0, seenAt: START - 10_000 });
    assert.equal(store.requests(payments, START - 5_000), undefined);
  });

  it("are added up over the span, with the 99th percentile of all of it", () => {
    const { store } = setup();
    add(store, "Router", START - 3_000, 50, 1, 10);
    add(store, "Router", START - 1_000, 49, 2, 20);
    add(store, "Router", START - 2_000, 1, 1, 900);
    const stats = store.requests(payments, START - 5_000);
    assert.deepEqual([stats?.total, stats?.failed, stats?.seenAt], [100, 4, START - 1_000]);
    assert.ok(stats?.p99Ms !== undefined && Math.abs(stats.p99Ms - 20) / 20 <= LATENCY_RELATIVE_ERROR, `${stats?.p99Ms}`);
    assert.equal(store.requests(payments, START - 1_000 + REQUEST_RESOLUTION_MS), undefined);
  });

  it("that are older than ten minutes are kept in spans of ten seconds, and add up to the same", () => {
    const { store, time } = setup();
    // Twenty replicas, each of which reports every ten seconds at a time of its own.
    for (let t = START; t < START + 60 * MINUTE; t += 500) {
      time.now = t;
      add(store, "Otlp", t, 10, t % 10_000 === 0 ? 1 : 0, t < START + 20 * MINUTE ? 10 : 100);
    }
    const stats = store.requests(payments, START);
    assert.deepEqual([stats?.total, stats?.failed, stats?.seenAt], [72_000, 360, time.now]);
    const quickest = store.requests(payments, START)?.p99Ms ?? 0;
    assert.ok(Math.abs(quickest - 100) / 100 <= LATENCY_RELATIVE_ERROR, `${quickest}`);
    const points = store.requestSeries(payments, 0, REQUEST_RESOLUTION_MS);
    const gaps = points.slice(1).map(({ t }, i) => t - (points[i]?.t ?? 0));
    assert.deepEqual([...new Set(gaps)], [10_000, 500]);
    const fineFrom = points[gaps.indexOf(500)]?.t ?? Infinity;
    assert.ok(fineFrom <= time.now - 10 * MINUTE && fineFrom > time.now - 11 * MINUTE, `${time.now - fineFrom}`);
    // In spans of ten seconds it is the same from beginning to end.
    const coarse = store.requestSeries(payments, 0, 10_000);
    assert.equal(coarse.length, 360);
    assert.ok(coarse.every(({ requests, failed }) => requests === 200 && failed === 1));
    assert.ok(coarse.every(({ latencyMs = 0 }, i) => Math.abs(latencyMs / (i < 120 ? 10 : 100) - 1) <= LATENCY_RELATIVE_ERROR));
    // Since a time within an old span: from the next one on.
    assert.equal(store.requests(payments, START + 10 * MINUTE + 5_000)?.total, 60_000 - 200);
  });

  it("kind does not matter, namespace does", () => {
    const { store } = setup();
    add(store, "Otlp", START, 5);
    assert.equal(store.requests({ ...payments, kind: "Deployment" }, 0)?.total, 5);
    assert.equal(store.requests({ ...payments, namespace: "other" }, 0), undefined);
  });

  it("come from the router while it is fresh, else from OTLP", () => {
    const { store, time } = setup();
    add(store, "Router", START, 7);
    add(store, "Otlp", START, 5);
    assert.equal(store.requests(payments, START - 60_000)?.total, 7);
    time.now += 20_000;
    add(store, "Otlp", time.now, 5);
    assert.equal(store.requests(payments, START - 60_000)?.total, 10);
  });

  it("with a stale router and no OTLP still are the router's", () => {
    const { store, time } = setup();
    add(store, "Router", START, 7);
    time.now += 20_000;
    assert.equal(store.requests(payments, START - 60_000)?.total, 7);
  });

  it("that contradict themselves, are no numbers, or come from 1970 or the future are refused", () => {
    const { store } = setup();
    const record = (reading: { t: number; total: number; failed: number }) => store.recordRequests(payments, "Otlp", reading);
    assert.equal(record({ t: START, total: 1, failed: 2 }), "invalid");
    assert.equal(record({ t: START, total: -1, failed: -1 }), "invalid");
    assert.equal(record({ t: START, total: Number.NaN, failed: 0 }), "not-finite");
    assert.equal(record({ t: 1_000, total: 1, failed: 0 }), "too-old");
    assert.equal(record({ t: START + 120_000, total: 1, failed: 0 }), "future");
    assert.equal(store.requests(payments, 0), undefined);
  });
});

describe("what a replica says of its answers", () => {
  const workload = { kind: "Workload", namespace: "shop", name: "payments" };

  it("is up to when it was heard of, and when it answered last", () => {
    const { store, time } = setup();
    const at = (s: number, total: number, replica: string): void => {
      time.now = START + s * 1_000;
      store.recordRequests(workload, "Otlp", { t: time.now, total, failed: 0, replica });
    };
    at(0, 0, "a");
    assert.deepEqual(store.answers("a"), { heardAt: START, answeredAt: undefined });
    at(10, 3, "a");
    at(20, 0, "a");
    assert.deepEqual(store.answers("a"), { heardAt: START + 20_000, answeredAt: START + 10_000 });
    assert.equal(store.answers("b"), undefined);
    store.recordRequests(workload, "Router", { t: time.now, total: 9, failed: 0 });
    assert.equal(store.answers("a")?.answeredAt, START + 10_000);
    store.forgetReplica("a");
    assert.equal(store.answers("a"), undefined);
  });

  it("is bounded, and not believed from a future that our clock was set back from", () => {
    const { store, time } = setup({ maxSeries: 2 });
    for (const replica of ["a", "b", "c"]) store.recordRequests(workload, "Otlp", { t: START, total: 1, failed: 0, replica });
    assert.deepEqual(
      ["a", "b", "c"].map((replica) => store.answers(replica) !== undefined),
      [false, true, true],
    );
    time.now -= 5 * MINUTE;
    assert.equal(store.answers("c"), undefined);
  });
});

describe("latencies", () => {
  it("quantiles are within the promised error, also after a merge and over the wire", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.02, max: 3_000_000, noNaN: true }), { minLength: 1, maxLength: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (values, q) => {
          const a = new LatencyHistogram();
          const b = new LatencyHistogram();
          values.forEach((v, i) => (i % 2 === 0 ? a : b).add(v));
          a.merge(b);
          const wire = LatencyHistogram.fromJSON(JSON.parse(JSON.stringify(a)));
          const sorted = values.toSorted((x, y) => x - y);
          const exact = sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0;
          for (const estimate of [a.quantile(q), wire?.quantile(q)])
            assert.ok(
              estimate !== undefined && Math.abs(estimate - exact) <= exact * (LATENCY_RELATIVE_ERROR + 1e-9),
              `${estimate} is not ${exact}`,
            );
        },
      ),
    );
  });

  it("a range is spread evenly", () => {
    const h = new LatencyHistogram();
    h.addRange(100, 200, 1_000);
    assert.ok(Math.abs(h.count - 1_000) < 1e-6);
    for (const [q, ms] of [
      [0.25, 125],
      [0.5, 150],
      [0.99, 199],
    ] as const)
      assert.ok(Math.abs((h.quantile(q) ?? 0) - ms) / ms <= 2 * LATENCY_RELATIVE_ERROR, `${q}: ${h.quantile(q)}`);
  });

  it("nothing has no quantile, and nonsense is ignored", () => {
    const h = new LatencyHistogram();
    h.add(Number.NaN);
    h.add(-1);
    h.add(5, Number.POSITIVE_INFINITY);
    h.addRange(5, 1, 1);
    assert.equal(h.quantile(0.99), undefined);
    h.add(1e12);
    assert.ok((h.quantile(0.5) ?? 0) > 3_500_000);
  });

  it("what the wire brings is checked", () => {
    for (const bad of [
      { offset: 0.5, counts: [1] },
      { offset: 0, counts: [-1] },
      { offset: 0, counts: [Number.NaN] },
      { offset: 1e9, counts: [1] },
      { offset: 0, counts: Array.from({ length: 10_000 }, () => 1) },
    ])
      assert.equal(LatencyHistogram.fromJSON(bad), undefined);
  });
});
