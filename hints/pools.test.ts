// The ready handlers, on a real PostgreSQL and a real Redis whose connections are really lost.
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import { Redis } from "ioredis";
import { Pool as PgPool } from "pg";
import { Agent, fetch, Pool } from "undici";
import { Proxy } from "../test/cluster/proxy.ts";
import { type Database, lackingDatabases, startPostgres, startRedis } from "../test/support/databases.ts";
import type { ActionHandler } from "./book.ts";
import { resetIoRedis } from "./ioredis.ts";
import { resetPgPool } from "./pg.ts";
import { resettable, resetUndici } from "./undici.ts";

const call = (handler: ActionHandler): Promise<string | void> =>
  Promise.resolve(handler({ action: "pool-reset", effect: "e", signal: new AbortController().signal }));
/** What became of a promise by now. */
const state = (work: Promise<unknown>): Promise<"pending" | "fulfilled" | "rejected"> =>
  Promise.race([
    work.then(
      () => "fulfilled" as const,
      () => "rejected" as const,
    ),
    new Promise<"pending">((resolve) => setTimeout(() => resolve("pending"), 100)),
  ]);

describe("a pool of pg", { skip: lackingDatabases }, () => {
  let database: Database;
  let proxy: Proxy;
  const open = (max: number): { pool: PgPool; reset: ActionHandler; errors: Error[] } => {
    const pool = new PgPool({ host: "127.0.0.1", port: proxy.port, user: "postgres", max });
    const errors: Error[] = [];
    pool.on("error", (error) => errors.push(error));
    return { pool, reset: resetPgPool(pool), errors };
  };
  const pid = async (pool: PgPool): Promise<number> =>
    (await pool.query<{ pid: number }>("SELECT pg_backend_pid() AS pid")).rows[0]?.pid ?? 0;

  before(async () => {
    database = await startPostgres();
    proxy = await Proxy.start(database.port);
  });
  after(async () => {
    await proxy?.stop();
    await database?.stop();
  });

  it("serves who waits by new connections, and cuts what hangs", async () => {
    const { pool, reset, errors } = open(2);
    await Promise.all([pool.query("SELECT pg_sleep(0.05)"), pool.query("SELECT pg_sleep(0.05)")]);
    proxy.lose();
    const hanging = [pool.query("SELECT 1"), pool.query("SELECT 1")];
    const waiting = [pool.query("SELECT 2"), pool.query("SELECT 2"), pool.query("SELECT 2")];
    for (const each of [...hanging, ...waiting]) assert.equal(await state(each), "pending");
    const said = await call(reset);
    assert.match(String(said), /replaced 2 connections .* 0 idle, 0 given back in time, 2 cut/);
    await Promise.all(waiting);
    for (const each of hanging) await assert.rejects(each, /terminated/);
    await pool.query("SELECT 3");
    assert.equal(pool.options.max, 2, "the room that was made is gone again");
    assert.ok(pool.totalCount <= 2);
    assert.deepEqual(errors, []);
    await pool.end();
  });

  it("fails no request where the connections work", async () => {
    const { pool, reset, errors } = open(4);
    const former = await pid(pool);
    const load = { ended: false };
    const loaded = (async () => {
      let queries = 0;
      while (!load.ended) {
        await Promise.all(Array.from({ length: 6 }, () => pool.query("SELECT pg_sleep(0.02)")));
        queries += 6;
      }
      return queries;
    })();
    const slow = pool.query("SELECT pg_sleep(0.3), 'whole'");
    await new Promise((resolve) => setTimeout(resolve, 60));
    const said = await call(reset);
    assert.match(String(said), /0 cut/);
    load.ended = true;
    assert.ok((await loaded) > 0);
    await slow;
    assert.notEqual(await pid(pool), former, "the connection is another");
    assert.equal(pool.options.max, 4);
    assert.deepEqual(errors, []);
    await pool.end();
  });

  it("touches nothing where no new connection can be made", async () => {
    const { pool, reset } = open(2);
    const former = await pid(pool);
    const down = new PgPool({ host: "127.0.0.1", port: proxy.port, user: "nobody-there", max: 1 });
    down.on("error", () => undefined);
    await assert.rejects(call(resetPgPool(down)), /no new connection could be made, so none was touched/);
    proxy.set("frozen");
    await assert.rejects(call(resetPgPool(pool, { connectMs: 200 })), /no new connection could be made, so none was touched: not within/);
    proxy.set("open");
    assert.equal(await pid(pool), former);
    await call(reset);
    assert.notEqual(await pid(pool), former);
    await Promise.all([pool.end(), down.end()]);
  });

  it("bears connections that the server has ended, and one reset after the other", async () => {
    const { pool, reset } = open(3);
    await Promise.all([1, 2, 3].map(() => pool.query("SELECT pg_sleep(0.02)")));
    const admin = new PgPool({ host: "127.0.0.1", port: database.port, user: "postgres", max: 1 });
    // Its connection may still be closing when the database is shut down.
    admin.on("error", () => undefined);
    await admin.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    );
    await call(reset);
    await call(reset);
    await pool.query("SELECT 1");
    assert.equal(pool.options.max, 3);
    await Promise.all([pool.end(), admin.end()]);
  });
});

describe("a client of ioredis", { skip: lackingDatabases }, () => {
  let database: Database;
  let proxy: Proxy;
  const open = (): Redis => {
    const redis = new Redis({ host: "127.0.0.1", port: proxy.port });
    redis.on("error", () => undefined);
    return redis;
  };

  before(async () => {
    database = await startRedis();
    proxy = await Proxy.start(database.port);
  });
  after(async () => {
    await proxy?.stop();
    await database?.stop();
  });

  it("answers what hung, by a new connection", async () => {
    const redis = open();
    await redis.set("k", "v");
    proxy.lose();
    const hanging = [redis.get("k"), redis.get("k")];
    for (const each of hanging) assert.equal(await state(each), "pending");
    const said = await call(resetIoRedis(redis));
    assert.match(String(said), /1 client connected anew: 0 after all was answered, 1 cut/);
    assert.deepEqual(await Promise.all(hanging), ["v", "v"]);
    redis.disconnect();
  });

  it("loses and repeats no command where the connection works", async () => {
    const redis = open();
    await redis.del("n");
    const former = await redis.client("ID");
    const answers = Array.from({ length: 200 }, () => redis.incr("n"));
    const said = await call(resetIoRedis([redis]));
    assert.match(String(said), /1 after all was answered, 0 cut/);
    await Promise.all(answers);
    assert.equal(await redis.get("n"), "200");
    assert.notEqual(await redis.client("ID"), former);
    redis.disconnect();
  });

  it("touches nothing where no new connection can be made", async () => {
    const redis = open();
    const former = await redis.client("ID");
    proxy.set("frozen");
    await assert.rejects(call(resetIoRedis(redis, { connectMs: 200 })), /none was touched/);
    proxy.set("open");
    assert.equal(await redis.client("ID"), former);
    redis.disconnect();
  });

  it("bears a connection that the server has ended", async () => {
    const redis = open();
    await redis.ping();
    const admin = new Redis({ host: "127.0.0.1", port: database.port });
    await admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    await call(resetIoRedis(redis));
    assert.equal(await redis.ping(), "PONG");
    redis.disconnect();
    admin.disconnect();
  });
});

describe("a pool of undici", () => {
  let server: Server;
  let proxy: Proxy;
  let origin = "";
  const seen: string[] = [];

  before(async () => {
    server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      const wait = Number(new URL(request.url ?? "/", "http://x").searchParams.get("wait") ?? 0);
      setTimeout(() => response.end("well"), wait);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    proxy = await Proxy.start((server.address() as AddressInfo).port);
    origin = `http://127.0.0.1:${proxy.port}`;
  });
  after(async () => {
    await proxy.stop();
    await new Promise((resolve) => server.close(resolve));
  });

  it("sends again what was not sent or only asks, and fails the rest of what hangs", async () => {
    const upstream = resettable(() => new Pool(origin, { connections: 2 }));
    const get = async (path: string): Promise<string> => (await upstream.request({ path, method: "GET" })).body.text();
    await Promise.all([get("/a"), get("/b")]);
    proxy.lose();
    seen.length = 0;
    const asks = get("/asks");
    const changes = upstream.request({ path: "/changes", method: "POST", body: "1" });
    const queued = upstream.request({ path: "/queued", method: "POST", body: "2" });
    for (const each of [asks, changes, queued]) assert.equal(await state(each), "pending");
    const reset = call(resetUndici(upstream, { drainMs: 200 }));
    assert.equal(await get("/new"), "well", "new requests are served at once");
    assert.match(String(await reset), /1 pool: 2 requests sent again, 1 cut/);
    assert.equal(await asks, "well");
    assert.equal(await (await queued).body.text(), "well");
    await assert.rejects(changes, /reset/);
    assert.deepEqual(seen.toSorted(), ["GET /asks", "GET /new", "POST /queued"]);
    await upstream.close();
  });

  it("fails no request where the connections work, by fetch and an Agent", async () => {
    const upstream = resettable(() => new Agent());
    const slow = fetch(`${origin}/?wait=150`, { dispatcher: upstream, method: "POST", body: "x" });
    const queued = Array.from({ length: 20 }, () => fetch(origin, { dispatcher: upstream }));
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.match(String(await call(resetUndici([upstream]))), /0 requests sent again, 0 cut/);
    for (const each of [slow, ...queued]) assert.equal(await (await each).text(), "well");
    assert.equal(await (await fetch(origin, { dispatcher: upstream })).text(), "well");
    await upstream.close();
  });

  it("leaves alone what its caller has given up", async () => {
    const upstream = resettable(() => new Pool(origin, { connections: 1 }));
    await (await upstream.request({ path: "/", method: "GET" })).body.text();
    proxy.lose();
    seen.length = 0;
    const controller = new AbortController();
    const given = upstream.request({ path: "/given-up", method: "GET", signal: controller.signal });
    assert.equal(await state(given), "pending");
    controller.abort();
    await assert.rejects(given);
    await call(resetUndici(upstream, { drainMs: 50 }));
    assert.deepEqual(seen, []);
    await upstream.destroy();
  });
});
