import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Harness } from "../../test/support/harness.ts";
import type { Effect, EffectType } from "../ports/platform.ts";

const LADDER = [{ strategy: "RunJob", command: ["flush"] }, { strategy: "RollbackRollout" }];

/** What is done first about a workload that is ill, ten seconds after a rollout or without one. */
async function first(
  firstRung: string,
  rolledOut: boolean,
  lastHealthy: object = { lastHealthy: { revision: "r1", why: "it was ready" } },
) {
  const h = new Harness();
  h.platform.addWorkload("payments", 3, { revision: "r1" });
  await h.policy({ ladder: LADDER, firstRung });
  const effects: Effect[] = [];
  await h.start({
    platform: (platform) => ({
      name: platform.name,
      effects: new Set<EffectType>([...platform.effects, "Rollback"]),
      workloads: () => platform.workloads(),
      onChange: (listener) => platform.onChange(listener),
      observe: (effect) => platform.observe(effect),
      apply: async (effect) => {
        effects.push(effect);
        return { message: "done" };
      },
    }),
  });
  await h.pass(3_000);
  h.platform.set("payments", { ...(rolledOut ? { revision: "r2" } : {}), ...lastHealthy });
  await h.pass(10_000);
  h.fire("Ill", { workload: "payments" });
  assert.ok(await h.until(() => effects.length > 0));
  const { spec } = h.only();
  await h.stop();
  return {
    effect: effects[0]?.type,
    changes: spec.diagnosis.evidence.filter(({ kind }) => kind === "Change").map(({ message }) => message),
  };
}

describe("a change before a symptom", () => {
  it("is evidence, and is taken back first where the policy says so", async () => {
    const { effect, changes } = await first("UndoChange", true);
    assert.equal(effect, "Rollback");
    assert.match(changes.join(), /^Workload\/default\/payments was rolled out: revision r1 became r2, \d+ s before the symptom began$/);
  });
  it("does not change the order of the ladder where there was none, where the policy does not say so, or where nothing earlier was healthy", async () => {
    assert.deepEqual(await first("UndoChange", false), { effect: "RunJob", changes: [] });
    assert.equal((await first("LeastDisruptive", true)).effect, "RunJob");
    assert.equal((await first("UndoChange", true, {})).effect, "RunJob");
  });
});
