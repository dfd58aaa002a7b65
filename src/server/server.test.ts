import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { after, before, describe, it } from "node:test";
import type { TLSSocket } from "node:tls";
import { deflateSync, gzipSync } from "node:zlib";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { AlertBook } from "../observe/alertmanager.ts";
import { TelemetryStore, type TelemetryLimits } from "../observe/store.ts";
import { systemClock } from "../platform/host/clock.ts";
import { NightshiftMetrics } from "./metrics.ts";
import { bearerCheck } from "./token.ts";
import { startServer, type RunningServer, type ServerLimits } from "./server.ts";

const TOKEN = "a-token-for-tests-only-1234567890";
const AUTH = { authorization: `Bearer ${TOKEN}` };
const JSON_TYPE = { "content-type": "application/json" };

const log = { info(): void {}, warn(): void {}, error(): void {} };

interface Running extends AsyncDisposable {
  readonly server: RunningServer;
  readonly url: string;
  readonly telemetry: TelemetryStore;
  readonly alertBook: AlertBook;
  readonly metrics: NightshiftMetrics;
  readonly state: { ready: boolean };
}

async function start(
  limits: Partial<ServerLimits> = {},
  telemetryLimits: Partial<TelemetryLimits> = {},
  tls?: { readonly cert: Buffer; readonly key: Buffer },
): Promise<Running> {
  const telemetry = new TelemetryStore(systemClock, telemetryLimits);
  const alertBook = new AlertBook(systemClock);
  const metrics = new NightshiftMetrics({ build: { version: "1.2.3" } });
  const state = { ready: false };
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    authenticate: ({ authorization }) => bearerCheck(TOKEN)(authorization),
    telemetry,
    alertBook,
    metrics,
    readiness: () => ({ ready: state.ready, checks: { loop: state.ready } }),
    status: () => ({ workloads: 3 }),
    log,
    clock: systemClock,
    limits,
    ...(tls === undefined ? {} : { tls }),
  });
  return { server, url: server.url, telemetry, alertBook, metrics, state, [Symbol.asyncDispose]: () => server.close() };
}

/** Waits for what another process or the event loop brings about, with a limit that only a real fault reaches. */
async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 1_500; i++) {
    if (await condition()) return;
    await delay(20);
  }
  assert.fail(`never happened: ${what}`);
}

/** The value of one series of `/metrics`. */
async function scraped({ metrics }: Running, series: string): Promise<number> {
  const text = await metrics.registry.metrics();
  const line = text.split("\n").find((l) => l.startsWith(`${series} `));
  return line === undefined ? 0 : Number(line.slice(series.length + 1));
}

/** Sends raw bytes and resolves with everything that comes back until the connection ends. */
function raw(url: string, ...parts: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    let answer = "";
    const socket = connect(Number(port), hostname, () => parts.forEach((part) => socket.write(part)));
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => (answer += chunk));
    socket.on("close", () => resolve(answer));
    socket.on("error", (error: NodeJS.ErrnoException) => (error.code === "ECONNRESET" ? resolve(answer) : reject(error)));
  });
}

const gauge = (uid: string, name: string, points: readonly { t?: number; v: number | string }[]): string =>
  JSON.stringify({
    resourceMetrics: [
      {
        resource: { attributes: [{ key: "service.instance.id", value: { stringValue: uid } }] },
        scopeMetrics: [
          {
            metrics: [
              {
                name,
                gauge: { dataPoints: points.map(({ t = Date.now(), v }) => ({ timeUnixNano: `${t}000000`, asDouble: v })) },
              },
            ],
          },
        ],
      },
    ],
  });

const alertPayload = (alerts: readonly unknown[]): string => JSON.stringify({ version: "4", alerts });
const alertJson = (fingerprint: string, overrides: object = {}): object => ({
  status: "firing",
  labels: { alertname: "A", n: fingerprint },
  annotations: {},
  startsAt: new Date().toISOString(),
  endsAt: "0001-01-01T00:00:00Z",
  fingerprint,
  ...overrides,
});

describe("the doors", () => {
  let running: Running;
  before(async () => void (running = await start()));
  after(() => running.server.close());

  it("health is open and says no more than ok", async () => {
    const response = await fetch(`${running.url}/healthz`);
    assert.deepEqual([response.status, await response.text()], [200, "ok\n"]);
  });

  it("readiness follows what the loop says", async () => {
    running.state.ready = false;
    const response = await fetch(`${running.url}/readyz`);
    assert.deepEqual([response.status, await response.text()], [503, "not ready\n"]);
    running.state.ready = true;
    assert.equal((await fetch(`${running.url}/readyz`)).status, 200);
  });

  it("everything else is closed without the right token, and says how to get in", async () => {
    const wrong: Record<string, string>[] = [
      {},
      { authorization: "" },
      { authorization: "Bearer" },
      { authorization: "Bearer " },
      { authorization: TOKEN },
      { authorization: `Basic ${TOKEN}` },
      { authorization: `Bearer ${TOKEN.slice(0, -1)}` },
      { authorization: `Bearer ${TOKEN}x` },
      { authorization: `Bearer ${"x".repeat(8_000)}` },
    ];
    for (const [path, method] of [
      ["/metrics", "GET"],
      ["/v1/metrics", "POST"],
      ["/webhooks/alertmanager", "POST"],
      ["/api/v1/status", "GET"],
      ["/nothing", "GET"],
      ["/healthz", "POST"],
    ] as const)
      for (const headers of wrong) {
        const response = await fetch(running.url + path, { method, headers });
        assert.equal(response.status, 401, `${method} ${path} ${headers["authorization"]?.slice(0, 20)}`);
        assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/);
        await response.arrayBuffer();
      }
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="otlp",reason="UNAUTHENTICATED"}'), wrong.length);
    assert.equal(running.telemetry.seriesCount, 0);
  });

  it("the right token opens it; the scheme's case does not matter", async () => {
    const response = await fetch(`${running.url}/api/v1/status`, { headers: { authorization: `bearer ${TOKEN}` } });
    assert.deepEqual([response.status, await response.json()], [200, { workloads: 3 }]);
  });

  it("unknown addresses and wrong methods are told in JSON", async () => {
    const missing = await fetch(`${running.url}/nothing`, { headers: AUTH });
    assert.equal(missing.status, 404);
    assert.equal(((await missing.json()) as { code: string }).code, "NOT_FOUND");
    const wrong = await fetch(`${running.url}/webhooks/alertmanager`, { headers: AUTH });
    assert.deepEqual([wrong.status, wrong.headers.get("allow")], [405, "POST"]);
    assert.equal(((await wrong.json()) as { code: string }).code, "METHOD_NOT_ALLOWED");
  });

  it("metrics have the promised names", async () => {
    running.metrics.room("decide", 0.002);
    running.metrics.decision("Block", "NoData");
    running.metrics.phases(() => ({ Executing: 2 }));
    running.metrics.signal("HostProbe", "trend", "Firing");
    running.metrics.detected("Alertmanager", 149);
    const text = await (await fetch(`${running.url}/metrics`, { headers: AUTH })).text();
    for (const line of [
      'nightshift_loop_seconds_count{room="decide"} 1',
      'nightshift_decisions_total{action="Block"} 1',
      'nightshift_blocked_total{reason="NoData"} 1',
      'nightshift_remediations{phase="Executing"} 2',
      'nightshift_remediations{phase="Blocked"} 0',
      'nightshift_signals_total{source="HostProbe",condition="trend",state="Firing"} 1',
      'nightshift_detection_seconds_bucket{le="120",source="Alertmanager"} 0',
      'nightshift_detection_seconds_bucket{le="150",source="Alertmanager"} 1',
      "nightshift_telemetry_series 0",
    ])
      assert.ok(text.includes(`${line}\n`), line);
    assert.match(text, /nightshift_build_info\{version="1\.2\.3",node="v\d+/);
    assert.match(text, /process_cpu_seconds_total/);
  });

  it("a taken port is told as such", async () => {
    const { port } = new URL(running.url);
    await assert.rejects(
      startServer({
        listen: { host: "127.0.0.1", port: Number(port) },
        authenticate: ({ authorization }) => bearerCheck(TOKEN)(authorization),
        telemetry: running.telemetry,
        alertBook: running.alertBook,
        metrics: new NightshiftMetrics({ processMetrics: false }),
        readiness: () => ({ ready: true, checks: {} }),
        log,
        clock: systemClock,
      }),
      { code: "LISTEN_FAILED" },
    );
  });
});

describe("OTLP over HTTP", () => {
  it("the OpenTelemetry SDK's exporter delivers gauges and request durations", async () => {
    await using running = await start();
    const errors: unknown[] = [];
    const provider = new MeterProvider({
      resource: resourceFromAttributes({ "service.name": "payments", "service.instance.id": "uid-1" }),
      readers: [
        new PeriodicExportingMetricReader({
          exporter: new OTLPMetricExporter({ url: `${running.url}/v1/metrics`, headers: { Authorization: `Bearer ${TOKEN}` } }),
          exportIntervalMillis: 3_600_000,
        }),
      ],
    });
    try {
      const meter = provider.getMeter("test");
      meter.createObservableGauge("heap").addCallback((result) => {
        result.observe(100, { space: "old" });
        result.observe(23, { space: "new" });
      });
      const duration = meter.createHistogram("http.server.request.duration", { unit: "s" });
      for (let i = 0; i < 20; i++) duration.record(0.02, { "http.response.status_code": 200 });
      await provider.forceFlush();
      for (let i = 0; i < 3; i++) duration.record(0.5, { "http.response.status_code": 500 });
      for (let i = 0; i < 10; i++) duration.record(0.02, { "http.response.status_code": 200 });
      await delay(600);
      await provider.forceFlush();
    } catch (error) {
      errors.push(error);
    } finally {
      await provider.shutdown();
    }
    assert.deepEqual(errors, []);
    assert.equal(running.telemetry.replicaSeries("uid-1", "heap", 0)[0]?.v, 123);
    const stats = running.telemetry.requests({ kind: "Workload", namespace: "default", name: "payments" }, 0);
    assert.deepEqual([stats?.total, stats?.failed], [33, 3]);
    assert.ok((stats?.p99Ms ?? 0) > 20);
    assert.equal(await scraped(running, "nightshift_telemetry_series"), 2);
  });

  it("gzip and deflate are taken, other encodings and types are not", async () => {
    await using running = await start();
    const body = gauge("u", "m", [{ v: 1 }]);
    const send = (payload: string | Uint8Array<ArrayBuffer>, headers: Record<string, string>): Promise<Response> =>
      fetch(`${running.url}/v1/metrics`, { method: "POST", headers: { ...AUTH, ...headers }, body: payload });
    for (const [payload, headers, status] of [
      [body, JSON_TYPE, 200],
      [body, { "content-type": "application/json; charset=utf-8" }, 200],
      [gzipSync(body), { ...JSON_TYPE, "content-encoding": "gzip" }, 200],
      [deflateSync(body), { ...JSON_TYPE, "content-encoding": "deflate" }, 200],
      [body, { ...JSON_TYPE, "content-encoding": "br" }, 415],
      [body, { ...JSON_TYPE, "content-encoding": "gzip" }, 400],
      [gzipSync(body).subarray(0, 40), { ...JSON_TYPE, "content-encoding": "gzip" }, 400],
      [body, { "content-type": "text/plain" }, 415],
      [body, { "content-type": "application/x-protobuf" }, 400],
      ["{", JSON_TYPE, 400],
      ["[".repeat(100_000), JSON_TYPE, 400],
    ] as const)
      assert.equal((await send(payload, headers)).status, status, JSON.stringify(headers));
    const malformed = await send("{", JSON_TYPE);
    assert.equal(((await malformed.json()) as { code: number }).code, 3, "a google.rpc.Status");
    const binary = await send("\u0001", { "content-type": "application/x-protobuf" });
    assert.equal(binary.headers.get("content-type"), "application/x-protobuf");
    assert.deepEqual([...new Uint8Array(await binary.arrayBuffer()).subarray(0, 3)], [0x08, 3, 0x12], "code 3, then the message");
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="otlp",reason="UNSUPPORTED_ENCODING"}'), 1);
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="otlp",reason="MALFORMED_ENCODING"}'), 2);
  });

  it("points that are refused are told as a partial success, and counted", async () => {
    await using running = await start();
    const response = await fetch(`${running.url}/v1/metrics`, {
      method: "POST",
      headers: { ...AUTH, ...JSON_TYPE },
      body: gauge("u", "m", [{ v: 1 }, { v: "NaN" }, { t: 1_000, v: 1 }, { t: Date.now() + 3_600_000, v: 1 }]),
    });
    assert.equal(response.status, 200);
    const { partialSuccess } = (await response.json()) as { partialSuccess: { rejectedDataPoints: string; errorMessage: string } };
    assert.equal(partialSuccess.rejectedDataPoints, "3");
    assert.match(partialSuccess.errorMessage, /1 not-finite.*1 too-old.*1 future/);
    assert.equal(await scraped(running, 'nightshift_otlp_points_refused_total{reason="not-finite"}'), 1);
    assert.equal(await scraped(running, "nightshift_otlp_points_accepted_total"), 1);
  });

  it("series over the limit are refused and counted, the others go on", async () => {
    await using running = await start({}, { maxSeries: 5 });
    for (let i = 0; i < 8; i++)
      await fetch(`${running.url}/v1/metrics`, {
        method: "POST",
        headers: { ...AUTH, ...JSON_TYPE },
        body: gauge(`u${i}`, "m", [{ v: 1 }]),
      });
    assert.equal(running.telemetry.seriesCount, 5);
    assert.equal(await scraped(running, 'nightshift_telemetry_refused_total{reason="series-limit"}'), 3);
  });

  it("a bomb of 1 GB in about a megabyte is stopped while it is inflated", async () => {
    // Deflate cannot do better than 1,032 to 1, so this is as small as a bomb gets. Members of gzip may follow each other.
    const member = gzipSync(Buffer.alloc(16 * 2 ** 20, 0x20), { level: 9 });
    const body = Buffer.concat(Array.from({ length: 64 }, () => member));
    assert.ok(body.length < 2 * 2 ** 20, `${body.length} bytes inflate to 1 GB`);
    await using running = await start();
    let peak = 0;
    const before_ = process.memoryUsage().rss;
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 5);
    try {
      for (const path of ["/v1/metrics", "/webhooks/alertmanager"]) {
        const response = await fetch(running.url + path, {
          method: "POST",
          headers: { ...AUTH, ...JSON_TYPE, "content-encoding": "gzip" },
          body,
        });
        assert.equal(response.status, 413);
        await response.arrayBuffer();
      }
    } finally {
      clearInterval(watch);
    }
    peak = Math.max(peak, process.memoryUsage().rss);
    assert.ok(peak - before_ < 200 * 2 ** 20, `memory grew by ${peak - before_}`);
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="otlp",reason="BODY_TOO_LARGE"}'), 1);
  });

  it("a body that is too large is refused by its length, and without one while it comes", async () => {
    await using running = await start({ maxBodyBytes: 1_000 });
    const declared = await fetch(`${running.url}/v1/metrics`, {
      method: "POST",
      headers: { ...AUTH, ...JSON_TYPE },
      body: "x".repeat(5_000),
    });
    assert.equal(declared.status, 413);
    const status = await new Promise<number | undefined>((resolve, reject) => {
      const req = httpRequest(`${running.url}/v1/metrics`, { method: "POST", headers: { ...AUTH, ...JSON_TYPE } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      req.on("error", reject);
      for (let i = 0; i < 5; i++) req.write("x".repeat(1_000));
      req.end();
    });
    assert.equal(status, 413);
  });

  it("when too much is in memory, senders are told to come back", async () => {
    await using running = await start({ maxBufferedBytes: 100 });
    const response = await fetch(`${running.url}/v1/metrics`, {
      method: "POST",
      headers: { ...AUTH, ...JSON_TYPE },
      body: gauge("u", "m", [{ v: 1 }]),
    });
    assert.deepEqual([response.status, response.headers.get("retry-after")], [503, "1"]);
    const small = await fetch(`${running.url}/v1/metrics`, { method: "POST", headers: { ...AUTH, ...JSON_TYPE }, body: "{}" });
    assert.equal(small.status, 200, "what was taken was given back");
  });
});

describe("Alertmanager's webhook over HTTP", () => {
  const post = (running: Running, body: string): Promise<Response> =>
    fetch(`${running.url}/webhooks/alertmanager`, { method: "POST", headers: { ...AUTH, ...JSON_TYPE }, body });

  it("answers after the alerts are in the book and the listeners were called", async () => {
    await using running = await start();
    let heard = 0;
    running.alertBook.onChange((changed) => (heard += changed.length));
    const response = await post(running, alertPayload([alertJson("a"), { status: "odd" }, alertJson("b")]));
    assert.equal(heard, 2);
    assert.equal(response.status, 200);
    const answer = (await response.json()) as { accepted: number; refused: { index: number }[] };
    assert.deepEqual([answer.accepted, answer.refused.map(({ index }) => index)], [2, [1]]);
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="alertmanager",reason="MALFORMED_ALERT"}'), 1);
  });

  it("malformed bodies and other versions are refused", async () => {
    await using running = await start();
    for (const body of ["", "{", "[]", JSON.stringify({ version: "3", alerts: [] })]) {
      const response = await post(running, body);
      assert.equal(response.status, 400, body);
      assert.ok(((await response.json()) as { code: string }).code.startsWith("MALFORMED"));
    }
    const text = await fetch(`${running.url}/webhooks/alertmanager`, { method: "POST", headers: AUTH, body: "x" });
    assert.equal(text.status, 415);
  });

  it("takes 10,000 alerts in one payload", async () => {
    await using running = await start();
    const response = await post(running, alertPayload(Array.from({ length: 10_000 }, (_, i) => alertJson(`f${i}`))));
    assert.equal(response.status, 200);
    assert.equal(running.alertBook.alerts().length, 10_000);
  });

  it("a listener that fails makes the sender try again", async () => {
    await using running = await start();
    const end = running.alertBook.onChange(() => {
      throw new Error("broken");
    });
    assert.equal((await post(running, alertPayload([alertJson("a")]))).status, 500);
    end();
    assert.equal((await post(running, alertPayload([alertJson("a")]))).status, 200);
  });
});

describe("what is nested too deeply", () => {
  it("is refused with 400 and counted, in alerts and in telemetry, and costs no stack", async () => {
    await using running = await start();
    const deep = `{"version":"4","alerts":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    for (const [path, listener] of [
      ["/webhooks/alertmanager", "alertmanager"],
      ["/v1/metrics", "otlp"],
    ] as const) {
      const response = await fetch(`${running.url}${path}`, { method: "POST", headers: { ...AUTH, ...JSON_TYPE }, body: deep });
      assert.equal(response.status, 400, path);
      assert.match(((await response.json()) as { message: string }).message, /nested more than 64 deep/);
      assert.equal(await scraped(running, `nightshift_refused_total{listener="${listener}",reason="TOO_DEEP"}`), 1);
    }
  });
});

describe("odd requests", () => {
  it("no way of writing an address leads past the token", async () => {
    await using running = await start();
    const statusOf = async (line: string, headers = ""): Promise<string> =>
      /^HTTP\/1\.1 (\d+)/.exec(await raw(running.url, `${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`))?.[1] ?? "";
    for (const target of [
      "//metrics",
      "/metrics/",
      "/healthz/../metrics",
      "/healthz/..%2fmetrics",
      "/./metrics",
      "/%6detrics",
      "/METRICS",
      "http://x/metrics",
    ])
      for (const method of ["GET", "HEAD", "POST", "OPTIONS", "TRACE"])
        assert.equal(await statusOf(`${method} ${target}`), "401", `${method} ${target}`);
    const wrong = "Authorization: Bearer 0123456789abcdef0123456789\r\n";
    assert.equal(await statusOf("GET /metrics", `${wrong}Authorization: Bearer ${TOKEN}\r\n`), "401", "of two headers the first counts");
    assert.equal(await statusOf("GET /metrics", "Upgrade: websocket\r\n"), "401");
    for (const host of ["a/healthz?", "a b", "u:p@x"])
      assert.match(await raw(running.url, `GET /metrics HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 400/);
  });

  it("each of several requests on one connection is asked for the token", async () => {
    await using running = await start();
    const get = (path: string, headers = ""): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;
    const auth = `Authorization: Bearer ${TOKEN}\r\n`;
    const answers = await raw(
      running.url,
      get("/healthz") + get("/metrics") + get("/metrics", auth) + get("/metrics", "Connection: close\r\n"),
    );
    assert.deepEqual(answers.match(/HTTP\/1\.1 \d+/g), ["HTTP/1.1 200", "HTTP/1.1 401", "HTTP/1.1 200", "HTTP/1.1 401"]);
  });

  it("a body whose length is said twice is refused", async () => {
    await using running = await start();
    for (const lengths of ["Content-Length: 2\r\nTransfer-Encoding: chunked", "Content-Length: 2\r\nContent-Length: 3"])
      assert.match(
        await raw(running.url, `POST /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n${lengths}\r\n\r\n0\r\n\r\n`),
        /^HTTP\/1\.1 400/,
      );
  });
});

describe("bad clients", () => {
  it("one that sends its headers slowly is cut off", async () => {
    await using running = await start({ headersTimeoutMs: 300, requestTimeoutMs: 600 });
    const answer = await raw(running.url, "GET /healthz HTTP/1.1\r\nHost: x\r\n");
    assert.match(answer, /^HTTP\/1\.1 408/);
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="connection",reason="TIMEOUT"}'), 1);
  });

  it("one that sends its body slowly is cut off, and its memory is given back", async () => {
    await using running = await start({ headersTimeoutMs: 300, requestTimeoutMs: 600, maxBufferedBytes: 500 });
    const head = `POST /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 450\r\n\r\n`;
    await raw(running.url, head, "x".repeat(400));
    const body = `{"note":"${"x".repeat(300)}"}`;
    await until(async () => {
      const response = await fetch(`${running.url}/v1/metrics`, { method: "POST", headers: { ...AUTH, ...JSON_TYPE }, body });
      return response.status === 200;
    }, "a body of 300 bytes finds place again");
  });

  it("one that speaks no HTTP, or with headers too large, is answered and counted", async () => {
    await using running = await start();
    assert.match(await raw(running.url, "hello\r\n\r\n"), /^HTTP\/1\.1 400/);
    assert.match(await raw(running.url, `GET / HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`), /^HTTP\/1\.1 431/);
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="connection",reason="MALFORMED_HTTP"}'), 1);
    assert.equal(await scraped(running, 'nightshift_refused_total{listener="connection",reason="HEADERS_TOO_LARGE"}'), 1);
  });

  it("one that goes away in the middle of its body does no harm", async () => {
    await using running = await start();
    await new Promise<void>((resolve) => {
      const { hostname, port } = new URL(running.url);
      const socket = connect(Number(port), hostname, () => {
        socket.write(
          `POST /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\nx`,
        );
        setTimeout(() => socket.destroy(), 50);
      });
      socket.on("close", () => resolve());
    });
    await until(async () => (await scraped(running, 'nightshift_refused_total{listener="otlp",reason="BODY_CUT"}')) === 1, "it is counted");
    assert.equal((await fetch(`${running.url}/healthz`)).status, 200);
  });

  it("more connections than allowed are closed at once", async () => {
    await using running = await start({ maxConnections: 2 });
    const { hostname, port } = new URL(running.url);
    const sockets = [1, 2].map(() => connect(Number(port), hostname));
    try {
      await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => void socket.once("connect", () => resolve()))));
      assert.equal(await raw(running.url), "");
      await until(
        async () => (await scraped(running, 'nightshift_refused_total{listener="connection",reason="TOO_MANY_CONNECTIONS"}')) === 1,
        "it is counted",
      );
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  });
});

describe("a stop", () => {
  it("lets a request in flight finish, and takes no new ones", async () => {
    const running = await start();
    const body = gauge("u", "m", [{ v: 1 }]);
    const agent = new Agent({ keepAlive: true });
    const answered = new Promise<[number | undefined, string | undefined]>((resolve, reject) => {
      const req = httpRequest(
        `${running.url}/v1/metrics`,
        { method: "POST", agent, headers: { ...AUTH, ...JSON_TYPE, "content-length": body.length } },
        (response) => {
          response.resume();
          resolve([response.statusCode, response.headers.connection]);
        },
      );
      req.on("error", reject);
      req.write(body.slice(0, 10));
      setTimeout(() => {
        const closed = running.server.close();
        setTimeout(() => req.end(body.slice(10)), 100);
        closed.catch(reject);
      }, 100);
    });
    assert.deepEqual(await answered, [200, "close"]);
    await running.server.close();
    assert.equal(running.telemetry.replicaSeries("u", "m", 0).length, 1);
    await assert.rejects(fetch(`${running.url}/healthz`));
    agent.destroy();
  });

  it("does not wait for a connection whose refused body still comes", async () => {
    const running = await start({ stopGraceMs: 3_600_000, maxBodyBytes: 1_000 });
    const response = await fetch(`${running.url}/v1/metrics`, {
      method: "POST",
      headers: { ...AUTH, ...JSON_TYPE },
      body: "x".repeat(2 ** 20),
    });
    assert.equal(response.status, 413);
    await running.server.close();
  });

  it("does not wait for a request that never ends, nor for idle connections", async () => {
    const running = await start({ stopGraceMs: 200 });
    await fetch(`${running.url}/healthz`);
    const cut = raw(
      running.url,
      `POST /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\nx`,
    );
    await delay(100);
    await running.server.close();
    await cut;
  });
});

describe("HTTPS", () => {
  const certificate = (dir: string, name: string): { cert: Buffer; key: Buffer } => {
    const [cert, key] = [join(dir, `${name}.crt`), join(dir, `${name}.key`)];
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", `/CN=${name}`].concat([
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        key,
        "-out",
        cert,
      ]),
      { stdio: "ignore" },
    );
    return { cert: readFileSync(cert), key: readFileSync(key) };
  };
  const health = (url: string, ca: Buffer): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = httpsRequest(`${url}/healthz`, { ca, agent: false }, (response) => {
        const peer = (response.socket as TLSSocket).getPeerCertificate().subject.CN;
        response.resume().on("end", () => resolve(`${response.statusCode} from ${String(peer)}`));
      });
      request.on("error", reject).end();
    });

  it("serves with the certificate, takes a new one without a restart, and speaks no HTTP", async () => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-tls-"));
    try {
      const [first, second] = [certificate(dir, "first"), certificate(dir, "second")];
      await using running = await start({}, {}, first);
      assert.match(running.url, /^https:/);
      assert.equal(await health(running.url, first.cert), "200 from first");
      await assert.rejects(health(running.url, second.cert));
      running.server.renew(second);
      assert.equal(await health(running.url, second.cert), "200 from second");
      await assert.rejects(fetch(`${running.url.replace("https", "http")}/healthz`));
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
