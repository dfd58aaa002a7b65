import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { activeAlert, FakeAlertmanager } from "../../test/support/fake-alertmanager.ts";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { seededRandom } from "../../test/support/seeded-random.ts";
import { AlertBook } from "./alertmanager.ts";
import { AlertmanagerPoll, type AlertmanagerOptions } from "./alertmanager-poll.ts";
import { decodeSnapshot, decodeUptime } from "./alertmanager-snapshot.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const HOUR = 3_600_000;

const alert = (name: string, state = "active"): object => activeAlert(name, { pod: name }, NOW, state);

describe("AlertmanagerPoll", () => {
  const open: { close(): void }[] = [];
  after(() => open.forEach((each) => each.close()));

  async function polling(count = 1, extra: Partial<AlertmanagerOptions> = {}, sourceAnswers = () => true) {
    const managers = Array.from({ length: count }, () => new FakeAlertmanager(NOW - HOUR));
    open.push(...managers);
    const sources = await Promise.all(managers.map(async (manager) => ({ url: `${await manager.start()}/am/`, ...extra })));
    const clock = new ManualClock(NOW);
    const book = new AlertBook(clock);
    const told: string[] = [];
    const poll = new AlertmanagerPoll({
      sources,
      book,
      clock,
      random: seededRandom(),
      onError: (message) => told.push(message),
      sourceAnswers,
    });
    const ask = (): Promise<void> => poll.poll(new AbortController().signal);
    const states = (): Record<string, string> => Object.fromEntries(book.alerts().map((a) => [a.fingerprint, a.status]));
    return { manager: managers[0]!, managers, sources, clock, book, told, ask, states };
  }

  it("tells of what fires, below the path prefix, and again as newer evidence", async () => {
    const { manager, ask, states, book, clock } = await polling();
    manager.alerts = [alert("a")];
    await ask();
    assert.deepEqual(states(), { a: "firing" });
    assert.deepEqual(manager.asked, ["/am/api/v2/alerts", "/am/api/v2/status"]);
    assert.deepEqual([book.alerts()[0]?.startsAt, book.alerts()[0]?.endsAt], [NOW - 60_000, undefined]);
    await clock.advance(30_000);
    await ask();
    assert.equal(book.alerts()[0]?.receivedAt, NOW + 30_000);
  });

  it("what it had and has no more is resolved", async () => {
    const { manager, ask, states } = await polling();
    manager.alerts = [alert("a"), alert("b")];
    await ask();
    manager.alerts = [alert("b")];
    await ask();
    assert.deepEqual(states(), { a: "resolved", b: "firing" });
  });

  it("one that was started a short while ago has not been told of everything: nothing is resolved", async () => {
    const { manager, ask, states, book, clock } = await polling();
    manager.alerts = [alert("a")];
    await ask();
    assert.deepEqual(book.settled(), { suppressed: [] });
    manager.alerts = [];
    manager.upSince = NOW - 1_000;
    await ask();
    assert.deepEqual(states(), { a: "firing" });
    // It is remembered until then.
    await clock.advance(300_000);
    await ask();
    assert.deepEqual(states(), { a: "resolved" });
  });

  it("of two, what one does not have may be the other's; and while one does not answer nothing is resolved", async () => {
    const { managers, ask, states, told, book } = await polling(2);
    const [first, second] = managers as [FakeAlertmanager, FakeAlertmanager];
    first.alerts = [alert("a")];
    second.alerts = [alert("a"), alert("b")];
    await ask();
    first.alerts = [];
    await ask();
    assert.deepEqual(states(), { a: "firing", b: "firing" });
    second.answer = (_request, response) => void response.writeHead(503).end();
    await ask();
    await ask();
    assert.deepEqual(states(), { a: "firing", b: "firing" });
    assert.equal(told.length, 1);
    assert.match(told[0] ?? "", /^Alertmanager at http:\/\/127\.0\.0\.1:\d+\/am\/ cannot be asked what fires: it answered 503/);
    second.answer = undefined;
    second.alerts = [];
    await ask();
    assert.deepEqual(states(), { a: "resolved", b: "resolved" });
    assert.match(told[1] ?? "", /answers again/);
    assert.ok(book.settled());
  });

  it("what is silenced, inhibited or not looked at yet is not told of, and not over", async () => {
    const { manager, ask, states, book } = await polling();
    manager.alerts = [alert("a"), alert("s", "suppressed"), alert("u", "unprocessed")];
    await ask();
    assert.deepEqual(states(), { a: "firing" });
    assert.deepEqual(
      book.settled()?.suppressed.map((a) => a.fingerprint),
      ["s", "u"],
    );
    manager.alerts = [alert("a", "suppressed")];
    await ask();
    assert.deepEqual(states(), { a: "firing" });
  });

  it("what is silenced after it was heard of is told of as that, and as before once it is not any more", async () => {
    const { managers, ask, book, clock, states } = await polling(2);
    const [first, second] = managers as [FakeAlertmanager, FakeAlertmanager];
    const suppressed = (): unknown[] => book.alerts().map((a) => [a.fingerprint, a.suppressed === true, a.receivedAt]);
    // A webhook was first: no poll has seen it.
    book.deliver(decodeSnapshot(Buffer.from(JSON.stringify([alert("a")])), NOW).active);
    first.alerts = [alert("a", "suppressed")];
    second.alerts = [alert("a")];
    await clock.advance(30_000);
    await ask();
    // Silences take a moment from one to the other.
    assert.deepEqual(suppressed(), [["a", true, NOW + 30_000]]);
    second.alerts = [alert("a", "suppressed")];
    await ask();
    assert.deepEqual(suppressed(), [["a", true, NOW + 30_000]]);
    first.alerts = [alert("a")];
    second.alerts = [alert("a")];
    await ask();
    assert.deepEqual(suppressed(), [["a", false, NOW + 30_000]]);
    first.alerts = [alert("a", "suppressed")];
    second.alerts = [alert("a", "suppressed")];
    await ask();
    first.alerts = [];
    second.alerts = [];
    await ask();
    assert.deepEqual(states(), { a: "resolved" });
  });

  it("one whose start has moved back, as another Prometheus is merged in, is heard of and silenced all the same", async () => {
    const { manager, ask, book, clock } = await polling();
    const seen = (): unknown[] => book.alerts().map((a) => [a.status, a.suppressed === true, a.receivedAt - NOW]);
    manager.alerts = [alert("a")];
    await ask();
    manager.alerts = [activeAlert("a", { pod: "a" }, NOW - 7_000, "active")];
    await clock.advance(30_000);
    await ask();
    assert.deepEqual(seen(), [["firing", false, 30_000]]);
    manager.alerts = [activeAlert("a", { pod: "a" }, NOW - 7_000, "suppressed")];
    await ask();
    assert.deepEqual(seen(), [["firing", true, 30_000]]);
    manager.alerts = [];
    await clock.advance(30_000);
    await ask();
    assert.deepEqual(seen(), [["resolved", true, 60_000]]);
  });

  it("a webhook from before a silence, that comes after it, changes nothing; one of a later life does", async () => {
    const { manager, ask, book, clock } = await polling();
    const quiet = (): unknown[] => book.alerts().map((a) => [a.status, a.suppressed === true]);
    const webhook = (startsAt: number): unknown =>
      book.deliver([{ ...decodeSnapshot(Buffer.from(JSON.stringify([alert("a")])), clock.now()).active[0]!, startsAt }]);
    manager.alerts = [alert("a", "suppressed")];
    await ask();
    // It was tried again until it got through: for the first time, and then though it was heard of.
    for (let i = 0; i < 3; i++) {
      webhook(NOW - 60_000);
      assert.deepEqual(quiet(), [["firing", true]]);
      await clock.advance(30_000);
      await ask();
    }
    webhook(clock.now());
    assert.deepEqual(quiet(), [["firing", false]], "whoever silences it would not be told of a later life");
    manager.alerts = [alert("a")];
    await ask();
    assert.deepEqual(quiet(), [["firing", false]]);
  });

  it("a webhook counts again where Alertmanager has not answered for five minutes", async () => {
    const { manager, ask, book, clock } = await polling();
    manager.alerts = [alert("a", "suppressed")];
    await ask();
    manager.answer = (_request, response) => void response.writeHead(503).end();
    await clock.advance(301_000);
    await ask();
    book.deliver([decodeSnapshot(Buffer.from(JSON.stringify([alert("a")])), clock.now()).active[0]!]);
    assert.deepEqual(
      book.alerts().map((a) => [a.status, a.suppressed]),
      [["firing", undefined]],
    );
  });

  it("an alert that is gone when its time was up has expired, by its webhook and by the next answer; before that it is over", async () => {
    const ended = async (how: "webhook" | "answer", afterMs: number, endsAt: number): Promise<unknown[]> => {
      const { manager, ask, book, clock } = await polling();
      // It ends by itself four minutes after it was repeated last.
      manager.alerts = [alert("a")];
      for (let passed = 0; passed < afterMs; passed += 30_000) {
        await ask();
        await clock.advance(30_000);
      }
      manager.alerts = [];
      const [known] = book.alerts();
      if (how === "webhook") book.deliver([{ ...known!, status: "resolved", endsAt, receivedAt: clock.now() }]);
      else await ask();
      return book.alerts().map((a) => [a.status, a.expired === true]);
    };
    assert.deepEqual(await ended("webhook", 240_000, NOW + 240_000), [["resolved", true]]);
    assert.deepEqual(await ended("answer", 240_000, 0), [["resolved", true]]);
    assert.deepEqual(await ended("webhook", 240_000, NOW + 15_000), [["resolved", false]]);
    assert.deepEqual(await ended("webhook", 60_000, NOW + 45_000), [["resolved", false]]);
    assert.deepEqual(await ended("answer", 60_000, 0), [["resolved", false]]);
  });

  it("one that had expired is over once somebody says so, and fires when Alertmanager has it again, but not by an old webhook", async () => {
    const { manager, ask, book, clock } = await polling();
    const seen = (): unknown[] => book.alerts().map((a) => [a.status, a.expired === true]);
    manager.alerts = [alert("a")];
    await ask();
    const [known] = book.alerts();
    await clock.advance(240_000);
    manager.alerts = [];
    await ask();
    assert.deepEqual(seen(), [["resolved", true]]);
    book.deliver([{ ...known!, receivedAt: clock.now() }]);
    assert.deepEqual(seen(), [["resolved", true]], "it may have been sent long before");
    manager.alerts = [alert("a")];
    await clock.advance(30_000);
    await ask();
    assert.deepEqual(seen(), [["firing", false]]);
    book.deliver([{ ...known!, status: "resolved", endsAt: NOW + 240_000, receivedAt: clock.now() }]);
    assert.deepEqual(seen(), [["resolved", true]]);
    book.deliver([{ ...known!, status: "resolved", endsAt: NOW + 120_000, receivedAt: clock.now() }]);
    assert.deepEqual(seen(), [["resolved", false]]);
  });

  it("while the Prometheus that sends them does not answer, nothing is over by that it is gone", async () => {
    let answers = false;
    const { manager, ask, book, states } = await polling(1, {}, () => answers);
    manager.alerts = [alert("a")];
    await ask();
    manager.alerts = [];
    await ask();
    assert.deepEqual([states(), book.settled()], [{ a: "firing" }, undefined]);
    answers = true;
    await ask();
    assert.deepEqual([states(), book.settled()], [{ a: "resolved" }, { suppressed: [] }]);
  });

  it("one that is not looked at yet is not called silenced", async () => {
    const { manager, ask, book } = await polling();
    manager.alerts = [alert("a")];
    await ask();
    manager.alerts = [alert("a", "unprocessed")];
    await ask();
    assert.deepEqual(
      book.alerts().map((a) => [a.status, a.suppressed]),
      [["firing", undefined]],
    );
  });

  it("does not bring back what a webhook has said is resolved", async () => {
    const { manager, ask, states, book } = await polling();
    manager.alerts = [alert("a")];
    await ask();
    book.deliver([{ ...book.alerts()[0]!, status: "resolved", endsAt: NOW, receivedAt: NOW }]);
    await ask();
    assert.deepEqual(states(), { a: "resolved" });
  });

  it("asks for one receiver only where it is named, whatever is in its name, and shows its token", async () => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-am-"));
    open.push({ close: () => rmSync(dir, { recursive: true }) });
    writeFileSync(join(dir, "token"), "secret\n");
    const { manager, ask } = await polling(1, { receiver: "night.shift", tokenFile: join(dir, "token") });
    await ask();
    const receiver = new URL(manager.asked[0] ?? "", "http://x").searchParams.get("receiver") ?? "";
    assert.ok(new RegExp(`^(?:${receiver})$`).test("night.shift"));
    assert.ok(!new RegExp(`^(?:${receiver})$`).test("nightXshift"));
    assert.deepEqual(manager.authorizations, ["Bearer secret", "Bearer secret"]);
  });

  it("leaves out what it does not understand, and keeps the rest", async () => {
    const { manager, ask, states, told } = await polling();
    manager.alerts = [{ labels: {} }, alert("a")];
    await ask();
    assert.deepEqual(states(), { a: "firing" });
    assert.match(told[0] ?? "", /1 alerts are not understood, the first is number 0: /);
  });

  it("tells once of what it does not understand, and of what comes new", async () => {
    const { manager, ask, told } = await polling();
    const bad = (fingerprint: string): object => ({ ...activeAlert(fingerprint, {}, NOW), startsAt: "yesterday" });
    manager.alerts = [bad("a"), { labels: {} }];
    await ask();
    await ask();
    // In another place of the list.
    manager.alerts = [{ labels: {} }, alert("c"), bad("a")];
    await ask();
    assert.equal(told.length, 1, told.join("\n"));
    assert.match(told[0] ?? "", /2 alerts are not understood, the first is a: startsAt: /);
    manager.alerts = [bad("a"), { labels: {} }, bad("b")];
    await ask();
    await ask();
    assert.equal(told.length, 2, told.join("\n"));
    assert.match(told[1] ?? "", /1 alerts are not understood, the first is b: /);
  });

  it("what it does not understand any more is not over", async () => {
    const { manager, ask, states, book } = await polling();
    manager.alerts = [alert("a"), alert("b")];
    await ask();
    const settled = book.settled();
    manager.alerts = [{ ...alert("a"), annotations: { runbook: "x".repeat(10_000) } }, alert("c", "suppressed")];
    await ask();
    assert.deepEqual(states(), { a: "firing", b: "firing" });
    assert.equal(book.settled(), settled);
    // What has no name was never one of those.
    manager.alerts = [{ labels: {} }, { labels: { alertname: "" } }];
    await ask();
    assert.deepEqual(states(), { a: "resolved", b: "resolved" });
  });

  it("does not end what a webhook has told of while it was asking", async () => {
    const { manager, ask, states, book, clock } = await polling();
    manager.alerts = [alert("a")];
    await ask();
    const [told] = book.alerts();
    await clock.advance(30_000);
    // Its answer is on the way when the webhook comes.
    manager.alerts = [];
    const answer = async (response: ServerResponse): Promise<void> => {
      await clock.advance(1);
      book.deliver([{ ...told!, startsAt: clock.now() - 1_000, receivedAt: clock.now() }]);
      response.end("[]");
    };
    manager.answer = (_request, response) => {
      manager.answer = undefined;
      void answer(response);
    };
    await ask();
    assert.deepEqual(states(), { a: "firing" });
    // It is remembered all the same.
    await clock.advance(30_000);
    await ask();
    assert.deepEqual(states(), { a: "resolved" });
  });

  it("remembers nothing of what a webhook has ended, also where one never answers", async () => {
    const { managers, ask, book, clock, states } = await polling(2);
    const [first, second] = managers as [FakeAlertmanager, FakeAlertmanager];
    second.answer = (_request, response) => void response.writeHead(503).end();
    first.alerts = [alert("a")];
    await ask();
    first.alerts = [];
    book.deliver([{ ...book.alerts()[0]!, status: "resolved", endsAt: NOW, receivedAt: NOW }]);
    await ask();
    // Until the book has forgotten it, too: had it been remembered, it would be told of as ended now.
    await clock.advance(HOUR + 1);
    second.answer = undefined;
    await ask();
    assert.deepEqual(states(), {});
  });

  it("says what is wrong with an address that is no Alertmanager's", async () => {
    const { manager, ask, told, book } = await polling();
    for (const body of ["<html>", '{"status":"success"}', "[".repeat(100_000)]) {
      manager.answer = (_request, response) => void response.end(body);
      await ask();
    }
    manager.answer = (_request, response) => void response.writeHead(302, { location: "http://127.0.0.1:1/" }).end();
    await ask();
    assert.deepEqual([book.alerts(), book.settled()], [[], undefined]);
    assert.equal(told.length, 1);
  });

  it("ends with its signal, also in the midst of a question", async () => {
    const { manager, sources } = await polling();
    const arrived = new Promise<void>((resolve) => (manager.answer = () => resolve()));
    const clock = new ManualClock(NOW);
    const stop = new AbortController();
    const told: string[] = [];
    const poll = new AlertmanagerPoll({
      sources,
      book: new AlertBook(clock),
      clock,
      random: seededRandom(),
      onError: (message) => told.push(message),
    });
    const running = poll.run(stop.signal);
    await arrived;
    stop.abort();
    await running;
    assert.deepEqual(told, []);
  });
});

describe("decodeSnapshot", () => {
  const decode = (value: unknown) => decodeSnapshot(Buffer.from(JSON.stringify(value)), NOW);

  it("refuses what is no list", () => {
    assert.throws(() => decode({ data: [] }), /no list of alerts/);
    assert.throws(() => decodeSnapshot(Buffer.from("nonsense"), NOW), /no JSON/);
  });

  it("refuses alerts one by one", () => {
    const { active, refused } = decode([alert("a"), null, { ...alert("b"), startsAt: "yesterday" }, { ...alert("c"), status: "firing" }]);
    assert.deepEqual(
      active.map((a) => a.fingerprint),
      ["a"],
    );
    assert.deepEqual(
      refused.map((r) => r.index),
      [1, 2, 3],
    );
  });

  it("knows when an Alertmanager was started, if it says so", () => {
    assert.equal(decodeUptime(Buffer.from('{"uptime":"2026-01-01T11:00:00.000Z"}')), NOW - HOUR);
    assert.equal(decodeUptime(Buffer.from("{}")), undefined);
  });
});
