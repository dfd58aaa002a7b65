import type { Rule } from "./rule.ts";

/** Marks that change nothing but the mark, and may be written again. */
const MARKS: ReadonlySet<string> = new Set(["markStopped", "cheapen"]);

/** Nothing happens twice. */
export const s02AtMostOnce: Rule = {
  name: "S2",
  doc: "A step takes effect at most once, whatever is delivered twice, restarted, or led by two: of one effect id each write to the cluster takes place once.",
  watch: () => {
    const seen = new Set<string>();
    return {
      mutated({ effect, verb }) {
        if (MARKS.has(verb)) return undefined;
        const key = `${effect.id} ${verb}`;
        if (seen.has(key)) return `${effect.type} ${effect.id} took effect twice: ${verb}`;
        seen.add(key);
        return undefined;
      },
    };
  },
};
