// The part of an API server that lists and watches, over a cluster that is made up as it is asked for; Nightshift's own
// resources and Leases can be written too. A process of its own, forked by `ListServer`: what it costs is not counted with
// whoever reads from it.
import { createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import { FakeApi } from "../../test/support/fake-api/server.ts";
import { CUSTOM, EVENTS, LEASES } from "../../test/support/fake-api/resources.ts";
import { type Collection, dataset, policiesOf } from "./dataset.ts";

/** What the bench tells the server. */
export type Order =
  /** Changes the status of so many objects of a collection, one after the other, and puts an annotation on the last of them. */
  | {
      readonly order: "update";
      readonly path: string;
      readonly count: number;
      readonly marker?: { readonly name: string; readonly value: string };
    }
  /** Ends every watch with 410 and forgets what came before, so that everybody must list anew. */
  | { readonly order: "expire" };

/** What the server tells the bench: that it listens, and that an order is carried out. */
export type Report = { readonly listening: number } | { readonly done: Order["order"] };

/** How often a quiet watch gets a bookmark (ms), as Kubernetes'. */
const BOOKMARK_MS = 60_000;
/** Bytes that are written at once. */
const CHUNK = 256 * 1024;

const [nodes = 0, pods = 0] = process.argv.slice(2).map(Number);
const collections = dataset({ nodes, pods });
/** What can be written. */
const writable = await FakeApi.start({ types: [...CUSTOM, EVENTS, LEASES], bookmarkMs: BOOKMARK_MS });
for (const policy of policiesOf(collections))
  writable.storage.create(writable.type("remediationpolicies"), policy.metadata.namespace, policy);

interface Watch {
  readonly path: string;
  readonly response: ServerResponse;
  readonly bookmarks: boolean;
}
const watches = new Set<Watch>();

interface Change {
  readonly resourceVersion: number;
  readonly revision: number;
  readonly extra?: Readonly<Record<string, string>>;
}
/** What is no longer as the dataset has it, by path and number. */
const changed = new Map<string, Map<number, Change>>([...collections.keys()].map((path) => [path, new Map<number, Change>()]));
/** What has changed, the oldest first. */
const log: { readonly resourceVersion: number; readonly path: string; readonly index: number }[] = [];
/** Every object's, until it changes. */
const FIRST = 1_000_000;
let newest = FIRST;
/** Older than this is gone. */
let oldest = FIRST;
let updates = 0;

function objectOf(path: string, collection: Collection, index: number): string {
  const change = changed.get(path)?.get(index);
  if (change === undefined) return collection.json(index, FIRST, 0);
  return collection.json(index, change.resourceVersion, change.revision, change.extra);
}

/** An event; objects in events, other than in lists, say what they are. */
function eventOf(type: string, path: string, collection: Collection, index: number): string {
  const object = objectOf(path, collection, index).slice(1);
  return `{"type":"${type}","object":{"kind":"${collection.kind}","apiVersion":"${collection.apiVersion}",${object}}\n`;
}

function bookmark({ kind, apiVersion }: Collection, isInitialEnd: boolean): string {
  const annotations = isInitialEnd ? { annotations: { "k8s.io/initial-events-end": "true" } } : {};
  const object = { kind, apiVersion, metadata: { resourceVersion: String(newest), ...annotations } };
  return `${JSON.stringify({ type: "BOOKMARK", object })}\n`;
}

const GONE = { kind: "Status", apiVersion: "v1", status: "Failure", reason: "Expired", code: 410, message: "too old resource version" };

/** Resolves when more can be written, or nobody reads any more. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      response.off("drain", end).off("close", end);
      resolve();
    };
    response.on("drain", end).on("close", end);
  });
}

async function write(response: ServerResponse, texts: Iterable<string>): Promise<void> {
  let waiting = "";
  for (const text of texts) {
    waiting += text;
    if (waiting.length < CHUNK) continue;
    if (!response.write(waiting)) await drained(response);
    waiting = "";
    if (response.destroyed) return;
  }
  if (waiting !== "") response.write(waiting);
}

async function list(path: string, collection: Collection, query: URLSearchParams, response: ServerResponse): Promise<void> {
  const limit = Number(query.get("limit") ?? 0);
  const [begin, version] = (query.get("continue") ?? "").split("@").map(Number);
  const from = begin ?? 0;
  // All pages are of one time; what has changed since then comes by the watch.
  const resourceVersion = version ?? newest;
  if (resourceVersion < oldest) {
    response.writeHead(410, { "content-type": "application/json" }).end(JSON.stringify(GONE));
    return;
  }
  const to = limit === 0 ? collection.count : Math.min(collection.count, from + limit);
  const rest = to < collection.count ? `,"continue":"${to}@${resourceVersion}","remainingItemCount":${collection.count - to}` : "";
  response.writeHead(200, { "content-type": "application/json" });
  response.write(
    `{"kind":"${collection.kind}List","apiVersion":"${collection.apiVersion}","metadata":{"resourceVersion":"${resourceVersion}"${rest}},"items":[`,
  );
  await write(
    response,
    (function* items() {
      for (let index = from; index < to; index += 1) yield (index === from ? "" : ",") + objectOf(path, collection, index);
    })(),
  );
  response.end("]}\n");
}

async function watch(path: string, collection: Collection, query: URLSearchParams, response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "application/json" });
  const mine: Watch = { path, response, bookmarks: query.get("allowWatchBookmarks") === "true" };
  const seconds = Number(query.get("timeoutSeconds") ?? 1800);
  const since = Number(query.get("resourceVersion") ?? 0);
  const initial = query.get("sendInitialEvents") === "true";
  if (!initial && since < oldest) {
    response.end(`${JSON.stringify({ type: "ERROR", object: GONE })}\n`);
    return;
  }
  let from = since;
  if (initial) {
    // Orders wait for a moment at which nobody is in the middle of it.
    from = newest;
    await write(
      response,
      (function* events() {
        for (let index = 0; index < collection.count; index += 1) yield eventOf("ADDED", path, collection, index);
        yield bookmark(collection, true);
      })(),
    );
  }
  for (const change of log)
    if (change.path === path && change.resourceVersion > from) response.write(eventOf("MODIFIED", path, collection, change.index));
  response.flushHeaders();
  watches.add(mine);
  const end = setTimeout(() => response.end(), seconds * 1000);
  const beat = setInterval(() => mine.bookmarks && response.write(bookmark(collection, false)), BOOKMARK_MS);
  response.once("close", () => {
    watches.delete(mine);
    clearTimeout(end);
    clearInterval(beat);
  });
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  const collection = collections.get(pathname);
  if (request.method !== "GET" || collection === undefined) {
    const onward = forward(new URL(request.url ?? "/", writable.url), { method: request.method ?? "GET", headers: request.headers });
    onward.on("response", (answered) => {
      response.writeHead(answered.statusCode ?? 502, answered.headers);
      answered.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
    return;
  }
  const isWatch = ["true", "1"].includes(searchParams.get("watch") ?? "");
  void (isWatch ? watch : list)(pathname, collection, searchParams, response);
}

function update(path: string, marker: Readonly<Record<string, string>> | undefined): void {
  const collection = collections.get(path);
  if (collection === undefined || collection.count === 0) return;
  // Far apart, so that changes come to every workload; the step is prime to any size of ours.
  const index = (updates * 7919) % collection.count;
  updates += 1;
  newest += 1;
  const changes = changed.get(path);
  changes?.set(index, {
    resourceVersion: newest,
    revision: (changes.get(index)?.revision ?? 0) + 1,
    ...(marker === undefined ? {} : { extra: marker }),
  });
  log.push({ resourceVersion: newest, path, index });
  const event = eventOf("MODIFIED", path, collection, index);
  for (const watching of watches) if (watching.path === path) watching.response.write(event);
}

function carryOut(order: Order): void {
  if (order.order === "update") {
    const { path, count, marker } = order;
    for (let i = 1; i <= count; i += 1) update(path, i === count && marker !== undefined ? { [marker.name]: marker.value } : undefined);
  }
  if (order.order === "expire") {
    newest += 1;
    oldest = newest;
    log.length = 0;
    for (const { response } of watches) response.end(`${JSON.stringify({ type: "ERROR", object: GONE })}\n`);
  }
  tell({ done: order.order });
}

function tell(report: Report): void {
  process.send?.(report);
}

const server = createServer({ keepAliveTimeout: 120_000 }, answer);
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  tell({ listening: typeof address === "object" && address !== null ? address.port : 0 });
});
process.on("message", (order) => carryOut(order as Order));
process.on("disconnect", () => process.exit(0));
