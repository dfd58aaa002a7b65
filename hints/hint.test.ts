import assert from "node:assert/strict";
import { it } from "node:test";
import { metrics } from "@opentelemetry/api";
import { hints } from "./hint.ts";

it("counts a hint with its action and what is saturated", () => {
  const added: unknown[] = [];
  const hint = hints({
    meter: { createCounter: (name) => ({ add: (value, attributes) => void added.push([name, value, attributes]) }) },
  });
  hint("pool-reset", "connections");
  hint("restart");
  assert.deepEqual(added, [
    ["service.remediation.hint", 1, { "remediation.action": "pool-reset", "saturation.type": "connections" }],
    ["service.remediation.hint", 1, { "remediation.action": "restart" }],
  ]);
});

it("exports each hint, one flush at a time, and never fails", async () => {
  let flushes = 0;
  let end: () => void = () => undefined;
  const hint = hints({
    meter: { createCounter: () => ({ add: () => undefined }) },
    flush: () => {
      flushes += 1;
      return new Promise((_resolve, reject) => (end = () => reject(new Error("no collector"))));
    },
  });
  const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));
  hint("pool-reset");
  await turn();
  hint("pool-reset");
  hint("pool-reset");
  await turn();
  assert.equal(flushes, 1);
  end();
  await turn();
  assert.equal(flushes, 2, "what came meanwhile is flushed together");
  end();
  await turn();
  assert.equal(flushes, 2);
});

it("takes the meter of @opentelemetry/api, where it is installed", () => {
  let name = "";
  const meter = { createCounter: (counter: string) => ((name = counter), { add: () => undefined }) };
  metrics.setGlobalMeterProvider({ getMeter: () => meter as never });
  try {
    hints()("cache-flush");
    assert.equal(name, "service.remediation.hint");
  } finally {
    metrics.disable();
  }
});
