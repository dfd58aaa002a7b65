import assert from "node:assert/strict";
import { it } from "node:test";
import type { StepRecord } from "../../src/api/remediation.ts";
import { remediationObject } from "../../test/support/objects.ts";
import { answerTo, captureRequests, type RemediationObject } from "./request.ts";

const POD = { kind: "Pod", namespace: "shop", name: "web-1", uid: "u-1" };

function episode(
  step: Partial<StepRecord>,
  status: Record<string, unknown> = {},
  attempt: Record<string, unknown> = {},
): RemediationObject {
  const object = remediationObject("e", "shop");
  const record: StepRecord = {
    name: "capture",
    type: "capture",
    params: { type: "HeapSnapshot" },
    target: POD,
    timeoutMs: 1_000,
    state: "Intended",
    effectId: "e/0/1",
    ...step,
  };
  const at = "2026-01-01T00:00:00Z";
  const attempts = [{ rung: 0, what: "RestartPod", startedAt: at, deadline: at, steps: [record], undo: [], ...attempt }];
  const metadata = { name: "e", namespace: "shop", uid: "x", resourceVersion: "1" };
  return { metadata, spec: object.spec, status: { ...object.status, phase: "Executing", attempts, ...status } };
}

it("is a capture step whose intent is stored, with the defaults of what it does not say", () => {
  assert.deepEqual(captureRequests(episode({})), [
    {
      effectId: "e/0/1",
      remediation: { namespace: "shop", name: "e" },
      replica: POD,
      capture: { type: "HeapSnapshot", required: true, raiseLimit: true },
      timeoutMs: 1_000,
    },
  ]);
});

it("is nothing else: another step, another state, an attempt or episode that is over, a target that is no pod", () => {
  for (const nothing of [
    episode({ type: "stop" }),
    episode({ state: "Pending" }),
    episode({ state: "Done" }),
    episode({}, { phase: "Failed" }),
    episode({}, { attempts: undefined }),
    episode({}, {}, { outcome: "Cancelled" }),
    episode({ target: { ...POD, kind: "Process" } }),
    episode({ target: { kind: "Pod", namespace: "shop", name: "web-1" } }),
    { metadata: { name: "e", uid: "x", resourceVersion: "1" } },
    episode({}, { attempts: {} }),
    episode({}, {}, { steps: "none" }),
    episode({}, { attempts: [null] }),
  ])
    assert.deepEqual(captureRequests(nothing), []);
});

it("is answered by the entry with its effectId, also where a later version says more in it", () => {
  const answer = { effectId: "e/0/1", state: "Running", node: "node-1", startedAt: "2026-01-01T00:00:00Z", more: 1 };
  assert.deepEqual(answerTo(episode({}, { captures: [{ effectId: "e/0/0" }, answer] }), "e/0/1"), answer);
  for (const captures of [undefined, null, {}, "none", []]) assert.equal(answerTo(episode({}, { captures }), "e/0/1"), undefined);
});

it("is of the episode's own target where the step names none, and stays without a capture that is not understood", () => {
  const { target: _none, ...own } = episode({}).status?.attempts?.[0]?.steps[0] ?? assert.fail();
  const object = episode({}, {}, { steps: [own] });
  assert.deepEqual(captureRequests(object), [], "the target of this one is a process");
  assert.equal(captureRequests({ ...object, spec: { ...object.spec, remediationTarget: POD } })[0]?.replica.uid, "u-1");
  assert.equal(captureRequests(episode({ params: { type: "CoreDump" } }))[0]?.capture, undefined);
});
