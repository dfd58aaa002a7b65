import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, createServer, request, type Server } from "node:https";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type { ApiAccess } from "../cluster/api.ts";
import { selfSigned } from "../support/certificate.ts";

/** A request that a gateway has passed on, or holds. */
export interface Passing {
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  /** Whether it follows what changes. */
  readonly isWatch: boolean;
  /** Name of the object that it is about, in its path or its body; undefined for a collection. */
  readonly name: string | undefined;
  /** When it arrived (ms since the epoch). */
  readonly at: number;
  /** The API server's answer; undefined as long as there is none. */
  status?: number;
  /** What the API server said, where it refused. */
  refusal?: string;
}

/** What befalls a request. */
export type Mishap =
  /** Its connection is reset, and the API server never hears of it. */
  | "Lost"
  /** The API server has done it, and its connection is reset instead of an answer. */
  | "AnswerLost"
  /** The API server has done it, and then every watch is cut, before its answer arrives. */
  | "WatchesCut"
  /** It is answered so, and the API server never hears of it. */
  | { readonly status: number; readonly body: string };

/** How an event of a watch is passed on. */
export interface Passage {
  /** So much later, and all that follow it not before (ms). */
  readonly delayMs?: number;
  /** So often. Default 1. */
  readonly copies?: number;
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
  /** Answers of watches that are open. */
  readonly #watches = new Set<ServerResponse>();
  /** Asked for each request that comes and is not held: what befalls it. */
  mishap: (passing: Passing) => Mishap | undefined = () => undefined;
  /** Asked for each event of a watch: how it is passed on. */
  news: (passing: Passing) => Passage = () => ({});

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

  /** Resets the connection of every watch that is open. */
  cutWatches(): void {
    for (const watch of this.#watches) watch.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((done) => this.#server.close(() => done()));
    this.#agent.destroy();
  }

  async #pass(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = "GET", url = "/" } = incoming;
    const at = Date.now();
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of incoming) chunks.push(chunk as Buffer);
    } catch {
      // Its sender has gone before it was whole.
      return;
    }
    const body = Buffer.concat(chunks);
    const { pathname, searchParams } = new URL(url, "https://127.0.0.1");
    const isWatch = method === "GET" && ["1", "true"].includes(searchParams.get("watch") ?? "");
    const passing: Passing = { method, path: pathname, isWatch, name: nameOf(method, pathname, body), at };
    const hold = [...this.#holds].find((candidate) => candidate.takes(passing));
    if (hold !== undefined) return hold.add(passing, () => this.#forward(passing, incoming, body, outgoing));
    const mishap = this.mishap(passing);
    if (mishap === "Lost") outgoing.destroy();
    else if (typeof mishap === "object") outgoing.writeHead(mishap.status, { "content-type": "application/json" }).end(mishap.body);
    else await this.#forward(passing, incoming, body, outgoing, mishap);
  }

  #forward(
    passing: Passing,
    incoming: IncomingMessage,
    body: Buffer,
    outgoing: ServerResponse,
    mishap?: "AnswerLost" | "WatchesCut",
  ): Promise<void> {
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
          // It is cut off where its sender leaves.
          answer.on("error", () => undefined);
          if (mishap === "AnswerLost") {
            outgoing.destroy();
            return void answer.resume();
          }
          if (mishap === "WatchesCut") this.cutWatches();
          // Its sender may have gone meanwhile; the answer is read all the same.
          if (outgoing.destroyed) return void answer.resume();
          outgoing.writeHead(passing.status, answer.headers);
          // A watch has an answer before it has an event.
          outgoing.flushHeaders();
          if (passing.isWatch) this.#follow(passing, answer, outgoing);
          else answer.pipe(outgoing);
          outgoing.once("close", () => answer.resume());
        },
      );
      upstream.on("error", () => {
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

  /** Passes a watch on, event by event. */
  #follow(passing: Passing, answer: IncomingMessage, outgoing: ServerResponse): void {
    this.#watches.add(outgoing);
    outgoing.once("close", () => this.#watches.delete(outgoing));
    let turn: Promise<void> = Promise.resolve();
    const pass = async (before: Promise<void>, line: string, { delayMs = 0, copies = 1 }: Passage): Promise<void> => {
      const due = Date.now() + delayMs;
      await before;
      const left = due - Date.now();
      if (left > 0) await delay(left);
      if (!outgoing.destroyed) outgoing.write(`${line}\n`.repeat(copies));
    };
    const lines = createInterface({ input: answer });
    lines.on("error", () => undefined);
    lines.on("line", (line) => {
      turn = pass(turn, line, this.news(passing));
    });
    lines.once("close", () => void turn.finally(() => outgoing.end()));
  }
}

/** `/api/v1/namespaces/shop/pods/web-1/status` is about `web-1`; what is created has its name in its body. */
function nameOf(method: string, path: string, body: Buffer): string | undefined {
  if (method === "POST" && !/\/(eviction|token)$/.test(path)) {
    try {
      return (JSON.parse(body.toString()) as { metadata?: { name?: string } }).metadata?.name;
    } catch {
      return undefined;
    }
  }
  return /\/namespaces\/[^/]+\/[^/]+\/([^/]+)/.exec(path)?.[1];
}
