import { isOfSameAttempt } from "../../attempts.ts";
import { isClosed } from "../world.ts";
import { isAct, knownBefore, Moments, NEWS_MS, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Two cooks. */
export const s22OthersWork: Rule = {
  name: "S22",
  doc: "Never over another's work: while somebody else rolls a workload out, or has cordoned a node, and has for long enough to be known, no write to it but the rollback that cures the rollout, and what takes back what was done before. Nor is anything moved away from a node that a person has opened again in the midst of it.",
  watch: (truth) => {
    const theirs = new Moments();
    /** Since when each epoch leads: who takes up what another began looks anew. */
    const reigns = new Moments();
    return {
      checked() {
        reigns.holds(String(truth.leaderEpoch), true, truth.now);
        for (const { uid, rollingOut, rolledOutBy } of truth.world.workloads)
          theirs.holds(uid, rollingOut && rolledOutBy === undefined, truth.now);
        // A cordon that came upon ours cannot be told from it.
        for (const { uid, cordonedByOthers, cordonedBy } of truth.world.nodes)
          theirs.holds(uid, cordonedByOthers && cordonedBy === undefined, truth.now);
        return undefined;
      },
      mutated(mutation) {
        const { effect, workload, pod, epoch } = mutation;
        // What moves away from a node is moved whatever else goes on there: one at a time, as its workload can spare it.
        const node = effect.type === "Drain" ? pod?.node : mutation.node;
        const { opened } = node ?? {};
        // It is asked for right before each eviction: what is under way then may arrive.
        const isOver = opened !== undefined && isOfSameAttempt(opened.of, effect.id) && truth.now - opened.at > NEWS_MS;
        if (effect.type === "Drain" && node !== undefined && isOver && !isClosed(node))
          return `${effect.type} ${effect.id} of ${pod?.name ?? ""}, though somebody has uncordoned ${node.name} ${Math.round((truth.now - opened.at) / 1000)} s ago`;
        const subject = node ?? workload;
        if (!isAct(mutation) || effect.type === "Rollback" || subject === undefined) return undefined;
        const found = stepOf(truth, effect.id);
        if (found === undefined || found.undoes) return undefined;
        const reign = truth.now - (reigns.since(String(epoch)) ?? truth.now);
        const since = theirs.since(subject.uid) ?? Infinity;
        if (since >= knownBefore(truth, mutation, found.step, { kind: "Workload", longestMs: reign })) return undefined;
        return `${effect.type} ${effect.id} on ${pod?.name ?? workload?.spec.name ?? node?.name ?? ""}, which somebody else has been ${node === undefined ? "rolling out" : "emptying"} for ${Math.round((truth.now - since) / 1000)} s`;
      },
    };
  },
};
