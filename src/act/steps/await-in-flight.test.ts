import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ManualClock } from "../../../test/support/manual-clock.ts";
import { timestamp } from "../../api/time.ts";
import { ACTIVE_REQUESTS } from "../../observe/otlp/receiver.ts";
import { TelemetryStore } from "../../observe/store.ts";
import type { StepContext } from "../step.ts";
import { awaitInFlight } from "./await-in-flight.ts";

const UID = "u-1";
const WORKLOAD = { kind: "Deployment", namespace: "shop", name: "payments" };

/** A pod that left traffic at second 0; `at` says what it tells at a second: requests under way, and answered since. */
class Leaving {
  readonly clock = new ManualClock();
  readonly telemetry = new TelemetryStore(this.clock);
  readonly leftAt = this.clock.now();
  inFlight: number | undefined;
  left = true;

  async at(second: number, active: number | undefined, answered: number | null = 0): Promise<this> {
    const t = this.leftAt + second * 1_000;
    await this.clock.advance(Math.max(0, t - this.clock.now()));
    if (active !== undefined) this.telemetry.recordReplica(UID, ACTIVE_REQUESTS, "POST", { t, v: active });
    if (answered !== null) this.telemetry.recordRequests(WORKLOAD, "Otlp", { t, total: answered, failed: 0, replica: UID });
    return this;
  }

  poll(): ReturnType<NonNullable<typeof awaitInFlight.poll>> | undefined {
    const remove = { type: "removeFromTraffic", state: "Done", ...(this.left ? { endedAt: timestamp(this.leftAt) } : {}) };
    const step = { type: "awaitInFlight", state: "Intended" };
    const replica = { ref: { kind: "Pod", namespace: "shop", name: "payments-1", uid: UID }, inFlight: this.inFlight };
    return awaitInFlight.poll?.({ attempt: { steps: [remove, step] }, step, replica } as unknown as StepContext, this.telemetry);
  }
}

async function leaving(...told: readonly (readonly [number, number | undefined, (number | null)?])[]): Promise<Leaving> {
  const pod = new Leaving();
  for (const [second, active, answered] of told) await pod.at(second, active, answered);
  return pod;
}

describe("waiting for requests in flight", () => {
  it("goes by the platform's count where it has one", async () => {
    const pod = await leaving([10, 0], [20, 0]);
    pod.inFlight = 2;
    assert.deepEqual(pod.poll(), { state: "Waiting", message: "2 in flight" });
    pod.inFlight = 0;
    assert.equal(pod.poll()?.state, "Done");
  });

  it("ends where the target has said twice that nothing is under way, and that it answered nothing between", async () => {
    const pod = await leaving([-10, 3, 40], [0, 2, 30], [10, 0, 2]);
    assert.equal(pod.poll()?.state, "Waiting");
    await pod.at(20, 0, 0);
    assert.deepEqual(pod.poll(), {
      state: "Done",
      message: `no request is in flight: ${ACTIVE_REQUESTS} was 0 at ${timestamp(pod.leftAt + 10_000)} and ${timestamp(pod.leftAt + 20_000)}, and none was answered between`,
    });
  });

  for (const [what, told] of [
    ["nothing is told", []],
    [
      "nothing is told of requests under way",
      [
        [10, undefined],
        [20, undefined],
      ],
    ],
    [
      "nothing is told of answers",
      [
        [10, 0, null],
        [20, 0, null],
      ],
    ],
    [
      "the answers fell silent",
      [
        [10, 0, 0],
        [20, 0, null],
      ],
    ],
    [
      "it was told before it left traffic",
      [
        [-20, 0],
        [-10, 0],
      ],
    ],
    [
      "only once since",
      [
        [-10, 0],
        [10, 0],
      ],
    ],
    [
      "while callers still follow the Service",
      [
        [1, 0],
        [2, 0],
        [3, 0],
      ],
    ],
    [
      "a request is under way",
      [
        [10, 0],
        [20, 1],
      ],
    ],
    [
      "one was under way in the reading before",
      [
        [10, 1],
        [20, 0],
      ],
    ],
    [
      "requests are answered between the readings",
      [
        [10, 0, 5],
        [20, 0, 5],
        [30, 0, 5],
      ],
    ],
    [
      "both readings are of one collection",
      [
        [10, 0],
        [10.2, 0],
      ],
    ],
  ] as const)
    it(`waits on where ${what}`, async () => {
      const pod = new Leaving();
      for (const [second, active, answered = 0] of told as readonly (readonly [number, number | undefined, (number | null)?])[])
        await pod.at(second, active, answered);
      assert.deepEqual(pod.poll(), { state: "Waiting", message: "the number of requests in flight is not known" });
    });

  it("waits on where it does not know since when the target is out of traffic", async () => {
    const pod = await leaving([10, 0], [20, 0]);
    pod.left = false;
    assert.equal(pod.poll()?.state, "Waiting");
  });

  it("counts every attribute set", async () => {
    const pod = await leaving([10, 0], [20, 0]);
    pod.telemetry.recordReplica(UID, ACTIVE_REQUESTS, "GET", { t: pod.leftAt + 10_000, v: 1 });
    assert.equal(pod.poll()?.state, "Waiting");
    pod.telemetry.recordReplica(UID, ACTIVE_REQUESTS, "GET", { t: pod.leftAt + 20_000, v: 0 });
    await pod.at(30, 0);
    assert.equal(pod.poll()?.state, "Done");
  });
});
