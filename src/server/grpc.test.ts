import assert from "node:assert/strict";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect as connectTcp } from "node:net";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { deflateSync, gzipSync } from "node:zlib";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { NightshiftError } from "../api/errors.ts";
import { selfSigned } from "../../test/support/certificate.ts";
import { AlertBook } from "../observe/alertmanager.ts";
import { TelemetryStore } from "../observe/store.ts";
import { systemClock } from "../platform/host/clock.ts";
import { NightshiftMetrics } from "./metrics.ts";
import { type RunningServer, type ServerLimits, startServer } from "./server.ts";
import { type Authenticator, bearerCheck } from "./token.ts";

const TOKEN = "a-token-for-tests-only-1234567890";
const METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

const log = { info(): void {}, warn(): void {}, error(): void {} };

interface Running extends AsyncDisposable {
  readonly server: RunningServer;
  readonly client: ClientHttp2Session;
  readonly telemetry: TelemetryStore;
  readonly asked: { method: string; path: string }[];
  refusals(): Promise<Record<string, number>>;
}

async function start(
  limits: Partial<ServerLimits> = {},
  authenticate?: Authenticator,
  tls?: { cert: Buffer; key: Buffer },
): Promise<Running> {
  const telemetry = new TelemetryStore(systemClock);
  const metrics = new NightshiftMetrics({ processMetrics: false });
  const asked: { method: string; path: string }[] = [];
  const check = bearerCheck(TOKEN);
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    grpcListen: { host: "127.0.0.1", port: 0 },
    authenticate: (credentials) => {
      asked.push({ method: credentials.method, path: credentials.path });
      return authenticate === undefined ? check(credentials.authorization) : authenticate(credentials);
    },
    telemetry,
    alertBook: new AlertBook(systemClock),
    metrics,
    readiness: () => ({ ready: true, checks: {} }),
    log,
    clock: systemClock,
    limits,
    ...(tls === undefined ? {} : { tls }),
  });
  const client = connect(server.grpcUrl ?? "", tls === undefined ? {} : { ca: tls.cert });
  client.on("error", () => {});
  return {
    server,
    client,
    telemetry,
    asked,
    refusals: async () => {
      const found: Record<string, number> = {};
      for (const { labels, value } of (await metrics.registry.getSingleMetric("nightshift_refused_total")?.get())?.values ?? [])
        found[`${String(labels["listener"])} ${String(labels["reason"])}`] = value;
      return found;
    },
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      await server.close();
    },
  };
}

/** An ExportMetricsServiceRequest with one gauge of one replica. */
function gauge(uid: string, metric: string, value: number, at = Date.now()): Uint8Array {
  const w = new BinaryWriter();
  const message = (field: number): BinaryWriter => w.uint32((field << 3) | 2).fork();
  message(1);
  message(1);
  message(1);
  w.uint32(10).string("service.instance.id");
  message(2);
  w.uint32(10).string(uid).join().join().join();
  message(2);
  message(2);
  w.uint32(10).string(metric);
  message(5);
  message(1);
  w.uint32((3 << 3) | 1).fixed64(BigInt(at) * 1_000_000n);
  w.uint32((4 << 3) | 1).double(value);
  return w.join().join().join().join().join().finish();
}

/** Frames a message as gRPC does. */
function framed(message: Uint8Array, compressed = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = compressed;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

interface Answer {
  readonly http: number | undefined;
  /** The grpc-status, whether it came as a header or as a trailer. */
  readonly status: string | undefined;
  readonly message: string;
  readonly details: Buffer | undefined;
  readonly body: Buffer;
}

const request = (client: ClientHttp2Session, headers: Record<string, string | undefined> = {}): ClientHttp2Stream =>
  client.request({
    ":method": "POST",
    ":path": METRICS,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${TOKEN}`,
    ...headers,
  });

function answered(stream: ClientHttp2Stream): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let head: Record<string, unknown> = {};
    const body: Buffer[] = [];
    stream.on("response", (headers) => (head = { ...head, ...headers }));
    stream.on("trailers", (headers) => (head = { ...head, ...headers }));
    stream.on("data", (chunk: Buffer) => body.push(chunk));
    stream.on("error", reject);
    stream.on("close", () => {
      const details = head["grpc-status-details-bin"] as string | undefined;
      resolve({
        http: head[":status"] as number | undefined,
        status: head["grpc-status"] as string | undefined,
        message: decodeURIComponent((head["grpc-message"] as string | undefined) ?? ""),
        details: details === undefined ? undefined : Buffer.from(details, "base64"),
        body: Buffer.concat(body),
      });
    });
  });
}

function call(running: Running, body: Uint8Array, headers: Record<string, string | undefined> = {}): Promise<Answer> {
  const stream = request(running.client, headers);
  const answer = answered(stream);
  stream.end(body);
  return answer;
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 1_500; i++) {
    if (await condition()) return;
    await delay(10);
  }
  assert.fail(`never: ${what}`);
}

describe("OTLP over gRPC", () => {
  it("takes metrics, plain, gzipped and deflated, and many at once on one connection", async () => {
    await using running = await start();
    const message = gauge("plain", "m", 1);
    const answer = await call(running, framed(message));
    assert.deepEqual([answer.http, answer.status, [...answer.body]], [200, "0", [0, 0, 0, 0, 0]]);
    assert.deepEqual(running.asked, [{ method: "POST", path: "/v1/metrics" }], "asked as OTLP over HTTP is");
    assert.equal((await call(running, framed(gzipSync(gauge("zipped", "m", 2)), 1), { "grpc-encoding": "gzip" })).status, "0");
    assert.equal((await call(running, framed(deflateSync(gauge("deflated", "m", 3)), 1), { "grpc-encoding": "deflate" })).status, "0");
    const many = await Promise.all(Array.from({ length: 300 }, (_, i) => call(running, framed(gauge(`u${i}`, "m", i)))));
    assert.ok(many.every(({ status }) => status === "0"));
    for (const [uid, v] of [
      ["plain", 1],
      ["zipped", 2],
      ["deflated", 3],
      ["u299", 299],
    ] as const)
      assert.deepEqual(
        running.telemetry.replicaSeries(uid, "m", 0).map((sample) => sample.v),
        [v],
        uid,
      );
  });

  it("a message that is not compressed may come on a call that says it may be", async () => {
    await using running = await start();
    assert.equal((await call(running, framed(gauge("u", "m", 1)), { "grpc-encoding": "gzip" })).status, "0");
  });

  it("points that were refused are told of as partial success", async () => {
    await using running = await start();
    const { status, body } = await call(running, framed(gauge("u", "m", Number.NaN)));
    assert.equal(status, "0");
    const reader = new BinaryReader(body.subarray(5));
    assert.equal(reader.uint32(), (1 << 3) | 2);
    reader.uint32();
    assert.equal(reader.uint32(), 1 << 3);
    assert.equal(Number(reader.int64()), 1);
    assert.equal(reader.uint32(), (2 << 3) | 2);
    assert.match(reader.string(), /1 not-finite/);
  });

  it("traces are taken; of logs, which no policy asks for, the sender is told so; both are asked for the token", async () => {
    await using running = await start();
    for (const [service, path, says] of [
      ["trace.v1.TraceService", "/v1/traces", /^[^N]*$/],
      ["logs.v1.LogsService", "/v1/logs", /no policy asks for logs/],
    ] as const) {
      const headers = { ":path": `/opentelemetry.proto.collector.${service}/Export` };
      const { status, body } = await call(running, framed(Buffer.alloc(0)), headers);
      assert.equal(status, "0", service);
      assert.match(body.toString(), says);
      assert.equal(running.asked.at(-1)?.path, path);
      assert.equal((await call(running, framed(Buffer.alloc(0)), { ...headers, authorization: undefined })).status, "16");
    }
  });

  it("is closed to who has no token, before any byte of the message is read", async () => {
    await using running = await start();
    for (const authorization of [undefined, "", "Bearer wrong-token-wrong-token-wrong", TOKEN, `Basic ${TOKEN}`]) {
      const stream = request(running.client, { authorization });
      const answer = answered(stream);
      // The message never comes: the answer must not wait for it.
      stream.write(framed(gauge("u", "m", 1)).subarray(0, 3));
      const { http, status, message } = await answer;
      assert.deepEqual([http, status], [200, "16"], String(authorization));
      assert.match(message, /bearer token/);
    }
    assert.equal((await call(running, Buffer.alloc(0), { ":path": "/any.Service/Method", authorization: undefined })).status, "16");
    assert.equal((await running.refusals())["grpc UNAUTHENTICATED"], 6);
    assert.equal(running.telemetry.seriesCount, 0);
  });

  it("where it cannot be told who may, the sender is told to come back", async () => {
    await using running = await start({}, () => Promise.reject(new NightshiftError("AUTH_UNAVAILABLE", "not now")));
    const { status, details } = await call(running, framed(gauge("u", "m", 1)));
    assert.equal(status, "14");
    assert.match(details?.toString("latin1") ?? "", /type\.googleapis\.com\/google\.rpc\.RetryInfo/);
  });

  it("what it does not have is UNIMPLEMENTED, what is not gRPC is answered as HTTP", async () => {
    await using running = await start();
    const message = framed(gauge("u", "m", 1));
    for (const path of ["/", "/nothing.Here/Export", `${METRICS}2`, "/v1/metrics", "/toString", "/__proto__"])
      assert.equal((await call(running, message, { ":path": path })).status, "12", path);
    assert.equal((await call(running, framed(gzipSync(message), 1), { "grpc-encoding": "br" })).status, "12");
    assert.equal((await call(running, framed(gzipSync(message), 1))).status, "12");
    for (const type of ["application/json", "application/grpc+json", "application/grpcx", ""])
      assert.equal((await call(running, message, { "content-type": type })).http, 415, type);
    const get = running.client.request({ ":method": "GET", ":path": METRICS, "content-type": "application/grpc" });
    assert.equal((await answered(get)).http, 405);
    assert.equal(running.telemetry.seriesCount, 0);
  });

  it("malformed messages are INVALID_ARGUMENT, and nothing of them is kept", async () => {
    await using running = await start();
    const message = gauge("u", "m", 1);
    const whole = framed(message);
    const two = Buffer.concat([whole, whole]);
    for (const [what, body, headers] of [
      ["nothing at all", Buffer.alloc(0), {}],
      ["half a prefix", whole.subarray(0, 3), {}],
      ["half a message", whole.subarray(0, 40), {}],
      ["two messages", two, {}],
      ["a length that lies", Buffer.concat([Buffer.from([0, 0xff, 0xff, 0xff, 0xff]), message]), {}],
      ["a flag that is none", framed(message, 7), {}],
      ["truncated protobuf", framed(message.subarray(0, message.length - 9)), {}],
      ["no protobuf", framed(Buffer.from("hello, this is text")), {}],
      ["gzip that is none", framed(message, 1), { "grpc-encoding": "gzip" }],
      ["gzip cut off", framed(gzipSync(message).subarray(0, 30), 1), { "grpc-encoding": "gzip" }],
    ] as const)
      assert.equal((await call(running, body, headers)).status, "3", what);
    assert.equal(running.telemetry.seriesCount, 0);
    assert.equal((await call(running, whole)).status, "0", "the connection goes on");
  });

  it("oversized messages, also inflated ones, are RESOURCE_EXHAUSTED for good: without a time to come back", async () => {
    await using running = await start({ maxBodyBytes: 10_000 });
    const large = await call(running, framed(Buffer.alloc(200_000)));
    assert.deepEqual([large.status, large.details], ["8", undefined]);
    const bomb = gzipSync(Buffer.alloc(5_000_000));
    assert.ok(bomb.length < 10_000);
    const inflated = await call(running, framed(bomb, 1), { "grpc-encoding": "gzip" });
    assert.deepEqual([inflated.status, inflated.details], ["8", undefined]);
    assert.match(inflated.message, /larger than 10000 bytes/);
    assert.equal((await running.refusals())["grpc BODY_TOO_LARGE"], 2);
    assert.equal((await call(running, framed(gauge("u", "m", 1)))).status, "0");
  });

  it("one that never stops sending is stopped", async () => {
    await using running = await start({ maxBodyBytes: 10_000 });
    const stream = request(running.client);
    const answer = answered(stream);
    const chunk = Buffer.alloc(4_096);
    let written = 0;
    const write = (): void => {
      if (stream.destroyed || stream.closed || written > 50_000_000) return;
      written += chunk.length;
      stream.write(chunk, () => setImmediate(write));
    };
    write();
    assert.equal((await answer).status, "8");
    assert.ok(written < 50_000_000, `${written} bytes were taken`);
  });

  it("when too much is in memory, over both listeners, senders are told when to come back", async () => {
    await using running = await start({ maxBufferedBytes: 100 });
    const { status, details } = await call(running, framed(gauge("u".repeat(100), "m", 1)));
    assert.equal(status, "8");
    const text = details?.toString("latin1") ?? "";
    assert.match(text, /RetryInfo/);
    assert.ok(text.endsWith("\x08\x01"), "a delay of one second");
    assert.equal((await call(running, framed(Buffer.alloc(0)))).status, "0", "what was taken was given back");
  });

  it("one that is slow, or goes away, costs no memory", async () => {
    await using running = await start({ headersTimeoutMs: 300, requestTimeoutMs: 300, maxBufferedBytes: 500 });
    const slow = request(running.client);
    const ended = new Promise<number>((resolve) => slow.on("close", () => resolve(slow.rstCode)));
    slow.on("error", () => {});
    slow.write(framed(Buffer.alloc(450)).subarray(0, 400));
    assert.equal(await ended, constants.NGHTTP2_CANCEL);
    assert.equal((await running.refusals())["grpc TIMEOUT"], 1);
    const gone = request(running.client);
    gone.on("error", () => {});
    gone.write(framed(Buffer.alloc(450)).subarray(0, 400));
    await delay(50);
    gone.close(constants.NGHTTP2_CANCEL);
    await until(async () => (await call(running, framed(gauge("u".repeat(300), "m", 1)))).status === "0", "300 bytes find place again");
    assert.ok(((await running.refusals())["grpc BODY_CUT"] ?? 0) >= 1);
  });

  it("one that goes away while it is asked who it is, is forgotten", async () => {
    let letIn = (): void => {};
    const asked = new Promise<boolean>((resolve) => (letIn = () => resolve(true)));
    await using running = await start({}, () => asked);
    const stream = request(running.client);
    stream.on("error", () => {});
    await until(() => running.asked.length === 1, "it is asked");
    stream.close(constants.NGHTTP2_CANCEL);
    await delay(50);
    letIn();
    await until(async () => (await running.refusals())["grpc BODY_CUT"] === 1, "it is counted");
  });

  it("a connection without a call is let go, and so is one that speaks no HTTP/2", async () => {
    await using running = await start({ keepAliveTimeoutMs: 200 });
    await new Promise<void>((resolve) => running.client.once("close", () => resolve()));
    const { hostname, port } = new URL(running.server.grpcUrl ?? "");
    for (const text of ["", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
      await new Promise<void>((resolve) => {
        const socket = connectTcp(Number(port), hostname, () => socket.write(text));
        socket.on("error", () => {});
        socket.resume().on("close", () => resolve());
      });
  });

  it("more connections than allowed are closed at once", async () => {
    await using running = await start({ maxConnections: 1 });
    assert.equal((await call(running, framed(gauge("u", "m", 1)))).status, "0");
    const second = connect(running.server.grpcUrl ?? "");
    second.on("error", () => {});
    await new Promise<void>((resolve) => second.once("close", () => resolve()));
    assert.equal((await running.refusals())["connection TOO_MANY_CONNECTIONS"], 1);
  });

  it("a stop lets a call in flight finish, and takes no new ones", async () => {
    const running = await start();
    const stream = request(running.client);
    const answer = answered(stream);
    const body = framed(gauge("u", "m", 1));
    stream.write(body.subarray(0, 10));
    await until(() => running.asked.length === 1, "it is under way");
    const closed = running.server.close();
    await delay(50);
    stream.end(body.subarray(10));
    assert.equal((await answer).status, "0");
    await closed;
    assert.equal(running.telemetry.seriesCount, 1);
    await assert.rejects(call(running, body));
  });

  it("a stop does not wait for a call that never ends", async () => {
    const running = await start({ stopGraceMs: 100 });
    const stream = request(running.client);
    stream.on("error", () => {});
    stream.write("x");
    await until(() => running.asked.length === 1, "it is under way");
    await running.server.close();
  });

  it("over TLS, with the certificate, which is taken anew without a restart, and not without TLS", async () => {
    const pem = (): { cert: Buffer; key: Buffer } => {
      const { cert, key } = selfSigned();
      return { cert: Buffer.from(cert), key: Buffer.from(key) };
    };
    const [first, second] = [pem(), pem()];
    await using running = await start({}, undefined, first);
    const url = running.server.grpcUrl ?? "";
    assert.match(url, /^https:/);
    assert.equal((await call(running, framed(gauge("u", "m", 1)))).status, "0");
    running.server.renew(second);
    const statusWith = async (address: string, ca?: Buffer): Promise<string | undefined> => {
      const client = connect(address, ca === undefined ? {} : { ca });
      client.on("error", () => {});
      try {
        const stream = request(client);
        const answer = answered(stream);
        stream.end(framed(gauge("u", "m", 1)));
        return (await answer).status;
      } catch {
        return "refused";
      } finally {
        client.destroy();
      }
    };
    assert.equal(await statusWith(url, second.cert), "0");
    assert.equal(await statusWith(url, first.cert), "refused");
    assert.notEqual(await statusWith(url.replace("https", "http")), "0");
  });

  it("an address that is taken is told, and nothing is left listening", async () => {
    await using running = await start();
    const taken = Number(new URL(running.server.grpcUrl ?? "").port);
    const options = {
      listen: { host: "127.0.0.1", port: 0 },
      grpcListen: { host: "127.0.0.1", port: taken },
      authenticate: () => true,
      telemetry: running.telemetry,
      alertBook: new AlertBook(systemClock),
      metrics: new NightshiftMetrics({ processMetrics: false }),
      readiness: () => ({ ready: true, checks: {} }),
      log,
      clock: systemClock,
    };
    await assert.rejects(
      startServer(options),
      (error: NightshiftError) => error.code === "LISTEN_FAILED" && /EADDRINUSE/.test(error.message),
    );
  });
});
