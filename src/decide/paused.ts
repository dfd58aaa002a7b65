import type { Pause } from "../api/policy.ts";
import { timeMs } from "../api/time.ts";
import { block, coveringBudgets, pass } from "./episode.ts";
import type { Gate } from "./gate.ts";

/** Blocks while the policy, or a budget of the platform team that covers the workload, is paused, and once the policy is deleted. */
export const paused: Gate = {
  name: "Paused",
  doc: "Nothing happens under a policy that is paused or was deleted, or where the platform team has paused everything.",
  onEveryStep: true,
  check(context) {
    const { policy, now } = context;
    if (policy === undefined) return block("the policy was deleted");
    const pauses: { readonly by: string; readonly pause: Pause | undefined }[] = [
      { by: `policy ${policy.metadata.name}`, pause: policy.spec.paused },
      ...coveringBudgets(context).map((budget) => ({ by: `RemediationBudget ${budget.metadata.name}`, pause: budget.spec.paused })),
    ];
    const messages: string[] = [];
    let until = 0;
    for (const { by, pause } of pauses) {
      if (pause === undefined) continue;
      const ends = pause.until === undefined ? Infinity : timeMs(pause.until);
      // Written so that an end that cannot be read leaves the pause in force.
      if (ends <= now) continue;
      until = Math.max(until, ends);
      messages.push(`${by} is paused${pause.until === undefined ? "" : ` until ${pause.until}`}: ${pause.reason}`);
    }
    if (messages.length === 0) return pass("neither the policy nor a budget is paused");
    return block(messages.join("; "), Number.isFinite(until) ? until : undefined);
  },
};
