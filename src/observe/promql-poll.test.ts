import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, it, type TestContext } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { seededRandom } from "../../test/support/seeded-random.ts";
import type { PromqlQuery } from "./promql.ts";
import { PromqlPoll, type PrometheusOptions } from "./promql-poll.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const INSTANT: PromqlQuery = { query: "in_use / size", rangeMs: 0, everyMs: 30_000 };
const RANGE: PromqlQuery = { query: "in_use / size", rangeMs: 60_000, everyMs: 30_000 };

const vector = (value = "0.5"): object => ({
  status: "success",
  data: { resultType: "vector", result: [{ metric: { pod: "a" }, value: [NOW / 1000, value] }] },
});

interface Asked {
  readonly path: string;
  readonly form: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
}

async function polling(t: TestContext, extra: Partial<PrometheusOptions> = {}, prefix = "") {
  const asked: Asked[] = [];
  const state = { answer: (response: ServerResponse): unknown => response.end(JSON.stringify(vector())) };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += String(part)));
    request.once("end", () => {
      asked.push({ path: request.url ?? "", form: new URLSearchParams(body), headers: request.headers });
      state.answer(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = new AbortController();
  const clock = new ManualClock(NOW);
  const told: string[] = [];
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}${prefix}`;
  const poll = new PromqlPoll({ source: { url, ...extra }, clock, random: seededRandom(), onError: (message) => told.push(message) });
  t.after(() => {
    stop.abort();
    server.closeAllConnections();
    server.close();
  });
  /** Lets `ms` of virtual time pass, and what that sets off come to its end, for as long as something is wanted. */
  const pass = async (ms: number, wanted: readonly PromqlQuery[] = []): Promise<void> => {
    for (let gone = 0; gone < ms; gone += 250) {
      for (const query of wanted) poll.answer(query);
      await clock.advance(250);
      await poll.poll(stop.signal);
    }
  };
  return { poll, pass, asked, told, state, clock, stop };
}

describe("PromqlPoll", () => {
  it("asks each query once, however many want it, and again after its interval", async (t) => {
    const { poll, pass, asked } = await polling(t);
    assert.equal(poll.answer(INSTANT), undefined);
    assert.equal(poll.answer({ ...INSTANT, everyMs: 60_000 }), undefined);
    await pass(2_000, [INSTANT]);
    assert.deepEqual(
      asked.map(({ path, form }) => [path, form.get("query"), form.get("timeout")]),
      [["/api/v1/query", "in_use / size", "10s"]],
    );
    const answer = poll.answer(INSTANT);
    assert.ok(answer !== undefined && "rows" in answer && answer.rows.length === 1, JSON.stringify(answer));
    await pass(20_000, [INSTANT]);
    assert.equal(asked.length, 1);
    await pass(20_000, [INSTANT]);
    assert.equal(asked.length, 2);
  });

  it("asks for a range with its steps", async (t) => {
    const { pass, asked } = await polling(t);
    await pass(2_000, [RANGE]);
    const form = asked[0]?.form;
    assert.equal(asked[0]?.path, "/api/v1/query_range");
    assert.equal(form?.get("step"), "15.000");
    assert.equal(Number(form?.get("end")) - Number(form?.get("start")), 60);
  });

  it("shows tenant, token and password, below a path prefix, and understands gzip", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-promql-"));
    t.after(() => rmSync(dir, { recursive: true }));
    writeFileSync(join(dir, "secret"), "s3cret\n");
    const mimir = await polling(t, { tenant: "shop", tokenFile: join(dir, "secret") }, "/prometheus/");
    mimir.state.answer = (response) => response.setHeader("content-encoding", "gzip").end(gzipSync(JSON.stringify(vector())));
    await mimir.pass(2_000, [INSTANT]);
    const [{ path, headers } = assert.fail()] = mimir.asked;
    assert.deepEqual([path, headers["x-scope-orgid"], headers.authorization], ["/prometheus/api/v1/query", "shop", "Bearer s3cret"]);
    const answer = mimir.poll.answer(INSTANT);
    assert.ok(answer !== undefined && "rows" in answer, JSON.stringify(answer));
    const basic = await polling(t, { username: "jane", passwordFile: join(dir, "secret") });
    await basic.pass(2_000, [INSTANT]);
    assert.equal(basic.asked[0]?.headers.authorization, `Basic ${Buffer.from("jane:s3cret").toString("base64")}`);
  });

  it("says why there is no answer, once for each reason, and goes on asking", async (t) => {
    const { poll, pass, state, told } = await polling(t);
    const problem = (): string => JSON.stringify(poll.answer(INSTANT));
    state.answer = (response) =>
      response.writeHead(400).end('{"status":"error","errorType":"bad_data","error":"1:8: parse error: unexpected end of input"}');
    await pass(70_000, [INSTANT]);
    assert.match(problem(), /answered 400.*1:8: parse error/);
    assert.equal(told.length, 1);
    state.answer = (response) => response.writeHead(503).end("down");
    await pass(40_000, [INSTANT]);
    assert.match(problem(), /answered 503/);
    state.answer = (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end();
    await pass(40_000, [INSTANT]);
    assert.match(problem(), /answered 302/);
    state.answer = (response) => response.destroy();
    await pass(40_000, [INSTANT]);
    assert.match(problem(), /no answer/);
    state.answer = (response) => response.end("[".repeat(1_000));
    await pass(40_000, [INSTANT]);
    assert.match(problem(), /nested/);
    assert.equal(told.length, 5);
    state.answer = (response) => response.end(JSON.stringify(vector()));
    await pass(40_000, [INSTANT]);
    assert.match(problem(), /rows/);
  });

  it("asks first what has waited longest, so that slow queries do not keep others from being asked", async (t) => {
    const { poll, clock, asked, state, stop } = await polling(t);
    const slow = Array.from({ length: 8 }, (_, index) => ({ query: `slow_${index}`, rangeMs: 0, everyMs: 5_000 }));
    const open: ServerResponse[] = [];
    state.answer = (response) => open.push(response);
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const late: PromqlQuery = { query: "late", rangeMs: 0, everyMs: 30_000 };
    for (const query of slow) poll.answer(query);
    for (let round = 1; round <= 2; round++) {
      await clock.advance(1_250);
      const answered = poll.poll(stop.signal);
      await until(() => open.length === 8);
      poll.answer(late);
      // Each takes longer than its interval: it is due again as soon as it is answered.
      await clock.advance(6_000);
      for (const response of open.splice(0)) response.end(JSON.stringify(vector()));
      await answered;
    }
    assert.ok(
      asked.some(({ form }) => form.get("query") === "late"),
      asked.map(({ form }) => form.get("query")).join(" "),
    );
  });

  it("asks a thousand queries that are due at once, eight at a time, without waiting for its next look", async (t) => {
    const { poll, clock, asked, state, stop } = await polling(t);
    let open = 0;
    let most = 0;
    state.answer = (response) => {
      most = Math.max(most, ++open);
      setImmediate(() => {
        open--;
        response.end(JSON.stringify(vector()));
      });
    };
    const queries = Array.from({ length: 1_000 }, (_, index) => ({ query: `of_${index}`, rangeMs: 0, everyMs: 5_000 }));
    for (const query of queries) poll.answer(query);
    await clock.advance(1_000);
    await poll.poll(stop.signal);
    assert.equal(new Set(asked.map(({ form }) => form.get("query"))).size, 1_000);
    assert.equal(asked.length, 1_000);
    assert.ok(most <= 8, `${most} at once`);
    assert.ok(queries.every((query) => "rows" in (poll.answer(query) ?? {})));
  });

  it("an answer that is too old is none", async (t) => {
    const { poll, pass, clock } = await polling(t);
    await pass(2_000, [INSTANT]);
    poll.answer(INSTANT);
    await clock.advance(101_000);
    assert.match(JSON.stringify(poll.answer(INSTANT)), /not been answered for too long/);
  });

  it("asks as often as the most eager of those that still want to know", async (t) => {
    const { pass, asked } = await polling(t);
    const calm: PromqlQuery = { ...INSTANT, everyMs: 60_000 };
    const eager: PromqlQuery = { ...INSTANT, everyMs: 5_000 };
    const askedIn = async (ms: number, wanted: readonly PromqlQuery[]): Promise<number> => {
      const before = asked.length;
      await pass(ms, wanted);
      return asked.length - before;
    };
    assert.ok((await askedIn(120_000, [calm])) <= 3);
    assert.ok((await askedIn(120_000, [calm, eager])) >= 20);
    // The policy that wanted it so often is gone: so it is after five minutes.
    await pass(301_000, [calm]);
    assert.ok((await askedIn(120_000, [calm])) <= 3);
  });

  it("ceases to ask what nobody wants to know any more", async (t) => {
    const { pass, asked } = await polling(t);
    await pass(2_000, [INSTANT, RANGE]);
    await pass(301_000, [RANGE]);
    const before = asked.filter(({ path }) => path === "/api/v1/query").length;
    await pass(60_000, [RANGE]);
    assert.equal(asked.filter(({ path }) => path === "/api/v1/query").length, before);
  });

  it("asks by itself, and ends with its signal, also in the midst of a question", async (t) => {
    const { state, stop, told, clock, poll, asked } = await polling(t);
    const running = poll.run(stop.signal);
    state.answer = () => undefined;
    poll.answer(INSTANT);
    await clock.advance(1_000);
    while (asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort();
    await running;
    assert.deepEqual(told, []);
  });
});
