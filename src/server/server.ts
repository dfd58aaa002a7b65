import type { Server } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { Socket } from "node:net";
import { createAdaptorServer, type HttpBindings } from "@hono/node-server";
import { Hono, type Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { AlertBook, decodeAlerts } from "../observe/alertmanager.ts";
import type { OtlpLimits } from "../observe/otlp/model.ts";
import { encodeStatus, OTLP_MEDIA_TYPE, otlpEncoding, RPC_CODE, type RpcCode } from "../observe/otlp/response.ts";
import type { SpanSink } from "../observe/spans.ts";
import type { TelemetryStore } from "../observe/store.ts";
import type { Clock } from "../ports/clock.ts";
import { BodyBudget, bodyOf, withBody } from "./body.ts";
import { type GrpcListener, startGrpc } from "./grpc.ts";
import { listen } from "./listen.ts";
import { GRPC_METHOD, type OtlpPath, otlpOf } from "./otlp.ts";
import type { NightshiftMetrics } from "./metrics.ts";
import { MAX_SLACK_BODY, SLACK_PATH, type SlackActions } from "./slack.ts";
import type { Authenticator } from "./token.ts";

/** The bounds of the listener. */
export interface ServerLimits {
  /** Largest body, as sent and as inflated, in bytes. Default 8 MiB. */
  readonly maxBodyBytes: number;
  /** Most bytes of bodies in memory, over all requests; beyond, senders are told to try again. Default 64 MiB. */
  readonly maxBufferedBytes: number;
  /** Most connections; beyond, new ones are closed at once. Default 1,000. */
  readonly maxConnections: number;
  /** Time for a request's headers (ms). Default 10 seconds. */
  readonly headersTimeoutMs: number;
  /** Time for a whole request, its body included (ms). Default 30 seconds. */
  readonly requestTimeoutMs: number;
  /** How long an idle connection is kept (ms). Default 65 seconds: longer than clients keep theirs. */
  readonly keepAliveTimeoutMs: number;
  /** At a stop, how long requests in flight may go on (ms). Default 5 seconds. */
  readonly stopGraceMs: number;
  /** Bounds of an OTLP request. */
  readonly otlp: Partial<OtlpLimits>;
}

export const DEFAULT_SERVER_LIMITS: ServerLimits = {
  maxBodyBytes: 8 * 2 ** 20,
  maxBufferedBytes: 64 * 2 ** 20,
  maxConnections: 1_000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 65_000,
  stopGraceMs: 5_000,
  otlp: {},
};

/** What the listener needs. */
export interface ServerOptions {
  /** Where to listen. Port 0 takes any that is free. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Where OTLP over gRPC is taken. Default: nowhere. */
  readonly grpcListen?: { readonly host: string; readonly port: number } | undefined;
  /** Who may ask for anything but `/healthz` and `/readyz`. */
  readonly authenticate: Authenticator;
  /** Certificate and key (PEM), for HTTPS. Default: HTTP. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
  readonly telemetry: TelemetryStore;
  /** Where spans go. Default: traces are accepted, and their sender is told that nothing is made of them. */
  readonly spans?: SpanSink | undefined;
  /** Names of metrics that the platform measures itself, and that OTLP must not write. Default: none. */
  readonly reservedMetrics?: readonly string[];
  readonly alertBook: AlertBook;
  readonly metrics: NightshiftMetrics;
  /** Whether the loop works. `checks` say what of it; they are logged, not shown. */
  readonly readiness: () => { readonly ready: boolean; readonly checks: Readonly<Record<string, boolean>> };
  /** What `GET /api/v1/status` answers. */
  readonly status?: () => unknown;
  /** Answers by buttons in Slack. Default: there is no such address. */
  readonly slack?: SlackActions | undefined;
  readonly log: {
    info(data: object, message: string): void;
    warn(data: object, message: string): void;
    error(data: object, message: string): void;
  };
  readonly clock: Clock;
  readonly limits?: Partial<ServerLimits>;
}

/** A listener that runs. */
export interface RunningServer {
  /** `http://host:port` or `https://host:port`, without a slash at the end. */
  readonly url: string;
  /** The same of OTLP over gRPC, where that is taken. */
  readonly grpcUrl: string | undefined;
  /** Takes another certificate and key, for new connections. */
  renew(tls: { readonly cert: Buffer; readonly key: Buffer }): void;
  /** Takes no new connections, lets what is in flight finish within the bound, and resolves when all are closed. */
  close(): Promise<void>;
}

/** HTTP status of each code that a request can be refused with; 400 for any other. */
const STATUS: Readonly<Record<string, ContentfulStatusCode>> = {
  UNAUTHENTICATED: 401,
  SLACK_UNSIGNED: 401,
  SLACK_STALE: 401,
  SLACK_REPLAYED: 401,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  BODY_TOO_LARGE: 413,
  TOO_MANY_ITEMS: 413,
  UNSUPPORTED_ENCODING: 415,
  UNSUPPORTED_MEDIA_TYPE: 415,
  OVERLOADED: 503,
  AUTH_UNAVAILABLE: 503,
  INTERNAL: 500,
};

/** After how many seconds a sender that was told to come back should. */
const RETRY_AFTER_SECONDS = "1";
/** How often a stop looks for connections that have become idle (ms). */
const SWEEP_MS = 20;
/** Most bytes of what Slack sends that are in memory at once: everybody may knock there, and the others' share is not theirs. */
const SLACK_BUFFERED = 8 * MAX_SLACK_BODY;
/** Most refused alerts that an answer names. */
const MAX_NAMED = 100;

type Env = { Bindings: HttpBindings };

/** The routes that ask for the token, with the one method that each has and the listener's name in the metrics. */
const CLOSED_ROUTES: Readonly<Record<string, { readonly method: "GET" | "POST"; readonly listener: string }>> = {
  "/metrics": { method: "GET", listener: "metrics" },
  "/v1/metrics": { method: "POST", listener: "otlp" },
  "/v1/traces": { method: "POST", listener: "otlp" },
  "/v1/logs": { method: "POST", listener: "otlp" },
  "/webhooks/alertmanager": { method: "POST", listener: "alertmanager" },
  "/api/v1/status": { method: "GET", listener: "status" },
};

/**
 * Starts the listener for HTTP, and where asked for the one for OTLP over gRPC (`/opentelemetry.proto.collector.*`), which asks
 * for the same token and shares its bounds. HTTP has `/healthz` and `/readyz` for everyone; with the bearer token `/metrics` (Prometheus),
 * `/v1/metrics`, `/v1/traces` and `/v1/logs` (OTLP), `/webhooks/alertmanager` and `/api/v1/status`; with Slack's signature `/v1/slack/actions`, where that is
 * configured.
 *
 * @throws NightshiftError `LISTEN_FAILED` when the address is taken or not this machine's.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { telemetry, alertBook, metrics, clock, log } = options;
  const limits = { ...DEFAULT_SERVER_LIMITS, ...options.limits };
  const budget = new BodyBudget(limits.maxBufferedBytes);
  const routes =
    options.slack === undefined ? CLOSED_ROUTES : { ...CLOSED_ROUTES, [SLACK_PATH]: { method: "POST" as const, listener: "slack" } };
  const { otlp, counts } = otlpOf(options, limits.otlp);
  metrics.observed(() => ({ series: telemetry.seriesCount, telemetryRefused: telemetry.refused(), ...counts() }));
  let closing = false;

  const app = new Hono<Env>();
  const refuse = (c: Context<Env>, error: unknown): Response => {
    const listener = routes[c.req.path]?.listener ?? "other";
    const known = error instanceof NightshiftError;
    if (!known) log.error({ error: messageOf(error), path: c.req.path }, "a request failed");
    const shown = known ? error : new NightshiftError("INTERNAL", "the request failed; the log says why");
    if (shown.code === "AUTH_UNAVAILABLE") log.error({ error: messageOf(shown.cause ?? shown) }, shown.message);
    metrics.refused(listener, shown.code);
    const status = STATUS[shown.code] ?? 400;
    if (shown.code === "UNAUTHENTICATED") c.header("WWW-Authenticate", 'Bearer realm="nightshift"');
    if (status === 503) c.header("Retry-After", RETRY_AFTER_SECONDS);
    if (listener !== "otlp") return c.json(shown.toJSON(), status);
    const encoding = otlpEncoding(c.req.header("content-type")) ?? "json";
    const message = `${shown.message}${shown.fix === undefined ? "" : `. ${shown.fix}`}`;
    return c.body(bytes(encodeStatus(rpcCode(status), message, encoding)), status, { "Content-Type": OTLP_MEDIA_TYPE[encoding] });
  };

  app.use(async (c, next) => {
    await next();
    if (closing) c.header("Connection", "close");
    c.header("X-Content-Type-Options", "nosniff");
  });
  app.get("/healthz", (c) => c.text("ok\n"));
  let wasReady: boolean | undefined;
  app.get("/readyz", (c) => {
    const { ready, checks } = closing ? { ready: false, checks: { listening: false } } : options.readiness();
    if (ready !== wasReady) log.info({ ready, checks }, ready ? "ready" : "not ready");
    wasReady = ready;
    return ready ? c.text("ok\n") : c.text("not ready\n", 503);
  });
  const { slack } = options;
  if (slack !== undefined) {
    const slackBudget = new BodyBudget(SLACK_BUFFERED);
    app.post(SLACK_PATH, async (c) => {
      const headers = { timestamp: c.req.header("x-slack-request-timestamp"), signature: c.req.header("x-slack-signature") };
      slack.admit(headers);
      const secret = await slack.secret();
      const click = await withBody(bodyOf(c.env.incoming), MAX_SLACK_BODY, slackBudget, (body) => slack.open(secret, headers, body));
      const refused = await slack.answer(click);
      // Slack is told that it was heard, whatever came of it: people are told in the message.
      if (refused !== undefined) metrics.refused("slack", refused);
      return c.body(null, 200);
    });
  }
  app.use(async (c, next) => {
    const { method, path } = c.req;
    if (!(await options.authenticate({ authorization: c.req.header("authorization"), method, path })))
      throw new NightshiftError("UNAUTHENTICATED", "the bearer token is missing or wrong", {
        fix: "Send the header 'Authorization: Bearer TOKEN': on one machine the token is in the file 'token' of the state directory.",
      });
    await next();
  });
  app.get("/metrics", async (c) =>
    c.body(await metrics.registry.metrics(), 200, { "Content-Type": metrics.registry.contentType, "Cache-Control": "no-store" }),
  );
  for (const [path, take] of Object.entries(otlp))
    app.post(path, (c) => {
      const encoding = otlpEncoding(c.req.header("content-type"));
      if (encoding === undefined)
        throw new NightshiftError("UNSUPPORTED_MEDIA_TYPE", "the body's Content-Type is none of OTLP's", {
          fix: "Send application/x-protobuf or application/json.",
        });
      return withBody(bodyOf(c.env.incoming), limits.maxBodyBytes, budget, (body) =>
        c.body(bytes(take(body, encoding)), 200, { "Content-Type": OTLP_MEDIA_TYPE[encoding] }),
      );
    });
  app.post("/webhooks/alertmanager", (c) => {
    if (otlpEncoding(c.req.header("content-type")) !== "json")
      throw new NightshiftError("UNSUPPORTED_MEDIA_TYPE", "the body's Content-Type is not JSON", { fix: "Send application/json." });
    return withBody(bodyOf(c.env.incoming), limits.maxBodyBytes, budget, (body) => {
      const { alerts, refused } = decodeAlerts(body, clock.now());
      if (refused.length > 0) {
        metrics.refused("alertmanager", "MALFORMED_ALERT", refused.length);
        log.warn({ refused: refused.slice(0, 3), count: refused.length }, "alerts were refused");
      }
      const delivery = alertBook.deliver(alerts);
      // Alertmanager tries a 503 again, so an alert for which there is no place now is late, not lost.
      if (delivery.refused > 0) throw new NightshiftError("OVERLOADED", `there is no place for ${delivery.refused} alerts`);
      return c.json({ accepted: alerts.length, refused: refused.slice(0, MAX_NAMED), refusedCount: refused.length });
    });
  });
  app.get("/api/v1/status", (c) => c.json(options.status?.() ?? {}));
  app.all("*", (c) => {
    const allowed = routes[c.req.path]?.method;
    if (allowed === undefined) throw new NightshiftError("NOT_FOUND", "there is nothing at this address");
    c.header("Allow", allowed);
    throw new NightshiftError("METHOD_NOT_ALLOWED", `only ${allowed} is allowed here`);
  });
  app.onError((error, c) => refuse(c, error));

  const server = createAdaptorServer({
    fetch: app.fetch,
    overrideGlobalObjects: false,
    ...(options.tls === undefined ? {} : { createServer: createHttpsServer }),
    serverOptions: {
      ...options.tls,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.max(100, Math.min(1_000, limits.headersTimeoutMs / 2)),
      maxHeaderSize: 16_384,
    },
  }) as Server;
  server.maxConnections = limits.maxConnections;
  server.on("drop", () => metrics.refused("connection", "TOO_MANY_CONNECTIONS"));
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    const [status, code] =
      error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ["408 Request Timeout", "TIMEOUT"]
        : error.code === "HPE_HEADER_OVERFLOW"
          ? ["431 Request Header Fields Too Large", "HEADERS_TOO_LARGE"]
          : ["400 Bad Request", "MALFORMED_HTTP"];
    metrics.refused("connection", code);
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
  });
  const address = await listen(server, options.listen);
  let grpc: GrpcListener | undefined;
  if (options.grpcListen !== undefined) {
    try {
      grpc = await startGrpc({
        listen: options.grpcListen,
        authenticate: options.authenticate,
        tls: options.tls,
        methods: Object.fromEntries(
          Object.entries(otlp).map(([path, take]) => [
            GRPC_METHOD[path as OtlpPath],
            { path, call: (message) => take(message, "protobuf") },
          ]),
        ),
        budget,
        limits,
        refused: (listener, code) => metrics.refused(listener, code),
        log,
        clock,
      });
    } catch (error) {
      server.close();
      throw error;
    }
  }
  let closed: Promise<void> | undefined;
  return {
    grpcUrl: grpc?.url,
    url: `${options.tls === undefined ? "http" : "https"}://${address}`,
    renew: (tls) => {
      (server as Partial<HttpsServer>).setSecureContext?.(tls);
      grpc?.renew(tls);
    },
    close: () => {
      closing = true;
      slack?.close();
      const grpcClosed = grpc?.close();
      closed ??= new Promise<void>((resolve) => {
        // Node closes what is idle at this moment. A connection whose answer was sent but whose rest of a body is still
        // thrown away becomes idle without a further event, so it is asked again.
        let cancelSweep = (): void => {};
        const sweep = (): void => {
          server.closeIdleConnections();
          cancelSweep = clock.after(SWEEP_MS, sweep);
        };
        const cancelGrace = clock.after(limits.stopGraceMs, () => server.closeAllConnections());
        server.close(() => {
          cancelSweep();
          cancelGrace();
          resolve();
        });
        sweep();
      }).then(() => grpcClosed);
      return closed;
    },
  };
}

function rpcCode(status: number): RpcCode {
  if (status === 401) return RPC_CODE.Unauthenticated;
  if (status === 413) return RPC_CODE.ResourceExhausted;
  if (status === 503) return RPC_CODE.Unavailable;
  return status === 500 ? RPC_CODE.Internal : RPC_CODE.InvalidArgument;
}

/** The type that `Response` wants: a view of a buffer that is not shared. */
function bytes(view: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view);
}
