import { quantityBytes } from "../../../api/units.ts";
import { stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** More memory, within bounds, and back. */
export const s23Memory: Rule = {
  name: "S23",
  doc: "Memory is given within the policy's bound and taken back as it was: no limit is set above the `max` of its rung, none is lowered by a step that gives more, and what is taken back is what there was before, where nobody else has set another since.",
  watch: (truth) => {
    /** Limits as they were asked for when they were last looked at, by uid. */
    const asked = new Map<string, number>();
    /** What a step found before it gave more, by its effect's id and uid. */
    const before = new Map<string, { readonly from: number; readonly to: number }>();
    return {
      checked() {
        for (const { uid, limitBytes, pods } of truth.world.workloads) {
          asked.set(uid, limitBytes);
          for (const pod of pods) asked.set(pod.uid, pod.askedBytes);
        }
        return undefined;
      },
      mutated({ effect, verb, workload, pod }) {
        const uid = pod?.uid ?? workload?.uid;
        const now = pod?.askedBytes ?? workload?.limitBytes;
        const was = uid === undefined ? undefined : asked.get(uid);
        if (uid === undefined || now === undefined || was === undefined) return undefined;
        asked.set(uid, now);
        const name = pod?.name ?? workload?.spec.name ?? "";
        if (effect.type === "Resize" && (verb === "resize" || verb === "resizeByRollout")) {
          before.set(`${effect.id} ${uid}`, { from: was, to: now });
          const found = stepOf(truth, effect.id);
          const max = found?.remediation.spec.ladder[found.attempt.rung]?.resize?.memory.max;
          if (max !== undefined && now > quantityBytes(max))
            return `${effect.id} gives ${name} ${now} bytes, and ${max} is the most that is allowed`;
          return now < was ? `${effect.id} gives ${name} ${now} bytes, and it had ${was}` : undefined;
        }
        if (effect.type === "ResizeBack" && (verb === "resizeBack" || verb === "resizeBackByRollout")) {
          const given = before.get(`${effect.of} ${uid}`);
          if (given === undefined) return `${effect.id} takes back from ${name} what ${effect.of} did not give`;
          if (was !== given.to && now !== was)
            return `${effect.id} sets ${name} to ${now} bytes over the ${was} that somebody else has set`;
          return was === given.to && now !== given.from ? `${effect.id} leaves ${name} ${now} bytes, and it had ${given.from}` : undefined;
        }
        return undefined;
      },
    };
  },
};
