import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { KubeAccess } from "../../../src/platform/kubernetes/access.ts";
import { selector } from "./selector.ts";
import { apiVersionOf, eventOf, Storage, typeKeyOf, type Change } from "./storage.ts";
import { Refusal, type KubeObject, type ResourceType, type WatchEvent } from "./types.ts";
import { FakeWatch, type Delivery } from "./watch.ts";

/** A request, as a fault is chosen by it and a test looks at it afterwards. */
export interface FakeRequest {
  readonly verb: "get" | "list" | "watch" | "create" | "update" | "patch" | "delete";
  /** Such as `apps/v1`. */
  readonly groupVersion: string;
  readonly plural: string;
  readonly name: string | undefined;
  readonly namespace: string | undefined;
  readonly subresource: string | undefined;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly contentType: string;
  readonly userAgent: string;
  /** Monotonic ms. */
  readonly at: number;
  /** HTTP status of the answer; undefined where none was sent. */
  status?: number;
}

/** What goes wrong with a request. */
export type Fault =
  /** Refused, with nothing done. */
  | {
      readonly refuse: number;
      readonly reason?: string;
      readonly message?: string;
      readonly retryAfter?: number;
      readonly details?: object;
    }
  /** The connection is reset before anything is done. */
  | "reset"
  /** It is done, and the connection is reset before the answer. */
  | "reset-after"
  /** It is done, and the answer is cut off in the middle. */
  | "cut"
  /** No answer ever comes, and nothing is done. */
  | "hang"
  /** It waits this long (ms), and then is done. */
  | { readonly delayMs: number };

export interface FakeApiOptions {
  readonly types: readonly ResourceType[];
  /** How often a watch is sent a bookmark (ms). Default 1000; the real one: about a minute. */
  readonly bookmarkMs?: number;
  readonly now?: () => number;
  /** Who asks, as a SelfSubjectReview says it. */
  readonly user?: string;
}

/**
 * An API server in one process, for the faults that a real one cannot be made to have: HTTP over a real socket,
 * optimistic concurrency, status subresources, paging over a snapshot, watches with bookmarks, compaction.
 */
export class FakeApi {
  readonly storage: Storage;
  /** Every request, oldest first. */
  readonly requests: FakeRequest[] = [];
  /** Watches that are open. */
  readonly watches = new Set<FakeWatch>();
  /** Asked for each request; what it returns goes wrong. */
  fault: ((request: FakeRequest) => Fault | undefined) | undefined;
  /** How events are delivered; for watches that begin after it was set. */
  delivery: Delivery = {};
  readonly #types: readonly ResourceType[];
  readonly #bookmarkMs: number;
  readonly #user: string | undefined;
  /** Lists that are being paged through, by their token. */
  readonly #snapshots = new Map<string, { readonly version: string; readonly objects: readonly KubeObject[] }>();
  #server: Server | undefined;
  #port = 0;
  #tokens = 0;

  private constructor(options: FakeApiOptions) {
    this.#types = options.types;
    this.#bookmarkMs = options.bookmarkMs ?? 1_000;
    this.#user = options.user;
    this.storage = new Storage(options.now);
  }

  static async start(options: FakeApiOptions): Promise<FakeApi> {
    const api = new FakeApi(options);
    await api.up();
    return api;
  }

  get url(): URL {
    return new URL(`http://127.0.0.1:${this.#port}`);
  }

  /** Access to it, without credentials. */
  get access(): KubeAccess {
    return { server: this.url, namespace: "default", credentials: async () => ({ headers: {}, tls: {} }), forget() {} };
  }

  /** Listens again, on the same port. */
  async up(): Promise<void> {
    if (this.#server !== undefined) return;
    const server = createServer((request, response) => void this.#serve(request, response));
    server.listen(this.#port, "127.0.0.1");
    await once(server, "listening");
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Breaks every connection and takes none; what is stored stays. */
  async down(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    for (const watch of this.watches) watch.reset();
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }

  /** Compacts the history, so that watches and lists that go on from before are answered 410. */
  compact(): void {
    this.storage.compact();
    this.#snapshots.clear();
  }

  type(plural: string): ResourceType {
    const type = this.#types.find((t) => t.plural === plural);
    if (type === undefined) throw new Refusal(404, "NotFound", "the server could not find the requested resource");
    return type;
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    let request: FakeRequest | undefined;
    try {
      request = await this.#parse(incoming);
      this.requests.push(request);
      const fault = this.fault?.(request);
      if (fault === "hang") return;
      if (fault === "reset") return void incoming.socket.resetAndDestroy();
      if (typeof fault === "object" && "delayMs" in fault) await new Promise((resolve) => void setTimeout(resolve, fault.delayMs));
      if (typeof fault === "object" && "refuse" in fault) {
        const { refuse, reason = "Injected", message = `injected: ${refuse}`, retryAfter, details } = fault;
        if (retryAfter !== undefined) response.setHeader("retry-after", retryAfter);
        throw new Refusal(refuse, reason, message, details);
      }
      if (request.verb === "watch") return this.#watch(request, response);
      const { status, body } =
        request.plural === "selfsubjectreviews"
          ? this.#whoAsks()
          : request.plural === ""
            ? this.#discovery(request.groupVersion)
            : this.#answer(request);
      if (fault === "reset-after") return void incoming.socket.resetAndDestroy();
      request.status = status;
      const text = JSON.stringify(body);
      response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
      if (fault === "cut") {
        response.write(text.slice(0, text.length / 2));
        setTimeout(() => incoming.socket.destroy(), 5);
      } else response.end(text);
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, "InternalError", String(error));
      if (request !== undefined) request.status = refusal.code;
      if (response.headersSent) return void response.destroy();
      response.writeHead(refusal.code, { "content-type": "application/json" });
      response.end(JSON.stringify(refusal.status));
    }
  }

  #whoAsks(): { readonly status: number; readonly body: object } {
    return { status: 201, body: { kind: "SelfSubjectReview", status: { userInfo: { username: this.#user } } } };
  }

  /** What there is in a group and version. */
  #discovery(groupVersion: string): { readonly status: number; readonly body: object } {
    const types = this.#types.filter(({ group, version }) => groupVersion === (group === "" ? version : `${group}/${version}`));
    if (types.length === 0) throw new Refusal(404, "NotFound", "the server could not find the requested resource");
    const resources = types.map(({ plural, kind, namespaced }) => ({ name: plural, kind, namespaced }));
    return { status: 200, body: { kind: "APIResourceList", groupVersion, resources } };
  }

  async #parse(incoming: IncomingMessage): Promise<FakeRequest> {
    const url = new URL(incoming.url ?? "/", this.url);
    const query = Object.fromEntries(url.searchParams);
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const [root, ...path] = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
    let parts = root === "api" ? path.slice(1) : path.slice(2);
    let namespace: string | undefined;
    if (parts[0] === "namespaces" && parts.length >= 3 && parts[2] !== "status" && parts[2] !== "finalize") {
      namespace = parts[1];
      parts = parts.slice(2);
    }
    const [plural = "", name, subresource] = parts;
    const verbs = { GET: name === undefined ? "list" : "get", POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" } as const;
    const verb = query["watch"] === "true" ? "watch" : verbs[incoming.method as keyof typeof verbs];
    return {
      verb,
      groupVersion: root === "api" ? (path[0] ?? "") : path.slice(0, 2).join("/"),
      plural,
      name,
      namespace,
      subresource,
      query,
      body: text === "" ? undefined : (JSON.parse(text) as unknown),
      contentType: incoming.headers["content-type"] ?? "",
      userAgent: incoming.headers["user-agent"] ?? "",
      at: performance.now(),
    };
  }

  #answer(request: FakeRequest): { status: number; body: unknown } {
    const { verb, namespace, name = "", subresource, query, body } = request;
    const type = this.type(request.plural);
    const options = { subresource, fieldManager: query["fieldManager"], dryRun: query["dryRun"] === "All" };
    switch (verb) {
      case "list":
        return { status: 200, body: this.#list(type, namespace, query) };
      case "create":
        return { status: 201, body: this.storage.create(type, namespace, body as KubeObject, options) };
      case "update":
        return { status: 200, body: this.storage.update(type, namespace, name, body as KubeObject, options) };
      case "patch":
        return { status: 200, body: this.storage.patch(type, namespace, name, request.contentType, body, options) };
      case "delete": {
        const { preconditions } = (body ?? {}) as { preconditions?: { uid?: string; resourceVersion?: string } };
        const { uid } = this.storage.get(type, namespace, name).metadata;
        const left = this.storage.delete(type, namespace, name, preconditions);
        return { status: 200, body: left ?? { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", details: { name, uid } } };
      }
      default:
        return { status: 200, body: this.storage.get(type, namespace, name) };
    }
  }

  #list(type: ResourceType, namespace: string | undefined, query: FakeRequest["query"]): unknown {
    const limit = Number(query["limit"] ?? 0) || Number.POSITIVE_INFINITY;
    const [token = "", from = "0"] = (query["continue"] ?? "").split(":");
    let snapshot = this.#snapshots.get(token);
    if (snapshot === undefined) {
      if (token !== "")
        throw new Refusal(410, "Expired", "The provided continue parameter is too old to display a consistent list result.");
      const selected = selector(query["labelSelector"], query["fieldSelector"]);
      snapshot = { version: this.storage.version, objects: this.storage.list(type, namespace).filter(selected) };
    }
    const start = Number(from);
    const items = snapshot.objects.slice(start, start + limit);
    const left = snapshot.objects.length - start - items.length;
    const metadata: Record<string, unknown> = { resourceVersion: snapshot.version };
    if (left > 0) {
      const next = token === "" ? `t${(this.#tokens += 1)}` : token;
      this.#snapshots.set(next, snapshot);
      metadata["continue"] = `${next}:${start + items.length}`;
      metadata["remainingItemCount"] = left;
    }
    return {
      kind: `${type.kind}List`,
      apiVersion: apiVersionOf(type),
      metadata,
      items: type.custom ? items : items.map(({ kind: _k, apiVersion: _a, ...rest }) => rest),
    };
  }

  #watch(request: FakeRequest, response: ServerResponse): void {
    const { namespace, query } = request;
    const type = this.type(request.plural);
    const matches = selector(query["labelSelector"], query["fieldSelector"]);
    const selected = (object: KubeObject): boolean =>
      (namespace === undefined || object.metadata.namespace === namespace) && matches(object);
    const from = query["resourceVersion"] ?? "";
    let initial: (WatchEvent | undefined)[];
    try {
      initial =
        from === "" || from === "0"
          ? this.storage
              .list(type, namespace)
              .filter(selected)
              .map((object): WatchEvent => ({ type: "ADDED", object }))
          : this.storage.since(type, from).map((change) => eventOf(change, selected));
    } catch (error) {
      // As the real one: 200, and the refusal as the first event.
      if (!(error instanceof Refusal) || error.code !== 410) throw error;
      initial = [{ type: "ERROR", object: error.status }];
    }
    request.status = 200;
    const bookmark = (): WatchEvent => ({
      type: "BOOKMARK",
      object: {
        kind: type.kind,
        apiVersion: apiVersionOf(type),
        metadata: { resourceVersion: this.storage.version, creationTimestamp: null },
      },
    });
    const watch = new FakeWatch(response, request, this.delivery);
    this.watches.add(watch);
    const isOver = initial.some((event) => event?.type === "ERROR");
    for (const event of initial) if (event !== undefined) watch.send(event);
    if (isOver) watch.end();
    const typeKey = typeKeyOf(type);
    const stop = this.storage.onChange((change: Change) => {
      const event = change.typeKey === typeKey ? eventOf(change, selected) : undefined;
      if (event !== undefined) watch.send(event);
    });
    const bookmarks = query["allowWatchBookmarks"] === "true" ? setInterval(() => watch.send(bookmark()), this.#bookmarkMs) : undefined;
    const seconds = Number(query["timeoutSeconds"] ?? 1_800);
    const timeout = setTimeout(() => watch.end(), seconds * 1_000);
    const close = (): void => {
      stop();
      clearInterval(bookmarks);
      clearTimeout(timeout);
      this.watches.delete(watch);
    };
    if (response.closed || response.socket === null || response.socket.destroyed) close();
    else response.on("close", close);
  }
}
