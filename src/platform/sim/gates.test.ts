// Every block reason on the simulated platform: the gate holds the episode back and its target is not touched; and the same case,
// but for what the gate blocks on, acts. What blocks only for a while is seen to act in the same run, too.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Changes, GATE_CASES, merged, scenarioWith } from "../../../test/support/gate-scenarios.ts";
import { GATES } from "../../decide/gates.ts";
import { Loop } from "../../loop/loop.ts";
import { runScenario } from "./run.ts";

/** In the order in which it happened: what was decided about which target, and what was done to which pod. */
type Happened =
  | { readonly what: "Decision"; readonly action: unknown; readonly reason: unknown; readonly target: string; readonly message: string }
  | { readonly what: "Effect"; readonly pod: string };

async function play(changes: Changes): Promise<{ happened: Happened[]; outcomes: Readonly<Record<string, number>> }> {
  const happened: Happened[] = [];
  const { violations, coverage } = await runScenario(scenarioWith(changes), {
    trace: (line) => {
      const pod = /^ *[\d.]+ operator-0 effect \S+ \S+ (\S+) id /.exec(line)?.[1];
      if (pod !== undefined) happened.push({ what: "Effect", pod });
    },
    createLoop: (options) =>
      new Loop({
        ...options,
        onRecord: ({ type, data, target = "", message }) => {
          if (type === "Decision") happened.push({ what: "Decision", action: data?.["action"], reason: data?.["reason"], target, message });
        },
      }),
  });
  assert.deepEqual(violations, []);
  return { happened, outcomes: coverage.outcome };
}

const story = (happened: readonly Happened[]): string => `\n${happened.map((each) => JSON.stringify(each)).join("\n")}`;

describe("every gate on the simulated platform", () => {
  for (const { reason, both, blocked, free, says, passes = false } of GATE_CASES) {
    it(`${reason} blocks, and its target is not touched`, async () => {
      const { happened } = await play(merged(both, blocked));
      const at = happened.findIndex((each) => each.what === "Decision" && each.reason === reason);
      const decision = happened[at];
      assert.ok(decision?.what === "Decision", story(happened));
      assert.equal(decision.action, reason === "AwaitingApproval" ? "AwaitApproval" : "Block", story(happened));
      assert.match(decision.message, says);
      const isOn = (each: Happened): boolean => each.what === "Effect" && decision.target.endsWith(`/${each.pod}`);
      const acts = happened.findIndex((each) => each.what === "Decision" && each.target === decision.target && each.action === "Act");
      assert.equal(acts > at, passes, story(happened));
      assert.ok(acts === -1 || acts > at, story(happened));
      assert.equal(happened.slice(0, acts === -1 ? undefined : acts).some(isOn), false, story(happened));
      assert.equal(happened.some(isOn), passes, story(happened));
    });

    it(`without ${reason} the same case acts`, async () => {
      const { happened, outcomes } = await play(merged(both, free));
      const acts = happened.flatMap((each, i) => (each.what === "Decision" && each.action === "Act" ? [{ ...each, i }] : []));
      // Of CircuitOpen it is the next attempt after one that did not help.
      const act = acts[reason === "CircuitOpen" ? 1 : 0];
      assert.ok(act !== undefined, story(happened));
      assert.ok(!happened.slice(0, act.i).some((each) => each.what === "Decision" && each.reason === reason && each.action === "Block"));
      assert.ok(
        happened.slice(act.i).some((each) => each.what === "Effect" && act.target.endsWith(`/${each.pod}`)),
        story(happened),
      );
      if (reason !== "CircuitOpen") assert.ok((outcomes["Remediated"] ?? 0) > 0, story(happened));
    });
  }

  it("there is a case for each gate", () => {
    assert.deepEqual(GATES.map(({ name }) => name).toSorted(), GATE_CASES.map((each) => each.reason).toSorted());
  });
});
