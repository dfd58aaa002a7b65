import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { normal, seeded, seriesOf, SHAPES } from "./shapes.ts";
import type { Point } from "./statistics.ts";
import { analyseTrend, bytes, percentText, rate, seconds } from "./trend.ts";

const MB = 1e6;
const LIMIT = 512 * 2 ** 20;
const every = (step: number, count: number, f: (t: number) => number): Point[] =>
  Array.from({ length: count }, (_, i) => ({ t: 1_700_000_000_000 + i * step * 1000, v: f(i * step) }));

describe("shapes", () => {
  const SEEDS = 20;
  // Shapes that carry less evidence than a test at 95% asks for: some of them may be missed, none may be common.
  const HARD = new Map([
    ["leak noisy 60s", 0.4],
    ["leak slow under 12 teeth 60s", 0.5],
    ["leak under 12 teeth 60s", 0.3],
    ["restart then leak 60s", 0.4],
    ["leak AR(1) 86400s", 0.3],
    ["leak slow under 40 teeth 900s", 0.3],
    ["leak slow under 40 teeth 3600s", 0.3],
    ["leak after flat 3/4 86400s", 0.3],
    // A process without memory of where it belongs is no process' memory; it is here as the worst case.
    ["random walk", 0.15],
  ]);
  let wrong = 0;
  let calledLeaks = 0;
  for (const shape of SHAPES) {
    test(`${shape.name}: ${shape.leak ? "a leak" : "no leak"}`, () => {
      const bad: string[] = [];
      for (let seed = 100; seed < 100 + SEEDS; seed++) {
        const result = analyseTrend(seriesOf(shape, seed), { limit: shape.limit });
        if (result.leaking) calledLeaks++;
        if (result.leaking && !shape.leak) wrong++;
        if (result.leaking !== shape.leak) bad.push(`seed ${seed}: ${result.reason}`);
      }
      const allowed = Math.floor((HARD.get(shape.name) ?? (shape.leak ? 0.15 : 0.05)) * SEEDS);
      assert.ok(bad.length <= allowed, `${bad.length} of ${SEEDS} are wrong:\n${bad.join("\n")}`);
    });
  }
  test("what is called a leak with 95% confidence is one in more than 99% of these cases", () => {
    assert.ok(calledLeaks > 1000);
    assert.ok(wrong < 0.01 * calledLeaks, `${wrong} of ${calledLeaks}`);
  });
});

describe("what cannot be told", () => {
  const refused = (samples: readonly Point[], reason: RegExp): void => {
    const result = analyseTrend(samples, { limit: LIMIT });
    assert.equal(result.leaking, false);
    assert.equal(result.secondsToLimit, undefined);
    assert.ok(Number.isFinite(result.slopePerSecond));
    assert.ok(result.confidence >= 0 && result.confidence <= 0.5);
    assert.match(result.reason, reason);
  };
  test("no sample", () => refused([], /no samples/));
  test("one sample", () =>
    refused(
      every(1, 1, () => 5),
      /1 samples are too few/,
    ));
  test("a few samples that rise", () =>
    refused(
      every(1, 7, (t) => t * MB),
      /7 samples are too few/,
    ));
  test("many samples in a short time", () =>
    refused(
      every(0.1, 60, (t) => 50 * MB + t * MB),
      /too short/,
    ));
  test("only NaN, infinite and negative readings", () =>
    refused(
      every(1, 100, (t) => [NaN, Infinity, -Infinity, -1][t % 4] ?? NaN),
      /no sample is a usable number/,
    ));
  test("constant", () =>
    refused(
      every(15, 240, () => 100 * MB),
      /constant at 100\.0 MB over 60 min/,
    ));
  test("all samples at one time", () =>
    refused(
      Array.from({ length: 50 }, (_, i) => ({ t: 1000, v: i })),
      /1 samples are too few/,
    ));
  test("times that are not numbers", () =>
    refused(
      every(1, 50, (t) => t).map((p) => ({ ...p, t: NaN })),
      /no sample is a usable/,
    ));
});

describe("numbers", () => {
  test("a clean leak: slope, seconds to the limit and span are exact", () => {
    const result = analyseTrend(
      every(15, 241, (t) => 100 * MB + 20_000 * t),
      { limit: 500 * MB },
    );
    assert.equal(result.leaking, true);
    assert.ok(Math.abs(result.slopePerSecond - 20_000) < 1);
    // 172 MB at the end, 328 MB to go.
    assert.ok(Math.abs((result.secondsToLimit ?? 0) - 328e6 / 20_000) < 60, `${result.secondsToLimit}`);
    assert.match(result.reason, /20\.0 kB\/s over 59 min, from 100\.0 MB to 170\.7 MB.*limit of 500\.0 MB is reached in 4\.6 h/);
  });
  test("time to the limit counts from now, and is 0 beyond the limit", () => {
    const samples = every(15, 241, (t) => 100 * MB + 20_000 * t);
    const end = samples.at(-1)?.t ?? 0;
    const then = analyseTrend(samples, { limit: 500 * MB, now: end });
    const later = analyseTrend(samples, { limit: 500 * MB, now: end + 60_000 });
    assert.ok(Math.abs((then.secondsToLimit ?? 0) - (later.secondsToLimit ?? 0) - 60) < 1);
    assert.equal(analyseTrend(samples, { limit: 150 * MB }).secondsToLimit, 0);
  });
  test("teeth whose floor has ceased to rise are a cache that is full", () => {
    const teeth = (floors: readonly number[]): Point[] =>
      every(15, 32 * floors.length + 1, (t) => {
        const tooth = Math.min(floors.length - 1, Math.floor(t / 480));
        return (100 + (floors[tooth] ?? 0) + (40 * (t % 480)) / 480) * MB;
      });
    assert.equal(analyseTrend(teeth([0, 10, 20, 30, 40, 50, 60]), { limit: LIMIT }).leaking, true);
    const full = analyseTrend(teeth([0, 10, 20, 30, 40, 50, 51]), { limit: LIMIT });
    assert.equal(full.leaking, false);
    assert.match(full.reason, /the rise of its troughs is not steady/);
  });
  test("samples after now do not count", () => {
    const samples = every(15, 241, (t) => (t < 1800 ? 100 * MB : 100 * MB + 50_000 * (t - 1800)));
    assert.equal(analyseTrend(samples, { limit: LIMIT, now: (samples[0]?.t ?? 0) + 1_700_000 }).leaking, false);
    assert.equal(analyseTrend(samples, { limit: LIMIT }).leaking, true);
  });
  test("a lone reading of zero is a failed one, not a restart", () => {
    const samples = every(15, 241, (t) => (t === 3000 ? 0 : 100 * MB + 20_000 * t));
    const result = analyseTrend(samples, { limit: LIMIT });
    assert.equal(result.leaking, true);
    assert.ok(Math.abs(result.slopePerSecond - 20_000) < 200);
  });
  test("minConfidence decides", () => {
    const random = seeded(4);
    const samples = every(1, 15, (t) => 60 * MB + 2 * MB * t + 2 * MB * normal(random));
    const lenient = analyseTrend(samples, { limit: 256 * MB, minConfidence: 0.5 });
    assert.equal(lenient.leaking, true);
    assert.equal(analyseTrend(samples, { limit: 256 * MB, minConfidence: Math.min(1, lenient.confidence + 1e-6) }).leaking, false);
  });
});

describe("properties", () => {
  const shape = fc.constantFrom(...SHAPES.filter((s) => s.span <= 3600));
  const seed = fc.integer({ min: 0, max: 10_000 });

  test("scaling values and limit scales the slope and nothing else", () => {
    fc.assert(
      fc.property(shape, seed, fc.constantFrom(0.25, 2, 1024), (s, n, factor) => {
        const samples = seriesOf(s, n);
        const a = analyseTrend(samples, { limit: s.limit });
        const b = analyseTrend(
          samples.map((p) => ({ t: p.t, v: p.v * factor })),
          { limit: s.limit * factor },
        );
        assert.equal(b.leaking, a.leaking);
        assert.ok(Math.abs(b.slopePerSecond - a.slopePerSecond * factor) <= 1e-6 * Math.abs(a.slopePerSecond * factor) + 1e-9);
        assert.ok(Math.abs((b.secondsToLimit ?? 0) - (a.secondsToLimit ?? 0)) <= 1e-6 * (a.secondsToLimit ?? 1) + 1e-6);
      }),
    );
  });
  test("a shift in time changes nothing", () => {
    fc.assert(
      fc.property(shape, seed, fc.integer({ min: -1e9, max: 1e9 }), (s, n, shift) => {
        const samples = seriesOf(s, n);
        assert.deepEqual(
          analyseTrend(
            samples.map((p) => ({ t: p.t + shift, v: p.v })),
            { limit: s.limit },
          ),
          analyseTrend(samples, { limit: s.limit }),
        );
      }),
    );
  });
  test("order and duplicates change nothing", () => {
    fc.assert(
      fc.property(shape, seed, (s, n) => {
        const samples = seriesOf(s, n);
        const random = seeded(n);
        const mixed = [...samples, ...samples.filter(() => random() < 0.3)]
          .map((p) => ({ p, key: random() }))
          .sort((a, b) => a.key - b.key)
          .map(({ p }) => p);
        assert.deepEqual(analyseTrend(mixed, { limit: s.limit }), analyseTrend(samples, { limit: s.limit }));
      }),
    );
  });
  test("what never rises never leaks", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 1e9 }), { minLength: 0, maxLength: 300 }),
        fc.integer({ min: 1, max: 60 }),
        (values, step) => {
          const falling = values.sort((a, b) => b - a);
          assert.equal(
            analyseTrend(
              falling.map((v, i) => ({ t: i * step * 1000, v })),
              { limit: 2e9 },
            ).leaking,
            false,
          );
        },
      ),
    );
  });
  test("whatever the input, the answer is well-formed", () => {
    const number = fc.oneof(fc.double(), fc.integer({ min: 0, max: 1000 }), fc.constantFrom(NaN, Infinity, -Infinity, -1, 0, 1e308));
    fc.assert(
      fc.property(
        fc.array(fc.record({ t: number, v: number }), { maxLength: 200 }),
        fc.oneof(number, fc.constant(1e9)),
        (samples, limit) => {
          const result = analyseTrend(samples, { limit });
          assert.ok(!Number.isNaN(result.slopePerSecond), "slope");
          assert.ok(result.confidence >= 0 && result.confidence <= 1, "confidence");
          assert.ok(result.secondsToLimit === undefined || result.secondsToLimit >= 0, "seconds");
          assert.equal(result.secondsToLimit === undefined && result.leaking && Number.isFinite(limit), false);
          assert.ok(result.reason.length > 0);
        },
      ),
      { numRuns: 300 },
    );
  });
});

test("numbers for people", () => {
  assert.deepEqual([0, 999, 12_345, 3.1e6, 2e9].map(bytes), ["0 B", "999 B", "12.3 kB", "3.1 MB", "2.00 GB"]);
  assert.deepEqual([3.1e6, 1000, 10].map(rate), ["3.1 MB/s", "60.0 kB/min", "36.0 kB/h"]);
  assert.deepEqual([3.25, 38, 600, 9000, 400_000].map(seconds), ["3.3 s", "38 s", "10 min", "2.5 h", "4.6 d"]);
  assert.deepEqual([0.5, 0.957, 0.9999, 1].map(percentText), ["50%", "95%", "99.9%", "100%"]);
});

describe("a series that is looked at again", () => {
  const leak = (): { t: number; v: number }[] =>
    Array.from({ length: 60 }, (_, i) => ({ t: i * 5_000, v: 1e8 + i * 1e6 + ((i * 37) % 11) * 1e4 }));

  test("comes to the same, and its time to the limit is counted from now", () => {
    const [first, again] = [analyseTrend(leak(), { limit: 1e9, now: 300_000 }), analyseTrend(leak(), { limit: 1e9, now: 300_000 })];
    assert.deepEqual(first, again);
    const later = analyseTrend(leak(), { limit: 1e9, now: 310_000 });
    assert.ok(Math.abs((first.secondsToLimit ?? 0) - (later.secondsToLimit ?? 0) - 10) < 1e-6);
  });

  test("is not taken for another with the same ends, nor for itself with other bounds", () => {
    const flat = leak().map((point, i, all) => (i === 0 || i === all.length - 1 ? point : { ...point, v: 1e8 }));
    assert.equal(analyseTrend(leak(), { limit: 1e9 }).leaking, true);
    assert.equal(analyseTrend(flat, { limit: 1e9 }).leaking, false);
    assert.equal(analyseTrend(leak(), { limit: 1e9 }).leaking, true);
    assert.equal(analyseTrend(leak(), { limit: 1e9, minSpanSeconds: 3_600 }).leaking, false);
    assert.equal(analyseTrend(leak(), { limit: 1e9, minSamples: 100 }).leaking, false);
  });
});
