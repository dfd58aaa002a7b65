import { stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Marks that change nothing but the mark, and may be written again. */
const MARKS: ReadonlySet<string> = new Set(["markStopped", "markInvoked", "cheapen", "markResized", "forgetResize"]);

/** Nothing happens twice. */
export const s02AtMostOnce: Rule = {
  name: "S2",
  doc: "A step takes effect at most once, whatever is delivered twice, restarted, or led by two: of one step, under whatever effect id, each write to the cluster takes place once.",
  watch: (truth) => {
    const seen = new Set<string>();
    return {
      mutated({ effect, verb, pod }) {
        if (MARKS.has(verb)) return undefined;
        const found = stepOf(truth, effect.id);
        const list = found?.undoes === true ? found.attempt.undo : found?.attempt.steps;
        // Where a step is, so that another id for the same is no other step.
        const step =
          found === undefined || list === undefined
            ? effect.id
            : [effect.id.split("/", 3).join("/"), found.undoes ? "undo" : "step", list.indexOf(found.step)].join("/");
        // What empties a node does the same to one pod after the other.
        const key = `${step} ${verb}${effect.type === "Drain" ? ` ${pod?.uid ?? ""}` : ""}`;
        // What was refused was taken back, and may be asked for again.
        if (verb === "unresize") return void seen.delete(key.replace(/ unresize$/, " resize"));
        if (seen.has(key)) return `${effect.type} ${effect.id} took effect twice: ${verb}`;
        seen.add(key);
        return undefined;
      },
    };
  },
};
