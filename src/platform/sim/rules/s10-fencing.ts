import type { Rule } from "./rule.ts";

/** One leads. */
export const s10Fencing: Rule = {
  name: "S10",
  doc: "A leader that lost its lease can no longer act: every write to the cluster and every new episode is under the epoch of the Lease, and no episode that a successor has taken over is written under an older one.",
  watch: (truth) => ({
    mutated({ effect, epoch, verb }) {
      const { leaderEpoch } = truth;
      return epoch === leaderEpoch
        ? undefined
        : `${effect.type} ${effect.id} (${verb}) under epoch ${epoch}, while the Lease is at ${leaderEpoch ?? "nobody's"}`;
    },
    stored({ object, before, type }) {
      if (object.kind !== "Remediation") return undefined;
      const { leaderEpoch } = truth;
      if (type === "Added" && object.status.epoch !== leaderEpoch)
        return `${object.metadata.name} was begun under epoch ${object.status.epoch ?? "none"}, while the Lease is at ${leaderEpoch ?? "nobody's"}`;
      if (before?.kind !== "Remediation") return undefined;
      // What a successor has not taken over yet its deposed leader may still put on record; it cannot act on it.
      const [was, is] = [before.status.epoch, object.status.epoch];
      if (was === undefined || (is ?? 0) >= was) return undefined;
      return `${object.metadata.name} was written under epoch ${is ?? "none"}, after epoch ${was}`;
    },
  }),
};
