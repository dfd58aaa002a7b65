import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Remediation } from "../api/remediation.ts";
import type { KubeEvent } from "../platform/kubernetes/events.ts";
import type { AuditRecord } from "../record/audit.ts";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { eventTeller } from "./operator-events.ts";

const DECISION: AuditRecord = {
  type: "Decision",
  at: 0,
  remediation: "shop/web-1",
  policy: "shop/web",
  message: "waiting for a person's yes",
  data: { action: "AwaitApproval", reason: "AwaitingApproval" },
};

describe("events about an episode", () => {
  const stage = () => {
    const clock = new ManualClock();
    const told: KubeEvent[] = [];
    const known = new Map<string, Remediation>();
    const teller = eventTeller({
      clock,
      remediation: (key) => known.get(key),
      policyUid: () => "policy-uid",
      tell: (event) => void told.push(event),
    });
    return { clock, told, known, teller };
  };
  const episode = { metadata: { namespace: "shop", name: "web-1", uid: "its-uid" } } as Remediation;

  it("name its uid at once where it is known", () => {
    const { told, known, teller } = stage();
    known.set("shop/web-1", episode);
    teller(DECISION);
    assert.deepEqual(
      told.map(({ regarding, reason }) => [regarding.uid, reason]),
      [["its-uid", "AwaitingApproval"]],
    );
  });

  it("wait for it where the record came first: kubectl describe would not show them", async () => {
    const { clock, told, known, teller } = stage();
    teller(DECISION);
    await clock.advance(1_000);
    assert.equal(told.length, 0);
    known.set("shop/web-1", episode);
    await clock.advance(200);
    assert.deepEqual(
      told.map(({ regarding }) => regarding.uid),
      ["its-uid"],
    );
  });

  it("are told without it in the end: better so than not at all", async () => {
    const { clock, told, teller } = stage();
    teller(DECISION);
    for (let i = 0; i < 110; i++) await clock.advance(100);
    assert.deepEqual(
      told.map(({ regarding }) => [regarding.name, regarding.uid]),
      [["web-1", undefined]],
    );
  });
});
