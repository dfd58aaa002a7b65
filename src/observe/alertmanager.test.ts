import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { NightshiftError } from "../api/errors.ts";
import type { Alert } from "../api/signal.ts";
import type { Clock } from "../ports/clock.ts";
import { AlertBook, decodeAlerts, type AlertBookLimits } from "./alertmanager.ts";

const NOW = 1_800_000_000_000;

/** One alert as Alertmanager 0.25 sends it. */
function sent(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    status: "firing",
    labels: { alertname: "HighMemory", instance: "payments-0", severity: "page" },
    annotations: { summary: "memory grows" },
    startsAt: "2027-01-15T07:59:00.123456789Z",
    endsAt: "0001-01-01T00:00:00Z",
    generatorURL: "http://prometheus/graph",
    fingerprint: "0123456789abcdef",
    ...overrides,
  };
}

function payload(alerts: readonly unknown[], overrides: Record<string, unknown> = {}): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      version: "4",
      groupKey: '{}:{alertname="HighMemory"}',
      truncatedAlerts: 0,
      status: "firing",
      receiver: "nightshift",
      groupLabels: {},
      commonLabels: {},
      commonAnnotations: {},
      externalURL: "http://alertmanager",
      alerts,
      ...overrides,
    }),
  );
}

describe("Alertmanager's webhook", () => {
  it("is read as alerts; the year 1 is no end", () => {
    const { alerts, refused } = decodeAlerts(payload([sent(), sent({ status: "resolved", endsAt: "2027-01-15T09:00:00+01:00" })]), NOW);
    assert.deepEqual(refused, []);
    assert.deepEqual(alerts[0], {
      status: "firing",
      alertname: "HighMemory",
      labels: { alertname: "HighMemory", instance: "payments-0", severity: "page" },
      annotations: { summary: "memory grows" },
      startsAt: Date.parse("2027-01-15T07:59:00.123Z"),
      endsAt: undefined,
      fingerprint: "0123456789abcdef",
      receivedAt: NOW,
    });
    assert.equal(alerts[1]?.endsAt, Date.parse("2027-01-15T08:00:00Z"));
  });

  it("unknown fields are ignored, also in alerts", () => {
    const { alerts } = decodeAlerts(payload([sent({ values: { A: 1 }, silenceURL: "x" })], { notificationReason: "new" }), NOW);
    assert.equal(alerts.length, 1);
  });

  it("alerts that are not understood are named, the others are kept", () => {
    const faults: Record<string, unknown>[] = [
      { status: "pending" },
      { labels: { job: "x" } },
      { labels: { alertname: 5 } },
      { startsAt: "yesterday" },
      { startsAt: undefined },
      { fingerprint: "" },
      { labels: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`l${i}`, "x"])) },
      { annotations: { a: "x".repeat(10_000) } },
    ];
    const { alerts, refused } = decodeAlerts(
      payload([sent(), ...faults.map((fault) => sent(fault)), null, "text", sent({ annotations: null })]),
      NOW,
    );
    assert.equal(alerts.length, 2);
    assert.deepEqual(
      refused.map(({ index }) => index),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    );
    assert.match(refused[0]?.message ?? "", /^status: /);
  });

  it("what is no payload is refused as a whole", () => {
    const cases: [Uint8Array, string][] = [
      [Buffer.from("{"), "MALFORMED_JSON"],
      [Buffer.from("[".repeat(100_000)), "TOO_DEEP"],
      [Buffer.from("[]"), "MALFORMED_ALERTS"],
      [payload([], { version: "3" }), "MALFORMED_ALERTS"],
      [payload([], { version: 4 }), "MALFORMED_ALERTS"],
      [payload([], { alerts: {} }), "MALFORMED_ALERTS"],
    ];
    for (const [body, code] of cases) assert.throws(() => decodeAlerts(body, NOW), { code });
  });

  it("label names of JavaScript's own are only labels", () => {
    const body = Buffer.from(payload([sent()]).toString().replace('"severity"', '"__proto__":"x","constructor":"y","severity"'));
    const { alerts } = decodeAlerts(body, NOW);
    assert.equal(alerts[0]?.labels["constructor"], "y");
    assert.equal(Object.getPrototypeOf({}), Object.prototype);
  });

  it("survives any JSON in the place of any part, and any bytes", () => {
    const base = JSON.parse(Buffer.from(payload([sent(), sent()])).toString()) as unknown;
    const survives = (body: Uint8Array): void => {
      try {
        for (const item of decodeAlerts(body, NOW).alerts) assert.ok(Number.isFinite(item.startsAt) && item.alertname !== "");
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
      }
    };
    fc.assert(
      fc.property(fc.nat(40), fc.jsonValue({ maxDepth: 3 }), (at, value) => {
        let n = 0;
        survives(Buffer.from(JSON.stringify(base, (_, part: unknown) => (n++ === at ? value : part)) ?? ""));
      }),
      { numRuns: 1_000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), survives), { numRuns: 500 });
  });
});

function setup(limits: Partial<AlertBookLimits> = {}) {
  const time = { now: NOW };
  const clock: Clock = { now: () => time.now, monotonic: () => time.now, after: () => () => {} };
  const book = new AlertBook(clock, limits);
  const heard: string[][] = [];
  book.onChange((changed) => heard.push(changed.map(({ fingerprint, status }) => `${fingerprint} ${status}`)));
  return { time, book, heard };
}

function alert(fingerprint: string, status: Alert["status"], startsAt = NOW, endsAt?: number): Alert {
  const labels = { alertname: "A" };
  return { status, alertname: "A", labels, annotations: {}, startsAt, endsAt, fingerprint, receivedAt: NOW };
}

describe("the alert book", () => {
  it("shows what fires, then that it was resolved, then nothing", () => {
    const { book, heard, time } = setup({ keepResolvedMs: 1_000 });
    book.deliver([alert("a", "firing"), alert("b", "firing")]);
    book.deliver([alert("a", "resolved", NOW, NOW + 5)]);
    assert.deepEqual(heard, [["a firing", "b firing"], ["a resolved"]]);
    assert.deepEqual(
      book
        .alerts()
        .map(({ fingerprint, status }) => `${fingerprint} ${status}`)
        .toSorted(),
      ["a resolved", "b firing"],
    );
    time.now += 1_001;
    assert.deepEqual(
      book.alerts().map(({ fingerprint }) => fingerprint),
      ["b"],
    );
  });

  it("listeners hear of it before `deliver` returns, and one that fails does not keep it from the others", () => {
    const { book } = setup();
    let seen = 0;
    const end = book.onChange(() => {
      throw new Error("broken");
    });
    book.onChange(() => (seen = book.alerts().length));
    assert.throws(() => book.deliver([alert("a", "firing")]), AggregateError);
    assert.equal(seen, 1);
    end();
    book.deliver([alert("b", "firing")]);
    assert.equal(seen, 2);
  });

  it("a replayed firing does not bring a resolved alert back; a new life does", () => {
    const { book } = setup();
    const state = () => book.alerts().map(({ status, startsAt }) => [status, startsAt - NOW]);
    book.deliver([alert("a", "firing")]);
    book.deliver([alert("a", "resolved", NOW, NOW + 5)]);
    assert.deepEqual(book.deliver([alert("a", "firing")]), { changed: [], unchanged: 1, refused: 0 });
    assert.deepEqual(state(), [["resolved", 0]]);
    book.deliver([alert("a", "firing", NOW + 10)]);
    assert.deepEqual(state(), [["firing", 10]]);
    book.deliver([alert("a", "resolved", NOW, NOW + 5)]);
    assert.deepEqual(state(), [["firing", 10]], "the end of an older life does not end this one");
    book.deliver([alert("a", "firing", NOW - 100)]);
    assert.deepEqual(state(), [["firing", 10]]);
  });

  it("an end that names an earlier start than the beginning did still ends it", () => {
    const { book } = setup();
    book.deliver([alert("a", "firing", NOW)]);
    book.deliver([alert("a", "resolved", NOW - 30, NOW + 60)]);
    assert.equal(book.alerts()[0]?.status, "resolved");
  });

  it("a resolved alert that nobody knew is news, and is never firing later", () => {
    const { book } = setup();
    book.deliver([alert("a", "resolved", NOW, NOW + 5)]);
    book.deliver([alert("a", "firing", NOW)]);
    assert.equal(book.alerts()[0]?.status, "resolved");
  });

  it("when full, resolved alerts make place; firing ones never do", () => {
    const { book } = setup({ maxAlerts: 2 });
    book.deliver([alert("a", "firing"), alert("b", "resolved", NOW, NOW + 1)]);
    assert.equal(book.deliver([alert("c", "firing")]).refused, 0);
    assert.deepEqual(
      book.alerts().map(({ fingerprint }) => fingerprint),
      ["a", "c"],
    );
    assert.equal(book.deliver([alert("d", "firing")]).refused, 1);
  });

  it("whatever the order and repetition of deliveries, the end is the same: the newest life, resolved if that was said", () => {
    const event = fc.record({
      life: fc.integer({ min: 0, max: 3 }),
      status: fc.constantFrom("firing" as const, "resolved" as const),
    });
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 12 }), fc.array(fc.nat(100), { maxLength: 12 }), (events, order) => {
        const { book } = setup();
        const shuffled = [...events, ...order.map((i) => events[i % events.length] ?? events[0])];
        for (const e of shuffled)
          if (e) book.deliver([alert("a", e.status, NOW + e.life * 10, e.status === "resolved" ? NOW + e.life * 10 + 5 : undefined)]);
        const newest = Math.max(...events.map(({ life }) => life));
        const resolved = events.some(({ life, status }) => life === newest && status === "resolved");
        const [state] = book.alerts();
        assert.deepEqual([state?.startsAt, state?.status], [NOW + newest * 10, resolved ? "resolved" : "firing"]);
      }),
    );
  });

  it("a start in the future, from a clock that was wrong, does not silence what comes after it", () => {
    const { book, heard } = setup();
    book.deliver([alert("a", "firing", NOW + 86_400_000)]);
    book.deliver([alert("a", "firing", NOW)]);
    assert.deepEqual(heard, [["a firing"], ["a firing"]]);
    assert.equal(book.alerts()[0]?.startsAt, NOW);
    book.deliver([alert("a", "firing", NOW + 30_000)]);
    book.deliver([alert("a", "firing", NOW)]);
    assert.equal(book.alerts()[0]?.startsAt, NOW + 30_000, "half a minute ahead is a newer life");
  });
  it("one that has expired is not forgotten as those are whose end was said: it would look as if it were over", () => {
    const { book, time } = setup({ keepResolvedMs: 1_000, keepFiringMs: 10_000 });
    const seen = (): string[] => book.alerts().map(({ fingerprint, status, expired }) => `${fingerprint} ${status} ${expired === true}`);
    book.deliver([{ ...alert("a", "resolved", NOW, NOW + 5), expired: true }, alert("b", "resolved", NOW, NOW + 5)]);
    time.now += 1_001;
    assert.deepEqual(seen(), ["a resolved true"]);
    book.deliver([alert("c", "resolved", NOW, NOW + 5)]);
    time.now += 1_001;
    assert.deepEqual(seen(), ["a resolved true"], "nor does it keep what came after it");
    time.now += 8_000;
    assert.deepEqual(seen(), []);
  });
  it("an alert whose end is never said is forgotten once Alertmanager must have repeated it", () => {
    const { book, time } = setup({ keepFiringMs: 1_000, maxAlerts: 2 });
    book.deliver([alert("silent", "firing"), alert("repeated", "firing")]);
    time.now += 900;
    book.deliver([alert("repeated", "firing")]);
    assert.equal(book.deliver([alert("new", "firing")]).refused, 1);
    time.now += 900;
    assert.deepEqual(
      book.alerts().map(({ fingerprint }) => fingerprint),
      ["repeated"],
    );
    assert.equal(book.deliver([alert("new", "firing")]).refused, 0);
  });
  it("10,000 alerts in one payload are all there after one delivery", () => {
    const { book, heard } = setup();
    const { alerts } = decodeAlerts(payload(Array.from({ length: 10_000 }, (_, i) => sent({ fingerprint: `f${i}` }))), NOW);
    book.deliver(alerts);
    assert.equal(book.alerts().length, 10_000);
    assert.equal(heard.length, 1);
  });
});
