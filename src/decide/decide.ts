import { messageOf } from "../api/errors.ts";
import type { GateVerdict } from "../api/remediation.ts";
import { timeText } from "../api/time.ts";
import { denial } from "./awaiting-approval.ts";
import { modeOf } from "./episode.ts";
import type { Decision, Gate, GateContext, Verdict } from "./gate.ts";
import { GATES } from "./gates.ts";
import { stormBrake, stormOf } from "./storm-brake.ts";

interface Answer {
  readonly gate: Gate;
  readonly verdict: Verdict;
  /** It threw instead of answering. */
  readonly failed: boolean;
}

/** A gate that cannot answer blocks: a wrong action is worse than none. */
function ask(gate: Gate, context: GateContext): Answer {
  try {
    return { gate, verdict: gate.check(context), failed: false };
  } catch (error) {
    return {
      gate,
      verdict: { verdict: "Block", message: `the gate itself failed, which counts as a no: ${messageOf(error)}` },
      failed: true,
    };
  }
}

/**
 * Asks every gate (in phase `Step`, which is before each step that changes the world, those that are marked
 * `onEveryStep`) and says what may be done. The first gate that blocks is the reason. Never throws.
 *
 * - `Act`: nothing blocks.
 * - `Observe`: nothing blocks, and the mode forbids acting.
 * - `AwaitApproval`: a person's answer is all that is missing.
 * - `Block`: anything else, a denial included (see `denial`).
 *
 * Between the rungs of a ladder it is asked in phase `Start` again, with `self` set.
 *
 * @example
 * const decision = decide(context, "Start");
 * if (decision.action === "Act") await runbook.begin();
 */
export function decide(context: GateContext, phase: "Start" | "Step"): Decision {
  const asked = phase === "Start" ? GATES : GATES.filter((gate) => gate.onEveryStep);
  const answers = asked.map((gate) => ask(gate, context));
  const verdicts = answers.map(({ gate, verdict }): GateVerdict => {
    const until = verdict.verdict === "Block" && verdict.until !== undefined ? timeText(verdict.until) : undefined;
    return { gate: gate.name, verdict: verdict.verdict, message: verdict.message, ...(until === undefined ? {} : { until }) };
  });
  const blocking = answers.filter(({ verdict }) => verdict.verdict !== "Pass");
  const first = blocking[0];
  if (first === undefined) {
    const mode = modeOf(context);
    return mode === "Observe"
      ? { action: "Observe", message: "nothing stands against it, but the mode is Observe", verdicts }
      : { action: "Act", message: "nothing stands against it", verdicts };
  }
  const { gate, verdict, failed } = first;
  const until = verdict.verdict === "Block" ? verdict.until : undefined;
  // AwaitingApproval stands last: if it is the first that blocks, it is the only one. A gate that failed is no missing answer.
  const awaits = gate.name === "AwaitingApproval" && !failed && denial(context) === undefined;
  return {
    action: awaits ? "AwaitApproval" : "Block",
    reason: gate.name,
    message: verdict.message,
    ...(gate === stormBrake && !failed ? stormIn(verdict, context) : {}),
    ...(until === undefined || timeText(until) === undefined ? {} : { until }),
    verdicts,
  };
}

/** The storm, where a verdict is about one and not about the rest after one or an episode that stands for it. */
function stormIn(verdict: Verdict, context: GateContext): Pick<Decision, "storm"> {
  const storm = stormOf(context);
  return storm === undefined || storm.message !== verdict.message ? {} : { storm: { domain: storm.domain.key, message: storm.message } };
}
