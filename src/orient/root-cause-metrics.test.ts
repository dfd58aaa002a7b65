import assert from "node:assert/strict";
import { test } from "node:test";
import { isPercent, meaningOf, millisecondsIn } from "./root-cause-metrics.ts";

for (const [metric, role, bad] of [
  ["latency_p99", "latency", "up"],
  ["latency-90", "latency", "up"],
  ["latency_average", "latency", "up"],
  ["http.server.request.duration", "latency", "up"],
  ["responseTimeP95", "latency", "up"],
  ["error_rate", "errors", "up"],
  ["error", "errors", "up"],
  ["http_5xx", "errors", "up"],
  ["connection_errors", "errors", "up"],
  ["packet_loss", "errors", "up"],
  ["availability", "errors", "up"],
  ["success_ratio", "errors", "up"],
  ["requests", "traffic", "both"],
  ["workload", "traffic", "both"],
  ["rps", "traffic", "both"],
  ["load", "traffic", "both"],
  ["cpu", "resource", "up"],
  ["load1", "resource", "up"],
  ["mem", "resource", "up"],
  ["diskio", "resource", "up"],
  ["socket", "resource", "up"],
  ["gc_pause_duration", "resource", "up"],
  ["disk_read_latency", "resource", "up"],
  ["cpu_throttled_periods", "resource", "up"],
  ["memory_available_bytes", "resource", "down"],
  ["cache_hit_rate", "resource", "down"],
  ["db_pool_in_use", "resource", "up"],
  ["kafka_consumer_lag", "resource", "up"],
  ["zorbs", "other", "both"],
] as const)
  test(`${metric} is ${role}, bad when ${bad}`, () => {
    const meaning = meaningOf(metric);
    assert.deepEqual([meaning.role, meaning.bad], [role, bad]);
  });

test("availability is a complement, errors are not", () => {
  assert.deepEqual(
    ["availability", "successRate", "uptime", "error_rate"].map((metric) => meaningOf(metric).complement),
    [true, true, true, false],
  );
});

test("units of time and percent", () => {
  assert.deepEqual(["ms", "s", "Seconds", "us", "ns", "bytes", undefined].map(millisecondsIn), [
    1,
    1000,
    1000,
    0.001,
    1e-6,
    undefined,
    undefined,
  ]);
  assert.deepEqual(["%", "percent", "ratio", "", undefined].map(isPercent), [true, true, false, false, false]);
});
