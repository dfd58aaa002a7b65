import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { changeOf, type Change, type Readings } from "./root-cause-change.ts";
import { normal, seeded } from "./shapes.ts";

const STEP = 60_000;
const START = 1_700_000_000_000;

/** Readings each minute: `baseline` of them before the incident, then `during`. */
const readings = (baseline: number, during: number, f: (i: number, random: () => number) => number): Readings => {
  const random = seeded(7);
  const n = baseline + during;
  return {
    times: Float64Array.from({ length: n }, (_, i) => START + (i - baseline) * STEP),
    values: Float64Array.from({ length: n }, (_, i) => f(i - baseline, random)),
  };
};
const incidentOf = (during: number): { start: number; end: number } => ({ start: START, end: START + (during - 1) * STEP });
const change = (series: Readings, during: number, bad: "up" | "down" | "both" = "up", floor = 0): Change => {
  const found = changeOf(series, incidentOf(during), bad, floor);
  if ("silent" in found) throw new Error(found.silent);
  return found;
};

describe("a change", () => {
  test("of a noisy level: how much, how unusual, since when", () => {
    const found = change(
      readings(120, 30, (i, random) => 100 + 3 * normal(random) + (i >= 6 ? 80 : 0)),
      30,
    );
    assert.ok(Math.abs(found.before - 100) < 3 && Math.abs(found.excess - 80) < 6, JSON.stringify(found));
    assert.ok(found.z > 15);
    assert.equal(found.onset, START + 6 * STEP);
    assert.equal(found.step, STEP);
  });
  test("none in noise, whatever its seed", () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = seeded(seed);
      const found = change(
        readings(90, 20, () => 50 + 5 * normal(random)),
        20,
        "both",
      );
      assert.ok(Math.abs(found.z) < 4, `seed ${seed}: ${found.z}`);
    }
  });
  test("of a constant, which has no scatter, is measured in shares of its level", () => {
    assert.ok(
      change(
        readings(60, 10, (i) => (i >= 0 ? 102 : 100)),
        10,
      ).z < 1,
    );
    assert.ok(
      change(
        readings(60, 10, (i) => (i >= 0 ? 150 : 100)),
        10,
      ).z > 10,
    );
    assert.equal(
      change(
        readings(60, 10, () => 0),
        10,
      ).z,
      0,
    );
    assert.ok(
      change(
        readings(60, 10, (i) => (i >= 0 ? 0.3 : 0)),
        10,
        "up",
        0.002,
      ).z > 50,
    );
  });
  test("for the better is none", () => {
    assert.ok(
      change(
        readings(60, 10, (i) => (i >= 0 ? 20 : 100)),
        10,
        "up",
      ).z < 0,
    );
    assert.ok(
      change(
        readings(60, 10, (i) => (i >= 0 ? 20 : 100)),
        10,
        "down",
      ).z > 10,
    );
    assert.ok(
      change(
        readings(60, 10, (i) => (i >= 0 ? 20 : 100)),
        10,
        "both",
      ).z > 10,
    );
  });
  test("spikes of a heavy tail are none", () => {
    for (let seed = 0; seed < 50; seed++) {
      const random = seeded(seed);
      const found = change(
        readings(240, 20, () => 10 + normal(random) + (random() < 0.05 ? 200 * random() : 0)),
        20,
      );
      assert.ok(found.z < 4, `seed ${seed}: ${found.z}`);
    }
  });
  test("a day's rhythm is none, and a change on top of it is one", () => {
    for (let phase = 0; phase < 6; phase++) {
      const rhythm = (i: number, random: () => number): number =>
        100 + 60 * Math.sin((2 * Math.PI * i) / 1440 + phase) + 2 * normal(random);
      assert.ok(change(readings(1440, 30, rhythm), 30).z < 4, `phase ${phase}`);
      assert.ok(
        change(
          readings(1440, 30, (i, random) => rhythm(i, random) + (i >= 0 ? 120 : 0)),
          30,
        ).z > 4,
        `phase ${phase}, with a change`,
      );
    }
  });
  test("what happens each day at this hour is none", () => {
    const nightly = (i: number, random: () => number): number => 20 + normal(random) + ((i + 4 * 1440) % 1440 < 30 ? 60 : 0);
    assert.ok(change(readings(3 * 1440, 30, nightly), 30).z < 4);
    assert.ok(
      change(
        readings(3 * 1440, 30, (i, random) => (i >= 0 ? 80 : 20) + normal(random)),
        30,
      ).z > 10,
    );
  });
  test("a slow trend is none", () =>
    assert.ok(
      change(
        readings(600, 30, (i, random) => 1000 + 0.5 * i + 2 * normal(random)),
        30,
      ).z < 4,
    ));
  test("one reading is an incident", () =>
    assert.ok(
      change(
        readings(60, 1, (i, random) => (i >= 0 ? 100 : 10) + normal(random)),
        1,
      ).z > 10,
    ));
  test("five readings are a baseline", () =>
    assert.ok(
      change(
        readings(5, 5, (i) => (i >= 0 ? 100 : 10 + (i % 2))),
        5,
      ).z > 4,
    ));
  test("one that is over before the incident ends is still one", () =>
    assert.ok(
      change(
        readings(120, 40, (i, random) => (i >= 0 && i < 15 ? 100 : 10) + normal(random)),
        40,
      ).z > 10,
    ));
  test("a mean sees errors that a median does not", () => {
    const rare = readings(120, 40, (i) => (i >= 0 && i % 3 === 0 ? 0.3 : 0));
    assert.equal(change(rare, 40, "up", 0.002).z, 0);
    const found = changeOf(rare, incidentOf(40), "up", 0.002, "mean");
    assert.ok(!("silent" in found) && found.z > 10);
  });
});

describe("what cannot be told", () => {
  for (const [what, series, why] of [
    ["nothing", readings(0, 0, () => 1), /no baseline/],
    ["a short baseline", readings(4, 10, () => 1), /baseline of 4 readings/],
    ["nothing during the incident", readings(100, 0, () => 1), /no reading during the incident/],
  ] as const)
    test(what, () => {
      const found = changeOf(series, incidentOf(10), "up", 0);
      assert.ok("silent" in found);
      assert.match(found.silent, why);
    });
});
