import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createSecureServer as createHttp2Server } from "node:http2";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { selfSigned } from "../../../test/support/certificate.ts";
import { systemClock } from "../host/clock.ts";
import type { KubeAccess } from "./access.ts";
import type { RawWatchEvent } from "./client.ts";
import { KubeApiError, type KubeErrorCode } from "./errors.ts";
import { HttpKubeClient, type HttpKubeClientOptions, type RequestReport } from "./http-client.ts";

type Options = Partial<Omit<HttpKubeClientOptions, "access">> & { readonly access?: Partial<KubeAccess> };

/** A client of a server with this handler. */
async function setUp(t: TestContext, handler: (request: IncomingMessage, response: ServerResponse) => unknown, options: Options = {}) {
  const server = createServer((request, response) => void handler(request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const { access, ...rest } = options;
  const client = new HttpKubeClient({
    clock: systemClock,
    version: "1.2.3",
    access: { server: url, namespace: "default", credentials: async () => ({ headers: {}, tls: {} }), forget() {}, ...access },
    ...rest,
  });
  t.after(async () => {
    await client.close();
    server.closeAllConnections();
    server.close();
  });
  return { client, server, url };
}

const json = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
};

async function text(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  return body;
}

const fails =
  (code: KubeErrorCode, more: Partial<KubeApiError> = {}) =>
  (error: unknown): true => {
    assert.ok(error instanceof KubeApiError, String(error));
    assert.equal(error.code, code, error.toString());
    for (const [key, value] of Object.entries(more)) assert.deepEqual(error[key as keyof KubeApiError], value, key);
    return true;
  };

const status = (code: number, reason: string, more: object = {}) => ({ kind: "Status", code, reason, message: `${reason}!`, ...more });

describe("HttpKubeClient.request", () => {
  it("sends method, path, query, body, content type, credentials and User-Agent, and decodes the answer", async (t) => {
    const reports: RequestReport[] = [];
    const { client } = await setUp(
      t,
      async (request, response) =>
        json(response, 200, { method: request.method, url: request.url, headers: request.headers, body: await text(request) }),
      {
        access: { credentials: async () => ({ headers: { authorization: "Bearer abc" }, tls: {} }) },
        onRequest: (report) => reports.push(report),
      },
    );
    const seen = await client.request<{ method: string; url: string; headers: Record<string, string>; body: string }>({
      method: "PATCH",
      path: "/api/v1/pods/x",
      query: { fieldManager: "nightshift", dryRun: undefined, force: true },
      body: { a: "ä" },
      contentType: "application/merge-patch+json",
    });
    assert.equal(seen.method, "PATCH");
    assert.equal(seen.url, "/api/v1/pods/x?fieldManager=nightshift&force=true");
    assert.equal(seen.body, '{"a":"ä"}');
    assert.equal(seen.headers["content-type"], "application/merge-patch+json");
    assert.equal(seen.headers["authorization"], "Bearer abc");
    assert.equal(seen.headers["user-agent"], "nightshift/1.2.3");
    assert.deepEqual(
      reports.map(({ method, path, statusCode }) => ({ method, path, statusCode })),
      [{ method: "PATCH", path: "/api/v1/pods/x", statusCode: 200 }],
    );
  });

  it("keeps a path that stands before the API's, and decodes text as text", async (t) => {
    const { url, client } = await setUp(t, (request, response) => response.end(request.url));
    const behind = new HttpKubeClient({
      clock: systemClock,
      version: "1",
      access: { server: new URL("/clusters/a/", url), namespace: "x", credentials: async () => ({ headers: {}, tls: {} }), forget() {} },
    });
    t.after(() => behind.close());
    assert.equal(await behind.request({ method: "GET", path: "/readyz" }), "/clusters/a/readyz");
    assert.equal(await client.request({ method: "GET", path: "/readyz" }), "/readyz");
  });

  it("gives each refusal its code, with what the API server said", async (t) => {
    const cases: [number, string, KubeErrorCode][] = [
      [400, "BadRequest", "KUBE_BAD_REQUEST"],
      [403, "Forbidden", "KUBE_FORBIDDEN"],
      [404, "NotFound", "KUBE_NOT_FOUND"],
      [409, "AlreadyExists", "KUBE_ALREADY_EXISTS"],
      [409, "Conflict", "KUBE_CONFLICT"],
      [410, "Expired", "KUBE_GONE"],
      [413, "RequestEntityTooLarge", "KUBE_TOO_LARGE"],
      [418, "Teapot", "KUBE_REFUSED"],
      [422, "Invalid", "KUBE_INVALID"],
      [500, "InternalError", "KUBE_INTERNAL"],
      [503, "ServiceUnavailable", "KUBE_UNAVAILABLE"],
      [504, "Timeout", "KUBE_TIMEOUT"],
    ];
    const { client } = await setUp(t, (request, response) => {
      const [code = 0, reason = ""] = cases[Number(request.url?.slice(1))] ?? [];
      json(response, code, status(code, reason));
    });
    for (const [i, [statusCode, reason, code]] of cases.entries())
      await assert.rejects(
        client.request({ method: "GET", path: `/${i}` }),
        fails(code, { statusCode, reason, message: `${reason}!`, mayHaveTakenEffect: statusCode >= 500 }),
      );
  });

  it("makes something of an answer that is no Status", async (t) => {
    const { client } = await setUp(t, (request, response) => {
      if (request.url === "/proxy") {
        response.writeHead(502, { "content-type": "text/html" });
        response.end("<h1>Bad Gateway</h1>");
      } else {
        response.writeHead(200, { "content-type": "application/json" });
        response.end('{"kind": "Pod');
      }
    });
    await assert.rejects(client.request({ method: "GET", path: "/proxy" }), fails("KUBE_UNAVAILABLE", { message: "<h1>Bad Gateway</h1>" }));
    await assert.rejects(client.request({ method: "GET", path: "/half" }), fails("KUBE_PROTOCOL"));
  });

  it("waits as long as a 429 asks for, and sends again", async (t) => {
    let requests = 0;
    const { client } = await setUp(t, (_, response) => {
      requests += 1;
      if (requests < 3) json(response, 429, status(429, "TooManyRequests"), { "retry-after": requests === 1 ? "0" : "1" });
      else json(response, 200, { ok: true });
    });
    const begun = performance.now();
    assert.deepEqual(await client.request({ method: "POST", path: "/x", body: {} }), { ok: true });
    assert.ok(performance.now() - begun >= 1_000);
    assert.equal(requests, 3);
  });

  it("hands a 429 back that asks for more time than there is, that asks for none, or that is a disruption budget's", async (t) => {
    let requests = 0;
    const { client } = await setUp(t, (request, response) => {
      requests += 1;
      if (request.url === "/long") json(response, 429, status(429, "TooManyRequests"), { "retry-after": "60" });
      else if (request.url === "/none") json(response, 429, status(429, "TooManyRequests"));
      else
        json(
          response,
          429,
          status(429, "TooManyRequests", { details: { causes: [{ reason: "DisruptionBudget" }], retryAfterSeconds: 1 } }),
        );
    });
    await assert.rejects(client.request({ method: "GET", path: "/long" }), fails("KUBE_TOO_MANY_REQUESTS", { retryAfterMs: 60_000 }));
    await assert.rejects(client.request({ method: "GET", path: "/none" }), fails("KUBE_TOO_MANY_REQUESTS", { retryAfterMs: undefined }));
    await assert.rejects(
      client.request({ method: "POST", path: "/budget", body: {} }),
      fails("KUBE_TOO_MANY_REQUESTS", { retryAfterMs: 1_000, mayHaveTakenEffect: false }),
    );
    assert.equal(requests, 3);
  });

  it("asks for new credentials once when they are no longer accepted", async (t) => {
    let forgotten = 0;
    const access = {
      credentials: async () => ({ headers: { authorization: `Bearer ${forgotten}` }, tls: {} }),
      forget: () => {
        forgotten += 1;
      },
    };
    const { client } = await setUp(
      t,
      (request, response) => {
        if (request.url === "/never" || request.headers.authorization !== "Bearer 1") json(response, 401, status(401, "Unauthorized"));
        else json(response, 200, "fine");
      },
      { access },
    );
    assert.equal(await client.request({ method: "GET", path: "/x" }), "fine");
    await assert.rejects(client.request({ method: "GET", path: "/never" }), fails("KUBE_UNAUTHORIZED"));
    assert.equal(forgotten, 2);
  });

  it("gives up after its timeout, and when its caller does", async (t) => {
    const { client } = await setUp(t, () => {});
    await assert.rejects(
      client.request({ method: "PATCH", path: "/x", timeoutMs: 50 }),
      fails("KUBE_TIMEOUT", { mayHaveTakenEffect: true, isTransient: true }),
    );
    const abort = new AbortController();
    const pending = client.request({ method: "GET", path: "/x", signal: abort.signal });
    setTimeout(() => abort.abort(), 20);
    await assert.rejects(pending, fails("KUBE_ABORTED"));
    await assert.rejects(client.request({ method: "GET", path: "/x", signal: abort.signal }), fails("KUBE_ABORTED"));
  });

  it("tells a request that was never sent from one whose answer was lost", async (t) => {
    const { client, server } = await setUp(t, (request) => request.socket.destroy());
    await assert.rejects(
      client.request({ method: "POST", path: "/x", body: {} }),
      fails("KUBE_CONNECTION_LOST", { mayHaveTakenEffect: true }),
    );
    server.close();
    await once(server, "close");
    await assert.rejects(
      client.request({ method: "POST", path: "/x", body: {} }),
      fails("KUBE_UNREACHABLE", { mayHaveTakenEffect: false }),
    );
  });

  it("refuses an answer that is larger than the limit, and one that is cut off", async (t) => {
    const { client } = await setUp(
      t,
      (request, response) => {
        response.writeHead(200, { "content-type": "application/json", "content-length": "5000" });
        response.write(`"${"x".repeat(request.url === "/large" ? 2_000 : 200)}`);
        if (request.url !== "/large") setTimeout(() => response.destroy(), 20);
      },
      { maxResponseBytes: 1_000 },
    );
    await assert.rejects(client.request({ method: "GET", path: "/large" }), fails("KUBE_RESPONSE_TOO_LARGE"));
    await assert.rejects(client.request({ method: "GET", path: "/cut" }), fails("KUBE_CONNECTION_LOST"));
  });

  it("has no more requests under way at once than it may", async (t) => {
    let running = 0;
    let most = 0;
    const { client } = await setUp(
      t,
      (_, response) => {
        running += 1;
        most = Math.max(most, running);
        setTimeout(() => {
          running -= 1;
          json(response, 200, {});
        }, 10);
      },
      { concurrency: 3 },
    );
    await Promise.all(Array.from({ length: 12 }, () => client.request({ method: "GET", path: "/x" })));
    assert.equal(most, 3);
  });

  it("keeps connections for the requests that come after", async (t) => {
    const sockets = new Set<unknown>();
    const { client } = await setUp(t, (request, response) => {
      sockets.add(request.socket);
      json(response, 200, {});
    });
    for (let i = 0; i < 30; i += 1) await client.request({ method: "GET", path: "/x" });
    assert.ok(sockets.size <= 3, `${sockets.size} connections`);
  });

  it("speaks TLS with the CA that it was given, refuses any other, and follows a change of it", async (t) => {
    const authority = selfSigned();
    const server = createTlsServer(authority, (_, response) => json(response, 200, "secret"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    let ca = selfSigned().cert;
    let skew = 0;
    const client = new HttpKubeClient({
      clock: { ...systemClock, monotonic: () => performance.now() + skew },
      version: "1",
      access: {
        server: new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}`),
        namespace: "x",
        credentials: async () => ({ headers: {}, tls: { ca } }),
        forget() {},
      },
    });
    t.after(async () => {
      await client.close();
      server.close();
    });
    await assert.rejects(client.request({ method: "GET", path: "/x" }), fails("KUBE_UNREACHABLE", { mayHaveTakenEffect: false }));
    ca = authority.cert;
    skew = 60_000;
    assert.equal(await client.request({ method: "GET", path: "/x" }), "secret");
  });

  it("speaks HTTP/1.1 to a server that offers HTTP/2, too", async (t) => {
    const authority = selfSigned();
    const server = createHttp2Server({ ...authority, allowHTTP1: true }, (request, response) =>
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(request.httpVersion)),
    );
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = new HttpKubeClient({
      clock: systemClock,
      version: "1",
      access: {
        server: new URL(`https://127.0.0.1:${(server.address() as AddressInfo).port}`),
        namespace: "x",
        credentials: async () => ({ headers: {}, tls: { ca: authority.cert } }),
        forget() {},
      },
    });
    t.after(async () => {
      await client.close();
      server.close();
    });
    assert.equal(await client.request({ method: "GET", path: "/x" }), "1.1");
  });

  it("ends what is under way when it is closed", async (t) => {
    const { client } = await setUp(t, () => {});
    const pending = client.request({ method: "GET", path: "/x" });
    setTimeout(() => void client.close(), 20);
    await assert.rejects(pending, fails("KUBE_ABORTED"));
    await assert.rejects(client.request({ method: "GET", path: "/x" }), fails("KUBE_ABORTED"));
  });
});

describe("HttpKubeClient.watch", () => {
  const line = (type: string, name: string): string =>
    `${JSON.stringify({ type, object: { metadata: { name, uid: `uid-${name}`, resourceVersion: "1" } } })}\n`;
  const open = (response: ServerResponse): void => {
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
  };
  type Named = { metadata: { name: string } };
  const collect = async (events: AsyncIterable<RawWatchEvent<Named>>): Promise<string[]> => {
    const seen: string[] = [];
    for await (const { type, object } of events) seen.push(`${type} ${object.metadata.name}`);
    return seen;
  };
  const never = new AbortController().signal;

  it("yields each event, however the lines are cut, until the server ends it", async (t) => {
    let url = "";
    const { client } = await setUp(t, async (request, response) => {
      url = request.url ?? "";
      open(response);
      const bytes = Buffer.from(line("ADDED", "ä") + line("MODIFIED", "b") + line("BOOKMARK", "c") + line("DELETED", "d"));
      for (let i = 0; i < bytes.length; i += 17) {
        response.write(bytes.subarray(i, i + 17));
        await new Promise((resolve) => void setTimeout(resolve, 1));
      }
      response.end();
    });
    assert.deepEqual(await collect(client.watch("/api/v1/pods", { resourceVersion: "7", allowWatchBookmarks: true }, never)), [
      "ADDED ä",
      "MODIFIED b",
      "BOOKMARK c",
      "DELETED d",
    ]);
    assert.equal(url, "/api/v1/pods?resourceVersion=7&allowWatchBookmarks=true&watch=true&timeoutSeconds=300");
  });

  it("throws the error that the server sends as an event, or answers with", async (t) => {
    const { client } = await setUp(t, (request, response) => {
      if (request.url?.startsWith("/late")) {
        open(response);
        response.end(line("ADDED", "a") + JSON.stringify({ type: "ERROR", object: status(410, "Expired") }) + "\n");
      } else json(response, 429, status(429, "TooManyRequests"), { "retry-after": "7" });
    });
    await assert.rejects(collect(client.watch("/late", {}, never)), fails("KUBE_GONE", { statusCode: 410 }));
    await assert.rejects(collect(client.watch("/busy", {}, never)), fails("KUBE_TOO_MANY_REQUESTS", { retryAfterMs: 7_000 }));
  });

  it("throws when the connection is reset, ends in the middle of an event, or brings nonsense", async (t) => {
    const { client } = await setUp(t, (request, response) => {
      open(response);
      if (request.url?.startsWith("/reset")) {
        response.write(line("ADDED", "a"));
        setTimeout(() => request.socket.resetAndDestroy(), 20);
      } else if (request.url?.startsWith("/cut")) response.end(line("ADDED", "a").slice(0, 20));
      else if (request.url?.startsWith("/type")) response.end(line("SURPRISE", "a"));
      else response.end("nonsense\n");
    });
    await assert.rejects(collect(client.watch("/reset", {}, never)), fails("KUBE_CONNECTION_LOST"));
    await assert.rejects(collect(client.watch("/cut", {}, never)), fails("KUBE_CONNECTION_LOST"));
    await assert.rejects(collect(client.watch("/nonsense", {}, never)), fails("KUBE_PROTOCOL"));
    await assert.rejects(collect(client.watch("/type", {}, never)), fails("KUBE_PROTOCOL"));
  });

  it("throws when a watch with bookmarks falls silent: the other end may be gone without a word", async (t) => {
    const { client } = await setUp(
      t,
      (_, response) => {
        open(response);
        response.write(line("ADDED", "a"));
      },
      { watchSilenceMs: 300 },
    );
    await assert.rejects(collect(client.watch("/x", { allowWatchBookmarks: true }, never)), fails("KUBE_TIMEOUT", { isTransient: true }));
  });

  it("ends without an error when it is aborted, before, while it waits, and while its reader works", async (t) => {
    const closed: IncomingMessage[] = [];
    const { client } = await setUp(t, (request, response) => {
      open(response);
      response.write(line("ADDED", "a") + line("ADDED", "b"));
      request.socket.on("close", () => closed.push(request));
    });
    const abort = new AbortController();
    const seen: string[] = [];
    for await (const { object } of client.watch<Named>("/x", {}, abort.signal)) {
      seen.push(object.metadata.name);
      if (seen.length === 2) setTimeout(() => abort.abort(), 20);
    }
    assert.deepEqual(seen, ["a", "b"]);
    assert.deepEqual(await collect(client.watch("/x", {}, abort.signal)), []);
    const early = new AbortController();
    for await (const _ of client.watch("/x", {}, early.signal)) early.abort();
    for await (const _ of client.watch("/x", {}, never)) break;
    while (closed.length < 3) await new Promise((resolve) => void setTimeout(resolve, 5));
  });
});
