import { openUntil } from "../../../api/schedule.ts";
import { isAct, knownBefore, sinceIntent, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";
import { Versions } from "./versions.ts";

/** Between the gates' answer and the time that an intent carries no more than this passes (ms). */
const DECIDED_MS = 5_000;

/** Not at this hour. */
export const s15Windows: Rule = {
  name: "S15",
  doc: "Where a policy names windows, nothing is begun outside them: when a step's intent was stored, one of them was open, by the clock of who stored it; of those that were edited since that must be known, any.",
  watch: (truth) => {
    const versions = new Versions(truth);
    return {
      stored(change) {
        versions.changed(change);
        return undefined;
      },
      mutated(mutation) {
        const { effect, wallMs } = mutation;
        const found = stepOf(truth, effect.id);
        if (found === undefined || found.undoes || !isAct(mutation)) return undefined;
        const { metadata, spec } = found.remediation;
        const intended = wallMs - sinceIntent(found.step, wallMs);
        const known = knownBefore(truth, mutation, found.step, { kind: "RemediationPolicy" });
        const said = versions.policiesSince(metadata.namespace, spec.policy.name, known).map((policy) => policy.spec.windows);
        const isOpen =
          said.length === 0 ||
          said.some((windows) => {
            if (windows === undefined) return true;
            return [intended, intended - DECIDED_MS].some((at) => windows.some((window) => openUntil(window, at) !== undefined));
          });
        return isOpen ? undefined : `${effect.type} ${effect.id} outside the windows of policy ${spec.policy.name}`;
      },
    };
  },
};
