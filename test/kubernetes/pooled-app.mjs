// An application with a pool of connections to its upstream. On POST /hang the upstream answers nothing any more on connections
// that are open by then, as after a failover: the pool is used up, and only new connections help. It asks for that by a hint, and
// serves it. In the image of actions.test.ts, with the package as it is published.
import { createServer } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { hints, serveActions } from "@nightshift/hints";
import { resettable, resetUndici } from "@nightshift/hints/undici";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { detectResources, envDetector } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { Pool } from "undici";

/** How long the upstream is waited for (ms), and after how many times in a row without an answer help is asked for. */
const PATIENCE_MS = 2_000;
const MISSES = 2;
/** Longer than the test: an idle connection that closes would mend what is to hang. */
const KEEP_ALIVE_MS = 3_600_000;

const open = new Set();
const dead = new WeakSet();
const upstream = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
  if (!dead.has(request.socket)) response.end("ok");
});
upstream.on("connection", (socket) => open.add(socket.once("close", () => open.delete(socket))));
await new Promise((listening) => upstream.listen(0, "127.0.0.1", listening));

const origin = `http://127.0.0.1:${upstream.address().port}`;
const pool = resettable(() => new Pool(origin, { connections: 1, keepAliveTimeout: KEEP_ALIVE_MS, keepAliveMaxTimeout: KEEP_ALIVE_MS }));
const provider = new MeterProvider({
  resource: detectResources({ detectors: [envDetector] }),
  readers: [
    new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(), exportIntervalMillis: 1_000, exportTimeoutMillis: 1_000 }),
  ],
});
const hint = hints({ meter: provider.getMeter("app"), flush: () => provider.forceFlush() });

let resets = 0;
const reset = resetUndici(pool);
const actions = await serveActions();
actions.onPoolReset((context) => {
  resets++;
  return reset(context);
});

let missed = 0;
async function isServed() {
  // Who waits for a connection goes on waiting, as customers' requests would.
  const answer = pool
    .request({ origin, path: "/", method: "GET" })
    .then(({ body }) => body.dump())
    .then(() => true)
    .catch(() => false);
  const served = await Promise.race([answer, delay(PATIENCE_MS, false)]);
  missed = served ? 0 : missed + 1;
  if (missed === MISSES) hint("pool-reset", "connections");
  return served;
}

createServer((request, response) => {
  if (request.url === "/ready") return void isServed().then((served) => response.writeHead(served ? 200 : 503).end());
  if (request.url === "/resets") return void response.end(String(resets));
  for (const socket of open) dead.add(socket);
  response.end("hung");
}).listen(8080);
