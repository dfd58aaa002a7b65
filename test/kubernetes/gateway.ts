import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, createServer, request, type Server } from "node:https";
import type { ApiAccess } from "../cluster/api.ts";
import { selfSigned } from "../support/certificate.ts";

/** A request that a gateway has passed on, or holds. */
export interface Passing {
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  /** When it arrived (ms since the epoch). */
  readonly at: number;
  /** The API server's answer; undefined as long as there is none. */
  status?: number;
  /** What the API server said, where it refused. */
  refusal?: string;
}

/** Requests on their way that do not arrive until they are let go: as in a network that is slow, of which nobody is told. */
export class Hold {
  readonly #matches: (passing: Passing) => boolean;
  readonly #end: () => void;
  readonly #waiting: { readonly passing: Passing; readonly go: () => Promise<void> }[] = [];

  constructor(matches: (passing: Passing) => boolean, end: () => void) {
    this.#matches = matches;
    this.#end = end;
  }

  takes(passing: Passing): boolean {
    return this.#matches(passing);
  }

  add(passing: Passing, go: () => Promise<void>): void {
    this.#waiting.push({ passing, go });
  }

  /** What is held now. */
  get held(): readonly Passing[] {
    return this.#waiting.map(({ passing }) => passing);
  }

  /** Lets everything go, also what would be held later; resolves when the API server has answered what was held. */
  async release(): Promise<readonly Passing[]> {
    this.#end();
    const waiting = this.#waiting.splice(0);
    await Promise.all(waiting.map(({ go }) => go()));
    return waiting.map(({ passing }) => passing);
  }
}

/**
 * The API server as one client reaches it: unlike a proxy of connections this knows requests, and can hold one that is on
 * its way, however its sender fares in the meantime.
 */
export class Gateway implements AsyncDisposable {
  readonly access: ApiAccess;
  readonly port: number;
  readonly #server: Server;
  readonly #target: ApiAccess;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #holds = new Set<Hold>();

  private constructor(server: Server, ca: string, target: ApiAccess, port: number) {
    this.#server = server;
    this.#target = target;
    this.port = port;
    this.access = { server: `https://127.0.0.1:${port}`, ca, token: target.token };
    server.on("request", (incoming: IncomingMessage, outgoing: ServerResponse) => void this.#pass(incoming, outgoing));
  }

  /** Listens on a free port of the loopback address. What comes is passed on with its sender's credentials. */
  static async start(target: ApiAccess): Promise<Gateway> {
    const { cert, key } = selfSigned();
    const server = createServer({ cert, key });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    return new Gateway(server, cert, target, typeof address === "object" && address !== null ? address.port : 0);
  }

  /** Holds each request that matches and comes from now on. */
  hold(matches: (passing: Passing) => boolean): Hold {
    const hold: Hold = new Hold(matches, () => this.#holds.delete(hold));
    this.#holds.add(hold);
    return hold;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((done) => this.#server.close(() => done()));
    this.#agent.destroy();
  }

  async #pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = "GET", url = "/" } = incoming;
    const passing: Passing = { method, path: url.split("?")[0] ?? url, at: Date.now() };
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of incoming) chunks.push(chunk as Buffer);
    } catch {
      // Its sender has gone before it was whole.
      return;
    }
    const go = (): Promise<void> => this.#forward(passing, incoming, Buffer.concat(chunks), outgoing);
    const hold = [...this.#holds].find((candidate) => candidate.takes(passing));
    if (hold === undefined) await go();
    else hold.add(passing, go);
  }

  #forward(passing: Passing, incoming: IncomingMessage, body: Buffer, outgoing: ServerResponse): Promise<void> {
    return new Promise((done) => {
      const upstream = request(
        `${this.#target.server}${incoming.url}`,
        { method: passing.method, headers: { ...incoming.headers, host: "127.0.0.1" }, ca: this.#target.ca, agent: this.#agent },
        (answer) => {
          passing.status = answer.statusCode ?? 0;
          if (passing.status >= 400) {
            let text = "";
            answer.on("data", (chunk: Buffer) => (text += chunk.toString()));
            answer.once("end", () => (passing.refusal = text));
          }
          answer.once("close", done);
          // Its sender may have gone meanwhile; the answer is read all the same.
          if (outgoing.destroyed) return void answer.resume();
          outgoing.writeHead(passing.status, answer.headers);
          // A watch has an answer before it has an event.
          outgoing.flushHeaders();
          answer.pipe(outgoing);
          outgoing.once("close", () => answer.resume());
        },
      );
      upstream.once("error", () => {
        outgoing.destroy();
        done();
      });
      // A watch ends with whoever follows it; what changes something is on its way, whoever sent it.
      outgoing.once("close", () => {
        if (passing.method === "GET") upstream.destroy();
      });
      upstream.end(body);
    });
  }
}
