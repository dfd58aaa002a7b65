import { createServer, connect, type Server, type Socket } from "node:net";

/** What a proxy does to its connections. */
export type ProxyMode =
  /** Passes everything on. */
  | "open"
  /** Nothing listens to either side and nobody is told: open connections stay open, new ones are accepted and never answered. */
  | "frozen"
  /** Resets what is open and refuses, by a reset, what is new. */
  | "cut";

/**
 * A TCP proxy on the loopback address, to put between one client and the API server: so that one replica of many can be
 * cut off, or meets a network that has died silently (half-open connections). TLS passes through it untouched.
 */
export class Proxy implements AsyncDisposable {
  readonly port: number;
  #mode: ProxyMode = "open";
  readonly #server: Server;
  /** Both ends of each connection. */
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** Ends that nothing comes through any more. */
  readonly #lost = new WeakSet<Socket>();

  private constructor(server: Server, port: number, target: number) {
    this.#server = server;
    this.port = port;
    server.on("connection", (client) => this.#accept(client, target));
  }

  /** Listens on a free port and passes on to `target`, a port of 127.0.0.1. */
  static start(target: number): Promise<Proxy> {
    return new Promise((done, fail) => {
      const server = createServer({ allowHalfOpen: true });
      server.once("error", fail);
      server.listen(0, "127.0.0.1", () => {
        server.unref();
        done(Proxy.adopt(server, target));
      });
    });
  }

  /** Accepts on a server that listens already, wherever it was opened. */
  static adopt(server: Server, target: number): Proxy {
    const address = server.address();
    return new Proxy(server, typeof address === "object" && address !== null ? address.port : 0, target);
  }

  get mode(): ProxyMode {
    return this.#mode;
  }

  /** Number of open connections. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** Changes what happens from now on, to open connections as well. */
  set(mode: ProxyMode): void {
    this.#mode = mode;
    if (mode === "cut") return this.reset();
    for (const socket of [...this.#pairs].flat()) {
      if (mode === "frozen") socket.pause();
      else if (!this.#lost.has(socket)) socket.resume();
    }
  }

  /**
   * Loses the connections that are open now, as a firewall does that has forgotten them: nothing passes and nobody is told.
   * New ones are not concerned.
   */
  lose(): void {
    for (const socket of [...this.#pairs].flat()) {
      this.#lost.add(socket);
      socket.pause();
    }
  }

  /** Resets every open connection, once. */
  reset(): void {
    for (const [client, server] of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
  }

  /** Closes all. */
  async stop(): Promise<void> {
    this.reset();
    await new Promise<void>((done) => this.#server.close(() => done()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #accept(client: Socket, target: number): void {
    if (this.#mode === "cut") {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [server, client] as const]) {
      from.setNoDelay(true);
      from.on("data", (chunk: Buffer) => {
        if (!to.write(chunk)) from.pause();
      });
      to.on("drain", () => {
        if (this.#mode === "open" && !this.#lost.has(from)) from.resume();
      });
      from.once("end", () => to.end());
      from.on("error", () => to.resetAndDestroy());
      from.once("close", () => {
        this.#pairs.delete(pair);
        to.destroy();
      });
      if (this.#mode === "frozen") from.pause();
    }
  }
}
