import autocannon, { type Instance } from "autocannon";

/**
 * Steady load on one address, by autocannon, in a process of its own so that it measures itself and nobody else.
 * `node load.ts URL REQUESTS_PER_SECOND [--json]`. Started with an IPC channel it sends `LoadSample[]` four times a second;
 * with `--json` it prints the same, a line each; else it prints a line a second for people.
 */

/** One request: when it ended (ms since the epoch), how long it took (ms), and its status; 0 when there was no answer. */
export type LoadSample = readonly [endedAt: number, latencyMs: number, status: number];

/** Without an answer in this time (s) a request has failed. */
const TIMEOUT_S = 3 * Number(process.env["SHOP_PATIENCE"] ?? 1);
/** autocannon sends a connection's share of a second at once: several instances, started apart, make it steady. */
const INSTANCES = 10;
const CONNECTIONS_EACH = 4;

const [url, rateText, format] = process.argv.slice(2);
const rate = Number(rateText ?? 100);
if (!url || !Number.isFinite(rate) || rate < INSTANCES) {
  console.error(`usage: load URL REQUESTS_PER_SECOND [--json]  (${INSTANCES} requests a second or more)`);
  process.exit(64);
}

let batch: LoadSample[] = [];
const instances: Instance[] = [];

for (let i = 0; i < INSTANCES; i++) {
  const share = Math.floor(rate / INSTANCES) + (i < rate % INSTANCES ? 1 : 0);
  setTimeout(
    () => {
      const instance = autocannon(
        { url, connections: Math.min(CONNECTIONS_EACH, share), overallRate: share, duration: 86_400, timeout: TIMEOUT_S },
        (error) => {
          if (error) {
            console.error(error.message);
            process.exit(1);
          }
        },
      );
      instance.on("response", (_client: unknown, status: number, _bytes: number, ms: number) => batch.push([Date.now(), ms, status]));
      instance.on("reqError", () => batch.push([Date.now(), TIMEOUT_S * 1_000, 0]));
      instances.push(instance);
    },
    (i * 1_000) / INSTANCES,
  );
}

const flush = (): void => {
  const samples = batch;
  batch = [];
  if (process.send) process.send(samples);
  else if (format === "--json") process.stdout.write(`${JSON.stringify(samples)}\n`);
  else {
    const failed = samples.filter(([, , status]) => status === 0 || status >= 500).length;
    const sorted = samples.map(([, ms]) => ms).sort((a, b) => a - b);
    console.log(`${samples.length} requests, ${failed} failed, p99 ${sorted[Math.ceil(sorted.length * 0.99) - 1]?.toFixed(1) ?? "-"} ms`);
  }
};
const timer = setInterval(flush, process.send || format === "--json" ? 250 : 1_000);

const stop = (): void => {
  clearInterval(timer);
  flush();
  process.exit(0);
};
process.on("SIGTERM", stop);
process.on("SIGINT", stop);
// The one who reads the samples is gone: no reason to go on.
process.on("disconnect", () => process.exit(0));
