// npm run bench: costs, as ratios to a bound in the same run. NIGHTSHIFT_BENCH_SHORT=1 takes fewer samples.
import { run as latency } from "./latency.ts";
import type { BenchResult } from "./result.ts";
import { run as storm } from "./storm.ts";
import { run as trend } from "./trend.ts";

const short = process.env["NIGHTSHIFT_BENCH_SHORT"] === "1";
const json = process.argv.includes("--json");
const results: BenchResult[] = [];
for (const [name, bench] of [
  ["webhook to first effect", () => latency(short)],
  ["alert storm", () => storm(short)],
  ["trend", () => trend()],
] as const) {
  process.stderr.write(`measuring: ${name}\n`);
  const result = await bench();
  results.push(result);
  if (json) continue;
  process.stdout.write(`\n${result.name}\n  ${result.method}\n`);
  for (const row of result.rows)
    process.stdout.write(
      `  ${row.label.padEnd(36)} ${row.value.toFixed(2).padStart(12)} ${row.unit}${row.ratio === undefined ? "" : `  (${row.ratio.toFixed(2)}x the bound)`}\n`,
    );
}
if (json) process.stdout.write(`${JSON.stringify(results)}\n`);
