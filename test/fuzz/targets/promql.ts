import assert from "node:assert/strict";
import { decodePromql, decodePromqlRefusal, stepsOf } from "../../../src/observe/promql.ts";
import * as fc from "fast-check";
import { grammarJson, type Json } from "../json.ts";
import { matrixAnswers } from "../promql-answers.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const seeds = seedsOf("promql");
/** When the seeds were asked for: what was asked must be what is answered. */
const ASKED_AT = 1_000 * Math.max(...seeds.map((seed) => Number(/\[(\d{10})(?:\.\d+)?,/.exec(Buffer.from(seed).toString())?.[1] ?? 0)));

/** A query at one instant, and one of a range. */
const STEPS = [stepsOf(0, ASKED_AT), stepsOf(12_000, ASKED_AT)];

const answers = matrixAnswers(
  fc.constantFrom<Json[]>({ pod: "a" }, { pod: "b", namespace: "shop" }, {}, { __proto__: "x" }),
  STEPS[1] ?? [],
);

export const promql: FuzzTarget = {
  name: "promql",
  seeds,
  inputs: grammarJson(answers, seeds, ["NaN", "+Inf", "histogram", "histograms", "values", '"warnings":["x"],', "matrix", "vector"]),
  check(input) {
    const refusal = decodePromqlRefusal(Buffer.from(input).toString());
    assert.ok(refusal === undefined || refusal.length <= 500);
    const [outcome = ""] = STEPS.map((steps) =>
      decoded(
        new Set(["MALFORMED_JSON", "TOO_DEEP", "MALFORMED_ANSWER"]),
        () => decodePromql(input, steps),
        (answer) => {
          if ("problem" in answer) return assert.ok(answer.problem !== "" && answer.problem.length < 1_000);
          assert.equal(answer.steps.length, steps.length);
          for (const { labels, samples } of answer.rows) {
            assert.equal(Object.getPrototypeOf(labels), Object.prototype);
            assert.ok(samples.length <= steps.length, `${samples.length} values at ${steps.length} steps`);
            samples.forEach(({ t, v }, i) => {
              assert.ok(Number.isFinite(v) && answer.steps.includes(t));
              assert.ok(i === 0 || (samples[i - 1]?.t ?? Infinity) < t, "values are not by time");
            });
          }
        },
      ),
    );
    return outcome;
  },
};
