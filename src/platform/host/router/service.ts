import { Agent, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
// Measured in November 2026 against http-proxy-3 1.23: with that one, a chunked DELETE becomes a second request on the
// backend's connection (request smuggling), and an answer that the backend cuts hangs at the client for ever. httpxy 0.5
// does both right, and reads a body only once there is a connection, so that a refused one can be retried.
import { createProxyServer } from "httpxy";
import { Backend } from "./backend.ts";
import { LatencyRecorder } from "./latency.ts";
import type { RouterSecond, RouterService, RouterServiceStats } from "./protocol.ts";

/** How long a request waits for a backend that takes requests. */
const WAIT_FOR_BACKEND_MS = 2_000;
/** Pause before every backend is tried again when none has accepted a connection. */
const RECONNECT_MS = 100;
/** Seconds of statistics that are kept. */
const SECONDS_KEPT = 120;
/** Methods whose request may be sent twice (RFC 9110, 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
/** Headers that belong to one connection (RFC 9110, 7.6.1); `transfer-encoding` is dealt with apart. */
const HOP_BY_HOP = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "upgrade",
];
/** Never removed, though `Connection` names them: they say where the message ends, and for whom it is. */
const END_TO_END: ReadonlySet<string> = new Set(["host", "content-length", "transfer-encoding"]);

function removeHopByHop(headers: IncomingHttpHeaders): void {
  const named = (headers.connection ?? "").split(",").map((token) => token.trim().toLowerCase());
  for (const name of [...named, ...HOP_BY_HOP]) if (!END_TO_END.has(name)) delete headers[name];
}

function hasBody(req: IncomingMessage): boolean {
  return req.headers["transfer-encoding"] !== undefined || Number(req.headers["content-length"] ?? 0) > 0;
}

/** One request on its way, with its attempts. */
interface Exchange {
  readonly req: IncomingMessage;
  readonly startedAt: number;
  /** Backends that did not accept a connection for it. */
  readonly tried: Set<Backend>;
  /** Until when it waits for a backend that does. */
  readonly deadline: number;
  /** The client has its answer, or is gone. */
  done: boolean;
  /** It has been sent, at least in part, to the current backend. */
  sent: boolean;
  resent: boolean;
  timedOut: boolean;
  /** The answer was broken off by the backend. */
  cut: boolean;
  answeredAt: number | undefined;
  /** The current attempt: whose it is, how to end its in-flight count, what has failed it. */
  backend: Backend | undefined;
  release: () => void;
  timer: NodeJS.Timeout | undefined;
  fail: (error: Error) => void;
  /** Wakes it while it waits for a backend. */
  wake: () => void;
  onUpgradeSent: (outgoing: ClientRequest) => void;
}

interface MutableSecond {
  readonly at: number;
  total: number;
  failed: number;
  readonly latency: LatencyRecorder;
}

/** The proxy of one service: chooses a backend for each request, retries what is safe to, and counts. */
export class ServiceProxy {
  #config: RouterService;
  #backends: Backend[] = [];
  /** Out of the configuration, with requests in flight. */
  readonly #leaving = new Set<Backend>();
  /** Where the search for the least busy begins, so that ties go round. */
  #turn = 0;
  readonly #waiting = new Set<() => void>();
  readonly #seconds: MutableSecond[] = [];
  readonly #exchanges = new WeakMap<IncomingMessage, Exchange>();
  readonly #upgraded = new Set<Socket>();
  readonly #proxy = createProxyServer({ prependPath: false });
  #active = 0;
  #idle: (() => void) | undefined;

  constructor(config: RouterService) {
    this.#config = config;
    this.#proxy.on("error", (error, req) => {
      const exchange = req && this.#exchanges.get(req);
      exchange?.fail(error);
    });
    this.#proxy.on("proxyReq", (outgoing, req) => this.#onConnected(outgoing, req));
    this.#proxy.on("proxyReqWs", (outgoing, req) => this.#exchanges.get(req)?.onUpgradeSent(outgoing));
    this.#proxy.on("proxyRes", (incoming, req, res) => this.#onResponse(incoming, req, res));
    this.configure(config);
  }

  /** Takes over backends and time limit. Backends that stay keep their connections and counts. */
  configure(config: RouterService): void {
    this.#config = config;
    const before = this.#backends;
    this.#backends = config.backends.map((wanted) => {
      const known = before.find((backend) => backend.is(wanted));
      if (known === undefined) return new Backend(wanted);
      if (known.traffic !== wanted.traffic) known.traffic = wanted.traffic;
      return known;
    });
    for (const backend of before)
      if (!this.#backends.includes(backend)) {
        this.#leaving.add(backend);
        backend.retire(() => this.#leaving.delete(backend));
      }
    for (const wake of this.#waiting) wake();
  }

  stats(now: number): RouterServiceStats {
    this.#forgetOld(now);
    return {
      namespace: this.#config.namespace,
      name: this.#config.name,
      listen: this.#config.listen,
      seconds: this.#seconds.map(({ at, total, failed, latency }): RouterSecond => ({ at, total, failed, latency: latency.sketch() })),
      backends: [...this.#backends, ...this.#leaving].map((backend) => backend.stats()),
    };
  }

  /** Resolves when no request is on its way. */
  async idle(): Promise<void> {
    while (this.#active > 0)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
  }

  /** Breaks off what is on its way and closes every connection. The servers in front must be closed by their owner. */
  destroy(): void {
    for (const socket of this.#upgraded) socket.destroy();
    for (const backend of [...this.#backends, ...this.#leaving]) backend.agent.destroy();
    for (const wake of this.#waiting) wake();
  }

  /** Answers a request. */
  web(req: IncomingMessage, res: ServerResponse): void {
    const exchange = this.#begin(req);
    this.#prepare(req);
    // Also when the client goes away, and when its connection does after the answer.
    res.once("close", () => {
      const gaveUp = !res.writableFinished && !exchange.cut;
      this.#end(exchange, gaveUp, exchange.cut || (!gaveUp && res.statusCode >= 500), true);
    });
    res.on("error", () => {});
    const answer = (status: number, message: string): void => {
      if (exchange.done) return;
      res.writeHead(status, { "content-type": "text/plain", "retry-after": "1" });
      res.end(`nightshift router: ${message}\n`);
    };
    const run = async (): Promise<void> => {
      for (let again = true; again;) {
        const backend = await this.#choose(exchange);
        if (exchange.done) return exchange.release();
        if (backend === undefined) return answer(503, this.#noBackend(exchange));
        again = await new Promise<boolean>((resolve) => {
          exchange.sent = false;
          exchange.fail = (error) => {
            // A request and its answer may both report one broken connection, also when the next attempt is on already.
            exchange.fail = () => {};
            resolve(this.#attemptFailed(exchange, backend, res, error, answer));
          };
          const target = { protocol: "http:", hostname: backend.host, port: backend.port };
          this.#proxy.web(req, res, { target, agent: backend.agent }).catch((error: Error) => exchange.fail(error));
        });
      }
    };
    run().catch((error: Error) => answer(500, error.message));
  }

  /** Ends an attempt; true when the request is to be sent again. */
  #attemptFailed(
    exchange: Exchange,
    backend: Backend,
    res: ServerResponse,
    error: Error,
    answer: (status: number, message: string) => void,
  ): boolean {
    if (exchange.done) return false;
    clearTimeout(exchange.timer);
    backend.failed += 1;
    exchange.release();
    if (res.headersSent) {
      exchange.cut = true;
      res.destroy();
      return false;
    }
    if (exchange.timedOut) {
      answer(504, `${this.#name} did not answer within ${this.#config.timeoutMs} ms`);
      return false;
    }
    if (!exchange.sent) {
      exchange.tried.add(backend);
      return true;
    }
    if (!exchange.resent && IDEMPOTENT.has(exchange.req.method ?? "") && !hasBody(exchange.req)) {
      exchange.resent = true;
      // A process that dies breaks its connections one by one: the second try must not go over the next of them.
      backend.penalize();
      return true;
    }
    answer(502, `${this.#name} closed the connection without an answer (${error.message})`);
    return false;
  }

  /** Connects a client that asks for a WebSocket. */
  upgrade(req: IncomingMessage, socket: Socket, head: Buffer): void {
    const exchange = this.#begin(req);
    this.#upgraded.add(socket);
    this.#prepare(req, true);
    let status = 0;
    let refused = false;
    socket.on("error", () => {});
    socket.once("close", () => {
      this.#upgraded.delete(socket);
      this.#end(exchange, status === 0 && !refused, refused || status >= 500, false);
    });
    const refuse = (code: number, text: string): void => {
      if (exchange.done || refused) return;
      refused = true;
      if (status === 0) socket.write(`HTTP/1.1 ${code} ${text}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
      socket.destroySoon();
    };
    exchange.onUpgradeSent = (outgoing) => {
      outgoing.once("response", (response: IncomingMessage) => {
        status = response.statusCode ?? 502;
        if (status >= 500 && exchange.backend) exchange.backend.failed += 1;
        response.once("end", () => {
          exchange.release();
          socket.once("finish", () => socket.destroy());
        });
      });
      outgoing.once("upgrade", (_response: IncomingMessage, upstream: Socket) => {
        status = 101;
        // The library ends each side when the other one ends, and not when it is destroyed.
        socket.once("close", () => upstream.destroy());
        upstream.once("close", () => {
          exchange.release();
          socket.destroySoon();
        });
      });
    };
    const run = async (): Promise<void> => {
      for (;;) {
        const backend = await this.#choose(exchange);
        if (exchange.done) return exchange.release();
        if (backend === undefined) return refuse(503, "Service Unavailable");
        const connection = await new Promise<Socket | undefined>((resolve) => {
          backend.connect((_error, connected) => resolve(connected));
        });
        if (exchange.done) {
          connection?.destroy();
          return exchange.release();
        }
        if (connection === undefined) {
          backend.failed += 1;
          exchange.release();
          exchange.tried.add(backend);
          continue;
        }
        exchange.fail = (error) => {
          exchange.fail = () => {};
          if (exchange.done) return;
          backend.failed += 1;
          exchange.release();
          const late = (error as { code?: unknown }).code === "ERR_UPSTREAM_UPGRADE_TIMEOUT";
          refuse(late ? 504 : 502, late ? "Gateway Timeout" : "Bad Gateway");
        };
        // The connection that stands already, for this one request.
        const agent = new Agent();
        agent.createConnection = () => connection;
        const target = { protocol: "http:", hostname: backend.host, port: backend.port };
        await this.#proxy.ws(req, socket, { target, agent, upgradeTimeout: this.#config.timeoutMs }, head);
        return;
      }
    };
    run().catch(() => refuse(500, "Internal Server Error"));
  }

  get #name(): string {
    return `${this.#config.namespace}/${this.#config.name}`;
  }

  #noBackend(exchange: Exchange): string {
    return exchange.tried.size > 0
      ? `no backend of ${this.#name} accepts connections`
      : `no backend of ${this.#name} takes requests at the moment`;
  }

  #begin(req: IncomingMessage): Exchange {
    const exchange: Exchange = {
      req,
      startedAt: performance.now(),
      tried: new Set(),
      deadline: performance.now() + WAIT_FOR_BACKEND_MS,
      done: false,
      sent: false,
      resent: false,
      timedOut: false,
      cut: false,
      answeredAt: undefined,
      backend: undefined,
      release: () => {},
      timer: undefined,
      fail: () => {},
      wake: () => {},
      onUpgradeSent: () => {},
    };
    this.#exchanges.set(req, exchange);
    this.#active += 1;
    return exchange;
  }

  #end(exchange: Exchange, gaveUp: boolean, failed: boolean, timed: boolean): void {
    if (exchange.done) return;
    exchange.done = true;
    clearTimeout(exchange.timer);
    exchange.release();
    exchange.wake();
    const second = this.#second();
    second.total += 1;
    if (failed) second.failed += 1;
    if (timed && !gaveUp) second.latency.add((exchange.answeredAt ?? performance.now()) - exchange.startedAt);
    this.#active -= 1;
    if (this.#active === 0) this.#idle?.();
  }

  /** Headers for the next hop. */
  #prepare(req: IncomingMessage, upgrade = false): void {
    const { headers, socket } = req;
    // Absolute form, as clients send it to a proxy (RFC 9112, 3.2.2).
    if (req.url !== undefined && URL.canParse(req.url)) {
      const { pathname, search } = new URL(req.url);
      req.url = pathname + search;
    }
    const protocol = headers.upgrade;
    removeHopByHop(headers);
    if (upgrade) {
      headers.connection = "Upgrade";
      headers.upgrade = protocol;
    }
    // Node has answered it already.
    delete headers.expect;
    const sender = socket.remoteAddress;
    if (sender !== undefined) {
      const chain = headers["x-forwarded-for"];
      headers["x-forwarded-for"] = chain === undefined ? sender : `${String(chain)}, ${sender}`;
    }
    headers["x-forwarded-proto"] ??= "http";
    headers["x-forwarded-port"] ??= String(this.#config.listen.port);
    if (headers.host !== undefined) headers["x-forwarded-host"] ??= headers.host;
  }

  /**
   * The backend with the fewest requests in flight, counted in at once so that the next choice sees it; undefined when
   * none took requests in time, or the client is gone.
   */
  async #choose(exchange: Exchange): Promise<Backend | undefined> {
    for (;;) {
      if (exchange.done) return undefined;
      const backend = this.#leastBusy(exchange.tried);
      if (backend !== undefined) {
        exchange.backend = backend;
        exchange.release = backend.acquire();
        return backend;
      }
      const left = exchange.deadline - performance.now();
      if (left <= 0) return undefined;
      const refused = this.#backends.some((other) => other.traffic);
      await this.#changed(exchange, refused ? Math.min(left, RECONNECT_MS) : left);
      if (refused && exchange.deadline > performance.now()) exchange.tried.clear();
    }
  }

  #leastBusy(except: ReadonlySet<Backend>): Backend | undefined {
    let best: Backend | undefined;
    const count = this.#backends.length;
    for (let i = 0; i < count; i += 1) {
      const backend = this.#backends[(this.#turn + i) % count];
      if (backend === undefined || !backend.traffic || except.has(backend)) continue;
      if (
        best === undefined ||
        (best.penalized && !backend.penalized) ||
        (best.penalized === backend.penalized && backend.inFlight < best.inFlight)
      )
        best = backend;
    }
    if (best !== undefined) this.#turn = (this.#backends.indexOf(best) + 1) % count;
    return best;
  }

  /** Resolves at the next change of the configuration, when the request is over, or after `ms`. */
  #changed(exchange: Exchange, ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      exchange.wake = wake;
      this.#waiting.add(wake);
    });
  }

  /** The request has a connection: from here on it counts as sent, and the backend's time runs. */
  #onConnected(outgoing: ClientRequest, req: IncomingMessage): void {
    const exchange = this.#exchanges.get(req);
    if (exchange === undefined) return;
    exchange.sent = true;
    let uploaded = 0;
    const late = (): void => {
      exchange.timedOut = true;
      outgoing.destroy(new Error("time limit"));
    };
    const arm = (fn: () => void): void => {
      clearTimeout(exchange.timer);
      if (!exchange.done) exchange.timer = setTimeout(fn, this.#config.timeoutMs);
    };
    const uploading = (): void => {
      // A client that takes its time with the body is not the backend's fault; a backend that does not read it is.
      const written = outgoing.socket?.bytesWritten ?? 0;
      if (outgoing.writableNeedDrain && written === uploaded) return late();
      uploaded = written;
      arm(uploading);
    };
    outgoing.once("finish", () => arm(late));
    // Nobody asked for it. Unheard, it would leave the client without an answer, and the request in flight, for ever.
    outgoing.once("upgrade", (_response: IncomingMessage, upstream: Socket) => {
      upstream.destroy();
      exchange.fail(new Error("it switched protocols unasked"));
    });
    outgoing.once("response", (incoming: IncomingMessage) => {
      let received = 0;
      const answering = (): void => {
        const read = incoming.socket.bytesRead;
        // Paused: the client does not read as fast as the backend writes.
        if (read === received && !incoming.isPaused()) {
          exchange.timedOut = true;
          return exchange.fail(new Error("time limit"));
        }
        received = read;
        arm(answering);
      };
      arm(answering);
      incoming.once("close", () => clearTimeout(exchange.timer));
    });
    arm(uploading);
  }

  #onResponse(incoming: IncomingMessage, req: IncomingMessage, res: ServerResponse): void {
    const exchange = this.#exchanges.get(req);
    const { backend } = exchange ?? {};
    // A status that HTTP does not have could not be passed on.
    if ((incoming.statusCode ?? 0) < 200 || (incoming.statusCode ?? 0) > 999) {
      incoming.statusCode = 502;
      incoming.statusMessage = "Bad Gateway";
    }
    removeHopByHop(incoming.headers);
    delete incoming.headers["transfer-encoding"];
    incoming.headers.connection = res.shouldKeepAlive ? "keep-alive" : "close";
    if (exchange === undefined || backend === undefined) return;
    if ((incoming.statusCode ?? 0) >= 500) backend.failed += 1;
    incoming.once("end", () => {
      exchange.answeredAt = performance.now();
      exchange.release();
    });
    // Before the library's own listeners, which end the answer.
    const broken = (): void => {
      if (!incoming.complete && !exchange.done) exchange.fail(new Error("the answer was cut"));
    };
    incoming.once("error", broken);
    incoming.once("close", broken);
  }

  #second(): MutableSecond {
    const at = Math.floor(Date.now() / 1000) * 1000;
    const last = this.#seconds.at(-1);
    // The clock may be set back; then the last second goes on until it has been caught up with.
    if (last !== undefined && last.at >= at && last.at - at < SECONDS_KEPT * 1000) return last;
    const second: MutableSecond = { at, total: 0, failed: 0, latency: new LatencyRecorder() };
    this.#seconds.push(second);
    this.#forgetOld(at);
    return second;
  }

  #forgetOld(now: number): void {
    while (this.#seconds[0] !== undefined && Math.abs(now - this.#seconds[0].at) > SECONDS_KEPT * 1000) this.#seconds.shift();
  }
}
