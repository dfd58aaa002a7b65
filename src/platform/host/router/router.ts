import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Socket } from "node:net";
import { NightshiftError } from "../../../api/errors.ts";
import type { RouterConfig, RouterService, RouterStats } from "./protocol.ts";
import { ServiceProxy } from "./service.ts";

/** Time for a client to send the headers: more is a client that holds connections on purpose. */
const HEADERS_TIMEOUT_MS = 10_000;
/** Time for a client to send a whole request. */
const REQUEST_TIMEOUT_MS = 300_000;
/** Bytes of a request's headers. */
const MAX_HEADER_BYTES = 16_384;
/** Idle connections of clients are kept for longer than most clients keep them, so that it is they who close. */
const KEEP_ALIVE_MS = 75_000;

/** A port that is listened on, and the service behind it, which may change. */
interface Listener {
  readonly server: Server;
  service: ServiceProxy;
}

const serviceKey = ({ namespace, name }: RouterService): string => `${namespace}/${name}`;
const addressKey = ({ listen }: RouterService): string => `${listen.host} ${listen.port}`;

/** All services of a stack, each behind a port of its own. */
export class Router {
  #config: RouterConfig = { services: [] };
  readonly #services = new Map<string, ServiceProxy>();
  /** By address. */
  readonly #listeners = new Map<string, Listener>();
  #turn: Promise<unknown> = Promise.resolve();

  /**
   * Makes the configuration what is given, wholly or not at all. Requests in flight go on, also those of a service that is
   * no longer there.
   * @throws NightshiftError `PORT_IN_USE`, or `PORT_UNAVAILABLE` where the port cannot be listened on for another reason.
   */
  async configure(config: RouterConfig): Promise<void> {
    // One after the other: two that overlap would fight over ports.
    const result = this.#turn.then(() => this.#configure(config));
    this.#turn = result.catch(() => {});
    await result;
  }

  get config(): RouterConfig {
    return this.#config;
  }

  stats(): RouterStats {
    const now = Date.now();
    return { now, services: [...this.#services.values()].map((service) => service.stats(now)) };
  }

  /** Takes no new connections, waits up to `graceMs` for what is in flight, then closes everything. */
  async close(graceMs: number): Promise<void> {
    await this.#turn;
    const servers = [...this.#listeners.values()].map(({ server }) => server);
    for (const server of servers) stopAccepting(server);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([Promise.all([...this.#services.values()].map((service) => service.idle())), late]);
    clearTimeout(timer);
    for (const server of servers) server.closeAllConnections();
    for (const service of this.#services.values()) service.destroy();
  }

  async #configure(config: RouterConfig): Promise<void> {
    const opened = new Map<string, Server>();
    for (const service of config.services) {
      const address = addressKey(service);
      try {
        if (opened.has(address)) throw portInUse(service, "another service of this stack has it");
        if (this.#listeners.has(address)) continue;
        opened.set(address, await this.#listen(service));
      } catch (error) {
        for (const server of opened.values()) server.close();
        throw error;
      }
    }
    const addresses = config.services.map(addressKey);
    const twice = config.services.find((service, i) => addresses.indexOf(addressKey(service)) !== i);
    if (twice !== undefined) {
      for (const server of opened.values()) server.close();
      throw portInUse(twice, "another service of this stack has it");
    }
    const keys = new Set(config.services.map(serviceKey));
    for (const [key, service] of this.#services)
      if (!keys.has(key)) {
        const gone = this.#config.services.find((other) => serviceKey(other) === key);
        if (gone) service.configure({ ...gone, backends: [] });
        this.#services.delete(key);
      }
    for (const wanted of config.services) {
      const key = serviceKey(wanted);
      let service = this.#services.get(key);
      if (service === undefined) {
        service = new ServiceProxy(wanted);
        this.#services.set(key, service);
      } else service.configure(wanted);
      const address = addressKey(wanted);
      const server = opened.get(address);
      const listener = this.#listeners.get(address);
      if (listener) listener.service = service;
      else if (server) this.#listeners.set(address, { server, service });
    }
    for (const [address, { server }] of this.#listeners)
      if (!addresses.includes(address)) {
        this.#listeners.delete(address);
        stopAccepting(server);
      }
    this.#config = config;
  }

  #listen(service: RouterService): Promise<Server> {
    const { host, port } = service.listen;
    const address = addressKey(service);
    const server = createServer({
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: 2_000,
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: KEEP_ALIVE_MS,
      noDelay: true,
      // Clients that offer HTTP/2 this way are answered in HTTP/1.1, as the offer allows.
      shouldUpgradeCallback: (req: IncomingMessage) => req.method === "GET" && req.headers.upgrade?.toLowerCase() === "websocket",
    });
    server.on("request", (req, res) => {
      const listener = this.#listeners.get(address);
      if (listener) listener.service.web(req, res);
      else res.writeHead(503, { connection: "close" }).end();
    });
    server.on("upgrade", (req, socket, head) => {
      const listener = this.#listeners.get(address);
      if (listener) listener.service.upgrade(req, socket as Socket, head);
      else socket.destroy();
    });
    return new Promise((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "EADDRINUSE") return reject(portInUse(service, "another process listens on it", error));
        reject(
          new NightshiftError("PORT_UNAVAILABLE", `cannot listen on ${host}:${port} for service ${serviceKey(service)}: ${error.message}`, {
            where: `${host}:${port}`,
            fix: "Give the service a port above 1023 and an address of this machine.",
            cause: error,
          }),
        );
      });
      server.listen({ host, port }, () => {
        server.removeAllListeners("error");
        // A failing accept (out of file descriptors) is over with the next close; the listener lives on.
        server.on("error", (error) => process.stderr.write(`nightshift router: ${host}:${port}: ${error.message}\n`));
        resolve(server);
      });
    });
  }
}

function stopAccepting(server: Server): void {
  server.close();
  server.closeIdleConnections();
}

function portInUse(service: RouterService, why: string, cause?: unknown): NightshiftError {
  const { host, port } = service.listen;
  return new NightshiftError("PORT_IN_USE", `port ${port} for service ${serviceKey(service)} is taken: ${why}`, {
    where: `${host}:${port}`,
    fix: `End what listens there (\`ss -ltnp 'sport = :${port}'\` names it), or give the service another port.`,
    cause,
  });
}
