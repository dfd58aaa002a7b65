import { createHash } from "node:crypto";
import { Agent, ProxyAgent, type Dispatcher } from "undici";
import { sleep, type Clock } from "../../ports/clock.ts";
import type { KubeAccess, KubeCredentials, KubeTls } from "./access.ts";
import type { KubeClient, KubeRequest, RawWatchEvent } from "./client.ts";
import { errorOfResponse, errorOfStatus, isDisruptionBudget, KubeApiError, type KubeErrorCode } from "./errors.ts";
import { Lines } from "./lines.ts";

/** Longest time for a request (ms): what client-node's and kubectl's default of none lacks. */
const REQUEST_TIMEOUT_MS = 30_000;
/** Longest time until a connection stands (ms), as client-go. */
const CONNECT_TIMEOUT_MS = 10_000;
/** How long an idle connection is kept (ms): shorter than the 90 s after which the API server closes it. */
const KEEP_ALIVE_MS = 60_000;
/** First TCP keepalive probe after this long without a byte (ms); Node sends ten more, a second apart, and then gives the connection up. */
const TCP_KEEP_ALIVE_MS = 15_000;
/** How long credentials are used before they are read again (ms). client-go re-reads token files every minute. */
const CREDENTIALS_MS = 10_000;
/** How long a watch lasts when its caller does not say (s). */
const WATCH_SECONDS = 300;
/** How much later than the server promised a watch may end (ms). */
const WATCH_SLACK_MS = 15_000;
/** A watch with bookmarks that says nothing for this long is dead (ms): the API server sends a bookmark about every minute. */
const WATCH_SILENCE_MS = 150_000;
/** Largest answer (bytes): a page of 500 large pods is 10 MB. */
const MAX_RESPONSE_BYTES = 128 * 2 ** 20;
/** Largest event of a watch (bytes): etcd takes objects of 1.5 MiB. */
const MAX_EVENT_BYTES = 16 * 2 ** 20;
/** Largest account of a failure that is read (bytes). */
const MAX_ERROR_BYTES = 2 ** 20;

/** A request that has ended, for metrics. */
export interface RequestReport {
  readonly method: KubeRequest["method"] | "WATCH";
  readonly path: string;
  /** HTTP status; undefined where there was no answer. */
  readonly statusCode: number | undefined;
  /** From the call to the last byte, or to the head of a watch's answer (ms). */
  readonly ms: number;
}

export interface HttpKubeClientOptions {
  readonly access: KubeAccess;
  readonly clock: Clock;
  /** Version of Nightshift, for the User-Agent. */
  readonly version: string;
  /** Requests under way at once; more wait, within their timeout. Watches do not count. Default 32. */
  readonly concurrency?: number;
  /** Largest answer (bytes). Default 128 MiB. */
  readonly maxResponseBytes?: number;
  /** A watch with bookmarks that says nothing for this long has failed (ms). Default 150 s. */
  readonly watchSilenceMs?: number;
  /** Told of each request that has ended, and of each watch that has begun. */
  readonly onRequest?: (report: RequestReport) => void;
}

/** Connections under one TLS identity. */
interface Connections {
  readonly identity: string;
  readonly requests: Dispatcher;
  readonly watches: Dispatcher;
}

/**
 * The client over HTTP/1.1 with keep-alive. undici and not `node:https`: measured with TLS on one machine it takes a
 * quarter off a request's latency and a third off its CPU time.
 *
 * Close it, or its idle connections keep the process alive for a minute.
 */
export class HttpKubeClient implements KubeClient {
  readonly #access: KubeAccess;
  readonly #clock: Clock;
  readonly #userAgent: string;
  readonly #concurrency: number;
  readonly #maxResponseBytes: number;
  readonly #watchSilenceMs: number;
  readonly #onRequest: (report: RequestReport) => void;
  readonly #prefix: string;
  #connections: Connections | undefined;
  /** Connections of an earlier TLS identity, until what runs on them has ended. */
  readonly #retired = new Set<Connections>();
  #credentials: { readonly at: number; readonly value: Promise<KubeCredentials> } | undefined;
  #closed = false;

  constructor(options: HttpKubeClientOptions) {
    this.#access = options.access;
    this.#clock = options.clock;
    this.#userAgent = `nightshift/${options.version}`;
    this.#concurrency = options.concurrency ?? 32;
    this.#maxResponseBytes = options.maxResponseBytes ?? MAX_RESPONSE_BYTES;
    this.#watchSilenceMs = options.watchSilenceMs ?? WATCH_SILENCE_MS;
    this.#onRequest = options.onRequest ?? (() => {});
    this.#prefix = options.access.server.pathname.replace(/\/$/, "");
  }

  async request<T>(request: KubeRequest): Promise<T> {
    const { method, path, timeoutMs = REQUEST_TIMEOUT_MS } = request;
    const where = `${method} ${path}`;
    const begun = this.#clock.monotonic();
    const limit = new Limit(this.#clock, timeoutMs, request.signal);
    let statusCode: number | undefined;
    try {
      for (;;) {
        const response = await this.#send(request, "requests", limit.signal, where);
        ({ statusCode } = response);
        const isError = statusCode < 200 || statusCode > 299;
        const body = await readBody(response.body, isError ? MAX_ERROR_BYTES : this.#maxResponseBytes, where);
        if (!isError) return decode(body, response.headers, where) as T;
        const error = errorOfResponse(statusCode, body.toString("utf8"), headerOf(response.headers, "retry-after"), where);
        const wait = error.code === "KUBE_TOO_MANY_REQUESTS" && !isDisruptionBudget(error) ? error.retryAfterMs : undefined;
        if (wait === undefined || this.#clock.monotonic() + wait >= begun + timeoutMs) throw error;
        // At least a little, and not all at the same moment: many may have been sent away together.
        await sleep(this.#clock, Math.max(wait, 100) + Math.random() * 100, limit.signal);
        if (limit.signal.aborted) throw error;
      }
    } catch (error) {
      throw limit.explain(error, where);
    } finally {
      limit.end();
      this.#onRequest({ method, path, statusCode, ms: this.#clock.monotonic() - begun });
    }
  }

  async *watch<T>(path: string, query: KubeRequest["query"], signal: AbortSignal, accept?: string): AsyncGenerator<RawWatchEvent<T>> {
    if (signal.aborted) return;
    const where = `WATCH ${path}`;
    const seconds = Number(query?.["timeoutSeconds"] ?? WATCH_SECONDS);
    const begun = this.#clock.monotonic();
    const limit = new Limit(this.#clock, seconds * 1000 + WATCH_SLACK_MS, signal);
    try {
      const all = { ...query, watch: true, timeoutSeconds: seconds };
      const request: KubeRequest = { method: "GET", path, query: all, ...(accept === undefined ? {} : { accept }) };
      const response = await this.#send(request, "watches", limit.signal, where);
      this.#onRequest({ method: "WATCH", path, statusCode: response.statusCode, ms: this.#clock.monotonic() - begun });
      if (response.statusCode !== 200) {
        const text = (await readBody(response.body, MAX_ERROR_BYTES, where)).toString("utf8");
        throw errorOfResponse(response.statusCode, text, headerOf(response.headers, "retry-after"), where);
      }
      const lines = new Lines(MAX_EVENT_BYTES);
      for await (const chunk of response.body)
        for (const line of lines.push(chunk as Buffer)) {
          yield decodeEvent<T>(line, where);
          if (signal.aborted) return;
        }
      if (!lines.isEmpty) throw new KubeApiError("KUBE_CONNECTION_LOST", "the watch ended in the middle of an event", { where });
    } catch (error) {
      if (signal.aborted) return;
      throw limit.explain(error, where);
    } finally {
      // Also when the caller stops reading: the connection is of no use to anyone else.
      limit.abort();
    }
  }

  /** Ends every request and watch that is under way, and closes all connections. */
  async close(): Promise<void> {
    this.#closed = true;
    const all = [...this.#retired, ...(this.#connections === undefined ? [] : [this.#connections])];
    this.#connections = undefined;
    await Promise.all(all.flatMap(({ requests, watches }) => [requests.destroy(), watches.destroy()]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Sends a request, and again once when its credentials are no longer accepted: the API server has then done nothing. */
  async #send(request: KubeRequest, over: "requests" | "watches", signal: AbortSignal, where: string): Promise<Dispatcher.ResponseData> {
    for (let first = true; ; first = false) {
      const { headers, tls } = await this.#currentCredentials();
      if (this.#closed) throw new KubeApiError("KUBE_ABORTED", "the client is closed", { where });
      const response = await this.#connectionsFor(tls)[over].request({
        origin: this.#access.server.origin,
        method: request.method,
        path: `${this.#prefix}${request.path}${queryText(request.query)}`,
        headers: {
          ...headers,
          accept: request.accept ?? "application/json",
          "user-agent": this.#userAgent,
          ...(request.body === undefined ? {} : { "content-type": request.contentType ?? "application/json" }),
        },
        body: request.body === undefined ? null : JSON.stringify(request.body),
        signal,
        // A request has its own limit; a watch lasts long, but its answer begins at once.
        headersTimeout: over === "watches" ? REQUEST_TIMEOUT_MS : 0,
        bodyTimeout: over === "watches" && request.query?.["allowWatchBookmarks"] === true ? this.#watchSilenceMs : 0,
      });
      if (response.statusCode !== 401 || !first) return response;
      await response.body.dump();
      this.#access.forget();
      this.#credentials = undefined;
    }
  }

  #currentCredentials(): Promise<KubeCredentials> {
    const now = this.#clock.monotonic();
    if (this.#credentials === undefined || now - this.#credentials.at > CREDENTIALS_MS) {
      const value = this.#access.credentials();
      const mine = { at: now, value };
      this.#credentials = mine;
      value.catch(() => {
        if (this.#credentials === mine) this.#credentials = undefined;
      });
    }
    return this.#credentials.value;
  }

  /** The connections for a TLS identity; a new certificate makes new ones. */
  #connectionsFor(tls: KubeTls): Connections {
    const identity = identityOf(tls);
    const current = this.#connections;
    if (current?.identity === identity) return current;
    const connections: Connections = {
      identity,
      requests: this.#dispatcher(tls, this.#concurrency),
      watches: this.#dispatcher(tls, null),
    };
    this.#connections = connections;
    if (current !== undefined) {
      this.#retired.add(current);
      void Promise.allSettled([current.requests.close(), current.watches.close()]).then(() => this.#retired.delete(current));
    }
    return connections;
  }

  #dispatcher(tls: KubeTls, connections: number | null): Dispatcher {
    // Over HTTP/2 an API server that ends leaves undici 8.13 with an exception that nobody can catch.
    const shared = { connections, keepAliveTimeout: KEEP_ALIVE_MS, pipelining: 1, allowH2: false };
    const connect = { ...tls, timeout: CONNECT_TIMEOUT_MS, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS };
    if (this.#access.proxy !== undefined) return new ProxyAgent({ ...shared, uri: this.#access.proxy, requestTls: connect });
    return new Agent({ ...shared, connect });
  }
}

/** The time that a request has, and the caller's wish to end it, as one signal. */
class Limit {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #cancel: () => void;
  readonly #ms: number;
  #timedOut = false;
  readonly #onAbort = (): void => this.#controller.abort();

  constructor(clock: Clock, ms: number, outer: AbortSignal | undefined) {
    this.#ms = ms;
    this.#outer = outer;
    this.#cancel = clock.after(ms, () => {
      this.#timedOut = true;
      this.#controller.abort();
    });
    if (outer?.aborted) this.#controller.abort();
    else outer?.addEventListener("abort", this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  end(): void {
    this.#cancel();
    this.#outer?.removeEventListener("abort", this.#onAbort);
  }

  abort(): void {
    this.end();
    this.#controller.abort();
  }

  /** What was thrown, as a `KubeApiError`. */
  explain(error: unknown, where: string): KubeApiError {
    if (error instanceof KubeApiError) return error;
    if (this.#timedOut) return new KubeApiError("KUBE_TIMEOUT", `no whole answer within ${this.#ms} ms`, { where, cause: error });
    if (this.#outer?.aborted) return new KubeApiError("KUBE_ABORTED", "the request was taken back", { where, cause: error });
    return transportError(error, where);
  }
}

/** Codes of errors that come before anything is sent. */
const BEFORE_SENDING =
  /^(UND_ERR_CONNECT_TIMEOUT|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|ERR_TLS_.*|ERR_SSL_.*|CERT_.*|SELF_SIGNED_.*|DEPTH_ZERO_.*|UNABLE_TO_.*)$/;

function transportError(error: unknown, where: string): KubeApiError {
  const { code = "", message = String(error) } = error instanceof Error ? (error as NodeJS.ErrnoException) : {};
  const kube = (is: KubeErrorCode, text = message): KubeApiError => new KubeApiError(is, text || code, { where, cause: error });
  if (BEFORE_SENDING.test(code) || message.includes("before secure TLS connection was established")) return kube("KUBE_UNREACHABLE");
  if (code === "UND_ERR_HEADERS_TIMEOUT") return kube("KUBE_TIMEOUT", "the watch was not answered");
  if (code === "UND_ERR_BODY_TIMEOUT") return kube("KUBE_TIMEOUT", "the watch has fallen silent");
  if (code === "UND_ERR_DESTROYED" || code === "UND_ERR_CLOSED") return kube("KUBE_ABORTED", "the client is closed");
  if (code.startsWith("HPE_") || code === "UND_ERR_HEADERS_OVERFLOW" || code === "UND_ERR_RES_CONTENT_LENGTH_MISMATCH")
    return kube("KUBE_PROTOCOL");
  return kube("KUBE_CONNECTION_LOST");
}

async function readBody(body: AsyncIterable<unknown>, maxBytes: number, where: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // Leaving the loop destroys the stream, and with it the connection.
    if (bytes > maxBytes) throw new KubeApiError("KUBE_RESPONSE_TOO_LARGE", `the answer is larger than ${maxBytes} bytes`, { where });
    chunks.push(chunk);
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, bytes);
}

/** JSON as what it says; anything else (`/readyz`) as text. */
function decode(body: Buffer, headers: Dispatcher.ResponseData["headers"], where: string): unknown {
  const text = body.toString("utf8");
  if (!headerOf(headers, "content-type")?.startsWith("application/json")) return text;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new KubeApiError("KUBE_PROTOCOL", "the answer is no JSON", { where, cause });
  }
}

/**
 * One line of a watch's answer. What it says exists has a name, a uid and a resourceVersion; a bookmark has the last alone.
 * @throws KubeApiError what an `ERROR` line says, or `KUBE_PROTOCOL`.
 */
export function decodeEvent<T>(line: string, where: string): RawWatchEvent<T> {
  let event: { readonly type?: unknown; readonly object?: { readonly metadata?: Record<string, unknown> | null } | null } | null;
  try {
    event = JSON.parse(line) as typeof event;
  } catch (cause) {
    throw new KubeApiError("KUBE_PROTOCOL", "a watch event is no JSON", { where, cause });
  }
  switch (event?.type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
    case "BOOKMARK": {
      const needed = event.type === "BOOKMARK" ? ["resourceVersion"] : ["name", "uid", "resourceVersion"];
      const lacking = needed.find((field) => typeof event.object?.metadata?.[field] !== "string");
      if (lacking !== undefined)
        throw new KubeApiError("KUBE_PROTOCOL", `the object of a watch event has no metadata.${lacking}`, { where });
      return event as RawWatchEvent<T>;
    }
    case "ERROR":
      throw errorOfStatus(event.object, where);
    default:
      throw new KubeApiError("KUBE_PROTOCOL", `a watch event of unknown type ${JSON.stringify(event?.type)?.slice(0, 100)}`, { where });
  }
}

function headerOf(headers: Dispatcher.ResponseData["headers"], name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function queryText(query: KubeRequest["query"]): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) params.set(name, String(value));
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

function identityOf(tls: KubeTls): string {
  const hash = createHash("sha256");
  for (const part of [tls.ca, tls.cert, tls.key, tls.passphrase, tls.servername, String(tls.rejectUnauthorized)])
    hash.update(part ?? "").update("\0");
  return hash.digest("hex");
}
