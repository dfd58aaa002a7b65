import { targetKey } from "../../../api/meta.ts";
import { isTerminal, type Remediation } from "../../../api/remediation.ts";
import type { Rule } from "./rule.ts";

/** Whether an episode acts, or waits for what its actions bring. */
function acts({ spec, status }: Remediation): boolean {
  return spec.mode !== "Observe" && (status.phase === "Executing" || status.phase === "Verifying");
}

/** One cure at a time. */
export const s01OneLive: Rule = {
  name: "S1",
  doc: "At most one live Remediation a target, and one a root cause: of one signal never two are live, and of a workload, a target or a root cause never two act.",
  watch: (truth) => ({
    stored({ object, type }) {
      if (object.kind !== "Remediation" || type === "Deleted" || isTerminal(object)) return undefined;
      for (const other of truth.api.list("Remediation")) {
        if (other.metadata.uid === object.metadata.uid || isTerminal(other)) continue;
        const pair = `${object.metadata.name} and ${other.metadata.name}`;
        if (other.spec.signal.fingerprint === object.spec.signal.fingerprint && object.spec.mode === other.spec.mode)
          return `${pair} are both live for ${object.spec.signal.fingerprint}`;
        if (!acts(object) || !acts(other)) continue;
        if (targetKey(object.spec.workload) === targetKey(other.spec.workload))
          return `${pair} both act on ${targetKey(object.spec.workload)}`;
        if (object.spec.diagnosis.rootCauseKey === other.spec.diagnosis.rootCauseKey)
          return `${pair} both act on ${object.spec.diagnosis.rootCauseKey}`;
      }
      return undefined;
    },
  }),
};
