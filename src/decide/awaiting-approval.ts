import type { RemediationApproval } from "../api/approval.ts";
import { timeMs, timeText } from "../api/time.ts";
import { durationMs } from "../api/units.ts";
import { answerFrom, block, createdAt, episodesOf, modeOf, NO_POLICY, pass } from "./episode.ts";
import type { Gate, GateContext } from "./gate.ts";

/** How far the clock of whoever answered may run ahead of ours. */
const MAX_SKEW_MS = 60_000;

/** The newest answer to this episode on this target; at the same time a denial goes before an approval. */
function answer(context: GateContext): RemediationApproval | undefined {
  const { self, diagnosis } = context;
  if (self === undefined) return undefined;
  const { spec, status } = episodesOf(context).self ?? {};
  const last = status?.attempts.at(-1);
  const isUnderWay = last !== undefined && last.outcome === undefined;
  const seen = status?.question?.targetUid ?? spec?.remediationTarget.uid;
  let newest: RemediationApproval | undefined;
  for (const approval of context.approvals) {
    const { remediation, targetUid, at, decision } = approval.spec;
    if (decision === "CircuitClosed" || remediation !== self.name || approval.metadata.namespace !== self.namespace) continue;
    // A no to what the target was before an earlier rung replaced it is one to the whole episode; a yes is for what its giver saw,
    // until the end of the attempt, which may itself replace that.
    const isOwn = (decision === "Denied" && targetUid === spec?.remediationTarget.uid) || (isUnderWay && targetUid === seen);
    if (targetUid !== undefined && targetUid !== diagnosis.remediationTarget.uid && !isOwn) continue;
    // An approval from the future could outlive a denial that is given after it.
    if (decision === "Approved" && !(timeMs(at) <= context.now + MAX_SKEW_MS)) continue;
    const [a, n] = [timeMs(at), newest === undefined ? -Infinity : timeMs(newest.spec.at)];
    if (newest === undefined || a > n || (a === n && decision === "Denied")) newest = approval;
  }
  return newest;
}

/**
 * The denial that ends this episode, where the newest answer to it is one. It holds in every mode, and however late it
 * comes: a no is always in time.
 */
export function denial(context: GateContext): RemediationApproval | undefined {
  const newest = answer(context);
  return newest?.spec.decision === "Denied" ? newest : undefined;
}

/** Blocks in mode Approve until a person has said yes, in time, to this episode on this target. */
export const awaitingApproval: Gate = {
  name: "AwaitingApproval",
  doc: "In mode `Approve` a person says yes first: to this episode, on this target, within `approval.timeout`.",
  // So that an answer taken back, and a policy lowered to Approve, hold from the next step on.
  onEveryStep: true,
  check(context) {
    const { policy } = context;
    if (policy === undefined) return NO_POLICY;
    const newest = answer(context);
    if (newest?.spec.decision === "Denied") {
      const { by, reason } = newest.spec;
      return block(`denied by ${by}${reason === undefined ? "" : `: ${reason}`}`);
    }
    const mode = modeOf(context);
    if (mode !== "Approve") return pass(`mode ${mode} asks nobody`);
    const { self } = episodesOf(context);
    if (newest === undefined || self === undefined) return block("no answer yet");
    const began = createdAt(self);
    const deadline = answerFrom(self) + durationMs(policy.spec.approval.timeout);
    const at = timeMs(newest.spec.at);
    if (!(at >= began - MAX_SKEW_MS && at <= deadline))
      return block(`${newest.spec.by} approved at ${newest.spec.at}; an answer was due by ${timeText(deadline) ?? "a time that is none"}`);
    return pass(`approved by ${newest.spec.by} at ${newest.spec.at}`);
  },
};
