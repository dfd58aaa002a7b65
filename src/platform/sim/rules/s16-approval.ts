import { timeMs } from "../../../api/time.ts";
import { durationMs } from "../../../api/units.ts";
import { isAct, NEWS_MS, sinceIntent, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** How far clocks may be apart (ms). */
const SKEW_MS = 60_000;

/** Nobody is passed over. */
export const s16Approval: Rule = {
  name: "S16",
  doc: "In mode `Approve` nothing is done without a person's yes: at each write for an episode of that mode somebody has said yes to it, on this target and in time, and has not said no since, long enough ago to be known.",
  watch: (truth) => ({
    mutated(mutation) {
      const { effect, wallMs, viewAgeMs } = mutation;
      const found = stepOf(truth, effect.id);
      if (found === undefined || found.undoes || !isAct(mutation)) return undefined;
      const { metadata, spec } = found.remediation;
      const answers = truth.api
        .list("RemediationApproval", metadata.namespace)
        .filter(
          (answer) =>
            answer.spec.remediation === metadata.name &&
            answer.spec.decision !== "CircuitClosed" &&
            (answer.spec.targetUid === undefined || answer.spec.targetUid === spec.remediationTarget.uid),
        )
        .toSorted((a, b) => timeMs(b.spec.at) - timeMs(a.spec.at));
      const known = truth.now - NEWS_MS - viewAgeMs - sinceIntent(found.step, wallMs);
      const [newest] = answers;
      if (newest?.spec.decision === "Denied" && timeMs(newest.spec.at) < known)
        return `${effect.type} ${effect.id}, though ${newest.spec.by} has said no to it`;
      if (spec.mode !== "Approve") return undefined;
      const approved = answers.find((answer) => answer.spec.decision === "Approved");
      if (approved === undefined) return `${effect.type} ${effect.id}, and nobody has said yes to it`;
      const policy = truth.api.get("RemediationPolicy", metadata.namespace, spec.policy.name);
      const asked = found.remediation.status.question?.askedAt;
      const late = timeMs(approved.spec.at) - timeMs(asked ?? metadata.creationTimestamp ?? spec.startedAt);
      return policy !== undefined && late > durationMs(policy.spec.approval.timeout) + SKEW_MS
        ? `${effect.type} ${effect.id} by a yes that came ${Math.round(late / 1000)} s late`
        : undefined;
    },
  }),
};
