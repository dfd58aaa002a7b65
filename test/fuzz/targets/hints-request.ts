import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { IncomingMessage } from "node:http";
import * as fc from "fast-check";
import { authenticate } from "../../../hints/authenticate.ts";
import { ACTION_NAME, ACTIONS_PATH, AHEAD_MS, HEADERS, LATE_MS, signedText, type SignedRequest } from "../../../hints/protocol.ts";
import { grammarJson, type Json } from "../json.ts";
import { NOW } from "../otlp-messages.ts";
import { ACCEPTED, type FuzzTarget } from "../target.ts";

/** A key for this alone, always the same, so that a seed makes the same inputs: RFC 8032's first test vector, in PKCS #8. */
const KEY = createPrivateKey({
  key: Buffer.from("302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex"),
  format: "der",
  type: "pkcs8",
});
const PUBLIC = createPublicKey(KEY);
const UID = "uid-1";

interface Sent {
  readonly method?: unknown;
  readonly url?: unknown;
  readonly headers?: unknown;
}

/** A request as Nightshift sends it. */
function sent(request: SignedRequest): Json {
  const { method, action, target, effect, intended, time } = request;
  return {
    method,
    url: `${ACTIONS_PATH}${action}`,
    headers: {
      [HEADERS.target]: target,
      [HEADERS.effect]: effect,
      [HEADERS.intended]: String(intended),
      [HEADERS.time]: String(time),
      [HEADERS.signature]: sign(null, Buffer.from(signedText(request)), KEY).toString("base64"),
    },
  };
}

const base: SignedRequest = { method: "POST", action: "pool-reset", target: UID, effect: "e/0/1", intended: NOW - 2_000, time: NOW - 100 };
const mostly = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: fc.constantFrom(...others) });
const requests = fc
  .record({
    method: fc.constantFrom("GET" as const, "POST" as const),
    action: mostly("pool-reset", "cache-flush", "a".repeat(63), "../x", ""),
    target: mostly(UID, "uid-2", ""),
    effect: mostly("e/0/1", "", "x".repeat(600)),
    intended: mostly(NOW - 2_000, 0, -1, 1e15, NaN),
    time: mostly(NOW, NOW - LATE_MS, NOW - LATE_MS - 1, NOW + AHEAD_MS, NOW + AHEAD_MS + 1),
  })
  .map(sent);
const seeds = [base, { ...base, method: "GET" as const }].map((request) => Buffer.from(JSON.stringify(sent(request))));

/** Requests to an application's listener for actions: it does nothing for who has not Nightshift's key. */
export const hintsRequest: FuzzTarget = {
  name: "hints-request",
  seeds,
  inputs: grammarJson(requests, seeds, [UID, "uid-2", "POST", "PUT", ACTIONS_PATH, HEADERS.signature, HEADERS.time]),
  check(input) {
    let message: Sent;
    try {
      message = JSON.parse(Buffer.from(input).toString()) as Sent;
    } catch {
      return "NO_REQUEST";
    }
    const { method, url, headers } = message ?? {};
    // What Node.js hands over has texts here, whatever was sent.
    if (typeof url !== "string" || typeof headers !== "object" || headers === null) return "NO_REQUEST";
    const request = { method, url, headers } as IncomingMessage;
    const verdict = authenticate(request, [PUBLIC], UID, NOW);
    assert.deepEqual(authenticate(request, [PUBLIC], UID, NOW), verdict);
    if (!verdict.ok) {
      if ("message" in verdict) assert.ok(verdict.message !== "" && verdict.message.length < 300);
      return String(verdict.status);
    }
    const { action, target, effect, intended, time } = verdict.request;
    assert.ok(target === UID && effect !== "" && effect.length <= 512 && ACTION_NAME.test(action));
    assert.ok(Number.isSafeInteger(intended) && intended >= 0 && NOW - time <= LATE_MS && time - NOW <= AHEAD_MS);
    const signature = Buffer.from(String((headers as Record<string, unknown>)[HEADERS.signature]), "base64");
    assert.ok(verify(null, Buffer.from(signedText(verdict.request)), PUBLIC, signature), "it was let in without a signature");
    // Another replica lets nobody in by it, and neither does who has another key, or hears of it later.
    assert.equal(authenticate(request, [PUBLIC], "uid-2", NOW).ok, false);
    assert.equal(authenticate(request, [], UID, NOW).ok, false);
    assert.equal(authenticate(request, [PUBLIC], UID, NOW + LATE_MS + AHEAD_MS + 1).ok, false);
    return ACCEPTED;
  },
};
