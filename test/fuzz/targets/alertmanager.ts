import assert from "node:assert/strict";
import type { Alert } from "../../../src/api/signal.ts";
import { AlertBook, decodeAlerts, type RefusedAlert } from "../../../src/observe/alertmanager.ts";
import { decodeSnapshot, decodeUptime } from "../../../src/observe/alertmanager-snapshot.ts";
import { fuzzedJson } from "../json.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const NOW = Date.parse("2026-11-30T00:00:00Z");
const CODES = new Set(["MALFORMED_JSON", "TOO_DEEP", "MALFORMED_ALERTS"]);
const WORDS = ["firing", "resolved", "suppressed", "unprocessed", "active", "0001-01-01T00:00:00Z", "2026-11-30T00:00:00+14:00"];
const clock = { now: () => NOW, monotonic: () => 0, after: () => () => {} };

function holds(alerts: readonly Alert[], refused: readonly RefusedAlert[]): void {
  for (const { message } of refused) assert.ok(message !== "" && message.length < 1_000, `a message of ${message.length} characters`);
  for (const alert of alerts) {
    assert.notEqual(alert.alertname, "");
    assert.ok(Number.isFinite(alert.startsAt) && (alert.endsAt === undefined || (alert.status === "resolved" && alert.endsAt > 0)));
    for (const texts of [alert.labels, alert.annotations]) {
      assert.equal(Object.getPrototypeOf(texts), Object.prototype);
      assert.ok(Object.keys(texts).length <= 128);
      for (const text of Object.values(texts)) assert.ok(typeof text === "string" && text.length <= 8_192);
    }
  }
  // Whatever came is counted once, and the same again is no news of an end.
  const book = new AlertBook(clock);
  const first = book.deliver(alerts);
  assert.equal(first.changed.length + first.unchanged + first.refused, alerts.length);
  const before = states(book);
  assert.ok(before.length <= alerts.length);
  const again = book.deliver(book.alerts());
  assert.equal(again.refused, 0);
  assert.deepEqual(states(book), before);
}

const states = (book: AlertBook): string[] =>
  book
    .alerts()
    .map(({ fingerprint, status }) => `${fingerprint} ${status}`)
    .toSorted();

const webhookSeeds = seedsOf("alertmanager-webhook");
export const alertmanagerWebhook: FuzzTarget = {
  name: "alertmanager-webhook",
  seeds: webhookSeeds,
  inputs: fuzzedJson(webhookSeeds, WORDS),
  check: (input) =>
    decoded(
      CODES,
      () => decodeAlerts(input, NOW),
      ({ alerts, refused }) => holds(alerts, refused),
    ),
};

const apiSeeds = seedsOf("alertmanager-api");
export const alertmanagerApi: FuzzTarget = {
  name: "alertmanager-api",
  seeds: apiSeeds,
  inputs: fuzzedJson(apiSeeds, WORDS),
  check(input) {
    decoded(
      CODES,
      () => decodeUptime(input),
      (at) => assert.ok(at === undefined || Number.isFinite(at)),
    );
    return decoded(
      CODES,
      () => decodeSnapshot(input, NOW),
      ({ active, suppressed, unprocessed, refused }) => holds([...active, ...suppressed, ...unprocessed], refused),
    );
  },
};
