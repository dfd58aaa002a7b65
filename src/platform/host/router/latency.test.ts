import assert from "node:assert/strict";
import { it } from "node:test";
import * as fc from "fast-check";
import { LatencyRecorder, latencyQuantile, mergeLatencies } from "./latency.ts";

it("a quantile of merged sketches is within 1% of the true one", () => {
  const latencies = fc.array(fc.array(fc.double({ min: 0.01, max: 60_000, noNaN: true }), { maxLength: 50 }), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(latencies, fc.double({ min: 0, max: 1, noNaN: true }), (parts, q) => {
      const sketches = parts.map((part) => {
        const recorder = new LatencyRecorder();
        for (const ms of part) recorder.add(ms);
        return recorder.sketch();
      });
      const all = parts.flat().sort((a, b) => a - b);
      const estimate = latencyQuantile(mergeLatencies(sketches), q);
      if (all.length === 0) return assert.equal(estimate, undefined);
      const exact = all[Math.max(1, Math.ceil(q * all.length)) - 1] ?? Number.NaN;
      assert.ok(estimate !== undefined && Math.abs(estimate - exact) <= exact * 0.0101, `${estimate} for ${exact}`);
    }),
  );
});

it("survives JSON", () => {
  const recorder = new LatencyRecorder();
  for (const ms of [0, 1, 5, 5, 1000]) recorder.add(ms);
  const copy = JSON.parse(JSON.stringify(recorder.sketch())) as ReturnType<LatencyRecorder["sketch"]>;
  assert.equal(latencyQuantile(copy, 0.99), latencyQuantile(recorder.sketch(), 0.99));
});
