import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Change } from "../observe/changes.ts";
import { CallGraph } from "./call-graph.ts";
import { detectSignals } from "./detect.ts";
import type { Surroundings } from "./signal-values.ts";
import { alert, dependency, NOW, policy, record, replica, telemetryAt, workload } from "./testing.ts";

const payments = workload("payments");
const bank = workload("bank", [replica("bank", "bank-1", { ready: false }), replica("bank", "bank-2")]);
const call = { client: { name: "shop" }, server: { name: "payments" }, kind: "Request" } as const;
const graphOf = (...graph: ConstructorParameters<typeof CallGraph>): Surroundings => ({ graph: () => new CallGraph(...graph) });
const surroundings = graphOf([dependency("payments", "bank")], [], [payments, bank]);

/** What a policy on an alert for the first replica, on a condition, comes to. */
function look(when: string, telemetry = telemetryAt(), around: Surroundings | undefined = surroundings) {
  const alerts = [alert({ pod: "payments-1", namespace: "default" })];
  const of = policy([{ name: "hot", alert: { alertname: "TooHot" }, when }]);
  const { signals, missing, blind } = detectSignals(of, payments, telemetry, alerts, NOW, around);
  return { fires: signals.length === 1, signals, missing, blind };
}

describe("a signal on a condition", () => {
  test("fires where the expression is true, and has it as evidence", () => {
    const { signals, missing } = look("signal.age > duration('30s') && target.workload.desired == 3");
    assert.deepEqual(missing, []);
    assert.deepEqual(
      signals[0]?.evidence.map(({ kind }) => kind),
      ["Alert", "Expression"],
    );
    assert.match(signals[0]?.evidence[1]?.message ?? "", /it is true that signal.age > duration/);
  });

  test("does not fire where it is false, and nothing is missing", () => {
    assert.deepEqual(look("target.name == 'payments-2'"), { fires: false, signals: [], missing: [], blind: [] });
  });

  test("reads the newest metrics of the replica, and those of nobody else", () => {
    const telemetry = telemetryAt();
    for (const { ref } of payments.replicas) record(telemetry, ref.uid, "queue.length", () => (ref.name === "payments-1" ? 500 : 5));
    assert.equal(look("metrics['queue.length'] > 100", telemetry).fires, true);
    assert.equal(look("metrics['queue.length'] > 1000", telemetry).fires, false);
  });

  test("is missing data where a metric is not there, also while nothing fires", () => {
    const { fires, missing, blind } = look("!(metrics['queue.length'] > 100)");
    assert.deepEqual([fires, blind], [false, ["hot"]]);
    assert.match(missing.join("\n"), /no reading of queue.length of payments-1/);
    const quiet = policy([{ name: "hot", alert: { alertname: "TooHot" }, when: "metrics.x > 1" }]);
    assert.deepEqual(detectSignals(quiet, payments, telemetryAt(), [], NOW).blind, ["hot"]);
  });

  test("reads the graph as far as it is known: what is declared, and what was seen", () => {
    const seen = graphOf([], [{ ...call } as never], [payments, workload("shop")]);
    assert.equal(look("graph.callers.exists(c, c.name == 'shop' && c.ready == 3)", telemetryAt(), seen).fires, true);
    assert.equal(look("graph.dependencies.exists(d, d.name == 'bank' && d.ready < d.desired)").fires, true);
    assert.equal(look("graph.dependencies.all(d, d.ready == d.desired)").fires, false);
    assert.match(look("graph.callers.size() == 0").missing.join(), /has no value for payments-1: .*callers/);
    const alone = detectSignals(
      policy([{ name: "hot", alert: { alertname: "TooHot" }, when: "graph.callers.size() == 0" }]),
      payments,
      telemetryAt(),
      [alert({ pod: "payments-1", namespace: "default" })],
      NOW,
    );
    assert.deepEqual([alone.signals, alone.blind], [[], ["hot"]]);
  });

  test("that reads what Nightshift does not have is blind from the beginning", () => {
    const { fires, blind } = look("kernel.stalled == true");
    assert.deepEqual([fires, blind], [false, ["hot"]]);
  });

  test("reads what changed of the workload and of what it calls, once all of the last half hour is known", () => {
    const MINUTE = 60_000;
    const change = (name: string, minutes: number): Change => ({
      at: NOW - minutes * MINUTE,
      kind: "Rollout",
      target: { kind: "Workload", namespace: "default", name },
      message: `${name} was rolled out`,
      ours: false,
    });
    const seen = (knownFor: number, ...list: Change[]): Surroundings => ({
      ...surroundings,
      changes: { list, knownSince: NOW - knownFor * MINUTE },
    });
    const asks = (when: string, around: Surroundings) => look(when, telemetryAt(), around);
    const rolledOut = "changes.exists(c, c.kind == 'Rollout' && c.name == 'bank' && !c.ours && c.age < duration('10m'))";
    assert.equal(asks(rolledOut, seen(30, change("bank", 9))).fires, true);
    assert.equal(asks(rolledOut, seen(30, change("bank", 11))).fires, false);
    assert.equal(asks(rolledOut, seen(30, change("other", 9))).fires, false, "what has nothing to do with it");
    assert.equal(asks("size(changes) == 0", seen(60, change("bank", 31))).fires, true, "what was long before");
    for (const around of [seen(29), seen(29, change("bank", 9)), surroundings]) {
      const { fires, blind, missing } = asks("size(changes) == 0", around);
      assert.deepEqual([fires, blind], [false, ["hot"]], "a list that begins later says nothing of what came before");
      assert.match(missing.join("\n"), /changes of an expression are not known yet/);
    }
  });
});
