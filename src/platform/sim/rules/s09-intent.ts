import { stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Said before it is done. */
export const s09Intent: Rule = {
  name: "S9",
  doc: "Intent is stored before an effect and its result after it: at each write to the cluster its step is stored as `Intended` and its intent is on the audit trail; what could not be known is never tried again.",
  watch: (truth) => {
    const intended = new Set<string>();
    let read = 0;
    return {
      mutated({ effect, verb }) {
        for (; read < truth.records.length; read++) {
          const record = truth.records[read]?.record;
          if (record?.type === "Intent") intended.add(String(record.data?.["effectId"]));
        }
        const found = stepOf(truth, effect.id);
        if (found === undefined) return `${effect.type} ${effect.id} (${verb}) without a step on record`;
        const { state, message } = found.step;
        if (state === "Failed" && message?.startsWith("it cannot be known") === true)
          return `${effect.type} ${effect.id} (${verb}) was tried again, though it could not be known whether it took effect`;
        if (state !== "Intended") return `${effect.type} ${effect.id} (${verb}) while its step is ${state}`;
        return intended.has(effect.id) ? undefined : `${effect.type} ${effect.id} (${verb}) without its intent on the audit trail`;
      },
      ended: () =>
        truth.api
          .list("Remediation")
          .flatMap(({ metadata, status }) =>
            status.attempts.flatMap(({ steps, undo }) =>
              status.endedAt === undefined
                ? []
                : [...steps, ...undo]
                    .filter(({ state }) => state === "Intended")
                    .map((step) => `${metadata.name} is over, and step ${step.effectId} has no result`),
            ),
          ),
    };
  },
};
