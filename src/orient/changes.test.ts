import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { ChangeLog } from "../observe/changes.ts";
import type { Workload } from "../ports/platform.ts";
import { CallGraph } from "./call-graph.ts";
import { changeEvidence, wasRolledOut } from "./changes.ts";
import { dependency, replica, workload } from "./testing.ts";

const MINUTE = 60_000;
const at = (name: string, more: Partial<Workload> = {}): Workload => workload(name, undefined, { revision: "1", ...more });
const pool = (ready: boolean): Workload =>
  workload("nodes", [replica("nodes", "n1", { ref: { kind: "Node", namespace: "system", name: "n1", uid: "n1" }, ready })], {
    ref: { kind: "NodePool", namespace: "system", name: "nodes", uid: "pool" },
  });

/** What a log has after it was shown one state of the world after the other, a minute apart. */
async function logOf(states: readonly (readonly Workload[])[], isOurs = false) {
  const clock = new ManualClock();
  const log = new ChangeLog(clock);
  for (const state of states) {
    await clock.advance(MINUTE);
    log.look(state, () => isOurs);
  }
  return { changes: log.list(), now: clock.now() };
}

describe("the log of changes", () => {
  test("has rollouts, scalings, what came and went, and nodes; the first look finds nothing", async () => {
    const shop = at("shop");
    const { changes } = await logOf([
      [shop, pool(true)],
      [{ ...shop, revision: "2", desired: 5 }, at("bank"), pool(false)],
      [at("bank"), pool(false)],
    ]);
    assert.deepEqual(
      changes.map(({ message }) => message),
      [
        "Workload/default/shop was rolled out: revision 1 became 2",
        "Workload/default/shop was scaled from 3 to 5 replicas",
        "Workload/default/bank was created",
        "node n1 became unready",
        "Workload/default/shop was deleted",
      ],
    );
  });
  test("is bounded by number and by time", async () => {
    const clock = new ManualClock();
    const log = new ChangeLog(clock);
    for (let i = 0; i <= 1_500; i++) log.look([at("shop", { revision: String(i) })], () => false);
    assert.equal(log.list().length, 1_000);
    assert.equal(log.knownSince, log.list()[0]?.at, "what was dropped is not known any more");
    await clock.advance(6 * 60 * MINUTE + 1);
    log.look([at("shop", { revision: "last" })], () => false);
    assert.equal(log.list().length, 1);
    assert.equal(log.knownSince, clock.now() - 6 * 60 * MINUTE);
  });
  test("keeps a rollout, whatever an autoscaler does", async () => {
    const clock = new ManualClock();
    const log = new ChangeLog(clock);
    log.look([at("shop")], () => false);
    log.look([at("shop", { revision: "2" })], () => false);
    for (let i = 0; i < 3_000; i++) {
      clock.jump(clock.now() + 1_000);
      log.look([at("shop", { revision: "2", desired: 4 + (i % 2) })], () => false);
    }
    const kinds = Map.groupBy(log.list(), ({ kind }) => kind);
    assert.deepEqual([kinds.get("Rollout")?.length, kinds.get("Scaling")?.length], [1, 999]);
    assert.equal(log.knownSince, kinds.get("Scaling")?.[0]?.at, "what was dropped is not known any more");
  });
});

describe("the changes that may have to do with a symptom", () => {
  const shop = workload("shop", [replica("shop", "shop-1", { node: "n1" })], { revision: "1" });
  const graph = new CallGraph([dependency("shop", "bank")], [], [shop, at("bank"), at("other")]);
  test("are those of the target, of what it calls and of its nodes, ranked by time and place", async () => {
    const { changes, now } = await logOf([
      [shop, at("bank"), at("other"), pool(true)],
      [{ ...shop, desired: 2 }, at("bank"), at("other"), pool(true)],
      [{ ...shop, desired: 2 }, at("bank", { revision: "2" }), at("other", { revision: "2" }), pool(false)],
    ]);
    const told = changeEvidence(changes, shop, graph, now + MINUTE);
    assert.deepEqual(
      told.map(({ message }) => message),
      [
        "Workload/default/shop was scaled from 1 to 2 replicas, 2 min before the symptom began",
        "Workload/default/bank was rolled out: revision 1 became 2, 60 s before the symptom began",
        "node n1 became unready, 60 s before the symptom began",
      ],
    );
    assert.deepEqual(
      told.map(({ values }) => [values["rank"], values["depth"]]),
      [
        [1, 0],
        [2, 1],
        [3, 1],
      ],
    );
    assert.deepEqual(changeEvidence(changes, shop, graph, now - 10 * MINUTE), [], "what came later is no cause");
    assert.deepEqual(changeEvidence(changes, shop, graph, now + 90 * MINUTE), [], "and neither is what was long before");
  });
  test("a rollout may be taken back for half an hour, if it was not ours", async () => {
    const states = [[shop], [{ ...shop, revision: "2" }]];
    const { changes, now } = await logOf(states);
    assert.equal(wasRolledOut(changes, shop.ref, now + 29 * MINUTE), true);
    assert.equal(wasRolledOut(changes, shop.ref, now + 31 * MINUTE), false);
    assert.equal(wasRolledOut(changes, shop.ref, now - MINUTE), false);
    assert.equal(wasRolledOut((await logOf(states, true)).changes, shop.ref, now), false);
  });
});
