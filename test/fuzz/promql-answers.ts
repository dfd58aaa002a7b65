import * as fc from "fast-check";
import type { Json } from "./json.ts";

/** Answers of Prometheus to a query at `steps` (ms): series with these labels, with gaps, with values that are none, and some that are not by time. */
export function matrixAnswers(labels: fc.Arbitrary<Json>, steps: readonly number[]): fc.Arbitrary<Json> {
  const value = fc.constantFrom("0", "1", "2.5", "NaN", "+Inf", "-1", "1e308");
  const samples = fc.tuple(fc.array(fc.tuple(fc.nat(steps.length - 1), value), { maxLength: 12 }), fc.nat(9)).map(([list, order]) => {
    const byTime = list.toSorted(([a], [b]) => a - b);
    const once = byTime.filter(([step], i) => byTime[i + 1]?.[0] !== step);
    return (order === 0 ? byTime.toReversed() : once).map(([step, v]): Json => [(steps[step] ?? 0) / 1_000, v]);
  });
  const rows = fc.array(
    fc.record({ metric: labels, values: samples }).map((row): Json => ({ ...row })),
    { maxLength: 4 },
  );
  return rows.map((result): Json => ({ status: "success", data: { resultType: "matrix", result } }));
}
