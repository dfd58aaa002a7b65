import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { findRootCause } from "../src/orient/root-cause.ts";
import { accuracyOf, incidentsOf, METHODS, type Accuracy } from "./root-cause/accuracy.ts";
import { ranking } from "./root-cause/baselines.ts";
import { makeIncident } from "./root-cause/incidents.ts";

const SHARE = 64;

describe("the search for the cause, on a share of the made incidents", () => {
  for (const part of ["tuning", "held-out"] as const) {
    it(`${part}: the cause first in nine of ten, few false alarms, and better than simple methods`, () => {
      const incidents = [...incidentsOf(part, SHARE)];
      const of = (name: string): Accuracy => accuracyOf(METHODS[name] as (typeof METHODS)[string], incidents);
      const ours = of("root-cause");
      const text = JSON.stringify(ours);
      assert.ok(ours.faults === 48 && ours.calm === 16, text);
      assert.ok(ours.top1 >= 0.88 * ours.faults, text);
      assert.ok(ours.top3 >= 0.9 * ours.faults, text);
      assert.ok(ours.falseAlarms <= 0.15 * ours.calm, text);
      for (const name of ["largest deviation", "deepest abnormal"]) {
        const other = of(name);
        assert.ok(ours.top1 > other.top1 && ours.falseAlarms < other.falseAlarms, `${text}, ${name}: ${JSON.stringify(other)}`);
      }
    });
  }
  it("is the same each time", () => {
    const [a, b] = [makeIncident("tuning", 5), makeIncident("tuning", 5)];
    assert.deepEqual(a, b);
    assert.deepEqual(ranking(findRootCause(a)), ranking(findRootCause(b)));
  });
  it("made incidents of the two parts share no kind of call graph", () => {
    const families = (part: "tuning" | "held-out"): Set<string> => new Set([...incidentsOf(part, 30)].map(({ family }) => family));
    const heldOut = families("held-out");
    assert.deepEqual(
      [...families("tuning")].filter((family) => heldOut.has(family)),
      [],
    );
  });
});
