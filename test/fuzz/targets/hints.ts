import assert from "node:assert/strict";
import * as fc from "fast-check";
import { type Hint, HINT_METRIC, HintBook } from "../../../src/observe/hints.ts";
import { decodeJson } from "../../../src/observe/otlp/json.ts";
import { DEFAULT_OTLP_LIMITS, type OtlpLimits } from "../../../src/observe/otlp/model.ts";
import { OtlpReceiver } from "../../../src/observe/otlp/receiver.ts";
import { TelemetryStore } from "../../../src/observe/store.ts";
import { type HintWish, judgeHint } from "../../../src/orient/hint.ts";
import { grammarJson, type Json } from "../json.ts";
import { attributes, metricsRequest, NOW, textsIn } from "../otlp-messages.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const LIMITS: OtlpLimits = { ...DEFAULT_OTLP_LIMITS, maxPoints: 60, maxItems: 60, maxAttributes: 16, maxTextLength: 64, maxValueDepth: 4 };
const CODES = new Set(["MALFORMED_OTLP", "TOO_DEEP", "TOO_MANY_ITEMS", "MALFORMED_JSON"]);
const clock = { now: () => NOW, monotonic: () => 0, after: () => () => {} };

/** Every action that bare numbers stand for, and another, by senders that can be trusted and by others. */
const WISHES: readonly HintWish[] = ["pool-reset", "cache-flush", "restart", "own"].flatMap((action) =>
  (["Inconclusive", "SingleAddition"] as const).map((bareValue) => ({
    action,
    bareValue,
    saturationType: undefined,
    activeForMs: 60_000,
    maxAgeMs: 120_000,
  })),
);

/** A store that also tells what it was told. */
class Told extends TelemetryStore {
  readonly told: { readonly uid: string; readonly hint: Hint }[] = [];
  override recordHint(uid: string, hint: Hint): ReturnType<TelemetryStore["recordHint"]> {
    this.told.push({ uid, hint });
    return super.recordHint(uid, hint);
  }
}

function holds(told: Told["told"], texts: ReadonlySet<string>): void {
  for (const { uid, hint } of told) {
    const { action, added, delta, single, since, t, receivedAt, traceIds } = hint;
    assert.ok(texts.has(uid), `nobody has the uid ${uid}`);
    assert.ok(Number.isFinite(added) && added > 0, `${added} added`);
    assert.ok(since <= t && t <= receivedAt && receivedAt === NOW, `from ${since} to ${t}`);
    for (const id of traceIds) assert.match(id, /^[0-9a-f]{32}$/);
    const asked = WISHES.filter((wish) => {
      const verdict = judgeHint(hint, wish, NOW);
      assert.deepEqual(judgeHint(hint, wish, NOW), verdict);
      if (verdict.state === "Unclear") assert.ok(verdict.why !== "" && verdict.why.length < 1_000);
      if (verdict.state !== "Asks") return false;
      assert.ok(action === undefined || action === wish.action, `${action} asks for ${wish.action}`);
      assert.ok(
        action !== undefined || (delta && (added === 1 || single || wish.bareValue === "SingleAddition")),
        "what may be a sum asks",
      );
      return true;
    });
    // One of the two wishes for one action, or both: a hint never asks for two actions.
    assert.ok(new Set(asked.map((wish) => wish.action)).size <= 1, "one hint asks for two actions");
  }
}

const seeds = seedsOf("otlp-hints");
const exemplars = fc.array(
  fc
    .record({
      asDouble: fc.nat(4),
      timeUnixNano: fc.integer({ min: -4, max: 0 }).map((steps) => `${NOW + steps * 10_000}000000`),
      traceId: fc.constantFrom("0af7651916cd43dd8448eb211c80319c", "00", ""),
    })
    .map((made): Json => ({ ...made })),
  { maxLength: 2 },
);
const requests = metricsRequest(
  fc
    .record({
      "service.instance.id": fc.constantFrom(undefined, "uid-1", "uid-1", "uid-2", ""),
      "k8s.container.name": fc.constantFrom(undefined, "app", "proxy"),
    })
    .map((of): Json => ({ attributes: attributes(of) })),
  fc.constantFrom(HINT_METRIC, HINT_METRIC, HINT_METRIC, "http.server.request.duration"),
  fc
    .record({
      "remediation.action": fc.constantFrom<(string | number | undefined)[]>(undefined, undefined, "pool-reset", "own", "", 1),
      "saturation.type": fc.constantFrom(undefined, "connections"),
      "service.instance.id": fc.constantFrom(undefined, "uid-2"),
    })
    .map(attributes),
  exemplars,
);

/** Hints, from what an SDK sends to what a policy makes of them. */
export const hints: FuzzTarget = {
  name: "otlp-hints",
  seeds,
  inputs: grammarJson(requests, seeds, [HINT_METRIC, "remediation.action", "saturation.type"]),
  check: (input) =>
    decoded(
      CODES,
      () => decodeJson(input, LIMITS, () => true),
      (request) => {
        const store = new Told(clock);
        const receiver = new OtlpReceiver({ sink: store, clock, limits: LIMITS });
        receiver.receive(input, "json");
        holds(store.told, textsIn(input));
        // Nobody is said to have asked for more than they have counted, and nobody but who has sent it.
        const counted = new Map<string, number>();
        for (const { instanceId = "", metrics } of request.resources)
          for (const metric of metrics.filter(({ name }) => name === HINT_METRIC))
            for (const { value = 0 } of metric.points as readonly { readonly value?: number }[])
              if (value > 0 && Number.isFinite(value)) counted.set(instanceId, (counted.get(instanceId) ?? 0) + value);
        const asked = new Map<string, number>();
        for (const { uid, hint } of store.told) asked.set(uid, (asked.get(uid) ?? 0) + hint.added);
        for (const [uid, added] of asked)
          assert.ok(added <= (counted.get(uid) ?? 0) * (1 + 1e-9), `${added} of ${counted.get(uid)} of ${uid}`);
        // Kept is the newest of each kind, and whoever has had no answer sends the same again: it is no news.
        const kept = [...asked.keys()].map((uid) => store.hints(uid));
        const before = store.told.length;
        receiver.receive(input, "json");
        assert.equal(store.told.length, before, "the same hint asks once more");
        assert.deepEqual(
          [...asked.keys()].map((uid) => store.hints(uid)),
          kept,
        );
        const book = new HintBook(clock, { maxKinds: 2, maxPerMinute: 3 });
        const refused = store.told.filter(({ uid, hint }) => book.record(uid, hint) !== undefined).length;
        for (const uid of asked.keys()) assert.ok(book.of(uid).length <= 2);
        assert.ok(store.told.length - refused <= 3 * asked.size);
      },
    ),
};
