// An application as a user writes it: works on one database, says when its connections hang, and serves the action.
// `KIND`: pg, ioredis or undici; `TARGET`: the port of what it works on.
import { createServer } from "node:http";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { detectResources, envDetector } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { Redis } from "ioredis";
import { Pool as PgPool } from "pg";
import { Pool } from "undici";
import { hints, serveActions, type ActionHandler } from "../../../hints/index.ts";
import { resetIoRedis } from "../../../hints/ioredis.ts";
import { resetPgPool } from "../../../hints/pg.ts";
import { resettable, resetUndici } from "../../../hints/undici.ts";

/** Work without an answer in this time hangs (ms). */
const HANGS_MS = 250;
/** It knows what is usual after as much work. */
const WARM = 20;

const port = Number(process.env["TARGET"]);
const bounds = { drainMs: 100 };

/** What it does all the time, and what replaces its connections. */
function workOf(kind: string | undefined): { readonly work: () => Promise<unknown>; readonly reset: ActionHandler } {
  switch (kind) {
    case "pg": {
      const pool = new PgPool({ host: "127.0.0.1", port, user: "postgres", max: 4 });
      pool.on("error", () => undefined);
      return { work: () => pool.query("SELECT 1"), reset: resetPgPool(pool, bounds) };
    }
    case "ioredis": {
      const redis = new Redis({ host: "127.0.0.1", port });
      redis.on("error", () => undefined);
      return { work: () => redis.ping(), reset: resetIoRedis(redis, bounds) };
    }
    default: {
      const upstream = resettable(() => new Pool(`http://127.0.0.1:${port}`, { connections: 4 }));
      return {
        work: async () => (await upstream.request({ path: "/", method: "GET" })).body.text(),
        reset: resetUndici(upstream, bounds),
      };
    }
  }
}

const { work, reset } = workOf(process.env["KIND"]);
const provider = new MeterProvider({
  resource: detectResources({ detectors: [envDetector] }),
  readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(), exportIntervalMillis: 60_000 })],
});
const hint = hints({ meter: provider.getMeter("app"), flush: () => provider.forceFlush() });
if (process.env["NIGHTSHIFT_ACTIONS_PORT"] !== undefined) (await serveActions()).onPoolReset(reset);

const seen = { done: 0, lastDoneAt: 0, hinted: 0, lastHintAt: 0, pid: process.pid };
setInterval(() => {
  const began = Date.now();
  let isOver = false;
  const hangs = setTimeout(() => {
    // It says so once, and then lets Nightshift have its time.
    if (isOver || seen.done < WARM || began < seen.lastHintAt + 5_000) return;
    seen.hinted += 1;
    seen.lastHintAt = Date.now();
    hint("pool-reset", "connections");
  }, HANGS_MS);
  void (async () => {
    try {
      await work();
      seen.done += 1;
      seen.lastDoneAt = Date.now();
    } catch {
      // What is cut is counted as not done.
    }
    isOver = true;
    clearTimeout(hangs);
  })();
}, 20);

createServer((_request, response) => response.end(JSON.stringify(seen))).listen(Number(process.env["PORT"]), "127.0.0.1");
