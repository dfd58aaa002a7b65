// Spans go to a real OpenTelemetry Collector; its servicegraph connector counts the calls, and sends them to a Nightshift that runs.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { pino } from "pino";
import { type Running, startNightshift } from "../../src/cli/nightshift.ts";
import { stackSchema } from "../../src/platform/host/stack.ts";
import { derivedToken } from "../../src/server/token.ts";
import { type Collector, lackingCollector, startCollector } from "../support/collector.ts";
import { unusedPort } from "../support/ports.ts";
import { until } from "../support/until.ts";

/** Kinds of spans in OTLP. */
const KIND = { server: 2, client: 3, producer: 4, consumer: 5 } as const;
const STATUS_ERROR = 2;
/** Bounds of the connector's buckets around the durations below (ms). */
const FAST = { ms: 30, above: 10, upTo: 50 };
const SLOW = { ms: 300, above: 200, upTo: 400 };

interface Side {
  readonly service: string;
  readonly kind: number;
  readonly ms: number;
  readonly failed?: boolean;
  readonly attributes?: Readonly<Record<string, string>>;
}

/** One request: who sends it and, where that sends spans itself, who serves it. */
type Request = readonly [Side, Side?];

const attributesOf = (values: Readonly<Record<string, string>>): object[] =>
  Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } }));

/** An export request with the spans of requests, each a trace of its own. */
function spansOf(requests: readonly Request[]): string {
  const now = Date.now();
  const resourceSpans = requests.flatMap((sides) => {
    const traceId = randomBytes(16).toString("hex");
    const ids = sides.map(() => randomBytes(8).toString("hex"));
    return sides.flatMap((side, i) =>
      side === undefined
        ? []
        : [
            {
              resource: { attributes: attributesOf({ "service.name": side.service }) },
              scopeSpans: [
                {
                  spans: [
                    {
                      traceId,
                      spanId: ids[i],
                      ...(i === 0 ? {} : { parentSpanId: ids[i - 1] }),
                      name: "request",
                      kind: side.kind,
                      startTimeUnixNano: `${now - side.ms}000000`,
                      endTimeUnixNano: `${now}000000`,
                      attributes: attributesOf(side.attributes ?? {}),
                      status: side.failed === true ? { code: STATUS_ERROR } : {},
                    },
                  ],
                },
              ],
            },
          ],
    );
  });
  return JSON.stringify({ resourceSpans });
}

const times = (count: number, request: Request): Request[] => Array.from({ length: count }, () => request);
const toBank = (failed: boolean): Request => [
  { service: "shop", kind: KIND.client, ms: SLOW.ms, failed },
  { service: "bank", kind: KIND.server, ms: FAST.ms, failed },
];
/** A shop whose bank fails at times and asks a slow database, and which hands orders to a warehouse over a queue. */
const REQUESTS: readonly Request[] = [
  ...times(7, toBank(false)),
  ...times(3, toBank(true)),
  ...times(5, [{ service: "bank", kind: KIND.client, ms: SLOW.ms, attributes: { "db.name": "ledger", "db.system": "postgresql" } }]),
  ...times(4, [
    { service: "shop", kind: KIND.producer, ms: 1, attributes: { "messaging.system": "kafka" } },
    { service: "warehouse", kind: KIND.consumer, ms: SLOW.ms, attributes: { "messaging.system": "kafka" } },
  ]),
];

describe("the service graph of a real Collector", { skip: lackingCollector() }, () => {
  let dir: string;
  let running: Running;
  const collectors: Collector[] = [];

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-service-graph-"));
    running = await startNightshift({
      stack: stackSchema.parse({
        listen: `127.0.0.1:${unusedPort()}`,
        grpcListen: `127.0.0.1:${unusedPort()}`,
        workloads: [{ name: "shop", command: ["sleep", "infinity"] }],
      }),
      stackDir: dir,
      stateDir: join(dir, "state"),
      log: pino({ level: "silent" }),
    });
  });
  after(async () => {
    await Promise.all(collectors.map((collector) => collector.stop()));
    await running?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  /** A Collector whose only exporter is the one that is given; it sends its counts once a second. */
  const collector = async (exporter: "otlp" | "otlphttp", endpoint: string | undefined, token: string): Promise<Collector> => {
    const started = await startCollector({
      connectors: { servicegraph: { metrics_flush_interval: "1s", store: { ttl: "2s", max_items: 1_000 } } },
      exporters: {
        [exporter]: {
          endpoint,
          headers: { authorization: `Bearer ${token}` },
          ...(exporter === "otlp" ? { tls: { insecure: true } } : {}),
        },
      },
      pipelines: {
        traces: { receivers: ["otlp"], exporters: ["servicegraph"] },
        metrics: { receivers: ["servicegraph"], exporters: [exporter] },
      },
    });
    collectors.push(started);
    return started;
  };
  const send = async ({ httpUrl }: Collector, requests: readonly Request[]): Promise<void> => {
    const response = await fetch(`${httpUrl}/v1/traces`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: spansOf(requests),
    });
    assert.equal(response.status, 200, await response.text());
  };

  /** Each edge with what was counted on it since the start, as `client -> server`. */
  const edges = (): Record<string, { kind: string; source: string; requests: number; failed: number; latencyMs: number | undefined }> =>
    Object.fromEntries(
      (running.telemetry.graph?.calls() ?? []).map((call) => {
        const points = call.points(0);
        const sum = (of: "requests" | "failed"): number => points.reduce((all, point) => all + point[of], 0);
        const latencyMs = points.findLast((point) => point.latencyMs !== undefined)?.latencyMs;
        const { kind, source } = call;
        return [
          `${call.client.name} -> ${call.server.name}`,
          { kind, source, requests: sum("requests"), failed: sum("failed"), latencyMs },
        ];
      }),
    );
  const counts = (): Record<string, readonly [string, number, number]> =>
    Object.fromEntries(Object.entries(edges()).map(([name, { kind, requests, failed }]) => [name, [kind, requests, failed]]));
  const within = (latencyMs: number | undefined, { above, upTo }: typeof FAST): void =>
    assert.ok(latencyMs !== undefined && latencyMs > above && latencyMs <= upTo, `${latencyMs} ms, from ${above} to ${upTo} ms`);

  const ONCE = {
    "shop -> bank": ["Request", 10, 3],
    "bank -> ledger": ["External", 5, 0],
    "shop -> warehouse": ["Queue", 4, 0],
  } as const;

  it("has who calls whom, how often that failed and how long it took, over gRPC", async () => {
    const otlp = await collector("otlp", running.grpcUrl, derivedToken(running.token, "otlp"));
    await send(otlp, REQUESTS);
    await until(() => {
      const seen = edges();
      assert.deepEqual(counts(), ONCE);
      // Of a service its own account counts; what sends no spans is timed by who calls it.
      within(seen["shop -> bank"]?.latencyMs, FAST);
      within(seen["bank -> ledger"]?.latencyMs, SLOW);
      within(seen["shop -> warehouse"]?.latencyMs, SLOW);
    });
    assert.ok(Object.values(edges()).every(({ source }) => source === "Otlp"));
  });

  it("counts nothing twice that the Collector sends again", async () => {
    const [otlp] = collectors;
    assert.ok(otlp !== undefined);
    await send(otlp, times(1, toBank(false)));
    await until(() => assert.deepEqual(counts(), { ...ONCE, "shop -> bank": ["Request", 11, 3] }));
  });

  it("goes on with another Collector in the place of the first, over HTTP", async () => {
    await collectors.pop()?.stop();
    const otlphttp = await collector("otlphttp", running.url, derivedToken(running.token, "otlp"));
    await send(otlphttp, REQUESTS);
    await until(() =>
      assert.deepEqual(counts(), {
        "shop -> bank": ["Request", 21, 6],
        "bank -> ledger": ["External", 10, 0],
        "shop -> warehouse": ["Queue", 8, 0],
      }),
    );
  });

  it("takes nothing of a Collector with another token", async () => {
    const known = counts();
    const refused = await collector("otlphttp", running.url, "another-token-another-token");
    await send(refused, [[{ service: "liar", kind: KIND.client, ms: 1, attributes: { "peer.service": "nobody" } }], toBank(true)]);
    await until(async () => {
      const response = await fetch(`${running.url}/metrics`, { headers: { authorization: `Bearer ${running.token}` } });
      assert.match(await response.text(), /^nightshift_refused_total\{listener="otlp",reason="UNAUTHENTICATED"\} [1-9]/m);
    });
    assert.deepEqual(counts(), known);
  });
});
