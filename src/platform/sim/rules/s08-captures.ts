import { isAct, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Evidence is saved before it is destroyed. */
export const s08Captures: Rule = {
  name: "S8",
  doc: "A required capture that failed stops the destructive step after it: no pod is taken away while a required capture before that step is not done, or the agent has said that it failed; and what an agent has put on record stays there.",
  watch: (truth) => ({
    stored({ object, before, type }) {
      if (object.kind !== "Remediation" || before?.kind !== "Remediation" || type === "Deleted") return undefined;
      const lost = before.status.captures.find(({ effectId }) => object.status.captures.every((capture) => capture.effectId !== effectId));
      return lost === undefined
        ? undefined
        : `${object.metadata.name} was written over, and what became of capture ${lost.effectId} is lost`;
    },
    mutated(mutation) {
      const { effect } = mutation;
      if (mutation.verb !== "delete" || !isAct(mutation)) return undefined;
      const found = stepOf(truth, effect.id);
      if (found === undefined) return undefined;
      const { attempt, step, remediation } = found;
      for (const earlier of attempt.steps.slice(0, attempt.steps.indexOf(step))) {
        if (earlier.type !== "capture" || earlier.params["required"] === false || earlier.target?.uid !== step.target?.uid) continue;
        const answer = remediation.status.captures.find(({ effectId }) => effectId === earlier.effectId);
        if (earlier.state !== "Done" || answer?.state !== "Done")
          return `${effect.type} ${effect.id} after capture ${earlier.effectId}, which is ${earlier.state} (${answer?.state ?? "no answer"})`;
      }
      return undefined;
    },
  }),
};
