import type { Rule } from "./rule.ts";

/** One leads. */
export const s10Fencing: Rule = {
  name: "S10",
  doc: "A leader that lost its lease can no longer act: every write to the cluster is under the epoch of the Lease, and no status is written under an older one.",
  watch: (truth) => ({
    mutated({ effect, epoch, verb }) {
      const { leaderEpoch } = truth;
      return epoch === leaderEpoch
        ? undefined
        : `${effect.type} ${effect.id} (${verb}) under epoch ${epoch}, while the Lease is at ${leaderEpoch ?? "nobody's"}`;
    },
    stored({ object, before }) {
      if (object.kind !== "Remediation") return undefined;
      const was = before?.kind === "Remediation" ? before.status.revision : 0;
      const { epoch, revision } = object.status;
      const { leaderEpoch } = truth;
      if (revision === was || leaderEpoch === undefined || epoch === undefined || epoch >= leaderEpoch) return undefined;
      return `${object.metadata.name} was written under epoch ${epoch}, while the Lease is at ${leaderEpoch}`;
    },
  }),
};
