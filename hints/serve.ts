import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { authenticate } from "./authenticate.ts";
import { ActionBook, type ActionHandler } from "./book.ts";
import { HintsError } from "./errors.ts";
import { publicKeys } from "./keys.ts";
import { ACTION_NAME, type ActionAnswer } from "./protocol.ts";

export type { ActionContext, ActionHandler, ActionResult } from "./book.ts";

/** How actions are served. What is not given comes from the environment, which Nightshift sets for what it starts itself. */
export interface ServeOptions {
  /** Nightshift's public key, in PEM. Default: `NIGHTSHIFT_ACTIONS_KEY`, else the file `NIGHTSHIFT_ACTIONS_KEY_FILE`. */
  readonly key?: string;
  /** This replica's uid. Default: `NIGHTSHIFT_REPLICA_UID`, else `service.instance.id` in `OTEL_RESOURCE_ATTRIBUTES`. */
  readonly uid?: string;
  /** Port to listen on; 0 takes a free one. Default: `NIGHTSHIFT_ACTIONS_PORT`. */
  readonly port?: number;
  /** Address to listen on. Default: every one in a pod of Kubernetes, else 127.0.0.1. */
  readonly host?: string;
  /** Longest time for a handler (ms). Default 10,000. */
  readonly timeoutMs?: number;
}

/** The endpoint, listening. Each handler is for one name; registering chains. */
export interface Actions {
  /** Where it listens. */
  readonly port: number;
  /** Serves `pool-reset`. */
  onPoolReset(handler: ActionHandler): Actions;
  /** Serves `cache-flush`. */
  onCacheFlush(handler: ActionHandler): Actions;
  /** Serves an own name: a to z, 0 to 9 and `-`, 63 characters at most. Throws `INVALID_ACTION`, or `ACTION_TAKEN`. */
  on(action: string, handler: ActionHandler): Actions;
  /** Stops listening, tells a handler that is under way, and resolves when the port is free. */
  close(): Promise<void>;
}

/** How long a request may take to arrive (ms). It has no body. */
const ARRIVAL_MS = 5_000;
/** Connections at a time: Nightshift needs one. */
const MAX_CONNECTIONS = 32;
const MAX_HEADER_BYTES = 8_192;
const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Serves actions to Nightshift and to nobody else, on a port of its own: each request is signed with Nightshift's key, for
 * this replica, for now. An effect id is done at most once; actions are done one at a time. Rejects with `NO_KEY`,
 * `INVALID_KEY`, `NO_TARGET`, `NO_PORT`, or the error of the socket.
 *
 * @example
 * const actions = await serveActions();
 * actions.onPoolReset(resetPgPool(pool)).onCacheFlush(() => cache.clear());
 */
export async function serveActions(options: ServeOptions = {}): Promise<Actions> {
  const keys = publicKeys(options.key, process.env);
  const uid = options.uid ?? uidOf(process.env);
  const wanted = options.port ?? portOf(process.env);
  const host = options.host ?? (process.env["KUBERNETES_SERVICE_HOST"] === undefined ? "127.0.0.1" : undefined);
  const handlers = new Map<string, ActionHandler>();
  const book = new ActionBook(Date.now(), options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const server = createServer(
    { headersTimeout: ARRIVAL_MS, requestTimeout: ARRIVAL_MS, maxHeaderSize: MAX_HEADER_BYTES, connectionsCheckingInterval: 1_000 },
    (request, response) => void answer(request, response),
  );
  server.maxConnections = MAX_CONNECTIONS;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const now = Date.now();
    if (hasBody(request)) return refuse(response, 413);
    const verdict = authenticate(request, keys, uid, now);
    if (!verdict.ok) return refuse(response, verdict.status, verdict.status === 403 ? verdict.message : undefined);
    const { method, action, effect, intended, time } = verdict.request;
    // Both times are by Nightshift's clock, so that its difference from this one does not count.
    const age = time - intended;
    if (method === "GET") return send(response, 200, book.look(effect, age, now));
    const handler = handlers.get(action);
    if (handler === undefined) {
      const served = [...handlers.keys()].join(", ");
      return send(response, 200, {
        state: "NotApplied",
        message: `${action} is not served here: ${served === "" ? "nothing is" : served}`,
      });
    }
    send(response, 200, await book.once(action, effect, age, now, handler));
  };

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(wanted, host, resolve);
  });
  const actions: Actions = {
    port: (server.address() as AddressInfo).port,
    onPoolReset: (handler) => actions.on("pool-reset", handler),
    onCacheFlush: (handler) => actions.on("cache-flush", handler),
    on(action, handler) {
      if (!ACTION_NAME.test(action)) throw new HintsError("INVALID_ACTION", `${action} is no name of an action: use a to z, 0 to 9 and -`);
      if (handlers.has(action)) throw new HintsError("ACTION_TAKEN", `${action} has a handler already`);
      handlers.set(action, handler);
      return actions;
    },
    close: () =>
      new Promise((resolve) => {
        book.close();
        server.close(() => resolve());
        server.closeIdleConnections();
      }),
  };
  // A process that has nothing else to do may end.
  server.unref();
  return actions;
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0";
}

function refuse(response: ServerResponse, status: number, message?: string): void {
  // What is left of the request is not read.
  response.shouldKeepAlive = false;
  send(response, status, message === undefined ? undefined : { message });
}

function send(response: ServerResponse, status: number, body: ActionAnswer | { readonly message: string } | undefined): void {
  const text = body === undefined ? "" : JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    ...(response.shouldKeepAlive ? {} : { connection: "close" }),
  });
  response.end(text);
}

function uidOf(env: NodeJS.ProcessEnv): string {
  const attributes = (env["OTEL_RESOURCE_ATTRIBUTES"] ?? "").split(",").map((pair) => pair.trim());
  const instance = attributes.find((pair) => pair.startsWith("service.instance.id="))?.slice("service.instance.id=".length);
  const uid = env["NIGHTSHIFT_REPLICA_UID"] ?? (instance === undefined ? undefined : decodeURIComponent(instance));
  if (uid !== undefined && uid !== "") return uid;
  throw new HintsError(
    "NO_TARGET",
    "this replica's uid is not known: set NIGHTSHIFT_REPLICA_UID (on Kubernetes from metadata.uid), or service.instance.id in OTEL_RESOURCE_ATTRIBUTES",
  );
}

function portOf(env: NodeJS.ProcessEnv): number {
  const text = env["NIGHTSHIFT_ACTIONS_PORT"] ?? "";
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new HintsError("NO_PORT", `NIGHTSHIFT_ACTIONS_PORT must be a port${text === "" ? "" : `, not ${text}`}, or give one`);
}
