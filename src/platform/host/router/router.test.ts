import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Agent, createServer, request, type IncomingHttpHeaders, type RequestListener, type Server } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { it, type TestContext } from "node:test";
import { unusedPort } from "../../../../test/support/ports.ts";
import { withCode } from "../../../../test/support/store-conformance.ts";
import { RouterClient } from "./client.ts";
import { summarizeSeconds, type RouterBackend, type RouterBackendStats, type RouterService, type RouterServiceStats } from "./protocol.ts";

const HOST = "127.0.0.1";

/** Waits for a condition, with a limit that only a hang reaches. */
async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(`waited in vain: ${what}`);
    await new Promise<void>((resolve) => void setTimeout(resolve, 10));
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

interface Rig {
  readonly dir: string;
  readonly client: RouterClient;
  readonly port: number;
  readonly pid: number;
  /** Configures the one service. */
  readonly set: (backends: RouterBackend[], more?: Partial<RouterService>) => Promise<void>;
  readonly stats: () => Promise<RouterServiceStats>;
  readonly backend: (uid: string) => Promise<RouterBackendStats>;
}

/** A router in a process of its own, with one service. */
async function rig(t: TestContext, dir = mkdtempSync(join(tmpdir(), "nightshift-router-"))): Promise<Rig> {
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const files = { socket: join(dir, "router.sock"), logFile: join(dir, "router.log"), pidFile: join(dir, "router.pid") };
  const client = await RouterClient.ensureRunning(files);
  const { pid } = await client.health();
  t.after(async () => {
    if (isAlive(pid)) process.kill(pid, "SIGKILL");
    await until(() => !isAlive(pid), "the router's end");
  });
  const port = unusedPort();
  const service = { namespace: "default", name: "shop", listen: { host: HOST, port }, timeoutMs: 10_000 };
  const stats = async (): Promise<RouterServiceStats> => {
    const found = (await client.stats()).services.find(({ name }) => name === "shop");
    assert.ok(found);
    return found;
  };
  return {
    dir,
    client,
    port,
    pid,
    set: (backends, more) => client.configure([{ ...service, ...more, backends }]),
    stats,
    backend: async (uid) => {
      const found = (await stats()).backends.find((backend) => backend.uid === uid);
      assert.ok(found, `no backend ${uid}`);
      return found;
    },
  };
}

async function backendServer(t: TestContext, listener: RequestListener): Promise<{ server: Server; port: number }> {
  const server = createServer(listener).listen(0, HOST);
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port };
}

const at = (uid: string, port: number, traffic = true): RouterBackend => ({ uid, host: HOST, port, traffic });

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: IncomingHttpHeaders;
}

/** One request on a connection of its own, or of `agent`. Rejects when it is cut. */
function ask(
  port: number,
  options: { method?: string; path?: string; headers?: Record<string, string>; body?: string; agent?: Agent; signal?: AbortSignal } = {},
): Promise<Answer> {
  const { body, agent = false, ...rest } = options;
  return new Promise((resolve, reject) => {
    const req = request({ host: HOST, port, agent, ...rest }, (res) => {
      const chunks: Buffer[] = [];
      res.on("data", (chunk: Buffer) => chunks.push(chunk));
      res.once("error", reject);
      res.once("end", () => resolve({ status: res.statusCode ?? 0, body: Buffer.concat(chunks).toString(), headers: res.headers }));
    });
    req.once("error", reject);
    req.end(body);
  });
}

/** A backend in a process of its own; `body` has `req` and `res`. */
async function backendProcess(t: TestContext, body: string, port = 0): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(
    process.execPath,
    [
      "-e",
      `const server = require("node:http").createServer((req, res) => { ${body} });
       server.listen(${port}, "${HOST}", () => console.log(server.address().port));`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => child.kill("SIGKILL"));
  const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  return { child, port: Number(value) };
}

it("passes requests and answers through, with the headers of a proxy", async (t) => {
  const { port, set } = await rig(t);
  const backend = await backendServer(t, (req, res) => {
    let body = "";
    req.on("data", (chunk: Buffer) => (body += chunk.toString()));
    req.on("end", () => {
      res.setHeader("set-cookie", ["a=1", "b=2"]);
      res.setHeader("connection", "close, x-secret");
      res.setHeader("x-secret", "of this hop");
      res.writeHead(201, "Made");
      res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.headers, body }));
    });
  });
  await set([at("a", backend.port)]);
  const answer = await ask(port, {
    method: "POST",
    path: "//x/../y?q=1&q=2?",
    headers: {
      connection: "keep-alive, x-hop, content-length",
      "x-hop": "1",
      te: "trailers",
      "x-forwarded-for": "10.0.0.1",
      "content-length": "5",
      expect: "100-continue",
    },
    body: "hello",
  });
  assert.equal(answer.status, 201);
  assert.deepEqual(answer.headers["set-cookie"], ["a=1", "b=2"]);
  assert.equal(answer.headers["x-secret"], undefined);
  const seen = JSON.parse(answer.body) as { method: string; url: string; headers: IncomingHttpHeaders; body: string };
  assert.deepEqual([seen.method, seen.url, seen.body], ["POST", "//x/../y?q=1&q=2?", "hello"]);
  assert.equal(seen.headers["x-forwarded-for"], `10.0.0.1, ${HOST}`);
  assert.equal(seen.headers["x-forwarded-proto"], "http");
  assert.equal(seen.headers["x-forwarded-host"], `${HOST}:${port}`);
  assert.equal(seen.headers.host, `${HOST}:${port}`);
  for (const name of ["x-hop", "te", "expect"]) assert.equal(seen.headers[name], undefined, name);
});

it("streams both ways", async (t) => {
  const { port, set } = await rig(t);
  const backend = await backendServer(t, (req, res) => req.pipe(res));
  await set([at("a", backend.port)]);
  const req = request({ host: HOST, port, method: "POST", agent: false });
  req.write("one");
  const [res] = (await once(req, "response")) as [AsyncIterable<Buffer>];
  const chunks = res[Symbol.asyncIterator]();
  assert.equal(String((await chunks.next()).value), "one");
  req.end("two");
  assert.equal(String((await chunks.next()).value), "two");
  assert.equal((await chunks.next()).done, true);
  const megabytes = "x".repeat(8 * 2 ** 20);
  assert.equal((await ask(port, { method: "POST", body: megabytes })).body.length, megabytes.length);
});

it("a chunked DELETE cannot smuggle a second request to the backend", async (t) => {
  const { port, set } = await rig(t);
  const seen: string[] = [];
  const backend = await backendServer(t, (req, res) => {
    seen.push(`${req.method} ${req.url}`);
    req.resume();
    req.once("end", () => res.end("ok"));
  });
  await set([at("a", backend.port)]);
  const inner = "GET /admin HTTP/1.1\r\nhost: x\r\n\r\n";
  const both: Record<string, string>[] = [
    { "transfer-encoding": "chunked" },
    { "transfer-encoding": "chunked", connection: "transfer-encoding" },
  ];
  for (const headers of both) assert.equal((await ask(port, { method: "DELETE", path: "/thing", headers, body: inner })).status, 200);
  assert.equal((await ask(port, { path: "/after" })).status, 200);
  assert.deepEqual(seen, ["DELETE /thing", "DELETE /thing", "GET /after"]);
});

it("keeps connections to a backend, and chooses the least busy, ties in turn", async (t) => {
  const { port, set } = await rig(t);
  const seen = new Map<string, number>();
  const held: (() => void)[] = [];
  const sockets = new Set<Socket>();
  const make =
    (uid: string): RequestListener =>
    (req, res) => {
      sockets.add(req.socket);
      seen.set(uid, (seen.get(uid) ?? 0) + 1);
      if (req.url === "/hold") held.push(() => res.end(uid));
      else res.end(uid);
    };
  const [a, b] = [await backendServer(t, make("a")), await backendServer(t, make("b"))];
  await set([at("a", a.port), at("b", b.port)]);
  for (let i = 0; i < 20; i += 1) await ask(port);
  assert.deepEqual(Object.fromEntries(seen), { a: 10, b: 10 });
  assert.equal(sockets.size, 2);
  const holding = ask(port, { path: "/hold" });
  await until(() => held.length === 1, "the held request");
  const busy = seen.get("a") === 11 ? "a" : "b";
  for (let i = 0; i < 10; i += 1) assert.notEqual((await ask(port)).body, busy);
  held[0]?.();
  await holding;
});

it("drains: a backend without traffic gets nothing new and finishes what it has", async (t) => {
  const { port, set, stats, backend: of } = await rig(t);
  const finish: (() => void)[] = [];
  const old = await backendServer(t, (_req, res) => {
    res.write("begun ");
    finish.push(() => res.end("and finished"));
  });
  const fresh = await backendServer(t, (_req, res) => res.end("fresh"));
  await set([at("old", old.port)]);
  const long = ask(port);
  await until(async () => (await of("old")).inFlight === 1 && finish.length === 1, "the long request");
  await set([at("old", old.port, false), at("fresh", fresh.port)]);
  for (let i = 0; i < 20; i += 1) assert.equal((await ask(port)).body, "fresh");
  assert.deepEqual(await of("old"), { uid: "old", traffic: false, inFlight: 1, total: 1, failed: 0 });
  // Also after it has left the configuration it is counted until it is through.
  await set([at("fresh", fresh.port)]);
  assert.equal((await of("old")).inFlight, 1);
  finish[0]?.();
  assert.equal((await long).body, "begun and finished");
  await until(async () => (await stats()).backends.every(({ uid }) => uid !== "old"), "the old backend's end");
});

it("a client that never finishes keeps its request in flight, until it goes away, and that is no failure", async (t) => {
  const { port, set, backend: of, stats } = await rig(t);
  const backend = await backendServer(t, (req, res) => {
    req.resume();
    req.once("end", () => res.end());
  });
  // The backend waits for the client, so the backend's time limit does not apply.
  await set([at("a", backend.port)], { timeoutMs: 200 });
  const socket = connect(port, HOST);
  socket.on("error", () => {});
  socket.write("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nonly this");
  await until(async () => (await of("a")).inFlight === 1, "the request");
  await new Promise<void>((resolve) => void setTimeout(resolve, 1_000));
  assert.equal((await of("a")).inFlight, 1);
  socket.destroy();
  await until(async () => (await of("a")).inFlight === 0, "the end of the request");
  const { total, failed } = summarizeSeconds((await stats()).seconds);
  assert.deepEqual([total, failed], [1, 0]);
  assert.equal((await of("a")).failed, 0);
});

it("a client that does not read a large answer keeps it in flight, past the time limit", async (t) => {
  const { port, set, backend: of } = await rig(t);
  const backend = await backendServer(t, (_req, res) => res.end(Buffer.alloc(64 * 2 ** 20)));
  await set([at("a", backend.port)], { timeoutMs: 200 });
  const socket = connect(port, HOST);
  socket.on("error", () => {});
  socket.pause();
  socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await until(async () => (await of("a")).inFlight === 1, "the request");
  await new Promise<void>((resolve) => void setTimeout(resolve, 1_000));
  assert.equal((await of("a")).inFlight, 1);
  assert.equal((await of("a")).failed, 0);
  socket.destroy();
  await until(async () => (await of("a")).inFlight === 0, "the end of the request");
});

it("a backend that does not answer is a 504, that stops in the middle is cut: both failed", async (t) => {
  const { port, set, backend: of, stats } = await rig(t);
  const backend = await backendServer(t, (req, res) => {
    if (req.url === "/half") res.write("half");
  });
  await set([at("a", backend.port)], { timeoutMs: 200 });
  assert.equal((await ask(port)).status, 504);
  assert.equal((await ask(port, { method: "POST", body: "x" })).status, 504);
  await assert.rejects(ask(port, { path: "/half" }));
  await until(async () => (await of("a")).inFlight === 0, "the end");
  assert.equal((await of("a")).failed, 3);
  assert.equal(summarizeSeconds((await stats()).seconds).failed, 3);
});

it("an answer that is none, or that nobody asked for, is a 502, and nothing stays in flight", async (t) => {
  const { port, set, backend } = await rig(t);
  let answer = "";
  const raw = createTcpServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.write(answer));
  }).listen(0, HOST);
  await once(raw, "listening");
  t.after(() => raw.close());
  await set([at("a", (raw.address() as AddressInfo).port)]);
  for (answer of [
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
    "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "SSH-2.0-OpenSSH\r\n\r\n",
  ])
    for (const method of ["GET", "POST"]) assert.equal((await ask(port, { method })).status, 502, answer);
  await until(async () => (await backend("a")).inFlight === 0, "nothing in flight");
});

it("what two servers could read differently is refused, and never reaches a backend", async (t) => {
  const { port, set } = await rig(t);
  const seen: string[] = [];
  const { port: behind } = await backendServer(t, (req, res) => {
    seen.push(`${req.method} ${req.url}`);
    res.end();
  });
  await set([at("a", behind)]);
  const chunked = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const [headers, body] of [
    ["Content-Length: 6\r\nTransfer-Encoding: chunked", chunked],
    ["Transfer-Encoding: xchunked\r\nContent-Length: 5", chunked],
    ["Transfer-Encoding: chunked, identity", chunked],
    ["Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", chunked],
    ["Transfer-Encoding : chunked", chunked],
    ["Transfer-Encoding: \vchunked", chunked],
    ["Content-Length: 3\r\nContent-Length: 5", "abcde"],
    ["Content-Length: 3, 3", "abc"],
    ["Content-Length: +3", "abc"],
    ["X: a\r\n b", ""],
    ["X: a\rGET /smuggled HTTP/1.1", ""],
    ["X: a\0b", ""],
  ] as const) {
    const socket = connect(port, HOST);
    let answer = "";
    socket.on("error", () => {}).on("data", (chunk: Buffer) => (answer += chunk.toString()));
    socket.write(`POST /refused HTTP/1.1\r\nHost: shop\r\n${headers}\r\n\r\n${body}`);
    await once(socket, "close");
    assert.match(answer, /^HTTP\/1\.1 400 /, headers);
  }
  assert.equal((await ask(port, { path: "/well" })).status, 200);
  assert.deepEqual(seen, ["GET /well"]);
});

it("an answer that goes on slowly is not cut by the time limit", async (t) => {
  const { port, set } = await rig(t);
  const backend = await backendServer(t, (_req, res) => {
    let left = 10;
    const timer = setInterval(() => {
      res.write("x");
      left -= 1;
      if (left > 0) return;
      clearInterval(timer);
      res.end();
    }, 100);
  });
  await set([at("a", backend.port)], { timeoutMs: 500 });
  assert.equal((await ask(port)).body, "xxxxxxxxxx");
});

it("an answer that the backend cuts is cut at the client, and failed", async (t) => {
  const { port, set, backend: of, stats } = await rig(t);
  const backend = await backendServer(t, (req, res) => {
    if (req.url === "/length") res.setHeader("content-length", 100);
    res.write("half");
    setTimeout(() => res.destroy(), 20);
  });
  await set([at("a", backend.port)]);
  await assert.rejects(ask(port));
  await assert.rejects(ask(port, { path: "/length" }));
  await until(async () => (await of("a")).inFlight === 0, "the end");
  assert.equal((await of("a")).failed, 2);
  const { total, failed } = summarizeSeconds((await stats()).seconds);
  assert.deepEqual([total, failed], [2, 2]);
});

it("a connection that is refused is tried elsewhere, whatever the method, with the whole body", async (t) => {
  const { port, set } = await rig(t);
  const backend = await backendServer(t, (req, res) => req.pipe(res));
  await set([at("dead-1", unusedPort()), at("dead-2", unusedPort()), at("a", backend.port)]);
  const body = "y".repeat(300_000);
  for (let i = 0; i < 5; i += 1) {
    const answer = await ask(port, { method: "POST", body });
    assert.equal(answer.status, 200);
    assert.equal(answer.body, body);
  }
});

it("without a backend a request waits for one, then is a 503", async (t) => {
  const { port, set, stats } = await rig(t);
  await set([]);
  const waiting = ask(port, { method: "POST", body: "hello" });
  await new Promise<void>((resolve) => void setTimeout(resolve, 200));
  const backend = await backendServer(t, (req, res) => req.pipe(res));
  await set([at("a", backend.port)]);
  assert.equal((await waiting).body, "hello");
  await set([at("a", backend.port, false)]);
  const answer = await ask(port);
  assert.equal(answer.status, 503);
  assert.match(answer.body, /no backend of default\/shop takes requests/);
  await set([at("dead", unusedPort())]);
  const refused = await ask(port);
  assert.equal(refused.status, 503);
  assert.match(refused.body, /accepts connections/);
  assert.equal(summarizeSeconds((await stats()).seconds).failed, 2);
});

it("a backend that closes without an answer: sent again where that is safe, else a 502", async (t) => {
  const { port, set } = await rig(t);
  const seen: string[] = [];
  const bad = await backendServer(t, (req) => {
    seen.push(`${req.method}`);
    req.socket.destroy();
  });
  await set([at("bad", bad.port)]);
  assert.equal((await ask(port)).status, 502);
  assert.equal((await ask(port, { method: "PUT", body: "x" })).status, 502);
  assert.equal((await ask(port, { method: "POST" })).status, 502);
  assert.deepEqual(seen, ["GET", "GET", "PUT", "POST"]);
});

it("what a backend broke is sent again to another, though that one is busier", async (t) => {
  const { port, set, backend: of } = await rig(t);
  let release = (): void => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  const good = await backendServer(t, (req, res) => void (req.url === "/slow" ? held : Promise.resolve()).then(() => res.end("ok")));
  let broken = 0;
  const bad = await backendServer(t, (req) => {
    broken += 1;
    req.socket.destroy();
  });
  await set([at("good", good.port)]);
  const slow = [1, 2, 3].map(() => ask(port, { path: "/slow" }));
  await until(async () => (await of("good")).inFlight === 3, "three in flight");
  await set([at("good", good.port), at("bad", bad.port)]);
  assert.equal((await ask(port)).status, 200);
  assert.equal(broken, 1);
  release();
  assert.deepEqual(
    (await Promise.all(slow)).map((answer) => answer.status),
    [200, 200, 200],
  );
});

it("kill -9 of a backend under load loses no GET", async (t) => {
  const { port, set, backend: of, stats } = await rig(t);
  const code = `setTimeout(() => res.end("ok"), 5);`;
  const [a, b] = [await backendProcess(t, code), await backendProcess(t, code)];
  await set([at("a", a.port), at("b", b.port)]);
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const statuses = new Map<number | string, number>();
  const load = new AbortController();
  const worker = async (): Promise<void> => {
    while (!load.signal.aborted) {
      const status = await ask(port, { agent }).then(
        (answer) => answer.status,
        (error: Error) => error.message,
      );
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  };
  const workers = Array.from({ length: 16 }, worker);
  await until(() => (statuses.get(200) ?? 0) > 300, "load");
  a.child.kill("SIGKILL");
  const before = statuses.get(200) ?? 0;
  await until(() => (statuses.get(200) ?? 0) > before + 500, "more load");
  load.abort();
  await Promise.all(workers);
  assert.deepEqual([...statuses.keys()], [200], JSON.stringify([...statuses]));
  assert.equal((await of("a")).inFlight, 0);
  assert.equal((await of("b")).inFlight, 0);
  assert.equal(summarizeSeconds((await stats()).seconds).total, statuses.get(200));
});

it("the counts in flight are exact after clients that go away at any moment", async (t) => {
  const { port, set, backend: of } = await rig(t);
  const make: RequestListener = (req, res) => {
    req.resume();
    setTimeout(() => {
      res.write("some");
      setTimeout(() => res.end(), 10);
    }, 5);
  };
  const [a, b] = [await backendServer(t, make), await backendServer(t, make)];
  await set([at("a", a.port), at("b", b.port), at("dead", unusedPort())]);
  const results = await Promise.allSettled(
    Array.from({ length: 300 }, (_, i) =>
      ask(port, { signal: AbortSignal.timeout(1 + (i % 40)), method: i % 3 ? "GET" : "POST", body: i % 3 ? "" : "body" }),
    ),
  );
  assert.ok(results.some((r) => r.status === "rejected"));
  for (const uid of ["a", "b", "dead"]) await until(async () => (await of(uid)).inFlight === 0, `${uid} is idle`);
});

it("carries a WebSocket both ways, counted in flight until it ends", async (t) => {
  const { port, set, backend: of, stats } = await rig(t);
  const { server, port: backendPort } = await backendServer(t, (_req, res) => res.writeHead(401).end("no"));
  const upgraded = new Set<{ destroy(): unknown }>();
  server.on("upgrade", (req, socket) => {
    if (req.url === "/no") return socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope");
    assert.ok(req.headers["x-forwarded-for"]);
    upgraded.add(socket);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nwelcome");
    socket.on("data", (data: Buffer) => socket.write(`echo ${data.toString()}`));
    socket.on("end", () => socket.end());
    socket.on("error", () => {});
  });
  await set([at("dead", unusedPort()), at("a", backendPort)]);
  const open = async (path: string): Promise<{ socket: Socket; read: () => string }> => {
    const socket = connect(port, HOST);
    let text = "";
    socket.on("data", (data: Buffer) => (text += data.toString()));
    socket.on("error", () => {});
    socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n`);
    return { socket, read: () => text };
  };
  for (const end of [(s: Socket) => s.end(), (s: Socket) => s.resetAndDestroy()]) {
    const { socket, read } = await open("/chat");
    await until(() => read().includes("welcome"), "the upgrade");
    assert.match(read(), /^HTTP\/1.1 101 /);
    socket.write("ping");
    await until(() => read().includes("echo ping"), "the echo");
    assert.equal((await of("a")).inFlight, 1);
    end(socket);
    await until(async () => (await of("a")).inFlight === 0, "the end of the connection");
  }
  const refused = await open("/no");
  await until(() => refused.read().includes("nope"), "the refusal");
  await until(async () => (await of("a")).inFlight === 0, "the end of the refusal");
  const { total, failed } = summarizeSeconds((await stats()).seconds);
  assert.deepEqual([total, failed], [3, 0]);
  // A backend that dies takes its connections with it, and nothing stays counted.
  const lost = await open("/chat");
  await until(() => lost.read().includes("welcome"), "the upgrade");
  for (const socket of upgraded) socket.destroy();
  await once(lost.socket, "close");
  await until(async () => (await of("a")).inFlight === 0, "the end");
});

it("an upgrade to anything but WebSocket is answered as the request that it is", async (t) => {
  const { port, set } = await rig(t);
  const backend = await backendServer(t, (req, res) => res.end(String(req.headers.upgrade)));
  await set([at("a", backend.port)]);
  const answer = await ask(port, { headers: { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABk" } });
  assert.deepEqual([answer.status, answer.body], [200, "undefined"]);
});

it("refuses headers that are too large, or that never end", async (t) => {
  const { port, set } = await rig(t);
  const backend = await backendServer(t, (_req, res) => res.end());
  await set([at("a", backend.port)]);
  assert.equal((await ask(port, { headers: { "x-large": "x".repeat(20_000) } })).status, 431);
  const slow = connect(port, HOST);
  let text = "";
  slow.on("data", (data: Buffer) => (text += data.toString()));
  slow.on("error", () => {});
  slow.write("GET / HTTP/1.1\r\nhost: x\r\n");
  const drip = setInterval(() => slow.write("x-a: b\r\n"), 500);
  t.after(() => clearInterval(drip));
  await until(() => text.startsWith("HTTP/1.1 408"), "the end of the slow client");
});

it("counts by second, with quantiles that can be merged", async (t) => {
  const { port, set, stats } = await rig(t);
  const backend = await backendServer(t, (req, res) => {
    if (req.url === "/bad") res.writeHead(500).end();
    else if (req.url === "/slow") setTimeout(() => res.end(), 300);
    else res.end();
  });
  await set([at("a", backend.port)]);
  const before = Date.now();
  for (let i = 0; i < 20; i += 1) await ask(port);
  await ask(port, { path: "/bad" });
  await ask(port, { path: "/slow" });
  const { seconds, backends } = await stats();
  const all = summarizeSeconds(seconds);
  assert.deepEqual([all.total, all.failed], [22, 1]);
  assert.ok(all.p50Ms !== undefined && all.p99Ms !== undefined && all.p50Ms < all.p99Ms);
  assert.ok(all.p99Ms >= 290, `${all.p99Ms}`);
  assert.deepEqual({ ...backends[0] }, { uid: "a", traffic: true, inFlight: 0, total: 22, failed: 1 });
  for (const { at: second } of seconds) assert.ok(second % 1000 === 0 && second >= before - 1000 && second <= Date.now());
  assert.equal(summarizeSeconds(seconds, Date.now() + 5_000).total, 0);
});

it("the same configuration twice changes nothing; another takes over ports without a break", async (t) => {
  const { client, port, set, backend: of } = await rig(t);
  const connections = new Set<Socket>();
  const backend = await backendServer(t, (req, res) => {
    connections.add(req.socket);
    res.end("a");
  });
  await set([at("a", backend.port)]);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  for (let i = 0; i < 5; i += 1) {
    await set([at("a", backend.port)]);
    assert.equal((await ask(port, { agent })).body, "a");
  }
  assert.equal(connections.size, 1, "its connection was kept");
  assert.equal((await of("a")).total, 5);
  // Another service takes the port; the client's connection stays.
  const other = await backendServer(t, (_req, res) => res.end("b"));
  const service = { namespace: "default", timeoutMs: 1_000 };
  const second = unusedPort();
  await client.configure([
    { ...service, name: "other", listen: { host: HOST, port }, backends: [at("b", other.port)] },
    { ...service, name: "shop", listen: { host: HOST, port: second }, backends: [at("a", backend.port)] },
  ]);
  assert.equal((await ask(port, { agent })).body, "b");
  assert.equal((await ask(second)).body, "a");
  assert.equal((await of("a")).total, 6);
  await client.configure([]);
  await assert.rejects(ask(second), /ECONNREFUSED/);
  assert.deepEqual((await client.stats()).services, []);
  assert.deepEqual(await client.config(), { services: [] });
});

it("a port that is taken is named, and nothing is changed", async (t) => {
  const { client, port, set } = await rig(t);
  const backend = await backendServer(t, (_req, res) => res.end("a"));
  await set([at("a", backend.port)]);
  const config = await client.config();
  const service = { namespace: "default", timeoutMs: 1_000, backends: [] };
  const free = unusedPort();
  await assert.rejects(
    client.configure([
      { ...service, name: "free", listen: { host: HOST, port: free } },
      { ...service, name: "taken", listen: { host: HOST, port: backend.port } },
    ]),
    withCode("PORT_IN_USE", new RegExp(`port ${backend.port} for service default/taken`)),
  );
  await assert.rejects(ask(free), /ECONNREFUSED/);
  await assert.rejects(
    client.configure(["one", "two"].map((name) => ({ ...service, name, listen: { host: HOST, port: free } }))),
    withCode("PORT_IN_USE", /default\/two/),
  );
  await assert.rejects(ask(free), /ECONNREFUSED/);
  await assert.rejects(client.configure([{ ...service, name: "x", listen: { host: HOST, port: 0 } }]), withCode("INVALID", /listen\.port/));
  assert.deepEqual(await client.config(), config);
  assert.equal((await ask(port)).body, "a");
});

it("the router goes on when the process that started it is killed, and the next one finds it", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-router-"));
  const files = { socket: join(dir, "router.sock"), logFile: join(dir, "router.log"), pidFile: join(dir, "router.pid") };
  const backend = await backendServer(t, (_req, res) => res.end("still here"));
  const port = unusedPort();
  const services = [{ namespace: "n", name: "s", listen: { host: HOST, port }, timeoutMs: 1_000, backends: [at("a", backend.port)] }];
  const parent = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { RouterClient } from ${JSON.stringify(new URL("./client.ts", import.meta.url).href)};
       const client = await RouterClient.ensureRunning(${JSON.stringify(files)});
       await client.configure(${JSON.stringify(services)});
       console.log((await client.health()).pid);
       setInterval(() => {}, 1000);`,
    ],
    { stdio: ["ignore", "pipe", "inherit"], detached: true },
  );
  const { value } = await createInterface({ input: parent.stdout })[Symbol.asyncIterator]().next();
  const pid = Number(value);
  t.after(async () => {
    if (isAlive(pid)) process.kill(pid, "SIGKILL");
    await until(() => !isAlive(pid), "the router's end");
    rmSync(dir, { recursive: true, force: true });
  });
  assert.ok(parent.pid);
  // The whole process group, as a terminal's hang-up or a supervisor does it.
  process.kill(-parent.pid, "SIGKILL");
  await once(parent, "exit");
  assert.equal((await ask(port)).body, "still here");
  const client = await RouterClient.ensureRunning(files);
  assert.equal((await client.health()).pid, pid);
  assert.equal(Number(readFileSync(files.pidFile, "utf8")), pid);
  assert.equal((await ask(port)).body, "still here");
});

it("several that start a router at once get the same one", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-router-"));
  const files = { socket: join(dir, "router.sock"), logFile: join(dir, "router.log"), pidFile: join(dir, "router.pid") };
  const clients = await Promise.all([1, 2, 3].map(() => RouterClient.ensureRunning(files)));
  const { pid } = await rig(t, dir);
  for (const client of clients) assert.equal((await client.health()).pid, pid);
  await until(() => (readFileSync(files.logFile, "utf8").match(/another router serves/g) ?? []).length === 2, "the others' end");
  assert.equal(Number(readFileSync(files.pidFile, "utf8")), pid);
});

it("a stale socket is replaced, and the new one is for this user only", async (t) => {
  const first = await rig(t);
  process.kill(first.pid, "SIGKILL");
  await until(() => !isAlive(first.pid), "the first router's end");
  const socket = join(first.dir, "router.sock");
  assert.ok(existsSync(socket));
  await assert.rejects(first.client.stats(), withCode("ROUTER_UNREACHABLE"));
  const second = await rig(t, first.dir);
  assert.notEqual(second.pid, first.pid);
  assert.equal(statSync(socket).mode & 0o777, 0o600);
});

it("SIGTERM lets requests in flight finish, takes nothing new, and removes what was its own", async (t) => {
  const { dir, port, pid, set, backend: of } = await rig(t);
  const finish: (() => void)[] = [];
  const backend = await backendServer(t, (_req, res) => void finish.push(() => res.end("done")));
  await set([at("a", backend.port)]);
  const long = ask(port);
  await until(async () => (await of("a")).inFlight === 1 && finish.length === 1, "the request");
  process.kill(pid, "SIGTERM");
  await until(() => !existsSync(join(dir, "router.sock")), "the end of the socket");
  await assert.rejects(ask(port), /ECONNREFUSED|ECONNRESET/);
  assert.ok(isAlive(pid));
  finish[0]?.();
  assert.equal((await long).body, "done");
  await until(() => !isAlive(pid), "the router's end");
  assert.ok(!existsSync(join(dir, "router.pid")));
});

it("shutdown ends it", async (t) => {
  const { client, pid } = await rig(t);
  await client.shutdown();
  await until(() => !isAlive(pid), "the router's end");
  await assert.rejects(client.health(), withCode("ROUTER_UNREACHABLE"));
});

it("a socket that never answers is reported, and what is no router is left alone", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-router-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const socket = join(dir, "router.sock");
  const held: Socket[] = [];
  const mute = createTcpServer((connection) => void held.push(connection)).listen(socket);
  await once(mute, "listening");
  t.after(() => {
    for (const connection of held) connection.destroy();
    mute.close();
  });
  const files = { socket, logFile: join(dir, "log"), pidFile: join(dir, "pid") };
  await assert.rejects(RouterClient.ensureRunning(files), withCode("ROUTER_UNREACHABLE"));
});

it("a router that cannot start says why", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-router-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "file"), "");
  mkdirSync(join(dir, "router.sock"));
  const files = { socket: join(dir, "router.sock"), logFile: join(dir, "log"), pidFile: join(dir, "pid") };
  await assert.rejects(RouterClient.ensureRunning(files), (error) => withCode("ROUTER_UNREACHABLE")(error));
});

it("works below a path that is longer than a unix socket's may be", async (t) => {
  const base = mkdtempSync(join(tmpdir(), "nightshift-router-"));
  t.after(() => rmSync(base, { recursive: true, force: true }));
  const dir = join(base, "d".repeat(80), "e".repeat(80));
  mkdirSync(dir, { recursive: true });
  const { client, pid } = await rig(t, dir);
  assert.equal((await client.health()).pid, pid);
  await client.shutdown();
  await until(() => !isAlive(pid), "the router's end");
});
