import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ObservedObject, ObservedObjects } from "../ports/platform.ts";
import { CallGraph } from "./call-graph.ts";
import { detectSignals } from "./detect.ts";
import { NOW, policy, replica, telemetryAt, workload } from "./testing.ts";

const payments = workload("payments", [replica("payments", "payments-1"), replica("payments", "payments-2")]);

function look(condition: object, objects: ObservedObjects | undefined) {
  const asked: string[] = [];
  const { signals, missing, blind, unreadable } = detectSignals(policy([{ name: "s", ...condition }]), payments, telemetryAt(), [], NOW, {
    graph: () => new CallGraph([], [], [payments]),
    ...(objects === undefined
      ? {}
      : {
          resources: ({ apiVersion, kind }, namespace) => {
            asked.push(`${namespace} ${apiVersion} ${kind}`);
            return objects;
          },
        }),
  });
  return { signals, targets: signals.map(({ target }) => target.name), missing, blind, unreadable, asked };
}

describe("resource", () => {
  const condition = (more: object = {}): object => ({
    resource: { apiVersion: "cert-manager.io/v1", kind: "Certificate", when: "object.ready == false", for: "1m", ...more },
  });
  /** `versions`: readiness, by how long ago it was seen (ms). */
  const certificate = (
    versions: readonly (readonly [ago: number, object: object | undefined])[],
    more: Partial<ObservedObject> = {},
  ): ObservedObject => ({
    namespace: "default",
    name: "payments",
    uid: "c",
    labels: {},
    owners: [],
    versions: versions.map(([ago, object]) => ({ seenAt: NOW - ago, object })),
    ...more,
  });
  const ill: readonly (readonly [number, object])[] = [[90_000, { ready: false }]];

  test("fires for the workload when it was true of all versions for long enough", () => {
    const { signals, missing, asked } = look(condition(), [
      certificate([
        [200_000, { ready: true }],
        [90_000, { ready: false }],
        [30_000, { ready: false, x: 1 }],
      ]),
    ]);
    assert.deepEqual([signals.length, missing, asked], [1, [], ["default cert-manager.io/v1 Certificate"]]);
    const [signal] = signals;
    assert.deepEqual(
      [signal?.target.name, signal?.cause, signal?.source, signal?.startsAt],
      ["payments", "ResourceCondition", "Kubernetes", NOW - 90_000],
    );
    assert.match(
      signal?.evidence[0]?.message ?? "",
      /of Certificate payments, which belongs to payments, it is true for 90 s that object.ready == false/,
    );
  });

  test("not before that, not with a break, not when it is over", () => {
    assert.deepEqual(look(condition(), [certificate([[59_000, { ready: false }]])]).targets, []);
    assert.deepEqual(
      look(condition(), [
        certificate([
          [200_000, { ready: false }],
          [30_000, { ready: true }],
          [20_000, { ready: false }],
        ]),
      ]).targets,
      [],
    );
    const over = look(condition(), [
      certificate([
        [200_000, { ready: false }],
        [1_000, { ready: true }],
      ]),
    ]);
    assert.deepEqual([over.targets, over.missing], [[], []]);
    assert.deepEqual(look(condition({ for: "0s" }), [certificate([[0, { ready: false }]])]).targets, ["payments"]);
  });

  test("what an object does not say, and one that is too large, is missing data, and breaks what was true before", () => {
    for (const newest of [{}, undefined]) {
      const { targets, missing, blind } = look(condition(), [
        certificate([
          [200_000, { ready: false }],
          [1_000, newest],
        ]),
      ]);
      assert.deepEqual([targets, blind], [[], ["s"]]);
      assert.match(missing.join(), /has no value for Certificate payments/);
    }
  });

  test("that may not be read, or that there is none of, is missing data, and it is said why", () => {
    const { blind, unreadable, missing } = look(condition(), { problem: "the operator may not read it" });
    assert.deepEqual([blind, unreadable?.get("s")], [["s"], "the operator may not read it"]);
    assert.match(missing[0] ?? "", /objects of kind Certificate .* are not known: the operator may not read it/);
    assert.deepEqual(look(condition(), undefined).blind, ["s"]);
    assert.match(look(condition(), []).missing.join(), /no Certificate belongs to payments/);
  });

  test("belongs by name, label, owner, or what an expression says", () => {
    const other = (more: Partial<ObservedObject> = {}, object: object = { ready: false }): ObservedObject[] => [
      certificate([[90_000, object]], { name: "other", ...more }),
    ];
    assert.deepEqual(look(condition(), other()).targets, []);
    assert.deepEqual(look(condition({ name: "other" }), other()).targets, ["payments"]);
    assert.deepEqual(look(condition({ label: "app" }), other({ labels: { app: "payments" } })).targets, ["payments"]);
    assert.deepEqual(look(condition({ label: "app" }), other({ labels: { app: "ledger" } })).targets, []);
    assert.deepEqual(look(condition({ owned: true }), other({ owners: [payments.ref.uid] })).targets, ["payments"]);
    assert.deepEqual(look(condition({ owned: true }), other({ owners: ["x"] })).targets, []);
    const belongs = condition({ belongs: "object.spec.for == target.labels.app" });
    assert.deepEqual(look(belongs, other({}, { ready: false, spec: { for: "payments" } })).targets, ["payments"]);
    assert.deepEqual(look(belongs, other({}, { ready: false })).targets, []);
    assert.deepEqual(look(condition(), [certificate(ill), ...other()]).targets, ["payments"]);
  });

  test("is read once, however many targets and rounds ask whose it is", () => {
    let reads = 0;
    const object = {
      ready: false,
      get spec() {
        reads += 1;
        return { for: "payments" };
      },
    };
    const objects = [certificate([[90_000, object]], { name: "other" })];
    const belongs = condition({ belongs: "object.spec.for == target.labels.app" });
    look(belongs, objects);
    const once = reads;
    assert.deepEqual([look(belongs, objects).targets, look(belongs, objects).targets, reads], [["payments"], ["payments"], once]);
  });
});

describe("event", () => {
  const condition = { event: { reason: "FailedMount", count: 3, within: "10m" } };
  const event = (counts: readonly (readonly [ago: number, count: number, first: number])[], more: object = {}): ObservedObject => ({
    namespace: "default",
    name: "e",
    uid: `e${JSON.stringify(counts)}`,
    labels: {},
    owners: ["uid-payments-1"],
    versions: counts.map(([ago, count, first]) => ({
      seenAt: NOW - ago,
      object: { reason: "FailedMount", message: "no such volume", count, first: NOW - first, last: NOW - ago, ...more },
    })),
  });

  test("fires for what enough of them were about in time", () => {
    const { signals, targets } = look(condition, [event([[5_000, 3, 500_000]])]);
    assert.deepEqual([targets, signals[0]?.cause], [["payments-1"], "Event"]);
    assert.match(signals[0]?.evidence[0]?.message ?? "", /3 events FailedMount about payments-1 in 10 min|600 s: no such volume/);
    assert.deepEqual(look(condition, [event([[5_000, 2, 500_000]])]).targets, []);
    assert.deepEqual(look(condition, [event([[5_000, 2, 5_000]]), event([[5_000, 1, 5_000]])]).targets, ["payments-1"]);
    assert.deepEqual(look(condition, [event([[5_000, 3, 5_000]], { reason: "Unhealthy" })]).targets, []);
  });

  test("counts only what lies within the time, and no more than is known to", () => {
    assert.deepEqual(look(condition, [event([[700_000, 50, 900_000]])]).targets, [], "all of it was before");
    assert.deepEqual(look(condition, [event([[5_000, 50, 900_000]])]).targets, [], "of these only the last is known to be new");
    assert.deepEqual(
      look(condition, [
        event([
          [700_000, 50, 900_000],
          [5_000, 52, 900_000],
        ]),
      ]).targets,
      [],
    );
    assert.deepEqual(
      look(condition, [
        event([
          [700_000, 50, 900_000],
          [5_000, 53, 900_000],
        ]),
      ]).targets,
      ["payments-1"],
    );
  });

  test("is about the workload where that is named, and missing data where events cannot be read", () => {
    assert.deepEqual(look(condition, [{ ...event([[5_000, 3, 5_000]]), owners: ["rs", payments.ref.uid] }]).targets, ["payments"]);
    const { blind, unreadable } = look(condition, { problem: "may not" });
    assert.deepEqual([blind, unreadable?.get("s")], [["s"], "may not"]);
    assert.deepEqual(look(condition, []).missing, []);
  });
});
